import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { closeLog } from '../../src/api/close.js';
import { openLog as openCore } from '../../src/api/open.js';
import { type AttachedLog, Log, type OpenOptions, WalError } from '../../src/index.js';
import { State } from '../../src/native/native_log.js';
import { freshDir } from '../helpers/temp.js';
import { RawStandby } from '../transport/raw_standby.js';
import { codeOf, openLog, reopen, small, texts, turn, until, walError } from './helpers.js';

/**
 * Attached from the same thread: all goes through the engine and both its ends as between threads,
 * and in an order that a test can tell. Threads of their own: attach_threads.test.ts.
 */
async function attached(log: Log): Promise<AttachedLog> {
  const other = await Log.attach(structuredClone(log.handle));
  onTestFinished(() => other.close().catch(() => undefined));
  return other;
}

async function pair(options: Partial<OpenOptions> = {}) {
  const log = await openLog({ ...small, ...options });
  return { log, other: await attached(log) };
}

function isClosed(call: () => unknown): boolean {
  try {
    call();
    return false;
  } catch (error) {
    return error instanceof WalError && error.code === 'WAL_CLOSED';
  }
}

const anyOne = { synchronousStandbys: 'ANY 1 (*)' } as const;

describe('a log that was attached to', () => {
  it('takes records of all in one order, and each of them whole', async () => {
    const { log, other } = await pair();
    expect([log.append('a'), other.append('b'), log.append(Buffer.from('c'))]).toEqual([1, 2, 3]);
    expect(other.appendMany(['d', Buffer.from('e')])).toEqual({ first: 4, last: 5 });
    expect(log.appendMany(['f', 'g'])).toEqual({ first: 6, last: 7 });
    const encode = (buffer: Buffer, at: number) => at + buffer.write('h', at);
    expect([other.appendInto(20, encode), log.appendInto(20, encode)]).toEqual([8, 9]);
    expect(other.append('')).toBe(10);
    expect(other.append('grün '.repeat(20_000).slice(0, 20_000))).toBe(11);
    expect(log.appendMany([])).toEqual({ first: 12, last: 11 });
    expect(await other.commit()).toEqual({ lsn: 11, level: 'local', standbys: [] });
    expect(log.status()).toMatchObject({ appendLsn: 11, commitLsn: 11 });
    expect(await other.status()).toMatchObject({ appendLsn: 11, name: log.name });
    const again = await reopen(log);
    const found = await texts(again);
    expect(found.slice(0, 10)).toEqual(['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'h', '']);
  });

  it('takes records of shared memory, of all and before it is shared too', async () => {
    const log = await openLog(small);
    const record = new Uint8Array(new SharedArrayBuffer(8), 2, 4).fill(65);
    expect(log.append(record)).toBe(1);
    const other = await attached(log);
    expect([log.append(record), other.append(record)]).toEqual([2, 3]);
    expect(other.append(record.buffer as never)).toBe(4);
    expect([log.appendMany([record]), other.appendMany([record])]).toEqual([
      { first: 5, last: 5 },
      { first: 6, last: 6 },
    ]);
    await other.commit();
    const same = 'AAAA';
    expect(await texts(log)).toEqual([same, same, same, '\0\0AAAA\0\0', same, same]);
  });

  it('keeps what was in the open batch when somebody attaches', async () => {
    const log = await openLog(small);
    const attaching = Log.attach(log.handle);
    log.append('before');
    const other = await attaching;
    log.append('own');
    other.append('other');
    await other.close();
    expect(await texts(log)).toEqual(['before', 'own', 'other']);
  });

  it('flushes at the end of a turn what nobody commits', async () => {
    const { log, other } = await pair();
    other.append('x');
    await until(() => log.status().flushLsn === 1, 'the flush');
  });

  it('goes through many segments and the whole log memory, groups too', async () => {
    const { log, other } = await pair({ maxBatchBytes: 16 * 1024 });
    const expected = new Map<number, string>();
    const put = async (to: Log | AttachedLog, items: string[]) => {
      for (;;) {
        try {
          const { first } = to.appendMany(items);
          for (const [i, item] of items.entries()) {
            expect(expected.has(first + i)).toBe(false);
            expected.set(first + i, item);
          }
          return;
        } catch (error) {
          if (!(error instanceof WalError) || error.code !== 'WAL_RING_FULL') throw error;
          await to.drain();
        }
      }
    };
    await Promise.all(
      [log, other, other].map(async (to, who) => {
        for (let i = 0; i < 80; i++) {
          const size = 1 + ((i * 7919 + who * 31) % 9000);
          await put(
            to,
            Array.from({ length: 1 + (i % 9) }, (_, k) => `${who}/${i}/${k}`.padEnd(size)),
          );
          if (i % 10 === 0) await to.commit();
        }
      }),
    );
    await other.commit();
    const found = await texts(await reopen(log));
    expect(found.length).toBe(expected.size);
    for (const [lsn, record] of expected) expect(found[lsn - 1]).toBe(record);
  });

  it('refuses what it would refuse its owner', async () => {
    const { other } = await pair();
    expect(() => other.append(Buffer.alloc(other.maxRecordBytes + 1))).toThrow(RangeError);
    expect(() => other.append('x'.repeat(other.maxRecordBytes + 1))).toThrow(RangeError);
    expect(() => other.append(7 as never)).toThrow(TypeError);
    expect(() => other.appendMany(Array(40).fill(Buffer.alloc(60_000)))).toThrow(RangeError);
    expect(() => other.appendInto(10, () => 11)).toThrow(RangeError);
    expect(await codeOf(() => other.appendInto(10, () => other.append('x')))).toBe('WAL_REENTRANT');
    await expect(other.commit(99)).rejects.toThrow(RangeError);
    await expect(other.drain(1e12)).rejects.toThrow(RangeError);
    await expect(other.commit(0, { level: 'x' as never })).rejects.toThrow(RangeError);
    expect(await codeOf(() => other.commit(0, { level: 'remote_flush' }))).toBe('WAL_NO_STANDBYS');
    expect(await walError(() => (other as unknown as Log).trim(1))).toMatchObject({
      code: 'WAL_UNSUPPORTED',
      hint: 'Call `log.trim` in the thread that opened the log.',
    });
    expect(await codeOf(() => (other as unknown as Log).read())).toBe('WAL_UNSUPPORTED');
    expect(other.append('x')).toBe(1);
  });

  it('is found by its handle while it is open, and by nothing else', async () => {
    const { log } = await pair();
    const { handle } = log;
    expect(await walError(() => Log.attach({ id: 'f'.repeat(32), dir: '' }))).toMatchObject({
      code: 'WAL_CLOSED',
      outcome: 'refused',
    });
    await expect(Log.attach(log as never)).rejects.toThrow(TypeError);
    expect(await codeOf(() => Log.open({ dir: log.dir }))).toBe('WAL_LOCKED');
    await log.close();
    expect(await codeOf(() => Log.attach(handle))).toBe('WAL_CLOSED');
    expect(await codeOf(() => log.handle)).toBe('WAL_CLOSED');
  });

  it('cancels the attaching by its signal', async () => {
    const log = await openLog(small);
    const controller = new AbortController();
    const attaching = Log.attach(log.handle, { signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(attaching).rejects.toThrow('enough');
    await expect(Log.attach(log.handle, { signal: controller.signal })).rejects.toThrow('enough');
    expect(await log.appendAndCommit('x')).toMatchObject({ lsn: 1 });
  });
});

describe('a full log memory', () => {
  /** Nothing that is appended comes free, as where a standby is behind. */
  async function held() {
    const core = await openCore({ ...small, ...anyOne, dir: freshDir() });
    onTestFinished(() => closeLog(core).catch(() => undefined));
    const pin = core.native.pin(core.native.state[State.CLOSED_POSITION] as number);
    const attach = () => Log.attach(core.attachments.handle);
    const record = Buffer.alloc(30_000, 'x');
    /** Waits under way at the owner. */
    let waiting = 0;
    const wait = core.drains.wait.bind(core.drains);
    vi.spyOn(core.drains, 'wait').mockImplementation((...asked) => {
      waiting += 1;
      return wait(...asked).finally(() => {
        waiting -= 1;
      });
    });
    return { core, pin, attach, record, waiting: () => waiting };
  }

  it('refuses, and drains for one who attached as for the owner', async () => {
    const { core, pin, attach, record, waiting } = await held();
    const other = await attach();
    const fill = async () => {
      for (;;) {
        try {
          other.append(record);
        } catch (error) {
          // Segments come when they are ready; the log memory does not.
          if ((core.native.state[State.RING_FREE] as number) < 200_000) throw error;
          await turn();
        }
      }
    };
    expect(await walError(fill)).toMatchObject({ code: 'WAL_RING_FULL', outcome: 'refused' });
    expect(other.needsDrain).toBe(true);
    const group = Array(10).fill(record);
    expect(await walError(() => other.appendMany(group))).toMatchObject({ code: 'WAL_RING_FULL' });
    const drained = other.drain();
    await until(() => waiting() === 1, 'it waits');
    core.native.unpin(pin);
    await drained;
    const last = other.append(record);
    expect(await other.commit(last, { level: 'local' })).toMatchObject({ lsn: last });
  });

  it('is wanted by the owner no more once a later append of it was taken', async () => {
    const { core, pin, attach, record } = await held();
    for (let i = 0; i < 45; i++) {
      await core.drains.wait(record.length, undefined);
      core.appender.append(record);
    }
    const group = Array(40).fill(record);
    expect(await codeOf(() => core.appender.appendMany(group))).toBe('WAL_RING_FULL');
    expect(core.drains.wanted).toBe(true);
    await attach();
    expect(core.appender.refused).toBeUndefined();
    expect(await codeOf(() => core.appender.appendMany(group))).toBe('WAL_RING_FULL');
    expect(core.drains.wanted).toBe(true);
    core.appender.append('small');
    expect(core.appender.refused).toBeUndefined();
    expect(core.drains.wanted).toBe(false);
    core.native.unpin(pin);
  });

  it('is wanted by one who attached, and was refused, until it has it or has gone', async () => {
    const { core, pin, attach, record, waiting } = await held();
    const [one, two] = [await attach(), await attach()];
    for (let i = 0; i < 45; i++) {
      await core.drains.wait(record.length, undefined);
      core.appender.append(record);
    }
    const told = vi.spyOn(core.driver, 'ringWanted');
    const group = Array(40).fill(record);
    for (const log of [one, two]) {
      expect(await codeOf(() => log.appendMany(group))).toBe('WAL_RING_FULL');
      await until(() => core.drains.wanted, 'the owner hears of it');
      expect(told).toHaveBeenCalled();
      if (log === one) one.append('small');
      else await two.close();
      await until(() => !core.drains.wanted, 'it is not wanted any more');
      told.mockClear();
    }
    const three = await attach();
    expect(await codeOf(() => three.appendMany(group))).toBe('WAL_RING_FULL');
    const drained = three.drain();
    await until(() => waiting() === 1, 'it waits for as much as it was refused');
    core.native.unpin(pin);
    await drained;
    expect(three.appendMany(group).last).toBe(46 + 40);
    await until(() => core.drains.refusedElsewhere.size === 0, 'it has what it wanted');
  });

  it('is waited for by each alone: one that goes leaves nothing, and takes nothing', async () => {
    const { core, pin, attach, record, waiting } = await held();
    const [one, two] = [await attach(), await attach()];
    for (let i = 0; i < 45; i++) {
      await core.drains.wait(record.length, undefined);
      core.appender.append(record);
    }
    const ends = [one, two].map((log) =>
      log.drain(1_000_000).then(
        () => 'room',
        (error) => error.code,
      ),
    );
    await until(() => waiting() === 2, 'both wait');
    await one.close();
    expect(await ends[0]).toBe('WAL_CLOSED');
    await until(() => waiting() === 1, 'the other waits on');
    expect(core.drains.wanted).toBe(true);
    const controller = new AbortController();
    const third = two.drain(1_000_000, { signal: controller.signal });
    await until(() => waiting() === 2, 'the third waits');
    controller.abort(new Error('enough'));
    await expect(third).rejects.toThrow('enough');
    await until(() => waiting() === 1, 'the third is gone');
    core.native.unpin(pin);
    expect(await ends[1]).toBe('room');
    expect(core.drains.wanted).toBe(false);
  });
});

describe('a commit of one who attached', () => {
  it('is met by what the policy of the owner asks for, and names the standbys', async () => {
    const { log, other } = await pair({ ...anyOne, name: 'a', listen: { port: 0 } });
    const waiting = other.appendAndCommit('one');
    const local = other.commit(1, { level: 'local' });
    expect(await local).toMatchObject({ lsn: 1, level: 'local' });
    expect((await other.status()).commitLsn).toBe(0);
    const b = await openLog({ name: 'b', follow: { port: log.status().listening?.port ?? 0 } });
    expect(await waiting).toEqual({ lsn: 1, level: 'remote_flush', standbys: ['b'] });
    // What others append is sent as soon as it is closed, whoever has closed it.
    for (let i = 0; i < 50; i++) await other.appendAndCommit(`${i}`);
    expect(b.status().flushLsn).toBe(51);
  });

  it('times out as one of the owner does, and by no other clock', async () => {
    const policy = { ...anyOne, whenMissing: 'fail', syncTimeout: 150 } as const;
    const { other } = await pair({ ...policy, listen: { port: 0 } });
    other.append('x');
    for (const level of [undefined, 'remote_flush'] as const) {
      const options = level === undefined ? {} : { level };
      expect(await walError(() => other.commit(1, options))).toMatchObject({
        code: 'WAL_SYNC_TIMEOUT',
        outcome: 'unknown',
        lsn: 1,
      });
    }
  });

  it('hears of another policy', async () => {
    const { log, other } = await pair({ ...anyOne, listen: { port: 0 } });
    const own = other.appendAndCommit('x');
    const named = walError(() => other.commit(1, { level: 'remote_flush' }));
    await until(() => log.status().commits.waiting === 2, 'both wait');
    await log.setPolicy({ synchronousCommit: 'local', synchronousStandbys: '' });
    expect(await own).toMatchObject({ lsn: 1, level: 'local' });
    expect(await named).toMatchObject({ code: 'WAL_NO_STANDBYS', outcome: 'unknown' });
  });

  it('is ended by its signal alone, outcome unknown', async () => {
    const { log, other } = await pair({ ...anyOne, listen: { port: 0 } });
    other.append('x');
    const controller = new AbortController();
    const { signal } = controller;
    const aborted = walError(() => other.commit(1, { signal }));
    let other1 = 'pending';
    const stays = other.commit(1).then(
      () => 'met',
      (error) => error.code,
    );
    stays.then((end) => {
      other1 = end;
    });
    await until(() => log.status().commits.waiting === 1, 'it waits');
    controller.abort(new Error('enough'));
    expect(await aborted).toMatchObject({ code: 'WAL_COMMIT_ABORTED', outcome: 'unknown' });
    expect(other1).toBe('pending');
    await log.setPolicy({ synchronousCommit: 'local', synchronousStandbys: '' });
    expect(await stays).toBe('met');
  });

  it('waits for its record, whoever has closed what batch meanwhile', async () => {
    const core = await openCore({ ...small, dir: freshDir() });
    onTestFinished(() => closeLog(core).catch(() => undefined));
    const other = await Log.attach(core.attachments.handle);
    // The owner has heard of nothing yet when the second record is committed there.
    core.appender.append('one');
    const { commits } = core.driver;
    const first = commits?.commit(1, undefined, undefined);
    other.append('x'.repeat(1000));
    const flushed = core.native.state[State.FLUSH_LSN] as number;
    expect(flushed).toBe(0);
    expect(core.appender.append('three')).toBe(3);
    expect(commits?.shared).toBeUndefined();
    const third = commits?.commit(3, undefined, undefined);
    expect((await first)?.lsn).toBeGreaterThanOrEqual(1);
    expect((await third)?.lsn).toBe(3);
    expect(core.native.state[State.FLUSH_LSN]).toBe(3);
  });

  it('of many at once is bounded in what it asks, and every one settles', async () => {
    const { log, other } = await pair({ ...anyOne, listen: { port: 0 } });
    const waits: Promise<unknown>[] = [];
    for (let i = 0; i < 600; i++) {
      other.append(`${i}`);
      waits.push(other.commit());
      if (i % 2 === 0) await Promise.resolve();
    }
    await until(() => log.status().commits.waiting === 256, 'all that is asked at once');
    const met = Promise.all(waits);
    await log.setPolicy({ synchronousCommit: 'local', synchronousStandbys: '' });
    expect((await met).length).toBe(600);
  });

  it('is met or refused for its own LSN alone', async () => {
    const { log, other } = await pair({ ...anyOne, listen: { port: 0 } });
    const met = other.commit(0);
    other.append('x');
    const unmet = walError(() => other.commit(1));
    await expect(other.commit(99)).rejects.toThrow(RangeError);
    expect(await met).toMatchObject({ lsn: 0 });
    await until(() => log.status().commits.waiting === 1, 'it waits');
    const local = { level: 'local' } as const;
    const ends = await Promise.allSettled([other.commit(1, local), other.commit(99, local)]);
    expect(ends.map(({ status }) => status)).toEqual(['fulfilled', 'rejected']);
    await other.close();
    expect(await unmet).toMatchObject({ code: 'WAL_CLOSED', outcome: 'unknown' });
  });

  it('leaves nothing at the owner when cancelled; what is met needs no place', async () => {
    const { log, other } = await pair({ ...anyOne, listen: { port: 0 } });
    const { waiting } = log.status().commits;
    other.append('x');
    const controllers = Array.from({ length: 300 }, () => new AbortController());
    const ends: Promise<WalError>[] = [];
    for (const { signal } of controllers) {
      ends.push(walError(() => other.commit(1, { signal })));
      await Promise.resolve();
      await Promise.resolve();
    }
    await until(() => log.status().commits.waiting === 256, 'all that is asked at once');
    expect(await other.commit(0)).toMatchObject({ lsn: 0 });
    for (const controller of controllers) controller.abort(new Error('enough'));
    for (const { code } of await Promise.all(ends)) expect(code).toBe('WAL_COMMIT_ABORTED');
    await until(() => log.status().commits.waiting === waiting, 'nobody waits any more');
  });

  it('goes on for one whose signal is not the one that ended', async () => {
    const { log, other } = await pair({ ...anyOne, listen: { port: 0 } });
    other.append('x');
    const [one, two] = [new AbortController(), new AbortController()];
    const first = walError(() => other.commit(1, { signal: one.signal }));
    const second = other.commit(1, { signal: two.signal });
    one.abort();
    expect((await first).code).toBe('WAL_COMMIT_ABORTED');
    const third = other.commit(1);
    await until(() => log.status().commits.waiting === 2, 'they wait');
    two.abort();
    expect((await walError(() => second)).code).toBe('WAL_COMMIT_ABORTED');
    await until(() => log.status().commits.waiting === 1, 'one waits on');
    await log.setPolicy({ synchronousCommit: 'local', synchronousStandbys: '' });
    expect(await third).toMatchObject({ lsn: 1, level: 'local' });
  });

  it('hears of a fence, and so does every later call', async () => {
    const { log, other } = await pair({ ...anyOne, listen: { port: 0 } });
    const pending = walError(() => other.appendAndCommit('x'));
    await until(() => log.status().commits.waiting === 1, 'it waits');
    const newer = await RawStandby.ofTerm(log.status().listening?.port ?? 0, 9);
    onTestFinished(() => void newer.socket.destroy());
    expect(await pending).toMatchObject({ code: 'WAL_FENCED', outcome: 'unknown' });
    expect(await walError(() => other.append('y'))).toMatchObject({
      code: 'WAL_FENCED',
      outcome: 'refused',
    });
    expect(await walError(() => other.commit(1))).toMatchObject({
      code: 'WAL_FENCED',
      outcome: 'unknown',
    });
    expect(await walError(() => other.appendMany(['y']))).toMatchObject({ code: 'WAL_FENCED' });
    await until(() => log.status().role === 'fenced', 'the role');
    expect((await other.status()).role).toBe('fenced');
  });

  it('does without the memory for a batch, and is met in a turn that has it', async () => {
    const core = await openCore({ ...small, dir: freshDir() });
    onTestFinished(() => closeLog(core).catch(() => undefined));
    const other = await Log.attach(core.attachments.handle);
    const none = () => {
      throw Object.assign(new Error('out of memory'), { code: 'WAL_NO_MEMORY' });
    };
    const closing = vi.spyOn(core.native, 'closeBatch').mockImplementationOnce(none);
    core.appender.append('x');
    const committed = core.driver.commits?.commit(1, undefined, undefined);
    expect(await committed).toMatchObject({ lsn: 1 });
    expect(closing.mock.calls.length).toBeGreaterThan(1);
    closing.mockImplementationOnce(none);
    core.appender.append('y');
    await other.close();
    expect(core.native.state[State.FLUSH_LSN]).toBe(2);
    expect(core.failure).toBeUndefined();
  });

  it('hears of a failure, and so does every later call', async () => {
    const core = await openCore({ ...small, ...anyOne, dir: freshDir() });
    onTestFinished(() => closeLog(core).catch(() => undefined));
    const other = await Log.attach(core.attachments.handle);
    const pending = walError(() => other.appendAndCommit('x'));
    await until(() => core.driver.commits?.waiting === 1, 'it waits');
    core.fail(new WalError('WAL_SPLIT', 'two of them'));
    expect(await pending).toMatchObject({ code: 'WAL_SPLIT', outcome: 'unknown' });
    expect(await walError(() => other.append('y'))).toMatchObject({
      code: 'WAL_FAILED',
      outcome: 'refused',
    });
    expect(await walError(() => other.commit())).toMatchObject({
      code: 'WAL_SPLIT',
      outcome: 'unknown',
    });
    expect(await codeOf(() => other.close())).toBe('WAL_SPLIT');
  });
});

describe('the end', () => {
  it('of the log ends every wait and later call, and meets what its flush meets', async () => {
    const { log, other } = await pair({ ...anyOne, listen: { port: 0 } });
    other.append('x');
    const local = other.commit(1, { level: 'local' });
    const own = walError(() => other.commit(1));
    await until(() => log.status().commits.waiting >= 1, 'it waits');
    await log.close();
    expect(await local).toMatchObject({ lsn: 1 });
    expect(await own).toMatchObject({ code: 'WAL_CLOSED', outcome: 'unknown' });
    for (const call of [
      () => other.append('y'),
      () => other.appendMany(['y']),
      () => other.commit(),
      () => other.drain(),
      () => other.status(),
    ]) {
      expect(await codeOf(call)).toBe('WAL_CLOSED');
    }
    await until(() => isClosed(() => other.needsDrain), 'it hears of that');
    await other.close();
    expect(await texts(await reopen(log))).toEqual(['x']);
  });

  it('of both at once waits for the flush, which meets what was committed before', async () => {
    const core = await openCore({ ...small, dir: freshDir() });
    const other = await Log.attach(core.attachments.handle);
    other.append('x');
    const committed = other.commit(1);
    await Promise.resolve();
    const closing = closeLog(core);
    await other.close();
    expect(core.native.state[State.FLUSH_LSN]).toBe(1);
    expect(await committed).toMatchObject({ lsn: 1, level: 'local' });
    await closing;
  });

  it('of the owner, without a word of the flush, is no close that is safe', async () => {
    const core = await openCore({ ...small, dir: freshDir() });
    const other = await Log.attach(core.attachments.handle);
    other.append('x');
    core.closeAtExit();
    const unknown = { code: 'WAL_CLOSED', outcome: 'unknown' };
    expect(await walError(() => other.close())).toMatchObject(unknown);
  });

  it('is waited for no longer than its signal says, and neither is a status', async () => {
    const core = await openCore({ ...small, dir: freshDir() });
    onTestFinished(() => closeLog(core).catch(() => undefined));
    const other = await Log.attach(core.attachments.handle);
    vi.spyOn(core.flushes, 'until').mockReturnValueOnce(new Promise(() => undefined));
    other.append('x');
    const controller = new AbortController();
    const { signal } = controller;
    const status = other.status({ signal });
    const committed = walError(() => other.commit(99));
    const closing = other.close({ signal });
    controller.abort(new Error('enough'));
    await expect(status).rejects.toThrow('enough');
    await expect(closing).rejects.toThrow('enough');
    expect(await committed).toMatchObject({ code: 'WAL_CLOSED', outcome: 'unknown' });
    expect(await codeOf(() => other.append('y'))).toBe('WAL_CLOSED');
    await until(() => core.native.state[State.FLUSH_LSN] === 1, 'the flush all the same');
  });

  it('of one who attached settles all that it waits for, and leaves the log as it is', async () => {
    const { log, other } = await pair({ ...anyOne, listen: { port: 0 } });
    const second = await attached(log);
    other.append('x');
    const local = other.commit(1, { level: 'local' });
    const own = walError(() => other.commit(1));
    const status = other.status();
    await Promise.all([other.close(), other.close()]);
    expect(await local).toMatchObject({ lsn: 1, level: 'local' });
    expect(await own).toMatchObject({ code: 'WAL_CLOSED', outcome: 'unknown' });
    expect((await status).appendLsn).toBe(1);
    expect(await codeOf(() => other.append('y'))).toBe('WAL_CLOSED');
    expect(await codeOf(() => other.commit())).toBe('WAL_CLOSED');
    expect([second.append('y'), log.append('z')]).toEqual([2, 3]);
    expect(await second.commit(3, { level: 'local' })).toMatchObject({ lsn: 3 });
  });

  it('of the log in the very turn of an append is not a failure', async () => {
    for (const who of ['owner', 'other']) {
      const { log, other } = await pair();
      const failed: unknown[] = [];
      log.on('failed', (error) => failed.push(error));
      await turn();
      (who === 'owner' ? log : other).append('x');
      void log.commit().catch(() => undefined);
      await log.close();
      await turn();
      expect(failed).toEqual([]);
      expect(await texts(await reopen(log))).toEqual(['x']);
    }
  });

  it('of a log in the turn in which one attaches refuses it', async () => {
    const log = await openLog(small);
    const attaching = codeOf(() => Log.attach(log.handle));
    await log.close();
    expect(await attaching).toBe('WAL_CLOSED');
  });
});

describe('a standby', () => {
  it('refuses appends of one who attached, and takes them when it is promoted', async () => {
    const a = await openLog({ ...small, name: 'a', listen: { port: 0 } });
    await a.appendAndCommit('one');
    const b = await openLog({ name: 'b', follow: { port: a.status().listening?.port ?? 0 } });
    await b.connected();
    const other = await attached(b);
    await until(() => b.status().flushLsn === 1, 'the record');
    expect(other.needsDrain).toBe(false);
    expect(await walError(() => other.append('x'))).toMatchObject({
      code: 'WAL_IS_STANDBY',
      outcome: 'refused',
    });
    expect(await codeOf(() => other.commit())).toBe('WAL_IS_STANDBY');
    await a.close();
    await b.promote({ primaryStopped: true });
    expect(await other.appendAndCommit('two')).toMatchObject({ lsn: 2, level: 'local' });
    expect(await texts(b)).toEqual(['one', 'two']);
  });

  it('is fed by a primary that others append to, however small its memory', async () => {
    const { log, other } = await pair({ name: 'a', listen: { port: 0 }, ringBytes: 256 * 1024 });
    const b = await openLog({ name: 'b', follow: { port: log.status().listening?.port ?? 0 } });
    await b.connected();
    const gone: string[] = [];
    log.on('standby', ({ connected, reason }) => {
      if (!connected) gone.push(reason);
    });
    for (let i = 0; i < 300; i++) {
      const record = Buffer.alloc(1 + ((i * 7919) % 20_000), i);
      for (const to of i % 3 === 0 ? [log, other] : [other]) {
        for (;;) {
          try {
            to.append(record);
            break;
          } catch {
            await to.drain();
          }
        }
      }
      if (i % 4 === 0) await other.commit();
    }
    await other.commit();
    const last = log.status().appendLsn;
    await until(() => b.status().flushLsn === last, 'the standby has all');
    expect(gone).toEqual([]);
    const [mine, theirs] = [await texts(log), [] as string[]];
    await until(() => b.status().commitLsn === last, 'it knows that all is committed');
    for await (const batch of b.read({ live: false })) {
      for (const { data } of batch) theirs.push(data.toString());
    }
    expect(theirs.length).toBe(last);
    expect(theirs).toEqual(mine);
  });
});
