import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join, resolve } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { StandbyStatus } from '../../src/api/status.js';
import { tempDir } from '../global/temp.js';
import { expectEqualSealedSegments } from '../helpers/sealed_segments.js';
import { binding } from '../native/native.js';
import { RawStandby } from '../transport/raw_standby.js';

const RECORDS = 10_000_000;
/** By so much the process may grow over nine tenths of the records: under 4 bytes a record. */
const GROWTH = 32 * 2 ** 20;

interface Appended {
  readonly lsn: number;
  readonly begun: number;
  readonly most: number;
  readonly looks: number;
  readonly standbys: readonly StandbyStatus[];
}

/** A process with a log; killed, by its pid, when the test is over. */
class LogProcess {
  readonly #child: ChildProcess;

  constructor(argument: object) {
    const program = resolve(import.meta.dirname, '../fixtures/many_records.mjs');
    this.#child = fork(program, [JSON.stringify(argument)], { execArgv: [] });
    const gone = once(this.#child, 'exit');
    onTestFinished(async () => {
      if (this.#child.exitCode === null) this.#child.kill('SIGKILL');
      await gone;
    });
  }

  async says<T>(): Promise<T> {
    const ended = once(this.#child, 'exit').then(([code, signal]) => {
      throw new Error(`the process ended: ${code ?? signal}`);
    });
    const [message] = await Promise.race([once(this.#child, 'message'), ended]);
    return message as T;
  }

  goOn(): void {
    this.#child.send('go on');
  }

  signal(name: NodeJS.Signals): void {
    this.#child.kill(name);
  }

  async end(): Promise<void> {
    const gone = once(this.#child, 'exit');
    this.goOn();
    expect(await gone).toEqual([0, null]);
  }
}

async function start(dir: string): Promise<{ primary: LogProcess; port: number }> {
  const primary = new LogProcess({ dir, records: RECORDS });
  return { primary, port: await primary.says<number>() };
}

/** All of them are taken and committed, in memory that does not grow with their number. */
async function appendAll(primary: LogProcess): Promise<Appended> {
  primary.goOn();
  const appended = await primary.says<Appended>();
  expect(appended.lsn).toBe(RECORDS);
  expect(appended.looks).toBeGreaterThan(800);
  expect(appended.most - appended.begun).toBeLessThan(GROWTH);
  return appended;
}

async function expectSound(dir: string): Promise<void> {
  const reader = await binding.openReader(dir);
  const { damage, records } = await reader.verify();
  reader.close();
  expect(damage).toBeUndefined();
  expect(records).toBe(RECORDS);
}

describe('10 million records from a loop with drain take flat memory', { timeout: 120_000 }, () => {
  it('without a standby', async () => {
    const dir = join(tempDir('many'), 'a');
    const { primary } = await start(dir);
    await appendAll(primary);
    await primary.end();
    await expectSound(dir);
  });

  it('with a standby that is stopped, which catches up when it goes on', async () => {
    const parent = tempDir('many');
    const [dir, standbyDir] = [join(parent, 'a'), join(parent, 'b')];
    const { primary, port } = await start(dir);
    const standby = new LogProcess({ dir: standbyDir, records: RECORDS, followPort: port });
    expect(await standby.says()).toBe('connected');
    standby.signal('SIGSTOP');
    const { standbys } = await appendAll(primary);
    // Dropped meanwhile, or far behind.
    for (const { flushLsn } of standbys) expect(flushLsn).toBeLessThan(RECORDS / 2);
    standby.signal('SIGCONT');
    standby.goOn();
    expect(await standby.says()).toBe(RECORDS);
    await standby.end();
    await primary.end();
    expect(expectEqualSealedSegments(dir, standbyDir)).toBeGreaterThanOrEqual(10);
    await expectSound(standbyDir);
  });

  it('with a standby that never reads', async () => {
    const dir = join(tempDir('many'), 'a');
    const { primary, port } = await start(dir);
    const raw = await RawStandby.admitted(port, 'e'.repeat(32), 'deaf');
    onTestFinished(() => void raw.socket.destroy());
    raw.socket.pause();
    const { standbys } = await appendAll(primary);
    for (const { flushLsn } of standbys) expect(flushLsn).toBe(0);
    await primary.end();
    await expectSound(dir);
  });
});
