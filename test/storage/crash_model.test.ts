import { copyFileSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Log, type OpenOptions, WalError } from '../../src/index.js';
import { readLog } from '../format/read_log.js';
import { makeTempDir } from '../global/temp.js';
import { Damage, spotOf } from '../helpers/damage.js';
import { payload } from '../native/native.js';

/** What was appended; how much of that was promised; and what may be gone at the front. */
interface Model {
  readonly kept: Buffer[];
  committed: number;
  trimmed: number;
}

interface Real {
  readonly parent: string;
  readonly options: Partial<OpenOptions>;
  dir: string;
  lives: number;
  made: number;
  log: Log;
}

type Command = fc.AsyncCommand<Model, Real>;

const sizes = { segmentBytes: 65536, maxRecordBytes: 20_000, ringBytes: 1 << 20 };

function command(name: string, run: (model: Model, real: Real) => Promise<void>): Command {
  return { check: () => true, run, toString: () => name };
}

/** Records that no other life or LSN gives. */
function next(model: Model, real: Real, length: number): Buffer {
  real.made += 1;
  const record = Buffer.concat([Buffer.from(`${real.made}:`), payload(real.made, length)]);
  model.kept.push(record);
  return record;
}

async function append(model: Model, real: Real, lengths: readonly number[]): Promise<void> {
  const need = lengths.reduce((sum, length) => sum + length + 16, 0);
  for (const [i, length] of lengths.entries()) {
    const record = next(model, real, length);
    for (;;) {
      try {
        expect(real.log.append(record)).toBe(model.kept.length);
        break;
      } catch (error) {
        if (!(error instanceof WalError) || error.code !== 'WAL_RING_FULL') throw error;
        if (i === 0) await real.log.drain(need);
        else await real.log.drain(record.length + 8);
      }
    }
  }
}

/** The same as the files, by the independent reader, and as the application's own list. */
async function check(model: Model, real: Real): Promise<void> {
  const { firstLsn, appendLsn } = real.log.status();
  expect(appendLsn).toBe(model.kept.length);
  expect(firstLsn).toBeLessThanOrEqual(Math.max(1, model.trimmed));
  let lsn = firstLsn;
  await real.log.commit(undefined, { level: 'local' });
  model.committed = model.kept.length;
  for await (const batch of real.log.read({ from: lsn, upTo: 'flush', live: false })) {
    for (const record of batch) {
      expect(record.lsn).toBe(lsn);
      if (!record.data.equals(model.kept[lsn - 1] ?? Buffer.alloc(0)))
        throw new Error(`LSN ${lsn}`);
      lsn += 1;
    }
  }
  expect(lsn).toBe(model.kept.length + 1);
}

/** Opens what is in the directory now and takes from it how much a crash left. */
async function recover(model: Model, real: Real): Promise<void> {
  const files = readLog(real.dir);
  expect(files.damage).toBeUndefined();
  real.log = await Log.open({ ...sizes, ...real.options, dir: real.dir });
  const { appendLsn, recovery } = real.log.status();
  expect(appendLsn).toBe(files.end.lsn);
  expect(recovery.clean).toBe(files.control.clean);
  expect(appendLsn).toBeGreaterThanOrEqual(model.committed);
  expect(appendLsn).toBeLessThanOrEqual(model.kept.length);
  model.kept.splice(appendLsn);
  const seen = files.records.map((record) => Buffer.from(record));
  seen.forEach((record, i) => {
    expect(record.equals(model.kept[files.start.lsn + i] ?? Buffer.alloc(0))).toBe(true);
  });
}

/**
 * What a kill at this instant leaves: the files as they are, the control file no newer than them.
 */
function copyDir(from: string, to: string): void {
  mkdirSync(to, { mode: 0o700 });
  copyFileSync(join(from, 'control'), join(to, 'control'));
  for (const name of readdirSync(from)) {
    if (/\.(wal|spare)$/.test(name)) copyFileSync(join(from, name), join(to, name));
  }
}

async function crash(model: Model, real: Real, lengths: readonly number[]): Promise<void> {
  await real.log.commit(undefined, { level: 'local' });
  model.committed = model.kept.length;
  // These are in the open batch, or in one that is being flushed: they may be lost, and in order.
  await append(model, real, lengths);
  const old = real.dir;
  real.lives += 1;
  real.dir = join(real.parent, `${real.lives}`);
  for (let copied = false; !copied; ) {
    try {
      copyDir(old, real.dir);
      copied = true;
    } catch (error) {
      // A spare was being made, or became a segment: that instant has passed.
      if ((error as { code?: unknown }).code !== 'ENOENT') throw error;
      rmSync(real.dir, { recursive: true });
    }
  }
  await real.log.close();
  rmSync(old, { recursive: true });
}

const length = fc.oneof(fc.nat(200), fc.nat(200), fc.nat(19_980));
const lengths = fc.array(length, { minLength: 1, maxLength: 25 });

const commands: fc.Arbitrary<Command>[] = [
  lengths.map((many) => command(`append ${many.length}`, (m, r) => append(m, r, many))),
  fc.constant(
    command('commit', async (model, real) => {
      const { lsn } = await real.log.commit();
      expect(lsn).toBeGreaterThanOrEqual(model.kept.length);
      model.committed = model.kept.length;
    }),
  ),
  fc.nat(100).map((percent) =>
    command(`trim ${percent} %`, async (model, real) => {
      await real.log.commit();
      model.committed = model.kept.length;
      const lsn = Math.floor((model.kept.length * percent) / 100);
      if (lsn === 0) return;
      await real.log.trim(lsn);
      model.trimmed = Math.max(model.trimmed, lsn + 1);
    }),
  ),
  fc.constant(
    command('close and open', async (model, real) => {
      await real.log.close();
      model.committed = model.kept.length;
      await recover(model, real);
    }),
  ),
  // Short enough to stay in the open segment: files change their names only at a roll.
  fc.array(fc.nat(100), { maxLength: 4 }).map((many) =>
    command(`crash in ${many.length} appends`, async (model, real) => {
      await crash(model, real, many);
      await recover(model, real);
    }),
  ),
  fc.tuple(fc.nat(4000), fc.nat()).map(([bytes, seed]) =>
    command(`crash with ${bytes} bytes of a torn write`, async (model, real) => {
      await crash(model, real, []);
      const files = readLog(real.dir);
      const { position } = files.end;
      const room = sizes.segmentBytes - (position % sizes.segmentBytes);
      if (files.end.reason !== 'no segment') {
        const garbage = payload(seed, Math.min(bytes, room));
        new Damage(real.dir).plantedBytes(spotOf(files, position), garbage);
      }
      await recover(model, real);
    }),
  ),
  fc.constant(command('read all', check)),
];

describe('a log through appends, commits, trims, closes and crashes', () => {
  it.each<[string, Partial<OpenOptions>]>([
    ['as it is by default', {}],
    ['padded, without shared memory', { padded: true, sharedMemory: false }],
  ])(
    'holds what it promised, and no more than was appended: %s',
    async (_, options) => {
      await fc.assert(
        fc.asyncProperty(fc.commands(commands, { maxCommands: 30 }), async (plan) => {
          const parent = makeTempDir('model');
          const dir = join(parent, '0');
          const log = await Log.open({ ...sizes, ...options, dir });
          const real: Real = { parent, options, dir, lives: 0, made: 0, log };
          try {
            const model: Model = { kept: [], committed: 0, trimmed: 1 };
            await fc.asyncModelRun(() => ({ model, real }), plan);
            await check(model, real);
          } finally {
            await real.log.close();
            rmSync(parent, { recursive: true, force: true });
          }
        }),
        { numRuns: Number(process.env.WALMIRROR_MODEL_RUNS ?? 12) },
      );
    },
    60_000,
  );
});
