import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { Referee, Sight } from '../../src/referee/referee.js';
import { isPrimary, RefereedGroup } from './failover_nodes.js';
import { anyOne, Group, imageOf, stopped, textsOf } from './group_nodes.js';
import { codeOf, openLog, until, walError } from './helpers.js';
import { newSteps, openStepping } from './switchover_nodes.js';

/** A referee of which a node hears nothing that it does not ask for. */
async function* noSight(signal: AbortSignal): AsyncGenerator<Sight> {
  await new Promise<void>((resolve) => {
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

describe('a demotion', () => {
  it('leaves a standby, durably, with all that was appended; any is promoted by hand', async () => {
    const group = await Group.make();
    const { a, b, c } = await group.started();
    const roles: object[] = [];
    a.on('role', (role) => roles.push(role));
    a.append('two');
    const commit = a.appendAndCommit('three');
    await a.demote();
    expect((await commit).lsn).toBe(3);
    expect(a.status()).toMatchObject({ role: 'standby', roleReason: 'demoted', flushLsn: 3 });
    expect(a.status().term).toMatchObject({ epoch: 1, opener: a.status().nodeId });
    await until(() => roles.length === 1, 'the event');
    expect(roles).toMatchObject([{ role: 'standby', reason: 'demoted' }]);
    expect(await codeOf(() => a.append('x'))).toBe('WAL_IS_STANDBY');
    await a.demote();
    const image = await openLog({ ...group.of('a'), dir: imageOf(a), listen: { port: 0 } });
    expect(image.status()).toMatchObject({ role: 'standby', flushLsn: 3 });
    await image.close();
    await b.promote(stopped);
    b.append('four');
    await until(() => a.status().flushLsn === 4, 'a follows by itself');
    await until(() => c.status().flushLsn === 4, 'c follows by itself');
    expect(await textsOf(c)).toEqual(await textsOf(a));
  });

  it('is taken back by a promotion of the same node, in the next epoch', async () => {
    const group = await Group.make();
    const { a, b } = await group.started();
    await a.demote();
    const { term, forced } = await a.promote(stopped);
    expect(term.epoch).toBe(2);
    expect(forced).toBeNull();
    expect(a.append('two')).toBe(2);
    await until(() => b.status().flushLsn === 2, 'b follows');
  });

  it('is not taken back unasked where another may have been promoted since', async () => {
    const group = await Group.make(2);
    const { a, b } = await group.started(['b']);
    await a.demote();
    await b.close();
    const error = await walError(() => a.promote(stopped));
    expect(error.code).toBe('WAL_PROMOTION_REFUSED');
    expect(error.message).toContain('knows of a newer primary');
    expect((await a.promote({ ...stopped, force: true })).forced).toContain('newer primary');
  });

  it('is not taken back unasked by one that went on alone, unheard of', async () => {
    const group = await Group.make(2);
    const a = await group.primary('a', { ...anyOne, whenMissing: 'degrade', syncTimeout: 50 });
    const b = await group.standby('b', 'a');
    await a.appendAndCommit('one');
    await until(() => b.status().upstream?.rule?.members.length === 1, 'b knows the rule');
    await b.close();
    expect((await a.appendAndCommit('two')).level).toBe('local');
    expect(a.status().policy?.degraded).not.toBeNull();
    await a.demote();
    const error = await walError(() => a.promote(stopped));
    expect(error.code).toBe('WAL_PROMOTION_REFUSED');
    expect(error.message).toContain('knows of a newer primary');
    const again = await openLog({ ...group.of('b'), follow: { port: group.ports.a } });
    const { term, forced } = await a.promote(stopped);
    expect(forced).toBeNull();
    await until(() => again.status().term.epoch === term.epoch, 'b knows of it');
    await until(() => again.status().flushLsn === 2, 'b has what was acknowledged without it');
  });

  it('ends commits that standbys do not meet as unknown, after its time', async () => {
    const group = await Group.make(2);
    const { a, b } = await group.started(['b']);
    await b.close();
    const commit = a.appendAndCommit('two');
    const ended = expect(commit).rejects.toMatchObject({
      code: 'WAL_SWITCHING',
      outcome: 'unknown',
    });
    await a.demote({ timeout: 50 });
    await ended;
    expect(a.status()).toMatchObject({ role: 'standby', flushLsn: 2 });
  });

  it('of a fenced log is refused', async () => {
    const group = await Group.make(2);
    const { a, b } = await group.started(['b']);
    await b.promote(stopped);
    await until(() => a.status().role === 'fenced', 'a is fenced');
    expect(await codeOf(() => a.demote())).toBe('WAL_FENCED');
  });
});

describe('with a referee', () => {
  it('a switchover hands the group over, paused or not', async () => {
    const group = await RefereedGroup.make(2);
    const { a, b } = await group.pair(anyOne);
    await a.pauseFailover('maintenance');
    const done = await a.switchover({ to: 'b' });
    expect(done.term.opener).toBe(b.status().nodeId);
    expect(isPrimary(b)).toBe(true);
    await b.appendAndCommit('two');
    await until(() => b.status().referee?.leader?.name === 'b', 'the referee says so');
    await b.resumeFailover();
    const back = await b.switchover({ to: 'a' });
    expect(back.term.epoch).toBeGreaterThan(done.term.epoch);
    await a.appendAndCommit('three');
    expect(await textsOf(a)).toEqual(['one', 'two', 'three']);
  });

  it('a successor that hears of it from the referee first is promoted all the same', async () => {
    const group = await RefereedGroup.make(2);
    const a = await group.open('a', { openAlone: true, ...anyOne });
    const steps = newSteps();
    const options = { ...group.group.of('b'), ...anyOne, referee: group.referee('b') };
    const b = await openStepping(steps, options);
    await b.connected();
    await a.appendAndCommit('one');
    await until(() => a.status().policy?.inForce === true, 'the rule');
    await until(() => b.status().flushLsn === 1, 'b has the first record');
    // The message does not come through: the group is kept for b, and that is all it hears.
    steps.isDeaf = true;
    const [outcome] = await Promise.allSettled([a.switchover({ to: 'b' })]);
    await until(() => isPrimary(b), 'b takes over');
    expect(b.status().roleReason).toBe('promoted');
    expect(outcome?.status).toBe('fulfilled');
    await b.appendAndCommit('two');
  });

  it('a successor takes nothing that another has led since it was asked', async () => {
    const group = await RefereedGroup.make(2);
    let grants = 0;
    // As where its process was stopped from before another was granted the group until after that.
    const referee = new Proxy(group.referee('b'), {
      get(target, key) {
        const value: unknown = Reflect.get(target, key, target);
        if (key === 'watch') return ({ signal }: { signal: AbortSignal }) => noSight(signal);
        if (key !== 'acquire') return typeof value === 'function' ? value.bind(target) : value;
        return async (...given: Parameters<Referee['acquire']>) => {
          const answer = await target.acquire(...given);
          if (!('grant' in answer)) return answer;
          grants += 1;
          const { rule } = answer.grant;
          return { grant: { ...answer.grant, rule: { ...rule, epoch: answer.grant.epoch } } };
        };
      },
    });
    const a = await group.open('a', { openAlone: true, ...anyOne });
    const b = await group.open('b', { ...anyOne, follow: { port: group.group.ports.a }, referee });
    await b.connected();
    await a.appendAndCommit('one');
    await until(() => a.status().policy?.inForce === true, 'the rule');
    await until(() => b.status().flushLsn === 1, 'b has the first record');
    a.switchover({ to: 'b' }).catch(() => undefined);
    await until(() => grants === 1 && !isPrimary(a), 'it was handed over');
    await until(() => isPrimary(a), 'a leads again', 20_000);
    expect(isPrimary(b)).toBe(false);
    await a.appendAndCommit('two');
    expect(await textsOf(a)).toEqual(['one', 'two']);
  });

  it('nothing is handed over to a member that asks no referee', async () => {
    const group = await RefereedGroup.make(2);
    const a = await group.open('a', { openAlone: true, ...anyOne });
    const follow = { port: group.group.ports.a };
    const b = await openLog({ ...group.group.of('b'), ...anyOne, follow });
    await b.connected();
    await a.appendAndCommit('one');
    await until(() => a.status().policy?.inForce === true, 'the rule');
    const error = await walError(() => a.switchover({ to: 'b' }));
    expect(error.code).toBe('WAL_SWITCHOVER_REFUSED');
    expect(error.message).toContain('without a referee');
    await a.appendAndCommit('two');
    expect(isPrimary(b)).toBe(false);
  });

  it('a switchover while the referee is away leaves the old primary demoted', async () => {
    const group = await RefereedGroup.make(2);
    const { a, b } = await group.pair(anyOne);
    group.cut.add('a');
    // The lease ends, and automation decides: a finds out where that does not take long.
    const [outcome] = await Promise.allSettled([a.switchover({ to: 'b' })]);
    if (outcome?.status === 'rejected') {
      expect(outcome.reason).toMatchObject({ code: 'WAL_DEMOTED' });
    }
    expect(isPrimary(a)).toBe(false);
    group.cut.delete('a');
    await until(() => isPrimary(a) !== isPrimary(b), 'one of them goes on', 20_000);
    const primary = isPrimary(a) ? a : b;
    await primary.appendAndCommit('two');
    expect(await textsOf(primary)).toEqual(['one', 'two']);
  });

  it('a node that was demoted does not take the group back itself', async () => {
    const group = await RefereedGroup.make(2);
    // Where commits wait for nobody, it could.
    const { a, b } = await group.pair();
    await b.close();
    await a.demote();
    await sleep(700);
    expect(isPrimary(a)).toBe(false);
    expect(a.status()).toMatchObject({ role: 'standby', roleReason: 'demoted' });
  });

  it('a demotion gives the group back, and the other takes it', async () => {
    const group = await RefereedGroup.make(2);
    const { a, b } = await group.pair(anyOne);
    await a.demote();
    await until(() => isPrimary(b), 'b takes over');
    await until(() => a.status().upstream?.connected === true, 'a follows');
    await b.appendAndCommit('two');
    expect(isPrimary(a)).toBe(false);
    // Having followed, it is a candidate again.
    await b.close();
    await until(() => isPrimary(a), 'a takes over', 20_000);
  });
});
