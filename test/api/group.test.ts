import { describe, expect, it, onTestFinished } from 'vitest';
import { TcpProxy } from '../helpers/proxy.js';
import { fenceFor, Group, imageOf, stopped, textsOf } from './group_nodes.js';
import { codeOf, openLog, until, walError } from './helpers.js';

describe('a promotion in a group', () => {
  it('takes the best log first: nothing that was acknowledged is lost', async () => {
    const group = await Group.make();
    const { a, b, c } = await group.started();
    // c is cut off: what is acknowledged now b alone has.
    await c.close();
    for (let i = 0; i < 50; i += 1) await a.appendAndCommit(`b has ${i}`);
    await a.close();
    const again = await openLog({ ...group.of('c'), follow: { port: group.ports.a } });
    expect(again.status().flushLsn).toBe(1);
    const promoted = await again.promote(stopped);
    expect(promoted).toMatchObject({ lsn: 51, forced: null, term: { epoch: 2 } });
    expect((await textsOf(again)).slice(-2)).toEqual(['b has 48', 'b has 49']);
    expect(again.append('next')).toBe(52);
    // The other one follows by itself: nobody told it where.
    await until(() => b.status().flushLsn === 52, 'b follows the new primary');
    expect(b.status()).toMatchObject({ role: 'standby', term: { epoch: 2 } });
  });

  it('is refused while too few answer, with names; forced, it is recorded', async () => {
    const group = await Group.make();
    const { a, b, c } = await group.started();
    const knows = (): boolean => c.status().members.some(({ name }) => name === 'b');
    await until(knows, 'c has asked b', 20_000);
    await b.close();
    await a.close();
    const error = await walError(() => c.promote(stopped));
    expect(error.code).toBe('WAL_PROMOTION_REFUSED');
    expect(error.message).toMatch(/1 of the 2 nodes answer .* 2 are needed/);
    expect(error.message).toContain('missing: b;');
    expect(error.message).toContain(`127.0.0.1:${group.ports.b}: `);
    // Nothing was changed: it is a standby of the old epoch.
    expect(c.status()).toMatchObject({ role: 'standby', term: { epoch: 1 } });
    const promoted = await c.promote({ ...stopped, force: true });
    expect(promoted.forced).toContain('2 are needed');
    expect(c.status().events.some(({ message }) => /was forced/.test(message))).toBe(true);
    await c.close();
    const reopened = await openLog({ dir: c.dir, name: 'c' });
    expect(await textsOf(reopened)).toEqual(['one']);
  });

  it('fences the old primary where it is there after all', async () => {
    const group = await Group.make();
    const { a, b, c } = await group.started();
    const fenced = new Promise((resolve) => a.on('role', resolve));
    a.append('not acknowledged, and kept');
    await b.promote(stopped);
    expect(await fenced).toMatchObject({ role: 'fenced', term: { epoch: 2 } });
    expect(() => a.append('too late')).toThrow(/newer primary/);
    expect(b.status().flushLsn).toBe(2);
    b.append('new');
    await c.waitFor(3);
    expect(await textsOf(c)).toEqual(['one', 'not acknowledged, and kept', 'new']);
  });

  it('of two at once at most one wins an epoch', async () => {
    const group = await Group.make();
    const { a, b, c } = await group.started();
    await a.close();
    const outcomes = await Promise.allSettled([b.promote(stopped), c.promote(stopped)]);
    const epochs = outcomes.flatMap((each) =>
      each.status === 'fulfilled' ? [each.value.term.epoch] : [],
    );
    expect(new Set(epochs).size).toBe(epochs.length);
    const primaries = [b, c].filter((log) => log.status().role === 'primary');
    expect(primaries.length).toBeLessThanOrEqual(1);
    if (primaries.length === 0) await b.promote(stopped);
    const [primary, other] = b.status().role === 'primary' ? [b, c] : [c, b];
    primary.append('new');
    // One that was a primary for a moment, and was outdone, comes back when it is opened again.
    const isOutdone = other.status().role === 'fenced';
    if (isOutdone) await other.close();
    const name = other === b ? 'b' : 'c';
    const follows = isOutdone ? await openLog({ ...group.of(name), rejoin: 'auto' }) : other;
    await until(() => follows.status().flushLsn === 2, 'the other one follows');
    expect(follows.status().failure).toBeNull();
  });

  it('finds a grant again that was given before a crash', async () => {
    const group = await Group.make();
    const { b, c } = await group.started();
    const grant = await fenceFor(c, group.ports.b, 7);
    expect(grant).toMatchObject({ end: { lsn: 1 }, term: { epoch: 7, incarnation: 0 } });
    // Whatever becomes of the answer: it was stored first, on both copies.
    const dir = imageOf(b);
    await b.close();
    const again = await openLog({ ...group.of('b'), dir, follow: { port: group.ports.a } });
    expect(again.status().term).toMatchObject({ epoch: 7, opener: c.status().nodeId });
    const other = { code: 'WAL_FENCED' };
    await expect(fenceFor(again, group.ports.c, 1)).rejects.toMatchObject(other);
    const d = await openLog({ ...group.of('d'), follow: { port: group.ports.a } });
    await expect(fenceFor(d, group.ports.b, 7)).rejects.toMatchObject(other);
    await expect(fenceFor(d, group.ports.b, 6)).rejects.toMatchObject(other);
    // The same candidate may not have got the answer.
    expect((await fenceFor(c, group.ports.b, 7)).nodeId).toBe(grant.nodeId);
  });

  it('is repeated with a higher epoch where a candidate died before it opened', async () => {
    const group = await Group.make();
    const { a, b, c } = await group.started();
    await fenceFor(c, group.ports.b, 5);
    await c.close();
    // Its old primary is nobody to it any more, and hears of it.
    await until(() => a.status().role === 'fenced', 'a is fenced');
    expect(await codeOf(() => b.promote(stopped))).toBe('WAL_PROMOTION_REFUSED');
    const again = await openLog({ ...group.of('c'), follow: { port: group.ports.a } });
    const { term } = await b.promote(stopped);
    expect(term.epoch).toBe(6);
    b.append('new');
    await until(() => again.status().flushLsn === 2, 'c follows');
  });

  it('of the primary too, which was fenced by a candidate that died', async () => {
    const group = await Group.make(2);
    const { a, b } = await group.started(['b']);
    const grant = await fenceFor(b, group.ports.a, 2);
    expect(grant.end.lsn).toBe(1);
    expect(a.status()).toMatchObject({ role: 'fenced', term: { epoch: 2, incarnation: 0 } });
    const { term } = await b.promote(stopped);
    expect(term.epoch).toBe(3);
  });

  it('takes nothing from who was fenced that is acknowledged afterwards', async () => {
    const group = await Group.make();
    const { a, b, c } = await group.started();
    await c.close();
    const commits: Promise<number>[] = [];
    let isOver = false;
    const append = (): void => {
      if (isOver) return;
      commits.push(
        a.appendAndCommit('x').then(
          ({ lsn }) => lsn,
          () => 0,
        ),
      );
      setImmediate(append);
    };
    append();
    await until(() => a.status().commitLsn > 20, 'b acknowledges');
    const grant = await fenceFor(c, group.ports.b, 2);
    isOver = true;
    // It hears of the fence from b, which follows it no more; nothing else reaches it.
    commits.push(
      a.appendAndCommit('late').then(
        ({ lsn }) => lsn,
        () => 0,
      ),
    );
    await until(() => a.status().role === 'fenced', 'a hears of it');
    expect(Math.max(...(await Promise.all(commits)))).toBeLessThanOrEqual(grant.end.lsn);
    expect(b.status().flushLsn).toBe(grant.end.lsn);
  });

  it('by a node that does not count is refused', async () => {
    const group = await Group.make(4);
    const { a, d } = await group.started(['b', 'd']);
    const c = await group.cascaded('c', 'd');
    await a.close();
    expect(await codeOf(() => c.promote(stopped))).toBe('WAL_PROMOTION_REFUSED');
    expect(d.status().standbys.map(({ name, synchronous }) => [name, synchronous])).toEqual([
      ['c', false],
    ]);
  });

  it('leaves a standby with nobody who is no primary, once it hears who is', async () => {
    const group = await Group.make();
    const { a } = await group.started(['b']);
    const way = await TcpProxy.open(1);
    onTestFinished(() => way.close());
    // It does not reach a, and b passes the log on.
    const members = [{ port: group.ports.b }, { port: way.port }];
    const c = await openLog({ ...group.of('c'), members, follow: { port: group.ports.b } });
    await c.connected();
    expect(a.status().standbys.map(({ name }) => name)).toEqual(['b']);
    way.target = group.ports.a;
    await until(() => a.status().standbys.length === 2, 'c follows a', 20_000);
    await a.setPolicy({ synchronousStandbys: 'ANY 2 (*)' });
    await a.appendAndCommit('both have it');
    expect(c.status().upstream).toMatchObject({ primary: 'a', connected: true });
  });
});
