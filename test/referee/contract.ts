import { expect, it } from 'vitest';
import type { Grant, Referee, Sight } from '../../src/referee/referee.js';
import { asyncRule, claimOf, grantOf, nodeId, reasonOf, syncRule } from './claims.js';

/** A referee of a group of its own. */
export interface Group {
  /** Each call is another node's. */
  readonly join: () => Referee;
  /** Milliseconds of the clock that deadlines are on. */
  readonly now: () => number;
  /** Lets so much time pass on it. */
  readonly pass: (milliseconds: number) => Promise<void>;
}

/** Lets time pass until it is so. */
async function passUntil({ pass }: Group, isDone: () => Promise<boolean>): Promise<void> {
  for (let steps = 0; !(await isDone()); steps += 1) {
    if (steps > 400) throw new Error('not so after 20 s');
    await pass(50);
  }
}

/** What every referee does, whatever its records are kept in. */
export function refereeContract(newGroup: () => Group): void {
  function pair(group = newGroup()): [Referee, Referee] {
    return [group.join(), group.join()];
  }

  it('grants the group to one node, with an epoch above all that are known', async () => {
    const [one, two] = pair();
    const first = grantOf(await one.acquire(claimOf('a', { epoch: 4 })));
    expect(first.epoch).toBe(5);
    expect(reasonOf(await two.acquire(claimOf('b')))).toBe('held');
    expect(await one.recordRule(first, { number: 1, rule: syncRule('b') })).toBe(true);
    expect(await one.release(first)).toBe(true);
    const second = grantOf(await two.acquire(claimOf('b', { kind: 'promotion', epoch: 2 })));
    expect(second.epoch).toBe(6);
    expect((await one.view()).leader).toMatchObject({ epoch: 6, nodeId: nodeId('b') });
  });

  it('gives one grant to two who ask at once', async () => {
    const [one, two] = pair();
    const both = await Promise.all([one.acquire(claimOf('a')), two.acquire(claimOf('b'))]);
    expect(both.filter((answer) => 'grant' in answer).length).toBe(1);
  });

  it('fences by the grant: what was released renews, records and releases nothing', async () => {
    const [one, two] = pair();
    const old = grantOf(await one.acquire(claimOf('a')));
    expect(await one.recordRule(old, { number: 1, rule: syncRule('b') })).toBe(true);
    expect(await one.release(old)).toBe(true);
    const grant = grantOf(await two.acquire(claimOf('b', { kind: 'promotion' })));
    expect(await one.renew(old)).toBeUndefined();
    expect(await one.recordRule(old, { number: 2, rule: asyncRule })).toBe(false);
    expect(await one.recordProgress(old, { number: 1, lsn: 9 })).toBe(false);
    expect(await one.regain(old)).toBeUndefined();
    expect(await one.release(old)).toBe(false);
    const { rule, progress } = await two.view();
    expect(rule).toMatchObject({ number: 1, primary: nodeId('a') });
    expect(progress).toBeUndefined();
    expect((await two.renew(grant))?.view.holder?.nodeId).toBe(nodeId('b'));
  });

  it('moves the deadline with each renewal, and keeps what is renewed', async () => {
    const group = newGroup();
    const [one, two] = pair(group);
    const { ttlMs, renewEveryMs } = one.timing;
    let { deadlineMs, ...grant } = grantOf(await one.acquire(claimOf('a')));
    const ends = group.now() + 1.5 * ttlMs;
    while (group.now() < ends) {
      await group.pass(renewEveryMs);
      const sentMs = group.now();
      const renewal = await one.renew({ ...grant, deadlineMs });
      const lasts = ttlMs - one.timing.marginMs;
      expect(renewal?.deadlineMs).toBeGreaterThanOrEqual(sentMs + lasts);
      expect(renewal?.deadlineMs).toBeLessThanOrEqual(group.now() + lasts);
      deadlineMs = renewal?.deadlineMs ?? 0;
    }
    expect(reasonOf(await two.acquire(claimOf('b')))).toBe('held');
  });

  it('grants it to another once the lease has ended, and not before the deadline', async () => {
    const group = newGroup();
    const [one, two] = pair(group);
    const grant = grantOf(await one.acquire(claimOf('a')));
    await one.recordRule(grant, { number: 1, rule: syncRule('b') });
    let second: Grant | undefined;
    await passUntil(group, async () => {
      const answer = await two.acquire(claimOf('b', { kind: 'promotion' }));
      if ('grant' in answer) second = answer.grant;
      return second !== undefined;
    });
    expect(group.now()).toBeGreaterThan(grant.deadlineMs);
    expect(second?.epoch).toBe(grant.epoch + 1);
    expect(await one.renew(grant)).toBeUndefined();
  });

  it('gives a lease that has ended back, with its epoch, if nobody came', async () => {
    const group = newGroup();
    const [one] = pair(group);
    const grant = grantOf(await one.acquire(claimOf('a')));
    await passUntil(group, async () => (await one.view()).holder === undefined);
    expect(await one.renew(grant)).toBeUndefined();
    const again = await one.regain(grant);
    expect(again?.epoch).toBe(grant.epoch);
    expect(again?.deadlineMs).toBeGreaterThan(grant.deadlineMs);
    expect(await one.recordRule(again!, { number: 1, rule: asyncRule })).toBe(true);
  });

  it('keeps the lease for a successor, who takes it, and for nobody else', async () => {
    const [one, two] = pair();
    const grant = grantOf(await one.acquire(claimOf('a')));
    await one.recordRule(grant, { number: 1, rule: syncRule('b', 'c') });
    expect(await one.release(grant, nodeId('b'))).toBe(true);
    expect(await one.renew(grant)).toBeUndefined();
    expect(reasonOf(await two.acquire(claimOf('c', { kind: 'promotion' })))).toBe('held');
    expect(reasonOf(await one.acquire(claimOf('a')))).toBe('held');
    const next = grantOf(await two.acquire(claimOf('b', { kind: 'promotion' })));
    expect(next.epoch).toBe(grant.epoch + 1);
    expect(await two.renew(next)).toBeDefined();
  });

  it('keeps it for a successor for one time to live from then on, and no longer', async () => {
    const group = newGroup();
    const [one, two] = pair(group);
    const { ttlMs, marginMs } = one.timing;
    const grant = grantOf(await one.acquire(claimOf('a')));
    await one.recordRule(grant, { number: 1, rule: syncRule('c') });
    await group.pass(ttlMs / 2);
    const releasedMs = group.now();
    expect(await one.release(grant, nodeId('b'))).toBe(true);
    await passUntil(group, async () => {
      const answer = await two.acquire(claimOf('c', { kind: 'promotion' }));
      return 'grant' in answer;
    });
    // Not by what was left of the lease.
    expect(group.now()).toBeGreaterThan(releasedMs + ttlMs - marginMs);
  });

  it('records a rule by compare-and-swap; one of a lower number is a mistake', async () => {
    const [one, two] = pair();
    const grant = grantOf(await one.acquire(claimOf('a')));
    for (const number of [1, 2]) {
      expect(await one.recordRule(grant, { number, rule: syncRule('b') })).toBe(true);
    }
    expect((await two.view()).rule).toEqual({
      epoch: grant.epoch,
      number: 2,
      primary: nodeId('a'),
      rule: syncRule('b'),
    });
    const old = one.recordRule(grant, { number: 1, rule: asyncRule });
    await expect(old).rejects.toThrow(RangeError);
  });

  it('promotes nobody while automation is paused, but by force', async () => {
    const [one, two] = pair();
    const grant = grantOf(await one.acquire(claimOf('a')));
    await one.recordRule(grant, { number: 1, rule: syncRule('b') });
    await one.release(grant);
    const force = claimOf('c', { kind: 'forced' });
    expect(reasonOf(await two.acquire(force))).toBe('not_paused');
    await two.pause('an operator', 'etcd is upgraded');
    const refused = await two.acquire(claimOf('b', { kind: 'promotion' }));
    expect(refused).toMatchObject({
      refusal: { reason: 'paused', message: 'an operator has paused automation: etcd is upgraded' },
    });
    const forced = grantOf(await two.acquire(force));
    expect(forced.epoch).toBe(grant.epoch + 1);
    await one.resume();
    await one.resume();
    expect((await two.view()).pause).toBeUndefined();
  });

  it('tells what it holds at once, and each change soon', async () => {
    const [one, two] = pair();
    const stop = new AbortController();
    const seen: Sight[] = [];
    const watching = (async () => {
      for await (const sight of two.watch({ signal: stop.signal })) seen.push(sight);
    })();
    const last = () => {
      const sight = seen.at(-1);
      return sight !== undefined && 'view' in sight ? sight.view : undefined;
    };
    await expect.poll(() => seen.length).toBe(1);
    expect(seen).toEqual([{ view: {} }]);
    const grant = grantOf(await one.acquire(claimOf('a')));
    await expect.poll(() => last()?.holder?.nodeId).toBe(nodeId('a'));
    await one.recordRule(grant, { number: 1, rule: syncRule('b') });
    await expect.poll(() => last()?.rule?.number).toBe(1);
    await one.release(grant);
    await expect.poll(() => last()?.holder).toBeUndefined();
    expect(last()?.leader?.epoch).toBe(grant.epoch);
    stop.abort();
    await watching;
    expect(seen.length).toBeLessThanOrEqual(5);
  });

  it('ends its watches when it is closed, whatever their signals say', async () => {
    const [one] = pair();
    const watching = one.watch({ signal: new AbortController().signal })[Symbol.asyncIterator]();
    expect((await watching.next()).done).toBe(false);
    const next = watching.next();
    one.close();
    expect((await next).done).toBe(true);
  });

  it('ends a call that its signal cancels, with the reason', async () => {
    const [one] = pair();
    const reason = new Error('enough');
    await expect(one.view({ signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });
}
