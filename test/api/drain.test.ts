import { describe, expect, it } from 'vitest';
import { block, codeOf, openLog, small } from './helpers.js';

/** Segments that outlast the memory: what is waited for is the flush alone. */
const large = { ...small, segmentBytes: 16 * 1024 * 1024 };

describe('drain', () => {
  it('resolves at once when there is room', async () => {
    const log = await openLog(small);
    expect(log.needsDrain).toBe(false);
    await log.drain();
    await log.drain(0);
    await log.drain(log.maxRecordBytes);
  });

  it('needsDrain turns true before the memory is full, and false after drain', async () => {
    const log = await openLog(large);
    let appended = 0;
    while (!log.needsDrain) {
      log.append(Buffer.alloc(10_000));
      appended += 1;
    }
    expect(log.status().ring.free).toBeGreaterThan(0);
    await log.drain();
    expect(log.needsDrain).toBe(false);
    expect((await log.commit()).lsn).toBe(appended);
  });

  it('what drain(bytes) promised is taken', async () => {
    const log = await openLog(small);
    for (let i = 0; i < 300; i++) {
      const bytes = (i * 7919) % log.maxRecordBytes;
      await log.drain(bytes);
      expect(log.append(Buffer.alloc(bytes))).toBe(i + 1);
    }
  });

  it('what drain(bytes) promised to a group is taken', async () => {
    const log = await openLog(small);
    for (let i = 0; i < 20; i++) {
      await log.drain(1_000_000);
      log.appendMany(Array.from({ length: 20 }, () => Buffer.alloc(49_000)));
    }
    expect((await log.commit()).lsn).toBe(400);
  });

  it('leaves the open batch open when there is room in it', async () => {
    const log = await openLog({ ...small, maxBatchDelay: 10_000 });
    for (let i = 0; i < 100; i++) {
      await log.drain(10);
      log.append('0123456789');
    }
    expect(log.status().closedLsn).toBe(0);
  });

  it('says RangeError for what could never be', async () => {
    const log = await openLog(small);
    await expect(log.drain(small.ringBytes)).rejects.toThrow(RangeError);
    await expect(log.drain(Number.MAX_SAFE_INTEGER)).rejects.toThrow(/ringBytes/);
  });

  it.each([-1, 0.5, Number.NaN, '7', null])('refuses %s', async (wrong) => {
    const log = await openLog(small);
    await expect(log.drain(wrong as number)).rejects.toThrow(/drain\(bytes\)/);
  });

  it('cancelled: rejects with the reason', async () => {
    const log = await openLog(large);
    await expect(log.drain(1, { signal: AbortSignal.abort('why') })).rejects.toBe('why');
    // The disk may be quick enough to make room before the signal comes.
    for (let cancelled = 0; cancelled === 0; ) {
      while (!log.needsDrain) log.append(Buffer.alloc(60_000));
      const controller = new AbortController();
      const { signal } = controller;
      const first = log.drain(undefined, { signal }).catch((error: Error) => error.message);
      const second = log.drain();
      controller.abort(new Error('enough'));
      if ((await first) === 'enough') cancelled += 1;
      await second;
    }
  });

  it('appends that wait go on after the event loop was blocked', async () => {
    const log = await openLog(large);
    for (let round = 0; round < 5; round++) {
      while (!log.needsDrain) log.append(Buffer.alloc(60_000));
      const room = [log.drain(), log.drain(log.maxRecordBytes)];
      const last = log.append('the last one');
      const commit = log.commit(last);
      // All is flushed meanwhile, and nobody hears of it before the loop comes back.
      block(100);
      await Promise.all(room);
      expect((await commit).lsn).toBeGreaterThanOrEqual(last);
    }
  });

  it('a closed log has nothing to wait for', async () => {
    const log = await openLog(small);
    await log.close();
    expect(await codeOf(() => log.drain())).toBe('WAL_CLOSED');
  });
});
