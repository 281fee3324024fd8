import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import {
  canEverFit,
  type Layout,
  mostSpace,
  recordSpace,
  ringSpace,
} from '../../src/api/ring_space.js';
import { Log, WalError } from '../../src/index.js';
import { freshDir } from '../helpers/temp.js';
import { openLog, turn } from './helpers.js';

/** Small everything: a fresh log that has to prepare a segment every few appends. */
const shapes = fc.record({
  segmentBytes: fc.constantFrom(65536, 131072, 1 << 20),
  ringBytes: fc.constantFrom(65536, 131072, 1 << 19),
  maxBatchBytes: fc.constantFrom(4096, 16384, 65536),
  padded: fc.boolean(),
});

const maxRecordBytes = 16_000;
const lengths = fc.oneof(
  { weight: 4, arbitrary: fc.nat(300) },
  { weight: 2, arbitrary: fc.nat(5000) },
  { weight: 1, arbitrary: fc.nat(maxRecordBytes) },
);

/** Opens a log of this shape; as many records as `work` says must be in it when it is done. */
async function withLog(
  shape: { maxBatchBytes: number; segmentBytes: number; ringBytes: number; padded: boolean },
  work: (log: Log) => Promise<number>,
): Promise<void> {
  const maxBatchBytes = Math.min(shape.maxBatchBytes, shape.segmentBytes - 7 * 4096);
  const log = await Log.open({ dir: freshDir(), ...shape, maxBatchBytes, maxRecordBytes });
  try {
    const records = await work(log);
    expect((await log.commit()).lsn).toBe(records);
  } finally {
    await log.close();
  }
}

const bytes = Buffer.alloc(maxRecordBytes, 7);

describe('back-pressure', () => {
  it('a record of any size is taken while needsDrain is false', async () => {
    const property = fc.asyncProperty(
      shapes,
      fc.array(lengths, { minLength: 100, maxLength: 300 }),
      async (shape, sizes) =>
        withLog(shape, async (log) => {
          let lsn = 0;
          for (const size of sizes) {
            if (log.needsDrain) await log.drain();
            expect(log.needsDrain).toBe(false);
            expect(log.append(bytes.subarray(0, size))).toBe(++lsn);
          }
          return lsn;
        }),
    );
    await fc.assert(property, { numRuns: 25, endOnFailure: true });
  });

  it('a loop that appends until needsDrain says so is never refused', async () => {
    for (const padded of [false, true]) {
      const log = await openLog({ segmentBytes: 65536, ringBytes: 131072, padded, maxRecordBytes });
      let lsn = 0;
      while (lsn < 20_000) {
        while (!log.needsDrain) expect(log.append(bytes.subarray(0, lsn % 100))).toBe(++lsn);
        await log.drain();
      }
      expect((await log.commit()).lsn).toBe(lsn);
    }
  });

  it('what drain(bytes) promised is taken, however it is divided into records', async () => {
    const round = fc.record({
      sizes: fc.array(lengths, { minLength: 1, maxLength: 12 }),
      asGroup: fc.boolean(),
      pause: fc.boolean(),
    });
    const property = fc.asyncProperty(
      shapes,
      fc.array(round, { minLength: 20, maxLength: 80 }),
      async (shape, rounds) =>
        withLog(shape, async (log) => {
          let lsn = 0;
          for (const { sizes, asGroup, pause } of rounds) {
            const total = sizes.reduce((sum, size) => sum + size + 8, 0);
            try {
              await log.drain(total);
            } catch (error) {
              // More than this memory can promise to records of which it knows the sum alone.
              if (!(error instanceof RangeError) || total <= maxRecordBytes) throw error;
              continue;
            }
            const records = sizes.map((size) => bytes.subarray(0, size));
            if (asGroup) {
              expect(log.appendMany(records).last).toBe(lsn + records.length);
              lsn += records.length;
            } else {
              for (const record of records) expect(log.append(record)).toBe(++lsn);
            }
            if (pause) await turn();
          }
          return lsn;
        }),
    );
    await fc.assert(property, { numRuns: 25, endOnFailure: true });
  });

  it('what drain(bytes) promised is taken although ticks go by between the records', async () => {
    const options = { segmentBytes: 65536, ringBytes: 131072, maxBatchDelay: 1, maxRecordBytes };
    for (const padded of [false, true]) {
      const log = await openLog({ ...options, padded });
      let lsn = 0;
      for (let round = 0; round < 40; round++) {
        await log.drain(20 * 1008);
        for (let i = 0; i < 20; i++) {
          expect(log.append(bytes.subarray(0, 1000))).toBe(++lsn);
          if (i % 4 === round % 4) spin(1.2);
        }
      }
      expect((await log.commit()).lsn).toBe(lsn);
    }
  });

  it('callers that wait for room together do not take each other’s', async () => {
    for (let run = 0; run < 8; run++) {
      const padded = run % 2 === 1;
      const log = await openLog({ segmentBytes: 65536, ringBytes: 131072, padded, maxRecordBytes });
      let taken = 0;
      const caller = async (n: number): Promise<void> => {
        for (let i = 0; i < 20; i++) {
          const size = (n * 7919 + i * 104_729) % maxRecordBytes;
          if (n % 2 === 0) await log.drain(size + 8);
          else while (log.needsDrain) await log.drain();
          log.append(bytes.subarray(0, size));
          taken += 1;
        }
      };
      const callers = Array.from({ length: 40 }, (_, n) => caller(n));
      expect(
        (await Promise.allSettled(callers)).filter(({ status }) => status !== 'fulfilled'),
      ).toEqual([]);
      expect(taken).toBe(800);
      expect((await log.commit()).lsn).toBe(800);
    }
  });

  it('promised and not used: others get the room in the next turn', async () => {
    const log = await openLog({ segmentBytes: 65536, ringBytes: 131072, maxRecordBytes });
    await log.drain(16_000);
    const order: string[] = [];
    const waits = Array.from({ length: 12 }, (_, i) =>
      log.drain(16_000).then(() => order.push(`${i}`)),
    );
    await Promise.resolve();
    await Promise.all(waits);
    expect(order.length).toBe(12);
    expect(log.append(bytes)).toBe(1);
  });

  it('appendMany takes all or nothing, and waits for nothing', async () => {
    const wait = vi.spyOn(Atomics, 'wait');
    let refusals = 0;
    const property = fc.asyncProperty(
      shapes,
      fc.array(fc.array(lengths, { minLength: 1, maxLength: 40 }), {
        minLength: 10,
        maxLength: 40,
      }),
      async (shape, groups) =>
        withLog(shape, async (log) => {
          let lsn = 0;
          for (const group of groups) {
            const records = group.map((size) => bytes.subarray(0, size));
            for (let isTaken = false; !isTaken; ) {
              try {
                expect(log.appendMany(records)).toEqual({
                  first: lsn + 1,
                  last: lsn + records.length,
                });
                lsn += records.length;
                isTaken = true;
              } catch (error) {
                expect(log.status().appendLsn).toBe(lsn);
                if (error instanceof RangeError) break;
                if (!(error instanceof WalError)) throw error;
                expect([error.code, error.outcome]).toEqual(['WAL_RING_FULL', 'refused']);
                refusals += 1;
                // Goes by what was refused: the same group is taken after it.
                await log.drain();
                expect(log.appendMany(records).first).toBe(lsn + 1);
                lsn += records.length;
                isTaken = true;
              }
            }
          }
          return lsn;
        }),
    );
    await fc.assert(property, { numRuns: 25, endOnFailure: true });
    expect(refusals).toBeGreaterThan(10);
    expect(wait).not.toHaveBeenCalled();
    wait.mockRestore();
  });

  it('appendMany takes one record of any size that append takes', async () => {
    for (const padded of [false, true]) {
      const log = await openLog({
        segmentBytes: 65536,
        ringBytes: 65536,
        maxBatchBytes: 1024,
        padded,
      });
      for (let lsn = 1; lsn <= 20; lsn++) {
        await log.drain(log.maxRecordBytes + 8);
        const data = Buffer.alloc(log.maxRecordBytes);
        expect(log.appendMany([data])).toEqual({ first: lsn, last: lsn });
      }
    }
  });
});

function spin(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}

describe('the most that records take', () => {
  const layouts: fc.Arbitrary<Layout> = fc.record({
    segmentBytes: fc.constantFrom(65536, 131072, 1 << 20),
    ringBytes: fc.constant(1 << 30),
    maxBatchBytes: fc.constantFrom(4096, 16384, 36_864),
    align: fc.constantFrom(8, 4096),
  });
  const sizes = fc.array(
    lengths.map((length) => 4 + Math.ceil(length / 4) * 4),
    { minLength: 1, maxLength: 60 },
  );

  it('is never less than what they take, wherever they begin and one batch closed early', () => {
    const property = fc.property(
      layouts,
      sizes,
      fc.nat(1 << 20),
      fc.nat(60),
      fc.nat(20_000),
      (layout, all, offset, cut, reserved) => {
        const { segmentBytes, align } = layout;
        const room = segmentBytes - 4096 - 2 * Math.max(128, align);
        const position = 4096 + Math.floor((offset % room) / align) * align;
        const left = segmentBytes - position;
        const limit = Math.max(0, Math.floor((left - Math.max(128, align)) / align) * align - 128);
        const capacity = Math.min(reserved, limit);
        const first = ringSpace(layout, position, all.slice(0, cut), capacity);
        const rest = ringSpace(layout, position + first, all.slice(cut));
        const group = { payload: all.reduce((a, b) => a + b), largest: Math.max(...all) };
        for (const known of [group, { ...group, count: all.length }]) {
          expect(mostSpace(layout, known)).toBeGreaterThanOrEqual(first + rest);
          expect(mostSpace(layout, known, left)).toBeGreaterThanOrEqual(first + rest);
        }
        expect(recordSpace(layout, position, all[0]!)).toBe(ringSpace(layout, position, [all[0]!]));
      },
    );
    fc.assert(property, { numRuns: 3000 });
  });

  it('is little more than that for many small records', () => {
    const layout = { segmentBytes: 1 << 26, ringBytes: 1 << 26, maxBatchBytes: 1 << 18, align: 8 };
    const group = { payload: 1 << 24, largest: 128 };
    expect(mostSpace(layout, group, 1 << 25)).toBeLessThan((1 << 24) * 1.001);
    expect(canEverFit(layout, group)).toBe(true);
    expect(canEverFit(layout, { payload: 1 << 26, largest: 128 })).toBe(false);
  });
});
