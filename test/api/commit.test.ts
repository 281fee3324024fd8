import { describe, expect, it } from 'vitest';
import type { CommitLevel } from '../../src/index.js';
import { block, openLog, records, reopen, small, texts, turn, walError } from './helpers.js';

describe('commit', () => {
  it('resolves when the record is flushed, and says what was reached', async () => {
    const log = await openLog(small);
    const lsn = log.append('a');
    expect(await log.commit(lsn)).toEqual({ lsn: 1, level: 'local', standbys: [] });
    expect(log.status()).toMatchObject({ flushLsn: 1, commitLsn: 1 });
    expect(await texts(await reopen(log))).toEqual(['a']);
  });

  it('without an LSN commits everything, and nothing resolves at once', async () => {
    const log = await openLog(small);
    expect((await log.commit()).lsn).toBe(0);
    expect((await log.commit(0)).lsn).toBe(0);
    for (let i = 0; i < 5; i++) log.append(`${i}`);
    expect((await log.commit()).lsn).toBe(5);
    expect((await log.commit(2)).lsn).toBe(5);
  });

  it('off resolves when the record is framed, before any flush', async () => {
    const log = await openLog({ ...small, synchronousCommit: 'off' });
    const result = await log.appendAndCommit('a');
    expect(result).toEqual({ lsn: 1, level: 'off', standbys: [] });
    expect(log.status().closedLsn).toBe(1);
    expect((await log.commit(1, { level: 'local' })).lsn).toBe(1);
    expect(log.status().flushLsn).toBe(1);
  });

  it('takes a level for one call', async () => {
    const log = await openLog(small);
    const lsn = log.append('a');
    const both = await Promise.all([log.commit(lsn, { level: 'off' }), log.commit(lsn)]);
    expect(both.map((each) => each.level)).toEqual(['off', 'local']);
  });

  it('refuses a remote level with nobody named', async () => {
    const log = await openLog(small);
    for (const level of ['remote_write', 'remote_flush', 'remote_apply'] as const) {
      const error = await walError(() => log.commit(log.append('a'), { level }));
      expect(error).toMatchObject({ code: 'WAL_NO_STANDBYS', outcome: 'unknown' });
    }
    expect((await records(log)).length).toBe(3);
  });

  it('with its append refuses what it can before it takes the record', async () => {
    const log = await openLog(small);
    for (const level of ['remote_write', 'remote_flush', 'remote_apply'] as const) {
      const error = await walError(() => log.appendAndCommit('a', { level }));
      expect(error).toMatchObject({ code: 'WAL_NO_STANDBYS', outcome: 'refused' });
    }
    const wrong = (options: unknown) => log.appendAndCommit('a', options as object);
    await expect(wrong({ level: 'fsync' })).rejects.toThrow(RangeError);
    await expect(wrong({ levle: 'off' })).rejects.toThrow(/did you mean level/);
    await expect(wrong({ signal: 7 })).rejects.toThrow(/AbortSignal/);
    await expect(wrong('off')).rejects.toThrow(TypeError);
    expect(log.status().appendLsn).toBe(0);
    expect((await log.appendAndCommit('b', { level: 'local' })).lsn).toBe(1);
    expect(await texts(log)).toEqual(['b']);
  });

  it('asked for while the log is closed: the outcome is unknown, the record is there', async () => {
    const log = await openLog(small);
    const lsn = log.append('a');
    const closing = log.close();
    const closed = { code: 'WAL_CLOSED', outcome: 'unknown' };
    expect(await walError(() => log.commit(lsn))).toMatchObject(closed);
    expect(await walError(() => log.commit())).toMatchObject(closed);
    await closing;
    expect(await walError(() => log.commit(lsn))).toMatchObject(closed);
    expect(await texts(await reopen(log))).toEqual(['a']);
  });

  it.each([-1, 0.5, Number.NaN, 2, 2 ** 53, '1', null, 1n])('refuses the LSN %s', async (lsn) => {
    const log = await openLog(small);
    log.append('a');
    await expect(log.commit(lsn as number)).rejects.toThrow(/commit\(lsn\)/);
  });

  it('refuses wrong options by name', async () => {
    const log = await openLog(small);
    const wrong = (options: unknown) => log.commit(0, options as object);
    await expect(wrong({ levle: 'off' })).rejects.toThrow(/did you mean level/);
    await expect(wrong({ level: 'fsync' })).rejects.toThrow(/remote_flush/);
    await expect(wrong({ signal: 7 })).rejects.toThrow(/AbortSignal/);
    await expect(wrong('off')).rejects.toThrow(TypeError);
  });

  it('cancelled: the outcome is unknown, and the record stays in the log', async () => {
    const log = await openLog(small);
    const lsn = log.append('a');
    const controller = new AbortController();
    const commit = log.commit(lsn, { signal: controller.signal });
    controller.abort(new Error('enough'));
    const error = await walError(() => commit);
    expect(error).toMatchObject({ code: 'WAL_COMMIT_ABORTED', outcome: 'unknown', lsn: 1 });
    expect(error.cause).toMatchObject({ message: 'enough' });
    const aborted = log.commit(lsn, { signal: AbortSignal.abort() });
    expect((await walError(() => aborted)).code).toBe('WAL_COMMIT_ABORTED');
    expect(await texts(log)).toEqual(['a']);
  });

  it('one cancelled wait does not touch the others of its batch', async () => {
    // All three are in one batch, however slow the machine is.
    const log = await openLog({ ...small, maxBatchDelay: 10_000 });
    const controller = new AbortController();
    const first = log.commit(log.append('a'));
    const second = log.commit(log.append('b'), { signal: controller.signal });
    const third = log.commit(log.append('c'));
    controller.abort();
    expect((await walError(() => second)).code).toBe('WAL_COMMIT_ABORTED');
    expect((await Promise.all([first, third])).map((each) => each.lsn)).toEqual([3, 3]);
  });

  it('1,024 committers: every commit covers its record, each record is there once', async () => {
    const log = await openLog({ ringBytes: 16 * 1024 * 1024 });
    const end = performance.now() + 500;
    let covered = true;
    let count = 0;
    async function committer(id: number): Promise<void> {
      for (let i = 0; performance.now() < end; i++) {
        const lsn = log.append(`${id}:${i}`);
        const result = await log.commit(lsn);
        covered &&= result.lsn >= lsn && log.status().flushLsn >= lsn;
        count += 1;
      }
    }
    await Promise.all(Array.from({ length: 1024 }, (_, id) => committer(id)));
    expect(covered).toBe(true);
    const found = await texts(log);
    expect(found.length).toBe(count);
    expect(new Set(found).size).toBe(count);
    const last = new Map<string, number>();
    for (const each of found) {
      const [id = '', i = ''] = each.split(':');
      expect(Number(i)).toBe((last.get(id) ?? -1) + 1);
      last.set(id, Number(i));
    }
  });

  it('keeps committers that were woken together in one batch', async () => {
    const log = await openLog({});
    const committer = async (): Promise<void> => {
      for (let i = 0; i < 200; i++) await log.commit(log.append('x'));
    };
    await Promise.all(Array.from({ length: 64 }, committer));
    let batches = 0;
    for await (const _ of log.read({ live: false })) batches += 1;
    // In two groups, however unequal, there would be 32 records a batch (docs/adr/0003).
    expect((64 * 200) / batches).toBeGreaterThan(45);
  });

  it('commits of records in closed batches, and of the open one, in any order', async () => {
    const log = await openLog({ ...small, maxBatchBytes: 4096 });
    const lsns = Array.from({ length: 100 }, () => log.append(Buffer.alloc(500)));
    const order = [...lsns].sort((a, b) => (a % 7) - (b % 7));
    const results = await Promise.all(order.map((lsn) => log.commit(lsn)));
    expect(results.every((each, i) => each.lsn >= order[i]!)).toBe(true);
  });

  it('holds while the event loop is blocked, and while one that waits throws', async () => {
    const log = await openLog(small);
    const commits = [log.commit(log.append('a')), log.commit(log.append('b'))];
    const thrown = commits[0]!.then(() => {
      throw new Error('of the caller');
    });
    block(100);
    await expect(thrown).rejects.toThrow('of the caller');
    expect((await commits[1]!).lsn).toBe(2);
  });

  it('what is committed can be read at once, its flush reported or not', async () => {
    const log = await openLog(small);
    for (let i = 0; i < 20; i++) {
      const lsn = log.append('x');
      await turn();
      // The flush ends while the loop is blocked; the next call of the engine knows, the loop not.
      do {
        await log.appendAndCommit('y', { level: 'off' });
        block(0.2);
      } while (log.status().flushLsn < lsn);
      await log.commit(lsn);
      expect(log.status().commitLsn).toBeGreaterThanOrEqual(lsn);
      const reading = log.read({ from: lsn, live: false });
      expect((await reading.next()).value?.firstLsn).toBe(lsn);
    }
  });

  it('every level name is known, and no other', async () => {
    const log = await openLog(small);
    const levels: CommitLevel[] = ['off', 'local'];
    for (const level of levels) expect((await log.commit(0, { level })).level).toBe(level);
  });

  it('what was committed is there after many reopenings, terms apart', async () => {
    let log = await openLog(small);
    for (let i = 0; i < 5; i++) {
      await log.appendAndCommit(`${i}`);
      expect(log.status().term).toMatchObject({ epoch: 1, incarnation: i + 1 });
      log = await reopen(log);
    }
    expect((await records(log)).map(({ lsn }) => lsn)).toEqual([1, 2, 3, 4, 5]);
  });
});
