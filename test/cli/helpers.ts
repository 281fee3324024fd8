import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, vi } from 'vitest';
import type { LogStatus } from '../../src/api/status.js';
import { run } from '../../src/cli/program.js';
import { type ControlReply, controlRequest } from '../../src/control/client.js';

const MAIN = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

export interface Result {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A running command; it is killed, by its pid, when the test is over. */
export class Running {
  readonly child: ChildProcessWithoutNullStreams;
  readonly #stdout: Buffer[] = [];
  readonly #stderr: Buffer[] = [];
  readonly #exit: Promise<unknown>;

  constructor(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    this.child = spawn(process.execPath, [MAIN, ...args], { env: { ...process.env, ...env } });
    this.child.stdout.on('data', (chunk) => this.#stdout.push(chunk));
    this.child.stderr.on('data', (chunk) => this.#stderr.push(chunk));
    // Writing to a command that has ended is what some tests do.
    this.child.stdin.on('error', () => {});
    this.#exit = once(this.child, 'close');
    onTestFinished(async () => {
      if (this.child.exitCode === null) this.child.kill('SIGKILL');
      await this.#exit;
    });
  }

  get stdout(): string {
    return Buffer.concat(this.#stdout).toString();
  }

  get stderr(): string {
    return Buffer.concat(this.#stderr).toString();
  }

  async ended(): Promise<Result> {
    await this.#exit;
    return { code: this.child.exitCode, stdout: this.stdout, stderr: this.stderr };
  }

  /** Stops it once it has said this on stderr. */
  async stopWhen(said: RegExp): Promise<Result> {
    await expect.poll(() => this.stderr).toMatch(said);
    return this.stop();
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Result> {
    this.child.kill(signal);
    return this.ended();
  }
}

/** Runs a command to its end. */
export async function walmirror(args: readonly string[], input: string | Buffer = '') {
  const running = new Running(args);
  running.child.stdin.end(input);
  return running.ended();
}

/**
 * The same without a process of its own, which costs more than all that such a command does: for
 * what ends before a log is opened, one at a time.
 */
export async function inThisProcess(args: readonly string[]): Promise<Result> {
  const written = { stdout: '', stderr: '' };
  const restore = (['stdout', 'stderr'] as const).map((name) => {
    const spy = vi.spyOn(process[name], 'write').mockImplementation((chunk) => {
      written[name] += chunk;
      return true;
    });
    return () => spy.mockRestore();
  });
  try {
    return { code: await run(['node', 'walmirror', ...args]), ...written };
  } finally {
    for (const back of restore) back();
  }
}

/** The same, for a command that must do well. */
export async function succeed(args: readonly string[], input: string | Buffer = '') {
  const { code, stdout, stderr } = await walmirror(args, input);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return stdout;
}

/** The status of a log that a process has open, once it is as wanted. */
export async function statusWhen(
  dir: string,
  wanted: (status: LogStatus) => boolean,
): Promise<LogStatus> {
  let last: LogStatus | undefined;
  await expect
    .poll(
      async () => {
        const reply: ControlReply = await controlRequest(dir, { cmd: 'status' });
        if (reply.listening) last = reply.result as LogStatus;
        return last !== undefined && reply.listening && wanted(last);
      },
      { timeout: 45_000, interval: 20 },
    )
    .toBe(true);
  if (last === undefined) throw new Error('no status');
  return last;
}

export async function listeningAddress(dir: string): Promise<string> {
  const { listening } = await statusWhen(dir, (status) => status.listening !== null);
  return `${listening?.host}:${listening?.port}`;
}
