import { describe, expect, it } from 'vitest';
import { Log } from '../../src/index.js';
import { expectStatus } from '../helpers/status_schema.js';
import { freshDir } from '../helpers/temp.js';
import { anyOne, fenceFor, Group, stopped, textsOf } from './group_nodes.js';
import { codeOf, openLog, small, until } from './helpers.js';

describe('opening with members', () => {
  it('an old primary hears of the new one, and comes back as its standby', async () => {
    const group = await Group.make();
    const { a, b } = await group.started();
    await a.close();
    await b.promote(stopped);
    await b.appendAndCommit('new');
    const back = await openLog({ ...group.of('a'), rejoin: 'auto' });
    await back.waitFor(2);
    expect(back.status()).toMatchObject({ role: 'standby', upstream: { primary: 'b' } });
    expect(await textsOf(back)).toEqual(['one', 'new']);
  });

  it('a primary that nobody has replaced goes on as one', async () => {
    const group = await Group.make();
    const { a } = await group.started();
    await a.close();
    const again = await openLog(group.of('a'));
    expect(again.status()).toMatchObject({ role: 'primary', term: { epoch: 1, incarnation: 2 } });
    expect(again.append('two')).toBe(2);
  });

  it('where nobody answers it opens only if it is told to', async () => {
    const group = await Group.make(2);
    const { a, b } = await group.started(['b']);
    await b.close();
    await a.close();
    expect(await codeOf(() => Log.open(group.of('a')))).toBe('WAL_MEMBERS_AWAY');
    const alone = await openLog({ ...group.of('a'), openAlone: true });
    expect(alone.status().role).toBe('primary');
    await alone.close();
    // Of a group that there is not yet, the same.
    const dir = freshDir();
    expect(await codeOf(() => Log.open({ ...group.of('a'), dir }))).toBe('WAL_MEMBERS_AWAY');
  }, 30_000);

  it('whoever answers has to have been asked by another that was promoted', async () => {
    const group = await Group.make(3);
    const { a, b } = await group.started(['b']);
    // It has the log from b, which alone counts: nobody asks it to be promoted.
    const { members: _, ...alone } = group.of('c');
    const cascaded = await openLog({ ...alone, follow: { port: group.ports.b } });
    await cascaded.connected();
    await Promise.all([a.close(), cascaded.close()]);
    await b.promote(stopped);
    await b.close();
    await openLog({ ...group.of('c') });
    const refused = await codeOf(() => Log.open({ ...group.of('a'), ...anyOne }));
    expect(refused).toBe('WAL_MEMBERS_AWAY');
    await openLog(group.of('b'));
    const back = await openLog({ ...group.of('a'), ...anyOne });
    await back.connected();
    expect(back.status()).toMatchObject({ role: 'standby', upstream: { primary: 'b' } });
  }, 30_000);

  it('a fresh directory gets the log that there is, from whoever has it', async () => {
    const group = await Group.make(3);
    const { a, b } = await group.started(['b']);
    const c = await openLog({ ...group.of('c') });
    await c.waitFor(1);
    expect(c.status()).toMatchObject({ role: 'standby', logId: a.status().logId });
    await b.close();
    // A standby needs no `follow` either: its directory says what it is.
    const again = await openLog(group.of('b'));
    await again.connected();
    expect(again.status()).toMatchObject({ role: 'standby', upstream: { primary: 'a' } });
  });

  it('waits as a standby where the group was fenced, and nobody has opened the epoch', async () => {
    const group = await Group.make(3);
    const { a, b, c } = await group.started();
    await a.close();
    await fenceFor(c, group.ports.b, 4);
    const back = await openLog(group.of('a'));
    expect(back.status().role).toBe('fenced');
    const { term } = await b.promote(stopped);
    expect(term.epoch).toBe(5);
    await back.connected();
    expect(back.status()).toMatchObject({ role: 'standby', upstream: { primary: 'b' } });
  });
});

describe('a primary that runs', () => {
  it('hears of a higher epoch by asking, whoever follows it', async () => {
    const group = await Group.make(3);
    const { a, b, c } = await group.started();
    // Nobody is connected to it any more, and nobody asks it.
    await Promise.all([b.close(), c.close()]);
    const members = [{ port: group.ports.b }, { port: group.ports.c }];
    const c2 = await openLog({ ...group.of('c'), members, follow: { port: 1 } });
    const b2 = await openLog({ ...group.of('b'), members, follow: { port: 1 } });
    await b2.promote(stopped);
    await until(() => a.status().role === 'fenced', 'a asks', 20_000);
    expect(c2.status().role).toBe('standby');
  }, 40_000);
});

describe('standbys', () => {
  it('follow the node that was promoted, without having been told where it is', async () => {
    const group = await Group.make(4);
    const { a, b, c, d } = await group.started(['b', 'c', 'd']);
    await a.close();
    await c.promote(stopped);
    await c.appendAndCommit('of c');
    await Promise.all([b.waitFor(2), d.waitFor(2)]);
    expect(b.status().upstream).toMatchObject({ primary: 'c', connected: true });
    expect(d.status().upstream).toMatchObject({ primary: 'c', connected: true });
  });

  it('feed others, which count for nothing, and pass on what is committed', async () => {
    const group = await Group.make(3);
    const { a, b } = await group.started(['b']);
    const c = await group.cascaded('c', 'b');
    for (let i = 0; i < 100; i += 1) await a.appendAndCommit(`record ${i}`);
    await c.waitFor(101);
    expect((await textsOf(c)).length).toBe(101);
    expect(c.status().upstream).toMatchObject({ primary: 'b', connected: true });
    expect(c.status().upstream?.rule?.members).toEqual([b.status().nodeId]);
    await until(() => b.status().standbys[0]?.flushLsn === 101, 'b hears that c has all');
    const [passed] = b.status().standbys;
    expect(passed).toMatchObject({ name: 'c', synchronous: false });
    expect(a.status().standbys.map(({ name }) => name)).toEqual(['b']);
    expectStatus(b.status());
    await c.close();
    await a.appendAndCommit('b alone meets it');
  });

  it('that feed others begin anew with them when their primary does', async () => {
    const group = await Group.make(3);
    const { a, b } = await group.started(['b']);
    const c = await group.cascaded('c', 'b');
    await a.close();
    const again = await openLog({ ...group.of('a'), synchronousStandbys: 'ANY 1 (*)' });
    await again.appendAndCommit('in the next incarnation');
    await c.waitFor(2);
    expect(c.status()).toMatchObject({ term: { epoch: 1, incarnation: 2 } });
    await again.close();
    await b.promote(stopped);
    b.append('of b');
    await until(() => c.status().flushLsn === 3, 'c follows it as a primary');
    expect(c.status()).toMatchObject({ term: { epoch: 2 }, upstream: { primary: 'b' } });
  });

  it('that got more from elsewhere wait for one that passes on less', async () => {
    const group = await Group.make(3);
    const { a, b, c } = await group.started();
    await b.close();
    await a.appendAndCommit('c has it');
    const { dir } = c;
    await c.close();
    const b2 = await group.standby('b', 'a');
    const c2 = await openLog({ ...small, dir, name: 'c', follow: { port: group.ports.b } });
    await a.appendAndCommit('three');
    await c2.waitFor(3);
    expect(c2.status().upstream).toMatchObject({ primary: 'b', connected: true });
    expect(b2.status().failure).toBeNull();
  });
});

describe('the status', () => {
  it('shows the whole group from any member', async () => {
    const group = await Group.make(3);
    const { a, b } = await group.started();
    const all = (log: Log) => log.status().members.map(({ name, role }) => [name, role]);
    const others = [
      ['b', 'standby'],
      ['c', 'standby'],
    ];
    await until(() => JSON.stringify(all(a)) === JSON.stringify(others), 'a has asked', 20_000);
    await until(() => all(b).some(([name]) => name === 'a'), 'b has asked', 20_000);
    expect(b.status().members[0]).toMatchObject({
      address: `127.0.0.1:${group.ports.a}`,
      role: 'primary',
      epoch: 1,
      primary: 'a',
      connected: true,
      reason: null,
    });
    expectStatus(a.status());
  }, 40_000);
});
