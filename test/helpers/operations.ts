import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect } from 'vitest';
import { Log } from '../../src/index.js';
import { readLog } from '../format/read_log.js';

const script = resolve(import.meta.dirname, '../fixtures/operations.mjs');
const DEADLINE = 60_000;

/** The same bytes as `recordOf` in fixtures/operations.mjs makes. */
function recordOf(lsn: number): Buffer {
  return Buffer.alloc(50 + ((lsn * 7919) % 3000), `record ${lsn}, `);
}

/** What the process said, and how it ended. */
export interface Run {
  readonly kept: number;
  readonly appending: number;
  readonly trimming: number;
  readonly failed: string | undefined;
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
}

function heard(said: string): Pick<Run, 'kept' | 'appending' | 'trimming' | 'failed'> {
  const last = (what: string): string | undefined =>
    said
      .match(new RegExp(`^${what} (.*)$`, 'gm'))
      ?.at(-1)
      ?.slice(what.length + 1);
  return {
    kept: Number(last('kept') ?? 0),
    appending: Number(last('appending') ?? 0),
    trimming: Number(last('trimming') ?? 0),
    failed: last('failed'),
  };
}

async function until(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + DEADLINE;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error('the process is not traced');
    await new Promise((wait) => setTimeout(wait, 2));
  }
}

/** Every thread of a process is traced, or it has ended. */
function isTraced(pid: number): boolean {
  try {
    return readdirSync(`/proc/${pid}/task`).every((thread) =>
      /^TracerPid:\t[1-9]/m.test(readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8')),
    );
  } catch {
    return false;
  }
}

/** Attached once the process is ready, so that it sees the calls of the log alone. */
async function attach(pid: number, args: readonly string[]): Promise<ChildProcess> {
  const tracer = spawn('strace', ['-f', '-qq', '-p', `${pid}`, ...args], { stdio: 'ignore' });
  await until(() => isTraced(pid) || tracer.exitCode !== null);
  return tracer;
}

export interface RunOptions {
  readonly dir: string;
  readonly warm: string;
  /** Arguments for strace; none: it is not traced. */
  readonly trace?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs fixtures/operations.mjs to its end. */
export async function runOperations({ dir, warm, trace, env }: RunOptions): Promise<Run> {
  const child = spawn(process.execPath, [script, JSON.stringify({ dir, warm })], {
    stdio: 'pipe',
    env: { ...process.env, ...env },
  });
  let [said, stderr] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  child.stdin.on('error', () => undefined);
  const closed = once(child, 'close');
  const timer = setTimeout(() => child.kill('SIGKILL'), DEADLINE);
  await until(() => said.includes('ready') || child.exitCode !== null);
  const tracer = trace === undefined ? undefined : await attach(child.pid ?? 0, trace);
  child.stdin.end('!');
  await closed;
  clearTimeout(timer);
  if (tracer !== undefined && tracer.exitCode === null && tracer.signalCode === null) {
    await once(tracer, 'close');
  }
  return { ...heard(said), code: child.exitCode, signal: child.signalCode, stderr };
}

/** All that was kept is there, all that is there was appended, and the log goes on. */
export async function checkAfter(dir: string, run: Run): Promise<void> {
  const log = await Log.open({ dir, segmentBytes: 65536, maxRecordBytes: 8192 });
  try {
    const { firstLsn, flushLsn } = log.status();
    expect(flushLsn).toBeGreaterThanOrEqual(run.kept);
    expect(flushLsn).toBeLessThanOrEqual(run.appending);
    expect(firstLsn).toBeLessThanOrEqual(Math.max(1, run.trimming));
    const last = log.append(recordOf(flushLsn + 1));
    await log.commit();
    let lsn = firstLsn;
    for await (const batch of log.read({ from: firstLsn, upTo: 'flush', live: false })) {
      for (const { data } of batch) {
        if (!recordOf(lsn).equals(data)) throw new Error(`record ${lsn} is another one`);
        lsn += 1;
      }
    }
    expect(lsn).toBe(last + 1);
  } finally {
    await log.close();
  }
  expect(readLog(dir).damage).toBeUndefined();
}
