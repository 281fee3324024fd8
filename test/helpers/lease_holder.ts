import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, onTestFinished } from 'vitest';
import type { Rule } from '../../src/native/native_log.js';
import type { Claim } from '../../src/referee/referee.js';

export interface HolderOptions {
  readonly kind: 'file' | 'etcd';
  readonly options: object;
  readonly claim: Claim;
  readonly rule: Rule;
}

export interface Said {
  readonly epoch?: number;
  readonly holds?: boolean;
  readonly state?: string;
  readonly after?: boolean;
  /** Milliseconds of `bootTime()`. */
  readonly lastHeldMs?: number;
}

/** A process that holds a lease: fixtures/lease_holder.mjs. Gone when the test is over. */
export class LeaseHolder {
  readonly said: Said[] = [];
  readonly #child: ChildProcess;

  constructor(options: HolderOptions) {
    const script = resolve(import.meta.dirname, '../fixtures/lease_holder.mjs');
    this.#child = spawn(process.execPath, [script, JSON.stringify(options)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    createInterface({ input: this.#child.stdout! }).on('line', (line) => {
      this.said.push(JSON.parse(line) as Said);
    });
    onTestFinished(async () => {
      if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
      const ended = once(this.#child, 'close');
      this.#child.kill('SIGKILL');
      await ended;
    });
  }

  send(signal: 'SIGSTOP' | 'SIGCONT' | 'SIGKILL'): void {
    this.#child.kill(signal);
  }

  ask(line: string): void {
    this.#child.stdin!.write(`${line}\n`);
  }

  /** The first thing said that has this key, from the `from`th on. */
  async hears(key: keyof Said, from = 0): Promise<Said> {
    const find = () => this.said.slice(from).find((each) => each[key] !== undefined);
    await expect.poll(find, { timeout: 25_000 }).toBeDefined();
    return find()!;
  }

  async end(): Promise<number | null> {
    const ended = once(this.#child, 'close');
    this.ask('end');
    const [code] = await ended;
    return code as number | null;
  }
}
