import fc from 'fast-check';
import { describe, it } from 'vitest';
import { Log, WalError } from '../../src/index.js';
import { freshDir } from '../helpers/temp.js';

/** What the log must hold: record n is `kept[n - 1]`. */
interface Model {
  readonly kept: string[];
  /** Records below this may be gone. */
  trimmed: number;
}

interface Real {
  readonly dir: string;
  log: Log;
}

type Command = fc.AsyncCommand<Model, Real>;

const options = { segmentBytes: 65536, maxRecordBytes: 20_000, ringBytes: 1 << 20 } as const;

function same(actual: unknown, expected: unknown, what: string): void {
  if (actual !== expected) throw new Error(`${what}: ${String(actual)}, not ${String(expected)}`);
}

function command(name: string, run: (model: Model, real: Real) => Promise<void>): Command {
  return { check: () => true, run, toString: () => name };
}

/** Nothing refused may be taken; what is refused for want of room is taken after a drain. */
async function patiently<T>(log: Log, append: () => T): Promise<T> {
  for (;;) {
    const before = log.status().appendLsn;
    try {
      return append();
    } catch (error) {
      if (!(error instanceof WalError) || error.code !== 'WAL_RING_FULL') throw error;
      same(log.status().appendLsn, before, 'LSN after a refusal');
      await log.drain();
    }
  }
}

const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 40 }),
  fc.nat(19_999).map((length) => 'x'.repeat(length)),
);

const commands: fc.Arbitrary<Command>[] = [
  text.map((data) =>
    command(`append ${data.length}`, async (model, { log }) => {
      const lsn = await patiently(log, () => log.append(data));
      model.kept.push(data);
      same(lsn, model.kept.length, 'LSN');
    }),
  ),
  fc.array(text, { maxLength: 30 }).map((items) =>
    command(`appendMany ${items.length}`, async (model, { log }) => {
      const { first, last } = await patiently(log, () => log.appendMany(items));
      same(first, model.kept.length + 1, 'first LSN');
      model.kept.push(...items);
      same(last, model.kept.length, 'last LSN');
    }),
  ),
  fc.tuple(text, fc.boolean()).map(([data, throws]) =>
    command(`appendInto ${data.length} ${throws}`, async (model, { log }) => {
      const encode = (buffer: Buffer, at: number): number => {
        const end = at + buffer.write(data, at);
        if (throws) throw new Error('of the encoder');
        return end;
      };
      const max = Math.min(20_000, data.length * 3);
      const append = () => log.appendInto(max, encode);
      try {
        same(await patiently(log, append), model.kept.length + 1, 'LSN');
        model.kept.push(data);
      } catch (error) {
        if (!throws) throw error;
      }
    }),
  ),
  fc.constant(
    command('commit', async (model, { log }) => {
      same((await log.commit()).lsn, model.kept.length, 'committed LSN');
    }),
  ),
  fc.nat(1000).map((share) =>
    command(`trim ${share}`, async (model, { log }) => {
      const lsn = 1 + Math.floor((model.kept.length * share) / 1000);
      await log.trim(lsn);
      model.trimmed = Math.max(model.trimmed, lsn);
    }),
  ),
  fc.nat(1000).map((share) =>
    command(`read from ${share}`, async (model, { log }) => {
      await log.commit();
      await readsAs(model, log, 1 + Math.floor((model.kept.length * share) / 1000));
    }),
  ),
  fc.constant(
    command('reopen', async (model, real) => {
      await real.log.close();
      real.log = await Log.open({ dir: real.dir, ringBytes: options.ringBytes });
      same(real.log.status().flushLsn, model.kept.length, 'flushed LSN');
    }),
  ),
];

async function readsAs(model: Model, log: Log, wanted: number): Promise<void> {
  const { firstLsn } = log.status();
  if (firstLsn > model.trimmed)
    throw new Error(`${firstLsn} is trimmed, asked for ${model.trimmed}`);
  const from = Math.max(wanted, firstLsn);
  let next = from;
  for await (const batch of log.read({ from, live: false })) {
    for (const { lsn, data } of batch) {
      same(lsn, next, 'LSN read');
      const expected = Buffer.from(model.kept[lsn - 1] ?? 'nothing');
      if (!data.equals(expected)) throw new Error(`record ${lsn} reads differently`);
      next += 1;
    }
  }
  same(next, Math.max(from, model.kept.length + 1), 'end of reading');
}

describe('a log', () => {
  it('behaves as a list of records that can lose its beginning', async () => {
    const property = fc.asyncProperty(fc.commands(commands, { maxCommands: 60 }), async (run) => {
      const dir = freshDir();
      const real: Real = { dir, log: await Log.open({ dir, ...options }) };
      const model: Model = { kept: [], trimmed: 1 };
      try {
        await fc.asyncModelRun(() => ({ model, real }), run);
        await real.log.close();
        real.log = await Log.open({ dir, ringBytes: options.ringBytes });
        await readsAs(model, real.log, 1);
      } finally {
        await real.log.close();
      }
    });
    await fc.assert(property, { numRuns: 60, endOnFailure: true });
  });
});
