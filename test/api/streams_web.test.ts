import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { Log, LogRecord, ReadableOptions, WritableOptions } from '../../src/index.js';
import { RawStandby } from '../transport/raw_standby.js';
import { codeOf, openLog, small, texts, until, walError } from './helpers.js';

const nobody = { synchronousStandbys: 'ANY 1 (nobody)' } as const;

async function filled(count: number, size = 10): Promise<Log> {
  const log = await openLog({ ...small, maxBatchBytes: 4096 });
  for (let i = 1; i <= count; i++) {
    await log.drain(size);
    log.append(Buffer.alloc(size, i));
  }
  await log.commit();
  return log;
}

describe('readable', () => {
  it('gives records, and ends', async () => {
    const log = await filled(1000);
    let next = 1;
    for await (const { lsn, data } of log.readable({ live: false })) {
      expect(lsn).toBe(next);
      expect(data.equals(Buffer.alloc(10, next))).toBe(true);
      next += 1;
    }
    expect(next).toBe(1001);
  });

  it('bytes: those of the records, one after the other', async () => {
    const log = await filled(1000);
    const found: Buffer[] = [];
    for await (const chunk of log.readable({ live: false, mode: 'bytes' })) found.push(chunk);
    const expected = Buffer.concat(Array.from({ length: 1000 }, (_, i) => Buffer.alloc(10, i + 1)));
    expect(Buffer.concat(found).equals(expected)).toBe(true);
  });

  it('reads no more than its high-water mark ahead', async () => {
    const log = await filled(100, 40_000);
    const stream = log.readable({ live: false, highWaterMark: 3 });
    const reader = stream.getReader();
    await reader.read();
    await sleep(20);
    // What it has read it lets go of: the rest of the log is still kept for it.
    await log.trim(90);
    expect(log.status().firstLsn).toBeLessThanOrEqual(1 + 3 + 6);
    for (let lsn = 2; lsn <= 100; lsn++) expect((await reader.read()).value?.lsn).toBe(lsn);
    expect((await reader.read()).done).toBe(true);
    await log.trim(90);
    expect(log.status().firstLsn).toBeGreaterThan(70);
  });

  it('reads nothing ahead, if asked to', async () => {
    const log = await filled(10);
    const reader = log.readable({ live: false, highWaterMark: 0 }).getReader();
    for (let lsn = 1; lsn <= 10; lsn++) expect((await reader.read()).value?.lsn).toBe(lsn);
    expect((await reader.read()).done).toBe(true);
  });

  it('live: gives what comes', async () => {
    const log = await openLog(small);
    const reader = log.readable().getReader();
    for (let lsn = 1; lsn <= 5; lsn++) {
      const read = reader.read();
      await log.appendAndCommit(`${lsn}`);
      expect((await read).value).toEqual({ lsn, data: Buffer.from(`${lsn}`) });
    }
    await reader.cancel();
  });

  it.each(['in the middle', 'while it waits'])(
    'cancelled %s it lets the segments go at once',
    async (when) => {
      const log = await filled(100, 40_000);
      const from = when === 'while it waits' ? 101 : 10;
      const reader = log.readable({ from }).getReader();
      const read = reader.read();
      if (from === 10) await read;
      else await sleep(5);
      await reader.cancel();
      if (from !== 10) expect((await read).done).toBe(true);
      await log.trim(90);
      expect(log.status().firstLsn).toBeGreaterThan(70);
    },
  );

  it.each(['before', 'during', 'with its queue full'])(
    'aborted %s: errored with the reason, and the segments go',
    async (when) => {
      const log = await filled(100, 40_000);
      const reason = new Error('enough');
      const controller = new AbortController();
      if (when === 'before') controller.abort(reason);
      const from = when === 'with its queue full' ? 10 : 101;
      const reader = log.readable({ from, signal: controller.signal }).getReader();
      const closed = expect(reader.closed).rejects.toBe(reason);
      await sleep(20);
      controller.abort(reason);
      await closed;
      await expect(reader.read()).rejects.toBe(reason);
      await log.trim(90);
      expect(log.status().firstLsn).toBeGreaterThan(70);
    },
  );

  it('errors with the log: a trimmed `from`, a log that is closed', async () => {
    const log = await filled(100, 40_000);
    await log.trim(60);
    const gone = log.readable().getReader();
    const error = await walError(() => gone.read());
    expect(error).toMatchObject({ code: 'WAL_LSN_GONE', lsn: log.status().firstLsn });
    const waiting = log.readable({ from: 101 }).getReader();
    const closed = codeOf(() => waiting.read());
    await sleep(5);
    await log.close();
    expect(await closed).toBe('WAL_CLOSED');
    expect(await codeOf(() => log.readable())).toBe('WAL_CLOSED');
  });

  it.each<[unknown, RegExp]>([
    [{ borrow: true }, /no option "borrow"/],
    [{ mode: 'text' }, /'object', 'bytes'/],
    [{ highWaterMark: Number.NaN }, /highWaterMark/],
    [{ from: 0 }, /from/],
  ])('refuses %o', async (options, message) => {
    const log = await openLog(small);
    expect(() => log.readable(options as ReadableOptions)).toThrow(message);
  });
});

describe.each(['each', 'batch', 'end'] as const)('writable, commit: %s', (commit) => {
  it('appends what is written; all is committed when it closes', async () => {
    const log = await openLog(small);
    const told: number[] = [];
    const stream = log.writable({ commit, onCommitted: (lsn) => told.push(lsn) });
    const writer = stream.getWriter();
    for (let i = 0; i < 20; i++) {
      await writer.write(`${i}`);
      if (commit === 'each') expect(log.status().commitLsn).toBe(i + 1);
    }
    await writer.close();
    expect(log.status().commitLsn).toBe(20);
    expect(told.at(-1)).toBe(20);
    expect(await texts(log)).toEqual(Array.from({ length: 20 }, (_, i) => `${i}`));
  });

  it('pipeTo waits for room, and copies a log', async () => {
    const log = await filled(commit === 'each' ? 60 : 300, 10_000);
    const other = await openLog({ ...small, ringBytes: 512 * 1024 });
    await log.readable({ live: false }).pipeTo(other.writable({ commit, highWaterMark: 8 }));
    expect(other.status().commitLsn).toBe(log.status().commitLsn);
    expect(await texts(other)).toEqual(await texts(log));
  });

  it.each(['abort', 'the signal'])('%s ends a wait for a commit', async (how) => {
    const log = await openLog({ ...small, ...nobody });
    const reason = new Error('enough');
    const controller = new AbortController();
    const writer = log.writable({ commit, signal: controller.signal }).getWriter();
    const closed = expect(writer.closed).rejects.toBe(reason);
    const written = writer.write('x').catch(() => undefined);
    const ended = commit === 'end' ? writer.close().catch(() => undefined) : undefined;
    await until(() => log.status().flushLsn === 1, 'the flush');
    // By the rules of web streams it rejects where `close` was under way, and could not be met.
    if (how === 'abort') await writer.abort(reason).catch(() => undefined);
    else controller.abort(reason);
    await closed;
    await Promise.all([written, ended]);
    await expect(writer.write('y')).rejects.toBeDefined();
    expect(log.status().appendLsn).toBe(1);
  });

  it('ends with the log, idle too', async () => {
    const log = await openLog({ ...small, name: 'a', listen: { port: 0 } });
    const fenced = log.writable({ commit }).getWriter();
    const code = codeOf(() => fenced.closed);
    const newer = await RawStandby.ofTerm(log.status().listening?.port ?? 0, 9);
    expect(await code).toBe('WAL_FENCED');
    newer.socket.destroy();
    const other = await openLog(small);
    const writer = other.writable({ commit }).getWriter();
    const closed = codeOf(() => writer.closed);
    await other.close();
    expect(await closed).toBe('WAL_CLOSED');
    expect(await codeOf(() => other.writable())).toBe('WAL_CLOSED');
  });

  it.each([[7], [{ data: 7 }], [Buffer.alloc(70_000)]])(
    'a wrong chunk ends it: %o',
    async (wrong) => {
      const log = await openLog(small);
      const writer = log.writable({ commit }).getWriter();
      const closed = expect(writer.closed).rejects.toThrow();
      await writer.write('a');
      await writer.write(wrong as unknown as string).catch(() => undefined);
      await closed;
      expect(await texts(log)).toEqual(['a']);
    },
  );
});

describe('writable', () => {
  it('a null ends it', async () => {
    const log = await openLog(small);
    const writer = log.writable().getWriter();
    const closed = expect(writer.closed).rejects.toThrow(/null/);
    await expect(writer.write(null as unknown as string)).rejects.toThrow(/null/);
    await closed;
    expect(log.status().appendLsn).toBe(0);
  });

  it('takes what a Node stream gives as a web stream', async () => {
    const log = await filled(50);
    const other = await openLog(small);
    await Readable.toWeb(log.createReadStream({ live: false })).pipeTo(other.writable());
    expect(other.status().commitLsn).toBe(50);
  });

  it('batch: writes that are not awaited are few commits', async () => {
    const log = await openLog(small);
    const told: number[] = [];
    const writer = log.writable({ onCommitted: (lsn) => told.push(lsn) }).getWriter();
    for (let i = 0; i < 100; i++) void writer.write(`${i}`);
    await writer.close();
    expect(log.status().commitLsn).toBe(100);
    expect(told.length).toBeLessThan(50);
  });

  it.each<[unknown, RegExp]>([
    [{ onCommitted: 7 }, /onCommitted takes a function/],
    [{ commit: 'all' }, /'each', 'batch', 'end'/],
    [{ onCommited: () => undefined }, /did you mean onCommitted/],
  ])('refuses %o', async (options, message) => {
    const log = await openLog(small);
    expect(() => log.writable(options as WritableOptions)).toThrow(message);
  });

  it('records of a readable are those of the log', async () => {
    const log = await openLog(small);
    await log.appendAndCommit('x');
    const { value } = await log.readable({ live: false }).getReader().read();
    expect(value satisfies LogRecord | undefined).toEqual({ lsn: 1, data: Buffer.from('x') });
  });
});
