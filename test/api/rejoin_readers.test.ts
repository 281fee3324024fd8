import { describe, expect, it } from 'vitest';
import { openLog, until, walError } from './helpers.js';
import { anyOne, forked, pair } from './rejoin_nodes.js';

describe('who reads an old primary', () => {
  it('is stopped where it has read what went, and goes on where it has not', async () => {
    const both = await pair();
    await both.a.appendAndCommit('one');
    const { dir } = both.a;
    const b = await forked(both, ['seen', 'seen too'], ['two', 'three']);
    // The new primary is not reached at first: the log shows what it had committed.
    const port = b.status().listening!.port;
    await b.close();
    const a = await openLog({ dir, name: 'a', follow: { port }, rejoin: 'auto' });
    const past = a.read({ from: 1 });
    const before = a.read({ from: 1 });
    const ahead = a.read({ from: 4 });
    const aheadEnds = walError(() => ahead.next());
    const applied: string[] = [];
    const applier = a.apply({ from: 1 }, (batch) => {
      for (const { lsn, data } of batch) applied.push(`${lsn} ${data}`);
    });
    const applierEnds = walError(() => applier.done);
    const bounded = a.read({ from: 1, live: false });
    expect((await before.next()).value?.lastLsn).toBe(1);
    expect((await bounded.next()).value?.lastLsn).toBe(1);
    while ((await past.next()).value!.lastLsn < 3);
    await until(() => applier.appliedLsn === 3, 'all that was committed is applied');

    const back = await openLog({ dir: b.dir, name: 'b', listen: { port } });
    await a.connected();
    expect(await applierEnds).toMatchObject({ code: 'WAL_REBUILD', lsn: 2 });
    expect(applied).toEqual(['1 one', '2 seen', '3 seen too']);
    expect(await walError(() => past.next())).toMatchObject({ code: 'WAL_REBUILD', lsn: 2 });
    expect(await walError(() => bounded.next())).toMatchObject({ code: 'WAL_REBUILD', lsn: 2 });
    expect(await aheadEnds).toMatchObject({ code: 'WAL_REBUILD', lsn: 2 });
    const found: string[] = [];
    for (let last = 1; last < 3; ) {
      const batch = (await before.next()).value!;
      for (const { data } of batch) found.push(data.toString());
      last = batch.lastLsn;
    }
    expect(found).toEqual(['two', 'three']);
    // What was applied of the other history does not count.
    await back.setPolicy({ synchronousCommit: 'remote_apply', ...anyOne });
    const commit = back.appendAndCommit('four');
    await until(() => a.status().flushLsn === 4, 'a has it');
    expect(back.status().standbys[0]?.applyLsn).toBe(1);
    a.apply({ from: 2 }, () => undefined);
    expect(await commit).toMatchObject({ lsn: 4, level: 'remote_apply' });
  });

  it('ends at the cut where only openings went, not among what came after it', async () => {
    const both = await pair();
    await both.a.appendAndCommit('one');
    const { dir } = both.a;
    const b = await forked(both, [], ['two', 'three']);
    const port = b.status().listening!.port;
    await b.close();
    for (let life = 0; life < 4; life++) await (await openLog({ dir, name: 'a' })).close();
    const a = await openLog({ dir, name: 'a', follow: { port } });
    const bounded = a.read({ from: 1, live: false });
    expect((await bounded.next()).value?.lastLsn).toBe(1);
    await openLog({ dir: b.dir, name: 'b', listen: { port } });
    await a.connected();
    await a.waitFor(3);
    expect(a.status().rejoin).toMatchObject({ state: 'done', records: 0 });
    expect(await bounded.next()).toEqual({ done: true, value: undefined });
  });
});
