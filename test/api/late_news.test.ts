import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { closeLog } from '../../src/api/close.js';
import { logStatus } from '../../src/api/log_status.js';
import { openLog as openCore } from '../../src/api/open.js';
import type { OpenOptions } from '../../src/api/options.js';
import { rejoin } from '../../src/api/rejoin.js';
import { setPolicy } from '../../src/api/set_policy.js';
import { Follower } from '../../src/transport/follower.js';
import { anyOne, fenceFor, Group, imageOf, stopped, textsOf } from './group_nodes.js';
import { openLog, until, walError } from './helpers.js';

/** A log whose engine the test can slow down. */
async function coreOf(options: OpenOptions) {
  const core = await openCore(options);
  onTestFinished(() => closeLog(core).catch(() => undefined));
  return core;
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe('news that come in the middle of something', () => {
  it('a commit below the level of the log ends with the fence that comes meanwhile', async () => {
    const group = await Group.make();
    const { a, b } = await group.started();
    const lsn = a.append('x');
    const commit = a.commit(lsn, { level: 'local' }).then(
      () => 'resolved',
      ({ code }) => code,
    );
    await fenceFor(b, group.ports.a, 2);
    expect(['resolved', 'WAL_FENCED']).toContain(await commit);
    expect(a.status().role).toBe('fenced');
  });

  it('and with a close', async () => {
    const group = await Group.make();
    const a = await group.primary('a', anyOne);
    const commit = a.commit(a.append('x'), { level: 'local' }).then(
      () => 'resolved',
      ({ code }) => code,
    );
    await a.close();
    expect(['resolved', 'WAL_CLOSED']).toContain(await commit);
  });

  it('a fence that is granted while a log rejoins is not taken back', async () => {
    const group = await Group.make();
    const a = await coreOf({ ...group.of('a'), openAlone: true });
    const b = await group.standby('b', 'a');
    const c = await group.standby('c', 'a');
    a.appender.append('one');
    await until(() => b.status().flushLsn === 1, 'b has it');
    await b.promote({ ...stopped, force: true });
    await until(() => logStatus(a).role === 'fenced', 'a is fenced');
    const store = a.native.storeRole.bind(a.native);
    const storing = vi.spyOn(a.native, 'storeRole').mockImplementationOnce(async (...args) => {
      await pause(200);
      return store(...args);
    });
    const fencing = fenceFor(c, group.ports.a, 3);
    await until(() => storing.mock.calls.length > 0, 'the fence is being stored');
    const back = rejoin(a, { follow: { port: group.ports.b } }).catch(() => undefined);
    const { term } = await fencing;
    expect(term).toMatchObject({ epoch: 3, opener: c.status().nodeId, incarnation: 0 });
    await back;
    await pause(500);
    expect(a.native.info().term).toEqual(term);
    expect(logStatus(a).upstream?.connected ?? false).toBe(false);
  });

  it('what nobody that answers knows the meaning of is promoted by force alone', async () => {
    const group = await Group.make();
    const a = await group.primary('a', { synchronousStandbys: 'ANY 2 (*)' });
    const b = await group.standby('b', 'a');
    const c = await group.standby('c', 'a');
    await a.appendAndCommit('one');
    const knows = (log: typeof b) => log.status().upstream?.rule?.members.length === 2;
    await until(() => knows(b) && knows(c), 'both know the rule');
    await until(() => b.status().flushLsn === 1 && c.status().flushLsn === 1, 'both have it');
    await b.close();
    await a.close();
    await c.promote({ ...stopped, ...anyOne });
    const back = await openLog(group.of('a'));
    await back.connected();
    await c.appendAndCommit('two');
    // b hears of the new term, and crashes before it has stored what its acknowledgements mean.
    const never = vi.spyOn(Follower.prototype, 'record');
    never.mockImplementation(() => new Promise(() => undefined));
    const halfway = await coreOf(group.of('b'));
    await until(() => halfway.native.info().term.epoch === 2, 'the term is stored');
    const image = imageOf({ dir: halfway.options.dir } as typeof b);
    never.mockRestore();
    await c.close();
    await back.close();
    await closeLog(halfway).catch(() => undefined);
    const alone = await openLog({ ...group.of('b'), dir: image });
    const error = await walError(() => alone.promote({ ...stopped, ...anyOne }));
    expect(error.code).toBe('WAL_PROMOTION_REFUSED');
    expect(error.message).toMatch(
      /nobody that answers knows what acknowledgements of epoch 2 meant/,
    );
    const { forced } = await alone.promote({ ...stopped, force: true });
    expect(forced).toMatch(/epoch 2/);
    expect(await textsOf(alone)).toEqual(['one']);
  });

  it('a commit by a policy that is not recorded yet is below the one before', async () => {
    const group = await Group.make();
    const a = await coreOf({ ...group.of('a'), ...anyOne, openAlone: true });
    const b = await coreOf(group.of('b'));
    await until(() => a.native.info().rule?.members.length === 1, 'the rule with b');
    let isSlow = true;
    const store = b.native.storeRule.bind(b.native);
    vi.spyOn(b.native, 'storeRule').mockImplementation(async (rule) => {
      while (isSlow) await pause(10);
      return store(rule);
    });
    const c = await group.standby('c', 'a');
    await pause(100);
    await c.close();
    vi.spyOn(b.native, 'ingest').mockImplementation(() => 0);
    const policy = setPolicy(a, { synchronousCommit: 'local' }).catch(() => undefined);
    const lsn = a.appender.append('acknowledged here');
    await a.driver.commits?.commit(lsn, 'local', undefined);
    expect(a.native.info().rule?.synchronousCommit).toBe('remote_flush');
    expect(a.native.info().isRuleUndercut).toBe(true);
    isSlow = false;
    vi.restoreAllMocks();
    await closeLog(a);
    await policy;
  });
});
