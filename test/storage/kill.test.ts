import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { OpenOptions } from '../../src/index.js';
import { type ReadLog, readLog } from '../format/read_log.js';
import { makeTempDir } from '../global/temp.js';
import { randomFrom } from '../native/native.js';

/** Rounds for each load; WALMIRROR_KILL_ROUNDS for more. */
const ROUNDS = Number(process.env.WALMIRROR_KILL_ROUNDS ?? 34);

const Saying = { OPENED: 1, ACKNOWLEDGED: 2, TRIMMED: 3 } as const;

/** The same bytes as `recordOf` in kill_child.mjs makes. */
function recordOf(life: number, lsn: number): Buffer {
  const seed = createHash('sha256').update(`${life}:${lsn}`).digest();
  const length = seed.readUInt16LE(0) % (seed.readUInt8(2) < 8 ? 4096 : 300);
  return Buffer.concat([Buffer.from(`${life}:${lsn}:`), Buffer.alloc(length, seed)]);
}

interface Life {
  readonly opened: number | undefined;
  readonly digest: number;
  readonly acknowledged: number;
  readonly trimmed: number;
  readonly stderr: string;
}

/** When a child dies: so long after it was started, or after it has opened the log. */
interface Death {
  readonly after: 'start' | 'open';
  readonly milliseconds: number;
}

/** Runs the child and kills it, by its pid. */
async function live(arg: object, death: Death): Promise<Life> {
  const script = resolve(import.meta.dirname, 'kill_child.mjs');
  const child = spawn(process.execPath, [script, JSON.stringify(arg)], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const out: Buffer[] = [];
  const errors: Buffer[] = [];
  let timer: NodeJS.Timeout | undefined;
  const kill = (): void => {
    timer ??= setTimeout(() => child.kill('SIGKILL'), death.milliseconds);
  };
  child.stdout.on('data', (chunk: Buffer) => {
    out.push(chunk);
    kill();
  });
  child.stderr.on('data', (chunk: Buffer) => errors.push(chunk));
  if (death.after === 'start') kill();
  await once(child, 'close');
  clearTimeout(timer);
  const said = Buffer.concat(out);
  const life = { opened: undefined as number | undefined, digest: 0, acknowledged: 0, trimmed: 0 };
  // The last saying may be cut by the kill.
  for (let at = 0; at + 24 <= said.length; at += 24) {
    const lsn = said.readDoubleLE(at + 8);
    const kind = said.readUInt32LE(at);
    if (kind === Saying.OPENED) {
      life.opened = lsn;
      life.digest = said.readUInt32LE(at + 4);
    }
    if (kind === Saying.ACKNOWLEDGED) life.acknowledged = Math.max(life.acknowledged, lsn);
    if (kind === Saying.TRIMMED) life.trimmed = lsn;
  }
  return { ...life, stderr: Buffer.concat(errors).toString() };
}

function digestOf(log: ReadLog): number {
  const running = createHash('sha256');
  for (const record of log.records) running.update(record).update('|');
  return running.digest().readUInt32LE(0);
}

/** One log through many lives, and what must hold after each of them. */
class Lives {
  readonly #dir: string;
  readonly #load: string;
  readonly #begins: { readonly life: number; readonly after: number }[] = [];
  #trimmed = 1;
  #before: ReadLog | undefined;
  acknowledged = 0;

  constructor(dir: string, load: string) {
    this.#dir = dir;
    this.#load = load;
  }

  async one(life: number, options: Partial<OpenOptions>, death: Death): Promise<void> {
    const [dir, load] = [this.#dir, this.#load];
    const told = await live({ dir, life, load, options }, death);
    expect(told.stderr).toBe('');
    if (told.opened !== undefined) {
      const before = this.#before;
      if (before !== undefined) {
        // What the child recovered is what the files held, by the independent reader.
        expect(told.opened).toBe(before.end.lsn);
        expect(told.digest).toBe(digestOf(before));
      }
      this.#begins.push({ life, after: told.opened });
    }
    this.acknowledged = Math.max(this.acknowledged, told.acknowledged);
    this.#trimmed = Math.max(this.#trimmed, told.trimmed);
    const log = tryRead(dir);
    if (log === undefined) expect(this.acknowledged).toBe(0);
    else this.#check(log);
  }

  #check(log: ReadLog): void {
    this.#before = log;
    expect(log.damage).toBeUndefined();
    expect(log.end.lsn).toBeGreaterThanOrEqual(this.acknowledged);
    expect(log.start.lsn).toBeLessThanOrEqual(this.acknowledged);
    if (this.#load !== 'trimming') expect(log.start.lsn).toBe(0);
    log.records.forEach((record, i) => {
      const lsn = log.start.lsn + 1 + i;
      const writer = this.#begins.findLast(({ after }) => after < lsn);
      if (!recordOf(writer?.life ?? 0, lsn).equals(record)) throw new Error(`record ${lsn}`);
    });
  }
}

/** Many lives, a new log every few of them, each life ended by SIGKILL. */
async function rounds(
  load: string,
  options: Partial<OpenOptions>,
  seed: number,
  parent: string,
): Promise<void> {
  const random = randomFrom(seed);
  let log = new Lives(join(parent, '0'), load);
  let acknowledged = 0;
  for (let life = 1; life <= ROUNDS; life++) {
    if (life % 8 === 0) log = new Lives(join(parent, `${life}`), load);
    const death: Death =
      random(4) === 0
        ? { after: 'start', milliseconds: 60 + random(250) }
        : { after: 'open', milliseconds: random(50) };
    try {
      await log.one(life, options, death);
    } catch (error) {
      throw new Error(`load ${load}, seed ${seed}, life ${life}`, { cause: error });
    }
    acknowledged += log.acknowledged;
  }
  expect(acknowledged).toBeGreaterThan(ROUNDS);
}

/** undefined before the log is there: the kill came first. */
function tryRead(dir: string): ReadLog | undefined {
  try {
    return readLog(dir);
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ENOENT') return undefined;
    throw error;
  }
}

describe('SIGKILL at any moment takes nothing acknowledged and adds nothing', () => {
  it.concurrent.each<[string, Partial<OpenOptions>]>([
    ['one', {}],
    ['many_committers', {}],
    ['off', { padded: true }],
    ['bulk', { ringBytes: 131072 }],
    ['many', { sharedMemory: false }],
    ['trimming', {}],
  ])('under the load %s', { timeout: 40_000 + ROUNDS * 4000 }, async (load, options) => {
    const parent = makeTempDir('kill');
    try {
      await rounds(load, options, 1000 + load.length, parent);
    } finally {
      rmSync(parent, { recursive: true, force: true });
    }
  });
});
