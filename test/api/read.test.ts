import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import type { Batch, Log, ReadOptions } from '../../src/index.js';
import { codeOf, openLog, small, turn, until, walError } from './helpers.js';

async function filled(count: number, size = 10): Promise<Log> {
  const log = await openLog({ ...small, maxBatchBytes: 4096 });
  for (let i = 1; i <= count; i++) {
    if (log.needsDrain) await log.drain();
    await log.drain(size);
    log.append(Buffer.alloc(size, i));
  }
  await log.commit();
  return log;
}

async function lsns(log: Log, options: ReadOptions): Promise<number[]> {
  const found: number[] = [];
  for await (const batch of log.read(options)) for (const { lsn } of batch) found.push(lsn);
  return found;
}

const range = (from: number, to: number) =>
  Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i);

describe('read', () => {
  it('gives what was committed, in batches that say what they hold', async () => {
    const before = Date.now();
    const log = await filled(1000);
    const batches: Batch[] = [];
    for await (const batch of log.read({ live: false })) batches.push(batch);
    expect(batches.length).toBeGreaterThan(3);
    let next = 1;
    for (const batch of batches) {
      expect(batch.firstLsn).toBe(next);
      expect(batch.count).toBe(batch.lastLsn - batch.firstLsn + 1);
      expect([...batch].length).toBe(batch.count);
      expect([...batch].map(({ lsn }) => lsn)).toEqual(range(batch.firstLsn, batch.lastLsn));
      expect(batch.timestamp).toBeGreaterThanOrEqual(before - 1);
      expect(batch.timestamp).toBeLessThanOrEqual(Date.now() + 1);
      expect(batch.term).toEqual(log.status().term);
      next = batch.lastLsn + 1;
    }
    expect(next).toBe(1001);
  });

  it('from and to cut inside batches', async () => {
    const log = await filled(1000);
    for (const [from, to] of [
      [1, 1],
      [1, 1000],
      [500, 777],
      [999, 2000],
      [1000, 1000],
      [7, 6],
      [1001, 1001],
      [5000, 6000],
    ] as const) {
      expect(await lsns(log, { from, to, live: false })).toEqual(range(from, Math.min(to, 1000)));
    }
  });

  it('crosses segments and reads records of every size', async () => {
    const log = await filled(100, 40_000);
    expect(log.status().segments.used).toBeGreaterThan(10);
    let next = 1;
    for await (const batch of log.read({ live: false })) {
      for (const { lsn, data } of batch) {
        expect(lsn).toBe(next);
        expect(data.equals(Buffer.alloc(40_000, next))).toBe(true);
        next += 1;
      }
    }
    expect(next).toBe(101);
    expect(await lsns(log, { from: 50, live: false })).toEqual(range(50, 100));
  });

  it('ends, not live, where the log ended at the call', async () => {
    const log = await filled(3);
    const reading = log.read({ live: false });
    await log.appendAndCommit('later');
    const found: number[] = [];
    for await (const batch of reading) found.push(batch.lastLsn);
    expect(found.at(-1)).toBe(3);
  });

  it('live: gives what comes, in order, as soon as it is committed', async () => {
    const log = await openLog(small);
    const found: number[] = [];
    const controller = new AbortController();
    const reading = (async () => {
      for await (const batch of log.read({ signal: controller.signal })) {
        for (const { lsn } of batch) found.push(lsn);
      }
    })();
    for (let i = 0; i < 200; i++) {
      log.append(`${i}`);
      if (i % 10 === 0) await log.commit();
    }
    await until(() => found.length === 200, 'all records');
    expect(found).toEqual(range(1, 200));
    controller.abort(new Error('done'));
    await expect(reading).rejects.toThrow('done');
  });

  it('live: ends after `to`, wherever that lies, and waits for nothing after it', async () => {
    const log = await openLog(small);
    // Batches 1 to 3, 4 to 6, 7 to 9.
    for (let last = 3; last <= 9; last += 3) {
      log.appendMany(['a', 'b', 'c']);
      await log.commit();
    }
    for (let from = 1; from <= 10; from++) {
      for (let to = 0; to <= 9; to++) {
        expect(await lsns(log, { from, to, live: true })).toEqual(range(from, to));
      }
    }
  });

  it.each([10, 11, 12])('live: ends after %i of a batch that is yet to come', async (to) => {
    const log = await filled(9);
    const reading = [1, 9, 10].map((from) => lsns(log, { from, to, live: true }));
    await sleep(5);
    log.appendMany(['a', 'b', 'c']);
    await log.commit();
    expect(await Promise.all(reading)).toEqual([1, 9, 10].map((from) => range(from, to)));
    // Nothing is kept for a reading that is over, and closing has nothing to cut short.
    const iterator = log.read({ to });
    while ((await iterator.next()).value?.lastLsn !== to);
    await log.close();
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
  });

  it('live: waits for a record that is far ahead', async () => {
    const log = await openLog(small);
    const iterator = log.read({ from: 5 });
    const first = iterator.next();
    for (let i = 1; i <= 6; i++) await log.appendAndCommit(`${i}`);
    const { value } = await first;
    expect([...value!].map(({ data }) => data.toString())).toEqual(['5']);
    await iterator.return?.();
  });

  it('shows nothing before it is committed', async () => {
    const log = await openLog({ ...small, synchronousStandbys: 'ANY 1 (nobody)' });
    log.append('a');
    await turn();
    await until(() => log.status().flushLsn === 1, 'the flush');
    expect(log.status().commitLsn).toBe(0);
    expect(await lsns(log, { live: false })).toEqual([]);
    // A primary may replay its own flushed tail when it starts.
    expect(await lsns(log, { live: false, upTo: 'flush' })).toEqual([1]);
  });

  it('the bytes belong to the caller', async () => {
    const log = await filled(2);
    for await (const batch of log.read({ live: false })) {
      for (const { data } of batch) data.fill(0xee);
    }
    for await (const batch of log.read({ live: false })) {
      for (const { lsn, data } of batch) expect(data.equals(Buffer.alloc(10, lsn))).toBe(true);
    }
  });

  it('a batch can be iterated twice', async () => {
    const log = await filled(3);
    for await (const batch of log.read({ live: false })) {
      expect([...batch].map(({ lsn }) => lsn)).toEqual([...batch].map(({ lsn }) => lsn));
    }
  });

  it.each<[unknown, RegExp]>([
    [{ from: 0 }, /from/],
    [{ from: 1.5 }, /from/],
    [{ from: Number.NaN }, /from/],
    [{ from: '1' }, /from/],
    [{ to: -1 }, /to/],
    [{ upTo: 'apply' }, /commit.*flush/],
    [{ live: 1 }, /live/],
    [{ upTo: 'flush' }, /live: false/],
    [{ signal: {} }, /AbortSignal/],
    [{ form: 1 }, /did you mean from/],
    ['1', /options object/],
  ])('refuses %o', async (options, message) => {
    const log = await openLog(small);
    expect(() => log.read(options as ReadOptions)).toThrow(message);
  });

  it('cancelled before or while it waits: rejects with the reason', async () => {
    const log = await openLog(small);
    const before = log.read({ signal: AbortSignal.abort(new Error('before')) });
    await expect(before.next()).rejects.toThrow('before');
    const controller = new AbortController();
    const next = log.read({ signal: controller.signal }).next();
    await sleep(5);
    controller.abort(new Error('while'));
    await expect(next).rejects.toThrow('while');
  });

  it('return ends a pending next', async () => {
    const log = await openLog(small);
    const iterator = log.read();
    const next = iterator.next();
    await sleep(5);
    expect(await iterator.return?.()).toEqual({ done: true, value: undefined });
    expect(await next).toEqual({ done: true, value: undefined });
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
  });

  it('overlapping next calls are answered in order', async () => {
    const log = await filled(1000);
    const iterator = log.read({ live: false });
    const answers = await Promise.all(Array.from({ length: 200 }, () => iterator.next()));
    const batches = answers.filter((each) => !each.done).map((each) => each.value!);
    for (let i = 1; i < batches.length; i++) {
      expect(batches[i]!.firstLsn).toBe(batches[i - 1]!.lastLsn + 1);
    }
    expect(answers.at(-1)).toEqual({ done: true, value: undefined });
  });

  it('a pending read ends when the log is closed', async () => {
    const log = await openLog(small);
    const next = log.read().next();
    await sleep(5);
    const [error] = await Promise.all([walError(() => next), log.close()]);
    expect(error.code).toBe('WAL_CLOSED');
    expect(await codeOf(() => log.read())).toBe('WAL_CLOSED');
  });

  it('an iterator in the middle says WAL_CLOSED after close', async () => {
    const log = await filled(1000);
    const iterator = log.read({ live: false });
    await iterator.next();
    await log.close();
    expect(await codeOf(() => iterator.next())).toBe('WAL_CLOSED');
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
  });
});

describe('trim', () => {
  it('lets whole segments go, and reading what is gone says where the log starts', async () => {
    const log = await filled(100, 40_000);
    const used = log.status().segments.used;
    await log.trim(60);
    const { firstLsn, segments } = log.status();
    expect(firstLsn).toBeGreaterThan(40);
    expect(firstLsn).toBeLessThanOrEqual(60);
    expect(segments.used).toBeLessThan(used);
    const error = await walError(() => log.read({ live: false }).next());
    expect(error).toMatchObject({ code: 'WAL_LSN_GONE', lsn: firstLsn });
    expect(await lsns(log, { from: firstLsn, live: false })).toEqual(range(firstLsn, 100));
  });

  it('keeps what an open reader still needs, until it returns', async () => {
    const log = await filled(100, 40_000);
    const iterator = log.read({ from: 10, live: false });
    await iterator.next();
    await log.trim(90);
    expect(log.status().firstLsn).toBeLessThanOrEqual(11);
    let last = 10;
    for await (const batch of iterator) last = batch.lastLsn;
    expect(last).toBe(100);
    await log.trim(90);
    expect(log.status().firstLsn).toBeGreaterThan(70);
  });

  it('a reader that was dropped without return lets go after garbage collection', async () => {
    const log = await filled(100, 40_000);
    await (async () => {
      await log.read({ from: 10, live: false }).next();
    })();
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const end = performance.now() + 5000;
    while (log.status().firstLsn < 70 && performance.now() < end) {
      collect();
      await sleep(10);
      await log.trim(90);
    }
    expect(log.status().firstLsn).toBeGreaterThan(70);
  });

  it('trimming what is trimmed, or nothing, is no error', async () => {
    const log = await filled(10);
    await log.trim(1);
    await log.trim(11);
    await log.trim(5);
  });

  it.each([0, -1, 1.5, Number.NaN, '1', 12])('refuses %s', async (wrong) => {
    const log = await filled(10);
    await expect(log.trim(wrong as number)).rejects.toThrow(/trim\(lsn\)/);
  });

  it('says WAL_CLOSED afterwards', async () => {
    const log = await filled(1);
    await log.close();
    expect(await codeOf(() => log.trim(1))).toBe('WAL_CLOSED');
  });
});
