import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { expect } from 'vitest';
import type { OpenOptions } from '../../src/index.js';
import { type ReadLog, readLog } from '../format/read_log.js';

const Saying = { OPENED: 1, ACKNOWLEDGED: 2, TRIMMED: 3 } as const;
const SAYING_BYTES = 40;

/** The same bytes as `recordOf` in fixtures/writer.mjs makes. */
function recordOf(life: number, lsn: number): Buffer {
  const seed = createHash('sha256').update(`${life}:${lsn}`).digest();
  const length = seed.readUInt16LE(0) % (seed.readUInt8(2) < 8 ? 4096 : 300);
  return Buffer.concat([Buffer.from(`${life}:${lsn}:`), Buffer.alloc(length, seed)]);
}

/**
 * When a child dies: so long after it was started, or after it has opened the log; or by itself.
 */
export interface Death {
  readonly after: 'start' | 'open' | 'end';
  readonly milliseconds: number;
}

export interface Life {
  readonly opened: number | undefined;
  /** The first LSN that it found. */
  readonly first: number;
  readonly digest: number;
  readonly acknowledged: number;
  readonly trimmed: number;
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stderr: string;
}

/**
 * Runs fixtures/writer.mjs, under another program if `before` says so, and kills it, by its pid.
 */
async function live(
  arg: object,
  death: Death,
  before: readonly string[],
  listening: (port: number) => void,
): Promise<Life> {
  const script = resolve(import.meta.dirname, '../fixtures/writer.mjs');
  const [program, ...args] = [...before, process.execPath, script, JSON.stringify(arg)];
  const child = spawn(program ?? '', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const out: Buffer[] = [];
  const errors: Buffer[] = [];
  let timer: NodeJS.Timeout | undefined;
  // Where it runs under another program it says who it is.
  let pid = child.pid ?? 0;
  const kill = (): void => {
    timer ??= setTimeout(() => {
      if (child.exitCode === null && child.signalCode === null) process.kill(pid, 'SIGKILL');
    }, death.milliseconds);
  };
  child.stdout.on('data', (chunk: Buffer) => {
    out.push(chunk);
    if (out.length === 1) {
      // The first saying is that it has opened the log.
      pid = chunk.readDoubleLE(24);
      listening(chunk.readDoubleLE(16));
    }
    if (death.after === 'open') kill();
  });
  child.stderr.on('data', (chunk: Buffer) => errors.push(chunk));
  if (death.after === 'start') kill();
  await once(child, 'close');
  clearTimeout(timer);
  const { exitCode: code, signalCode: signal } = child;
  return { ...heard(Buffer.concat(out)), code, signal, stderr: Buffer.concat(errors).toString() };
}

/** What the child said; the last saying may be cut by its end. */
function heard(said: Buffer): Omit<Life, 'code' | 'signal' | 'stderr'> {
  const none = undefined as number | undefined;
  const life = { opened: none, first: 0, digest: 0, acknowledged: 0, trimmed: 0 };
  for (let at = 0; at + SAYING_BYTES <= said.length; at += SAYING_BYTES) {
    const lsn = said.readDoubleLE(at + 8);
    const kind = said.readUInt32LE(at);
    if (kind === Saying.OPENED) {
      life.opened = lsn;
      life.digest = said.readUInt32LE(at + 4);
      life.first = said.readDoubleLE(at + 32);
    }
    if (kind === Saying.ACKNOWLEDGED) life.acknowledged = Math.max(life.acknowledged, lsn);
    if (kind === Saying.TRIMMED) life.trimmed = lsn;
  }
  return life;
}

/** Of the records from an LSN on. */
function digestOf(log: ReadLog, first: number): number {
  const running = createHash('sha256');
  const skipped = first - 1 - log.start.lsn;
  if (skipped < 0) throw new RangeError(`the log begins after LSN ${first}`);
  for (const record of log.records.slice(skipped)) running.update(record).update('|');
  return running.digest().readUInt32LE(0);
}

/**
 * One log, in one directory or a copy in each of several, through many lives of its writer, and
 * what must hold after each of them.
 */
export class Lives {
  readonly #dirs: readonly string[];
  readonly #load: string;
  readonly #begins: { readonly life: number; readonly after: number }[] = [];
  #before: ReadLog | undefined;
  /** Where each copy began. */
  #starts: readonly number[] = [];
  acknowledged = 0;

  constructor(dir: string | readonly string[], load: string) {
    this.#dirs = typeof dir === 'string' ? [dir] : dir;
    this.#load = load;
  }

  /**
   * `life` is unlike that of any other life of this log: its records tell by whom they were
   * appended.
   */
  async one(
    life: number,
    options: Partial<OpenOptions>,
    death: Death,
    before: readonly string[] = [],
    listening: (port: number) => void = () => undefined,
  ): Promise<Life> {
    const load = this.#load;
    const dir = this.#dirs.length === 1 ? this.#dirs[0] : this.#dirs;
    const told = await live({ dir, life, load, options }, death, before, listening);
    if (told.opened !== undefined) {
      const found = this.#before;
      if (found !== undefined) {
        // What the child recovered is what the files held, by the independent reader: of several
        // copies, the longest.
        expect(told.opened).toBe(found.end.lsn);
        // A kill may come when one of them is trimmed and the other is not yet.
        expect(this.#starts).toContain(told.first - 1);
        expect(told.digest).toBe(digestOf(found, told.first));
      }
      this.#begins.push({ life, after: told.opened });
    }
    this.acknowledged = Math.max(this.acknowledged, told.acknowledged);
    const copies = this.#dirs.map(tryRead);
    for (const log of copies) {
      if (log === undefined) expect(this.acknowledged).toBe(0);
      else this.#check(log);
    }
    this.#before = longest(copies);
    this.#starts = copies.flatMap((log) => (log === undefined ? [] : [log.start.lsn]));
    return told;
  }

  #check(log: ReadLog): void {
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

function longest(copies: readonly (ReadLog | undefined)[]): ReadLog | undefined {
  return copies.reduce((most, log) => {
    if (log === undefined || most === undefined) return most ?? log;
    return log.end.position > most.end.position ? log : most;
  }, undefined);
}

/** undefined before the log is there: the end came first. */
function tryRead(dir: string): ReadLog | undefined {
  try {
    return readLog(dir);
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ENOENT') return undefined;
    throw error;
  }
}
