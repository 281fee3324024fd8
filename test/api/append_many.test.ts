import { describe, expect, it } from 'vitest';
import { canEverFit, ringSpace } from '../../src/api/ring_space.js';
import { openLog, records, small, texts, walError } from './helpers.js';

describe('appendMany', () => {
  it('appends all, in order, and says which LSNs they got', async () => {
    const log = await openLog(small);
    log.append('before');
    expect(log.appendMany(['a', Buffer.from('b'), new Uint8Array([99])])).toEqual({
      first: 2,
      last: 4,
    });
    expect(await texts(log)).toEqual(['before', 'a', 'b', 'c']);
  });

  it('takes any iterable, and nothing of an empty one', async () => {
    const log = await openLog(small);
    expect(log.appendMany(new Set(['x', 'y']))).toEqual({ first: 1, last: 2 });
    expect(log.appendMany([])).toEqual({ first: 3, last: 2 });
    expect(log.status().appendLsn).toBe(2);
  });

  it('spans batches and segments', async () => {
    const log = await openLog(small);
    const items = Array.from({ length: 300 }, (_, i) => Buffer.alloc(5000, i));
    await log.drain(1_200_000);
    expect(log.appendMany(items.slice(0, 150))).toEqual({ first: 1, last: 150 });
    await log.drain(1_200_000);
    expect(log.appendMany(items.slice(150))).toEqual({ first: 151, last: 300 });
    const found = await records(log);
    expect(found.every(({ data }, i) => data.equals(items[i]!))).toBe(true);
    expect(log.status().segments.used).toBeGreaterThan(4);
  });

  it.each([undefined, null, 'text', 7, Buffer.from('bytes'), {}])('refuses %s', async (wrong) => {
    const log = await openLog(small);
    expect(() => log.appendMany(wrong as unknown as string[])).toThrow(TypeError);
    expect(() => log.appendMany(wrong as unknown as string[])).toThrow(/array of records/);
  });

  it('takes nothing when one of them is wrong, and says which', async () => {
    const log = await openLog(small);
    expect(() => log.appendMany(['a', 7 as unknown as string])).toThrow(/\[1\]/);
    expect(() => log.appendMany(['a', Buffer.alloc(70_000)])).toThrow(RangeError);
    expect(() =>
      log.appendMany(
        (function* () {
          yield 'a';
          throw new Error('no more');
        })(),
      ),
    ).toThrow('no more');
    expect(log.status().appendLsn).toBe(0);
    expect(log.append('next')).toBe(1);
  });

  it('an iterator that appends by itself comes first', async () => {
    const log = await openLog(small);
    const range = log.appendMany(
      (function* () {
        log.append('inner');
        yield 'outer';
      })(),
    );
    expect(range).toEqual({ first: 2, last: 2 });
    expect(await texts(log)).toEqual(['inner', 'outer']);
  });

  it('refuses as a whole what does not fit now, and takes it after drain', async () => {
    const log = await openLog(small);
    const items = Array.from({ length: 30 }, () => Buffer.alloc(50_000));
    let groups = 0;
    const error = await walError(() => {
      for (; ; groups++) log.appendMany(items);
    });
    expect([error.code, error.outcome]).toEqual(['WAL_RING_FULL', 'refused']);
    expect(log.status().appendLsn).toBe(30 * groups);
    // Without an amount, drain goes by what was refused.
    await log.drain();
    expect(log.appendMany(items).last).toBe(30 * (groups + 1));
  });

  it('says RangeError for what could never fit', async () => {
    const log = await openLog(small);
    const items = Array.from({ length: 60 }, () => Buffer.alloc(50_000));
    expect(() => log.appendMany(items)).toThrow(RangeError);
    expect(() => log.appendMany(items)).toThrow(/ringBytes/);
    expect(log.status().appendLsn).toBe(0);
  });
});

describe('the space that records take', () => {
  const layout = { segmentBytes: 65536, ringBytes: 1 << 20, maxBatchBytes: 4096, align: 8 };

  it('counts a header a batch, and nothing for no records', () => {
    expect(ringSpace(layout, 4096, [])).toBe(0);
    expect(ringSpace(layout, 4096, [8])).toBe(136);
    expect(ringSpace(layout, 4096, [2048, 2048, 4])).toBe(128 + 4096 + 136);
  });

  it('counts what the end of a segment wastes, and the next header', () => {
    const nearEnd = 65536 - 400;
    expect(ringSpace(layout, nearEnd, [1000])).toBe(400 + 4096 + 1128);
  });

  it('follows the engine: appended records take exactly so much', async () => {
    const log = await openLog({ ...small, maxBatchBytes: 8192 });
    const { segments, ring } = log.status();
    const real = {
      segmentBytes: segments.bytes,
      ringBytes: ring.bytes,
      maxBatchBytes: 8192,
      align: 8,
    };
    await log.drain();
    const before = log.status().ring.free;
    const items = Array.from({ length: 200 }, (_, i) => Buffer.alloc((i * 37) % 5000));
    const sizes = items.map((each) => 4 + Math.ceil(each.length / 4) * 4);
    const opening = log.status();
    expect(opening.appendLsn).toBe(0);
    const all = sizes.reduce((sum, size) => sum + size);
    await log.drain(all);
    log.appendMany(items);
    log.appendInto(0, (_, offset) => offset);
    const after = log.status().ring.free;
    // Flushed meanwhile, some of it is free again; never may more be taken than was foreseen.
    expect(before - after).toBeLessThanOrEqual(ringSpace(real, 4096, sizes) + 65536);
    expect(canEverFit(real, { payload: all, largest: 5004 })).toBe(true);
  });
});
