import { once } from 'node:events';
import { Readable, Writable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { Batch, Log, LogRecord, ReadStreamOptions } from '../../src/index.js';
import { RawStandby } from '../transport/raw_standby.js';
import { codeOf, openLog, small, turn, until, walError } from './helpers.js';

async function filled(count: number, size = 10): Promise<Log> {
  const log = await openLog({ ...small, maxBatchBytes: 4096 });
  for (let i = 1; i <= count; i++) {
    await log.drain(size);
    log.append(Buffer.alloc(size, i));
  }
  await log.commit();
  return log;
}

async function lsns(log: Log, options: ReadStreamOptions): Promise<number[]> {
  const found: number[] = [];
  for await (const { lsn } of log.createReadStream(options)) found.push(lsn);
  return found;
}

const range = (from: number, to: number) =>
  Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i);

const stopped = { primaryStopped: true } as const;

describe('createReadStream', () => {
  it('gives records, one a chunk, with their LSN', async () => {
    const log = await filled(1000);
    const stream = log.createReadStream({ live: false });
    expect(stream.lastLsn).toBe(0);
    let next = 1;
    for await (const { lsn, data } of stream) {
      expect(lsn).toBe(next);
      expect(data).toEqual(Buffer.alloc(10, next));
      next += 1;
    }
    expect(next).toBe(1001);
    expect(stream.lastLsn).toBe(1000);
  });

  it.each([
    [1, 1],
    [500, 777],
    [999, 2000],
    [7, 6],
    [1001, 1001],
  ])('from %i to %i', async (from, to) => {
    const log = await filled(1000);
    expect(await lsns(log, { from, to, live: false })).toEqual(range(from, Math.min(to, 1000)));
  });

  it.each([0, 1, 3, 1000])('reads no more than %i records ahead', async (highWaterMark) => {
    const log = await filled(1000);
    const stream = log.createReadStream({ live: false, highWaterMark });
    const most = Math.max(1, highWaterMark);
    let next = 1;
    for await (const { lsn } of stream) {
      expect(lsn).toBe(next);
      expect(stream.readableLength).toBeLessThanOrEqual(highWaterMark);
      expect(stream.lastLsn - lsn).toBeLessThanOrEqual(most);
      next += 1;
      if (next % 100 === 0) await turn();
    }
    expect(next).toBe(1001);
  });

  it('holds still while its consumer does', async () => {
    const log = await filled(1000);
    const stream = log.createReadStream({ live: false });
    await once(stream, 'readable');
    await sleep(20);
    expect(stream.lastLsn).toBe(16);
    stream.destroy();
  });

  it('bytes: the bytes of the records, one after the other, and little of it ahead', async () => {
    const log = await openLog(small);
    const expected: Buffer[] = [];
    for (let i = 0; i < 500; i++) {
      // Of every size, none too; and whole batches of empty ones.
      const size = i >= 100 && i < 120 ? 0 : (i * 37) % 300;
      expected.push(Buffer.alloc(size, i));
      log.append(expected.at(-1)!);
      if (i % 7 === 0) await log.commit();
    }
    await log.commit();
    const stream = log.createReadStream({ mode: 'bytes', live: false, highWaterMark: 1000 });
    const found: Buffer[] = [];
    for await (const chunk of stream) {
      expect(stream.readableLength).toBeLessThan(1000 + 300);
      found.push(chunk);
    }
    expect(Buffer.concat(found)).toEqual(Buffer.concat(expected));
    expect(stream.lastLsn).toBe(500);
  });

  it('live: gives what comes, and ends after `to`', async () => {
    const log = await openLog(small);
    const found: number[] = [];
    const reading = (async () => {
      for await (const { lsn } of log.createReadStream({ to: 100 })) found.push(lsn);
    })();
    for (let i = 0; i < 110; i++) {
      log.append(`${i}`);
      if (i % 10 === 0) await log.commit();
    }
    await reading;
    expect(found).toEqual(range(1, 100));
  });

  it('pipeline takes it to a slow end, in order and whole', async () => {
    const log = await filled(300);
    const found: number[] = [];
    const slow = new Writable({
      objectMode: true,
      highWaterMark: 2,
      write({ lsn }: LogRecord, _encoding, done) {
        found.push(lsn);
        setImmediate(done);
      },
    });
    await pipeline(log.createReadStream({ live: false }), slow);
    expect(found).toEqual(range(1, 300));
  });

  it('pipeline: an end that fails destroys it, and the segments go', async () => {
    const log = await filled(100, 40_000);
    const stream = log.createReadStream({ from: 5, live: false });
    const failing = new Writable({
      objectMode: true,
      write: (_chunk, _encoding, done) => done(new Error('the disk of the consumer')),
    });
    await expect(pipeline(stream, failing)).rejects.toThrow('the disk of the consumer');
    expect(stream.destroyed).toBe(true);
    await log.trim(90);
    expect(log.status().firstLsn).toBeGreaterThan(70);
  });

  it('destroying it in the middle lets the segments go at once', async () => {
    const log = await filled(100, 40_000);
    // What it has read ahead it has let go of.
    const stream = log.createReadStream({ from: 10, live: false, highWaterMark: 1 });
    await once(stream, 'readable');
    await log.trim(90);
    expect(log.status().firstLsn).toBeLessThanOrEqual(20);
    stream.destroy();
    await log.trim(90);
    expect(log.status().firstLsn).toBeGreaterThan(70);
  });

  it('destroying it ends a wait for records to come, without an error', async () => {
    const log = await openLog(small);
    const stream = log.createReadStream();
    stream.resume();
    await sleep(5);
    stream.destroy();
    await once(stream, 'close');
    expect(stream.errored).toBeNull();
  });

  it('the end of the stream lets the segments go', async () => {
    const log = await filled(100, 40_000);
    const stream = log.createReadStream({ to: 50 }).resume();
    await finished(stream);
    await log.trim(90);
    expect(log.status().firstLsn).toBeGreaterThan(70);
  });

  it.each(['before', 'during'])('cancelled %s: AbortError, with the reason', async (when) => {
    const log = await openLog(small);
    const reason = new Error('enough');
    const controller = new AbortController();
    if (when === 'before') controller.abort(reason);
    const stream = log.createReadStream({ signal: controller.signal });
    stream.resume();
    const ended = finished(stream);
    if (when === 'during') setTimeout(() => controller.abort(reason), 5);
    await expect(ended).rejects.toMatchObject({ code: 'ABORT_ERR', cause: reason });
  });

  it('a trimmed `from` destroys it with WAL_LSN_GONE, and the first LSN there is', async () => {
    const log = await filled(100, 40_000);
    await log.trim(60);
    const stream = log.createReadStream({ live: false });
    const error = await walError(() => finished(stream.resume()));
    expect(error).toMatchObject({ code: 'WAL_LSN_GONE', lsn: log.status().firstLsn });
  });

  it.each(['waiting', 'in the middle'])('closing the log destroys it: %s', async (how) => {
    const log = await filled(how === 'waiting' ? 0 : 1000);
    const stream = log.createReadStream();
    if (how === 'waiting') stream.resume();
    else await once(stream, 'readable');
    const ended = codeOf(() => finished(stream));
    await sleep(5);
    await log.close();
    stream.resume();
    expect(await ended).toBe('WAL_CLOSED');
    expect(await codeOf(() => log.createReadStream())).toBe('WAL_CLOSED');
  });

  it('a listener that destroys it gets nothing more', async () => {
    const log = await filled(100);
    const found: number[] = [];
    const stream = log.createReadStream({ live: false });
    stream.on('data', ({ lsn }: LogRecord) => {
      found.push(lsn);
      if (lsn === 20) stream.destroy();
    });
    await once(stream, 'close');
    expect(found).toEqual(range(1, 20));
  });

  it('goes on through a promotion', async () => {
    const a = await openLog({ ...small, name: 'a', listen: { port: 0 } });
    const b = await openLog({ name: 'b', follow: { port: a.status().listening?.port ?? 0 } });
    await b.connected();
    const found: string[] = [];
    const stream = b.createReadStream();
    stream.on('data', ({ data }: LogRecord) => found.push(data.toString()));
    await a.appendAndCommit('one');
    await until(() => found.length === 1, 'the record on the standby');
    await b.promote(stopped);
    await b.appendAndCommit('two');
    await until(() => found.length === 2, 'the record of the new primary');
    expect(found).toEqual(['one', 'two']);
    stream.destroy();
  });

  it('of a primary that was fenced it waits on, and what was committed is read', async () => {
    const a = await openLog({ ...small, name: 'a', listen: { port: 0 } });
    await a.appendAndCommit('one');
    const waiting = a.createReadStream();
    const found: string[] = [];
    waiting.on('data', ({ data }: LogRecord) => found.push(data.toString()));
    const newer = await RawStandby.ofTerm(a.status().listening?.port ?? 0, 9);
    await until(() => a.status().role === 'fenced', 'the fence');
    newer.socket.destroy();
    expect(found).toEqual(['one']);
    expect(waiting.destroyed).toBe(false);
    expect(await lsns(a, { live: false })).toEqual([1]);
    waiting.destroy();
  });

  it.each<[unknown, RegExp]>([
    [{ from: 0 }, /from/],
    [{ from: Number.NaN }, /from/],
    [{ mode: 'lines' }, /'object', 'bytes'/],
    [{ mode: 1 }, /'object', 'bytes'/],
    [{ highWaterMark: -1 }, /highWaterMark/],
    [{ highWaterMark: Number.NaN }, /highWaterMark/],
    [{ borrow: 1 }, /borrow/],
    [{ borrow: true, mode: 'bytes' }, /mode: 'object'/],
    [{ borrow: true, highWaterMark: 4 }, /leave out highWaterMark/],
    [{ signal: {} }, /AbortSignal/],
    [{ upTo: 'flush' }, /live: false/],
    [{ highWatermark: 1 }, /did you mean highWaterMark/],
    ['1', /options object/],
  ])('refuses %o', async (options, message) => {
    const log = await openLog(small);
    expect(() => log.createReadStream(options as ReadStreamOptions)).toThrow(message);
  });

  it('is refused inside an encoder', async () => {
    const log = await openLog(small);
    const inside = () => log.appendInto(1, (_, at) => at + log.createReadStream().lastLsn);
    expect(await codeOf(inside)).toBe('WAL_REENTRANT');
  });
});

describe('Readable.from(log.read())', () => {
  it('gives the batches', async () => {
    const log = await filled(1000);
    let next = 1;
    for await (const batch of Readable.from(log.read({ live: false }))) {
      expect((batch as Batch).firstLsn).toBe(next);
      next = (batch as Batch).lastLsn + 1;
    }
    expect(next).toBe(1001);
  });

  it('destroyed in the middle, or while it waits, it lets the segments go', async () => {
    const log = await filled(100, 40_000);
    const middle = Readable.from(log.read({ from: 10, live: false }));
    await once(middle, 'readable');
    const waiting = Readable.from(log.read({ from: 101 })).resume();
    await sleep(5);
    for (const stream of [middle, waiting]) {
      stream.destroy();
      await once(stream, 'close');
    }
    await log.trim(90);
    expect(log.status().firstLsn).toBeGreaterThan(70);
  });
});

describe('borrow', () => {
  /** Debugging is asked for in the environment, at the beginning of a reading. */
  function poisoned<T>(read: () => T): T {
    process.env.WALMIRROR_DEBUG = '1';
    try {
      return read();
    } finally {
      delete process.env.WALMIRROR_DEBUG;
    }
  }

  it.each([10, 3000, 40_000])('gives the same records: %i bytes each', async (size) => {
    const count = size > 10_000 ? 60 : 500;
    const log = await filled(count, size);
    for (const open of [<T>(read: () => T) => read(), poisoned]) {
      let next = 1;
      for await (const batch of open(() => log.read({ live: false, borrow: true }))) {
        for (const { lsn, data } of batch) {
          expect(lsn).toBe(next);
          expect(data.equals(Buffer.alloc(size, next))).toBe(true);
          next += 1;
        }
      }
      expect(next).toBe(count + 1);
    }
  });

  it('from the segments and from memory, live, in one buffer', async () => {
    const log = await filled(200, 10_000);
    const buffers = new Set<ArrayBufferLike>();
    let next = 1;
    for await (const batch of log.read({ to: 220, borrow: true })) {
      for (const { data } of batch) {
        buffers.add(data.buffer);
        expect(data[0]).toBe(next % 256);
        next += 1;
      }
      if (next <= 200 || next > 220) continue;
      await log.drain(10_000); // a fast disk is ahead of the next segment
      await log.appendAndCommit(Buffer.alloc(10_000, next));
    }
    expect(next).toBe(221);
    // It grows now and then; without `borrow` there is one for each piece.
    expect(buffers.size).toBeLessThan(8);
  });

  it('what is kept too long is overwritten, if asked for, and no longer iterated', async () => {
    const log = await filled(1000);
    const reading = poisoned(() => log.read({ live: false, borrow: true }));
    const { value: first } = await reading.next();
    const [record] = [...first!];
    expect(record?.data).toEqual(Buffer.alloc(10, 1));
    await reading.next();
    expect(record?.data).toEqual(Buffer.alloc(10, 0xdb));
    expect(() => [...first!]).toThrow(/borrowed/);
    expect(first).toMatchObject({ firstLsn: 1 });
  });

  it.each(['return', 'the end'])('the last batch is valid until %s', async (how) => {
    const log = await filled(3);
    const reading = poisoned(() => log.read({ to: 3, borrow: true }));
    const { value: last } = await reading.next();
    const [record] = [...last!];
    expect(record?.data).toEqual(Buffer.alloc(10, 1));
    if (how === 'return') await reading.return?.();
    else expect((await reading.next()).done).toBe(true);
    expect(record?.data).toEqual(Buffer.alloc(10, 0xdb));
  });

  it('without it the bytes belong to the caller, poison or not', async () => {
    const log = await filled(1000);
    const kept: LogRecord[] = [];
    for await (const batch of poisoned(() => log.read({ live: false }))) kept.push(...batch);
    for (const { lsn, data } of kept) expect(data.equals(Buffer.alloc(10, lsn))).toBe(true);
  });

  it('a stream lends a record until it is asked for the next one', async () => {
    const log = await filled(1000);
    const open = () => log.createReadStream({ live: false, borrow: true });
    let next = 1;
    for await (const { lsn, data } of poisoned(open)) {
      await Promise.resolve();
      expect(lsn).toBe(next);
      expect(data.equals(Buffer.alloc(10, next))).toBe(true);
      next += 1;
    }
    expect(next).toBe(1001);
    const stream = poisoned(open);
    stream.on('data', ({ lsn, data }: LogRecord) => {
      expect(data.equals(Buffer.alloc(10, lsn))).toBe(true);
      next += 1;
    });
    await finished(stream);
    expect(next).toBe(2001);
  });

  it('what a stream lent is overwritten after its batch', async () => {
    const log = await filled(1000);
    const kept: LogRecord[] = [];
    for await (const record of poisoned(() => log.createReadStream({ live: false, borrow: true })))
      kept.push(record);
    expect(kept[0]?.data).toEqual(Buffer.alloc(10, 0xdb));
  });
});
