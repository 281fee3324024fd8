import { once } from 'node:events';
import { PassThrough, Readable } from 'node:stream';
import { finished, pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { CommitLevel, Log, LogWriteStream, WriteStreamOptions } from '../../src/index.js';
import { RawStandby } from '../transport/raw_standby.js';
import { codeOf, openLog, records, small, texts, turn, until, walError } from './helpers.js';

const nobody = { synchronousStandbys: 'ANY 1 (nobody)' } as const;

const numbers = (count: number) => Array.from({ length: count }, (_, i) => `${i}`);

/** The error that destroys it, whatever that is. */
function failure(stream: LogWriteStream): Promise<Error> {
  return new Promise((resolve) => stream.once('error', resolve));
}

function write(stream: LogWriteStream, chunk: unknown): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.write(chunk, undefined, (error) => (error == null ? resolve() : reject(error)));
  });
}

describe.each(['each', 'batch', 'end'] as const)('createWriteStream, commit: %s', (commit) => {
  it('appends what is written, in order; all is committed when it finishes', async () => {
    const log = await openLog(small);
    const stream = log.createWriteStream({ commit });
    const told: number[] = [];
    stream.on('committed', (lsn) => told.push(lsn));
    await pipeline(Readable.from(numbers(50)), stream);
    expect(log.status().commitLsn).toBe(50);
    expect([stream.lastLsn, stream.committedLsn]).toEqual([50, 50]);
    expect(await texts(log)).toEqual(numbers(50));
    expect(told.at(-1)).toBe(50);
    expect(told).toEqual([...new Set(told)].sort((a, b) => a - b));
    if (commit === 'each') expect(told).toEqual(numbers(51).slice(1).map(Number));
    if (commit === 'end') expect(told).toEqual([50]);
  });

  it('takes far more than the log memory, and waits for room', async () => {
    const log = await openLog({ ...small, ringBytes: 512 * 1024 });
    const count = commit === 'each' ? 30 : 150;
    const stream = log.createWriteStream({ commit, highWaterMark: 4 });
    await pipeline(
      Readable.from(
        (function* () {
          for (let i = 0; i < count; i++) yield Buffer.alloc(60_000, i);
        })(),
      ),
      stream,
    );
    const found = await records(log);
    expect(found.map(({ data }) => [data.length, data[0]])).toEqual(
      numbers(count).map((i) => [60_000, Number(i)]),
    );
  });

  it('with nothing written it finishes at once', async () => {
    const log = await openLog({ ...small, ...nobody });
    const stream = log.createWriteStream({ commit });
    await finished(stream.end());
    expect([stream.lastLsn, stream.committedLsn]).toEqual([0, 0]);
  });

  it('waits for the level that it was given, and no other', async () => {
    const log = await openLog({ ...small, ...nobody });
    const local = log.createWriteStream({ commit, level: 'local' });
    await pipeline(Readable.from(['a', 'b']), local);
    expect(local.committedLsn).toBe(2);
    const remote = log.createWriteStream({ commit });
    const ended = finished(remote);
    remote.write('c');
    remote.end();
    await until(() => log.status().flushLsn === 3, 'the flush');
    await turn();
    expect([remote.writableFinished, remote.committedLsn]).toEqual([false, 0]);
    // Whoever waits for the end does not take it for a commit.
    const aborted = walError(() => ended);
    remote.on('error', () => undefined).destroy();
    expect(await aborted).toMatchObject({ code: 'WAL_COMMIT_ABORTED', outcome: 'unknown' });
  });

  it('ends with the log: idle, or while it waits for a commit', async () => {
    const log = await openLog({ ...small, ...nobody });
    const idle = log.createWriteStream({ commit });
    const busy = log.createWriteStream({ commit });
    const found = Promise.all([failure(idle), failure(busy)]);
    busy.end('x');
    await until(() => log.status().flushLsn === 1, 'the flush');
    await log.close();
    for (const error of await found) expect(error).toMatchObject({ code: 'WAL_CLOSED' });
    expect(busy.committedLsn).toBe(0);
    expect(await codeOf(() => log.createWriteStream())).toBe('WAL_CLOSED');
  });

  it('ends with WAL_FENCED: idle, or while it waits for a commit', async () => {
    const log = await openLog({ ...small, name: 'a', listen: { port: 0 }, ...nobody });
    const idle = log.createWriteStream({ commit });
    const busy = log.createWriteStream({ commit });
    const found = Promise.all([failure(idle), failure(busy)]);
    busy.end('x');
    await until(() => log.status().flushLsn === 1, 'the flush');
    const newer = await RawStandby.ofTerm(log.status().listening?.port ?? 0, 9);
    const [first, second] = await found;
    newer.socket.destroy();
    expect(first).toMatchObject({ code: 'WAL_FENCED' });
    expect(second).toMatchObject({ code: 'WAL_FENCED', outcome: 'unknown' });
    expect(await codeOf(() => log.createWriteStream())).toBe('WAL_FENCED');
  });

  it.each([
    ['a number', 7],
    ['an object', { lsn: 1 }],
    ['a wrong `data`', { data: 7 }],
    ['a record over the limit', Buffer.alloc(70_000)],
  ])('%s destroys it, and what came before is in the log', async (_, wrong) => {
    const log = await openLog(small);
    const stream = log.createWriteStream({ commit });
    const failed = failure(stream);
    for (const chunk of ['a', 'b', wrong, 'c']) stream.write(chunk);
    expect((await failed).message).toMatch(/append takes/);
    expect(stream.lastLsn).toBe(2);
    expect(await texts(log)).toEqual(['a', 'b']);
  });

  it.each(['before', 'during'])('cancelled %s: AbortError, with the reason', async (when) => {
    const log = await openLog({ ...small, ...nobody });
    const controller = new AbortController();
    const reason = new Error('enough');
    if (when === 'before') controller.abort(reason);
    const stream = log.createWriteStream({ commit, signal: controller.signal });
    const failed = failure(stream);
    stream.end('x');
    if (when === 'during') {
      await until(() => log.status().flushLsn === 1, 'the flush');
      controller.abort(reason);
    }
    expect(await failed).toMatchObject({ code: 'ABORT_ERR', cause: reason });
    expect(stream.lastLsn).toBe(when === 'before' ? 0 : 1);
    await turn();
    expect(log.status().appendLsn).toBe(stream.lastLsn);
  });

  it('destroyed in mid-write it takes nothing more, and the log goes on', async () => {
    const log = await openLog({ ...small, ringBytes: 512 * 1024 });
    const stream = log.createWriteStream({ commit });
    for (let i = 0; i < 100; i++) stream.write(Buffer.alloc(60_000, i));
    await until(() => stream.lastLsn > 0, 'the first record');
    stream.destroy();
    const last = stream.lastLsn;
    await once(stream, 'close');
    await sleep(20);
    expect(stream.lastLsn).toBe(last);
    expect(last).toBeLessThan(100);
    expect(log.status().appendLsn).toBe(last);
    await log.drain();
    expect((await log.appendAndCommit('next')).lsn).toBe(last + 1);
  });
});

describe('createWriteStream', () => {
  it('each: a write is done when its record is committed, and before the next', async () => {
    const log = await openLog(small);
    const stream = log.createWriteStream({ commit: 'each' });
    const done = numbers(5).map(async (text, i) => {
      await write(stream, text);
      expect(log.status().commitLsn).toBe(i + 1);
      expect(stream.committedLsn).toBe(i + 1);
    });
    await Promise.all(done);
    stream.end();
  });

  it('batch: what is written in one turn is committed together', async () => {
    const log = await openLog(small);
    const stream = log.createWriteStream();
    const told: number[] = [];
    stream.on('committed', (lsn) => told.push(lsn));
    await Promise.all(numbers(20).map((text) => write(stream, text)));
    expect(log.status().commitLsn).toBe(20);
    await turn();
    expect(told).toEqual([20]);
    stream.end();
  });

  it('batch: no more than highWaterMark waits, and its writer is told so', async () => {
    const log = await openLog({ ...small, ...nobody });
    const stream = log.createWriteStream({ highWaterMark: 3 });
    expect(numbers(3).map((text) => stream.write(text))).toEqual([true, true, false]);
    expect(stream.writableNeedDrain).toBe(true);
    // All three wait for one commit, without waiting for the end of the turn.
    expect(stream.lastLsn).toBe(3);
    let pulled = 0;
    const source = new Readable({
      objectMode: true,
      highWaterMark: 1,
      read() {
        pulled += 1;
        this.push('x');
      },
    });
    const piped = log.createWriteStream({ highWaterMark: 3 });
    source.pipe(piped);
    await sleep(20);
    expect(pulled).toBeLessThanOrEqual(8);
    for (const each of [source, stream, piped]) each.destroy();
  });

  it('end: a write is done when its record is in the log memory', async () => {
    const log = await openLog({ ...small, ...nobody });
    const stream = log.createWriteStream({ commit: 'end' });
    await write(stream, 'a');
    await write(stream, 'b');
    expect([stream.lastLsn, stream.committedLsn, log.status().commitLsn]).toEqual([2, 0, 0]);
    stream.destroy();
  });

  it('takes whatever append takes, and the records of a reading', async () => {
    const log = await openLog(small);
    const bytes = new Uint8Array([1, 2, 3]);
    const chunks = ['é', bytes, bytes.buffer, new DataView(bytes.buffer, 1), '', { data: bytes }];
    await pipeline(Readable.from(chunks), log.createWriteStream());
    expect((await records(log)).map(({ data }) => data.toString('hex'))).toEqual([
      'c3a9',
      '010203',
      '010203',
      '0203',
      '',
      '010203',
    ]);
    const other = await openLog(small);
    await pipeline(log.createReadStream({ live: false }), other.createWriteStream());
    expect(await records(other)).toEqual(await records(log));
  });

  it('bytes: each chunk is a record, of text in its encoding too', async () => {
    const log = await openLog(small);
    const stream = log.createWriteStream({ mode: 'bytes', commit: 'end' });
    stream.write('ff00', 'hex');
    stream.write('é');
    stream.write(Buffer.from('abc'));
    await finished(stream.end(Buffer.alloc(0)));
    expect((await records(log)).map(({ data }) => data.toString('hex'))).toEqual([
      'ff00',
      'c3a9',
      '616263',
      '',
    ]);
    expect(stream.writableHighWaterMark).toBe(256 * 1024);
  });

  it('two streams and appends beside them: each has its own LSNs', async () => {
    const log = await openLog(small);
    const [a, b] = [log.createWriteStream(), log.createWriteStream()];
    await Promise.all([write(a, 'a'), write(b, 'b'), log.appendAndCommit('c')]);
    expect(new Set([a.committedLsn, b.committedLsn])).toEqual(new Set([2, 3]));
    expect(log.status().commitLsn).toBe(3);
    for (const stream of [a, b]) await finished(stream.end());
  });

  it('a source that fails destroys it', async () => {
    const log = await openLog(small);
    const source = new PassThrough({ objectMode: true });
    const stream = log.createWriteStream({ commit: 'end' });
    const piped = pipeline(source, stream);
    source.write('a');
    await until(() => stream.lastLsn === 1, 'the record');
    source.destroy(new Error('the other side is gone'));
    await expect(piped).rejects.toThrow('the other side is gone');
    expect(stream.destroyed).toBe(true);
    expect(await texts(log)).toEqual(['a']);
  });

  it('a write that the last flush of a closing log meets is done', async () => {
    const log = await openLog(small);
    const stream = log.createWriteStream();
    const done = write(stream, 'a');
    const failed = failure(stream);
    await until(() => stream.lastLsn === 1, 'the record');
    await log.close();
    await done;
    expect(await failed).toMatchObject({ code: 'WAL_CLOSED' });
    expect(stream.committedLsn).toBe(1);
  });

  it.each<CommitLevel>(['remote_write', 'remote_flush', 'remote_apply'])(
    'level %s without standbys is refused at once',
    async (level) => {
      const log = await openLog(small);
      expect(await codeOf(() => log.createWriteStream({ level }))).toBe('WAL_NO_STANDBYS');
    },
  );

  it('a time-out of the standbys destroys it, outcome unknown', async () => {
    const late = { whenMissing: 'fail', syncTimeout: 100 } as const;
    const log = await openLog({ ...small, ...nobody, ...late });
    const stream = log.createWriteStream();
    stream.write('a');
    expect(await failure(stream)).toMatchObject({ code: 'WAL_SYNC_TIMEOUT', outcome: 'unknown' });
  });

  it('a standby refuses it, and names its primary', async () => {
    const a = await openLog({ ...small, name: 'a', listen: { port: 0 } });
    const b = await openLog({ name: 'b', follow: { port: a.status().listening?.port ?? 0 } });
    await b.connected();
    const error = await walError(() => b.createWriteStream());
    expect(error.code).toBe('WAL_IS_STANDBY');
    expect(error.message).toContain('a at 127.0.0.1');
    await b.promote({ primaryStopped: true });
    await finished(b.createWriteStream().end('x'));
    expect(b.status().commitLsn).toBe(1);
  });

  it('a write inside an encoder is refused', async () => {
    const log = await openLog(small);
    const stream = log.createWriteStream({ commit: 'end' });
    const failed = failure(stream);
    log.appendInto(1, (_, at) => {
      stream.write('x');
      return at;
    });
    expect(await failed).toMatchObject({ code: 'WAL_REENTRANT' });
    expect(log.status().appendLsn).toBe(1);
  });

  it('a stream that is left open keeps no log from closing', async () => {
    const log: Log = await openLog(small);
    const stream = log.createWriteStream();
    const failed = failure(stream);
    await write(stream, 'a');
    await log.close();
    expect(await failed).toMatchObject({ code: 'WAL_CLOSED' });
  });

  it.each<[unknown, RegExp]>([
    [{ commit: 'all' }, /'each', 'batch', 'end'/],
    [{ level: 'disk' }, /level takes one of/],
    [{ mode: 'text' }, /'object', 'bytes'/],
    [{ highWaterMark: 1.5 }, /highWaterMark/],
    [{ signal: 1 }, /AbortSignal/],
    [{ comit: 'end' }, /did you mean commit/],
    [7, /options object/],
  ])('refuses %o', async (options, message) => {
    const log = await openLog(small);
    expect(() => log.createWriteStream(options as WriteStreamOptions)).toThrow(message);
  });
});
