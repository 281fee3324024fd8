import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { closeLog } from '../../src/api/close.js';
import { openLog as openCore } from '../../src/api/open.js';
import { Log } from '../../src/index.js';
import { State } from '../../src/native/native_log.js';
import { freshDir } from '../helpers/temp.js';
import { codeOf, openLog, reopen, small, texts, walError } from './helpers.js';

describe('close', () => {
  it('flushes what was appended and not committed', async () => {
    const log = await openLog(small);
    for (let i = 0; i < 1000; i++) log.append(`${i}`);
    expect((await texts(await reopen(log))).length).toBe(1000);
  });

  it('is idempotent, and lets the directory go', async () => {
    const log = await openLog(small);
    const both = [log.close(), log.close()];
    expect(both[0]).toBe(both[1]);
    await Promise.all(both);
    await log.close();
    await (await Log.open({ dir: log.dir })).close();
  });

  it('commits that its flush meets resolve, at once asked for or before', async () => {
    const log = await openLog(small);
    const commits = [log.commit(log.append('a')), log.appendAndCommit('b')];
    await log.close();
    const reached = (await Promise.all(commits)).map((each) => each.lsn);
    expect(reached[0]).toBeGreaterThanOrEqual(1);
    expect(reached[1]).toBe(2);
  });

  // Scenario: the batch is flushed while the thread that closed it is held up, so that this very
  // call of the engine tells of the flush, and the report of it comes only after the close.
  it('commits resolve whose flush the engine has told of, and not reported yet', async () => {
    const core = await openCore({ dir: freshDir(), ...small });
    const { native, appender } = core;
    const commit = core.driver.commits?.commit(appender.append('a'), undefined, undefined);
    const settled = Promise.allSettled([commit]);
    appender.close();
    const end = performance.now() + 10_000;
    while ((native.state[State.FLUSH_LSN] ?? 0) < 1 && performance.now() < end) native.wakeTicker();
    await closeLog(core);
    const [result] = await settled;
    expect(result).toMatchObject({ status: 'fulfilled', value: { lsn: 1 } });
  });

  it('commits that wait for standbys end as unknown', async () => {
    const log = await openLog({ ...small, synchronousStandbys: 'ANY 1 (*)' });
    const commit = log.appendAndCommit('a');
    const local = log.commit(1, { level: 'local' });
    const error = walError(() => commit);
    await log.close();
    expect(await error).toMatchObject({ code: 'WAL_CLOSED', outcome: 'unknown' });
    expect((await local).lsn).toBe(1);
    expect((await texts(await reopen(log))).length).toBe(1);
  });

  it('settles every other wait', async () => {
    const log = await openLog({ ...small, segmentBytes: 16 * 1024 * 1024 });
    while (!log.needsDrain) log.append(Buffer.alloc(60_000));
    const waits = [log.drain(), log.read({ from: 10_000 }).next(), log.apply({}, () => {}).done];
    const settled = Promise.allSettled(waits);
    await log.close();
    const states = (await settled).map((each) => each.status);
    // The drain may have been met just before.
    expect(states.slice(1)).toEqual(['rejected', 'fulfilled']);
  });

  it('every call afterwards says WAL_CLOSED; the status stays', async () => {
    const log = await openLog(small);
    await log.appendAndCommit('a');
    await log.close();
    for (const call of [
      () => log.append('b'),
      () => log.appendMany(['b']),
      () => log.appendInto(1, (_, at) => at),
      () => log.drain(),
      () => log.commit(),
      () => log.commit(1),
      () => log.appendAndCommit('b'),
      () => log.read(),
      () => log.apply({}, () => undefined),
      () => log.trim(1),
      () => log.promote(),
      () => log.connected(),
    ]) {
      expect(await codeOf(call)).toBe('WAL_CLOSED');
    }
    expect(log.status()).toMatchObject({
      state: 'closed',
      appendLsn: 1,
      flushLsn: 1,
      commitLsn: 1,
    });
    expect(log.needsDrain).toBe(false);
  });

  it('is what await using does', async () => {
    const dir = freshDir();
    {
      await using log = await Log.open({ dir, ...small });
      log.append('a');
    }
    await using log = await Log.open({ dir });
    expect(await texts(log)).toEqual(['a']);
  });

  it('while a trim and reads are under way', async () => {
    const log = await openLog(small);
    for (let i = 0; i < 60; i++) {
      await log.drain(40_000);
      log.append(Buffer.alloc(40_000, i));
    }
    await log.commit();
    const work = [
      log.trim(30),
      ...Array.from({ length: 5 }, (_, i) => log.read({ from: 31 + i }).next()),
    ];
    const settled = Promise.allSettled(work);
    await log.close();
    for (const each of await settled) {
      if (each.status === 'rejected') expect(each.reason).toMatchObject({ code: 'WAL_CLOSED' });
    }
    expect((await texts(await reopen(log), 60)).length).toBe(1);
  });

  it('opening and closing over and over leaves nothing behind', async () => {
    const dir = freshDir();
    for (let i = 0; i < 20; i++) {
      const log = await Log.open({ dir, ...small });
      log.append(`${i}`);
      if (i % 2 === 0) await sleep(1);
      await log.close();
    }
    const log = await openLog({ dir });
    expect(await texts(log)).toEqual(Array.from({ length: 20 }, (_, i) => `${i}`));
    expect(process.listenerCount('exit')).toBeLessThan(15);
  });
});
