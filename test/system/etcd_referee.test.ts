import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { bootTime } from '../../src/referee/clock.js';
import type { EtcdOptions } from '../../src/referee/etcd_options.js';
import { etcdReferee } from '../../src/referee/etcd_referee.js';
import { LeaseKeeper, type LeaseState } from '../../src/referee/lease_keeper.js';
import type { Referee } from '../../src/referee/referee.js';
import { etcdExpiryMs, type RefereeTiming, takeoverTime } from '../../src/referee/timing.js';
import { missing } from '../global/requirements.js';
import { tempDir } from '../global/temp.js';
import { Authority } from '../helpers/certificates.js';
import { EtcdCluster } from '../helpers/etcd.js';
import { LeaseHolder } from '../helpers/lease_holder.js';
import { claimOf, grantOf, nodeId, reasonOf, syncRule } from '../referee/claims.js';
import { type Group, refereeContract } from '../referee/contract.js';
import { goesOnWithNothing } from '../referee/stopped.js';

const reason = missing({ programs: ['etcd', 'etcdctl', 'openssl'] });

/** As short as etcd takes, and with time for a busy machine. */
const timing: RefereeTiming = {
  ttlMs: 4000,
  marginMs: 200,
  renewEveryMs: 500,
  callTimeoutMs: 1500,
};

let groups = 0;

/** Nodes of a new group, on real time. */
function newGroup(endpoints: readonly string[], more: Partial<EtcdOptions> = {}): Group {
  groups += 1;
  const group = `group-${groups}`;
  const dir = tempDir('memory');
  let nodes = 0;
  return {
    now: bootTime,
    pass: (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds)),
    join: () => {
      nodes += 1;
      const memory = join(dir, `node-${nodes}`);
      const referee = etcdReferee({ endpoints, group, timing, memory, ...more });
      onTestFinished(() => referee.close());
      return referee;
    },
  };
}

/** Asks until it is answered: etcd itself may be without a leader for seconds. */
async function persist<Result>(ask: () => Promise<Result>): Promise<Result> {
  const ends = performance.now() + 30_000;
  for (;;) {
    try {
      return await ask();
    } catch (error) {
      const { code } = error as { code?: unknown };
      if (code !== 'WAL_REFEREE_AWAY' || performance.now() > ends) throw error;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

describe.skipIf(reason)('the referee in etcd', () => {
  let etcd: EtcdCluster;
  beforeAll(async () => {
    etcd = await EtcdCluster.start(1);
  });
  afterAll(() => etcd.close());

  refereeContract(() => newGroup(etcd.endpoints));

  it('has another take over within the time that is told for these timings', async () => {
    const { join: node } = newGroup(etcd.endpoints);
    const [one, two] = [node(), node()];
    const grant = grantOf(await one.acquire(claimOf('a')));
    await one.recordRule(grant, { number: 1, rule: syncRule('b') });
    const keeper = new LeaseKeeper({ referee: one, grant });
    keeper.start();
    await new Promise((resolve) => setTimeout(resolve, 1.5 * timing.renewEveryMs));
    expect(keeper.holds()).toBe(true);
    const stop = new AbortController();
    const lostAt = bootTime();
    await keeper.stop();
    for await (const sight of two.watch({ signal: stop.signal })) {
      if (!('view' in sight) || sight.view.holder !== undefined) continue;
      grantOf(await two.acquire(claimOf('b', { kind: 'promotion' })));
      stop.abort();
    }
    const tookMs = bootTime() - lostAt;
    const { leastMs, mostMs } = takeoverTime(timing, etcdExpiryMs);
    expect(tookMs).toBeGreaterThan(leastMs);
    // What is more than that is the machine's.
    expect(tookMs).toBeLessThan(mostMs + 5000);
    process.stdout.write(`takeover: ${tookMs.toFixed(0)} ms of ${leastMs} to ${mostMs}\n`);
  });

  it('is not held by a process that was stopped longer than its lease', async () => {
    const dir = tempDir('memory');
    const options = (name: string) => ({
      endpoints: etcd.endpoints,
      group: 'paused',
      timing,
      memory: join(dir, name),
    });
    const [claim, rule] = [claimOf('a'), syncRule('b')];
    const holder = new LeaseHolder({ kind: 'etcd', options: options('a'), claim, rule });
    const other = etcdReferee(options('b'));
    onTestFinished(() => other.close());
    expect(await holder.hears('epoch')).toEqual({ epoch: 1, holds: true });
    holder.send('SIGSTOP');
    let takenMs = 0;
    await expect
      .poll(
        async () => {
          takenMs = bootTime();
          return reasonOf(await other.acquire(claimOf('b', { kind: 'promotion' })));
        },
        { timeout: 30_000 },
      )
      .toBe('granted');
    await goesOnWithNothing(holder, takenMs);
  });

  it('goes on when etcd was restarted: the lease is held, the watch sees', async () => {
    const own = await EtcdCluster.start(1);
    onTestFinished(() => own.close());
    const { join: node } = newGroup(own.endpoints);
    const [one, two] = [node(), node()];
    const grant = grantOf(await one.acquire(claimOf('a')));
    const stop = new AbortController();
    onTestFinished(() => stop.abort());
    const seen: string[] = [];
    const watching = (async () => {
      for await (const sight of two.watch({ signal: stop.signal })) {
        seen.push('view' in sight ? `epoch ${sight.view.leader?.epoch}` : 'away');
      }
    })();
    await expect.poll(() => seen).toEqual(['epoch 1']);
    await own.stop(0);
    await expect(one.renew(grant)).rejects.toMatchObject({ code: 'WAL_REFEREE_AWAY' });
    await expect.poll(() => seen).toEqual(['epoch 1', 'away']);
    await own.restart(0);
    const renewal = await persist(() => one.renew(grant));
    // It may have ended meanwhile on a machine that is slow to start it.
    const holds = renewal === undefined ? await persist(() => one.regain(grant)) : renewal;
    expect(holds?.deadlineMs).toBeGreaterThan(grant.deadlineMs);
    await expect.poll(() => seen.at(-1)).toBe('epoch 1');
    stop.abort();
    await watching;
  });

  it('stops when etcd was restored to the past', async () => {
    const own = await EtcdCluster.start(1);
    onTestFinished(() => own.close());
    const referee = newGroup(own.endpoints).join();
    const grant = grantOf(await referee.acquire(claimOf('a')));
    await own.stop(0);
    own.backup(0, 'old');
    await own.restart(0);
    await persist(() => referee.recordRule(grant, { number: 1, rule: syncRule('b') }));
    await own.stop(0);
    own.putBack(0, 'old');
    await own.restart(0);
    const past = { code: 'WAL_REFEREE_PAST', message: expect.stringContaining('its revision is') };
    await expect(persist(() => referee.view())).rejects.toMatchObject(past);
    await expect(referee.renew(grant)).rejects.toMatchObject(past);
  });
});

describe.skipIf(reason)('the referee in etcd with users', () => {
  it('logs in, does so again, and says what it is not allowed', async () => {
    const etcd = await EtcdCluster.start(1);
    onTestFinished(() => etcd.close());
    for (const command of [
      'user add root:top',
      'user add wal:mirror',
      'user add other:one',
      'role add root',
      'role add walrole',
      'user grant-role root root',
      'user grant-role wal walrole',
      'role grant-permission walrole --prefix=true readwrite /walmirror/',
      'auth enable',
    ]) {
      await etcd.etcdctl(0, ...command.split(' '));
    }
    const allowed = { username: 'wal', password: 'mirror' };
    const referee = newGroup(etcd.endpoints, allowed).join();
    const grant = grantOf(await referee.acquire(claimOf('a')));
    // A restart forgets the tokens that were given; they are asked for anew.
    await etcd.restart(0);
    const renewal = await persist(() => referee.renew(grant));
    expect(renewal ?? (await persist(() => referee.regain(grant)))).toBeDefined();
    const refused = { code: 'WAL_REFEREE_REFUSED' };
    const wrong = { ...allowed, password: 'mirrors' };
    const without = newGroup(etcd.endpoints).join();
    await expect(newGroup(etcd.endpoints, wrong).join().view()).rejects.toMatchObject({
      ...refused,
      message: expect.stringContaining('authentication failed'),
    });
    await expect(without.view()).rejects.toMatchObject(refused);
    const other = newGroup(etcd.endpoints, { username: 'other', password: 'one' }).join();
    await expect(other.view()).rejects.toMatchObject({
      ...refused,
      message: expect.stringContaining('permission denied'),
    });
  });
});

describe.skipIf(reason)('the referee in etcd with TLS', () => {
  it('shows its certificate, and believes no other authority', async () => {
    const [authority, stranger] = [new Authority(), new Authority('a stranger')];
    onTestFinished(() => {
      authority.remove();
      stranger.remove();
    });
    const server = authority.issue({ dns: ['localhost'] });
    const etcd = await EtcdCluster.start(1, { ...server, ca: authority.cert });
    onTestFinished(() => etcd.close());
    const endpoints = etcd.endpoints.map((each) => each.replace('127.0.0.1', 'localhost'));
    const client = authority.issue({ commonName: 'client' });
    const tls = { ...client, ca: authority.cert };
    const referee = newGroup(endpoints, { tls }).join();
    expect(grantOf(await persist(() => referee.acquire(claimOf('a')))).epoch).toBe(1);
    for (const bad of [{ ...client, ca: stranger.cert }, { ca: authority.cert }]) {
      const refused = newGroup(endpoints, { tls: bad }).join().view();
      await expect(refused).rejects.toMatchObject({ code: 'WAL_REFEREE_AWAY' });
    }
  });
});

describe.skipIf(reason)('the referee in a cluster of etcd', () => {
  let etcd: EtcdCluster;
  beforeAll(async () => {
    etcd = await EtcdCluster.start(3);
  });
  afterAll(() => etcd.close());

  /** Another node of the same group, which asks another member. */
  function observerOf(member: number, times: RefereeTiming): Referee {
    const memory = join(tempDir('memory'), 'observer');
    const endpoints = [etcd.endpoints[member]!];
    const observer = etcdReferee({ endpoints, group: `group-${groups}`, timing: times, memory });
    onTestFinished(() => observer.close());
    return observer;
  }

  /** The members with this one first: it is the one that is asked. */
  function from(member: number): string[] {
    const { endpoints } = etcd;
    return [...endpoints.slice(member), ...endpoints.slice(0, member)];
  }

  function keep(referee: Referee, grant: ReturnType<typeof grantOf>) {
    const states: LeaseState[] = [];
    const keeper = new LeaseKeeper({ referee, grant, onState: (state) => states.push(state) });
    keeper.start();
    onTestFinished(() => keeper.stop());
    return { keeper, states };
  }

  it('keeps the lease when etcd loses its leader, by SIGSTOP and by SIGKILL', async () => {
    for (const signal of ['SIGSTOP', 'SIGKILL'] as const) {
      await etcd.ready();
      const leader = await etcd.leader();
      const times = { ...timing, ttlMs: 15_000, callTimeoutMs: 2000, renewEveryMs: 1000 };
      const group = newGroup(from(leader), { timing: times });
      const referee = group.join();
      const grant = grantOf(await persist(() => referee.acquire(claimOf('a'))));
      const { keeper, states } = keep(referee, grant);
      etcd.kill(leader, signal);
      const first = keeper.deadlineMs;
      await expect.poll(() => keeper.deadlineMs, { timeout: 30_000 }).toBeGreaterThan(first + 2000);
      expect(states).toEqual([]);
      expect(keeper.holds()).toBe(true);
      await keeper.stop();
      if (signal === 'SIGSTOP') etcd.kill(leader, 'SIGCONT');
      else await etcd.restart(leader);
    }
  });

  it('holds what it confirms, also where its leader hung and was replaced meanwhile', async () => {
    let looks = 0;
    // A round whose renewal was not confirmed shows nothing.
    for (let round = 0; round < 6 && looks === 0; round += 1) looks = await confirmedLooks();
    expect(looks).toBeGreaterThan(0);
  });

  /** How often what was confirmed was looked for at the true leader, and was there. */
  async function confirmedLooks(): Promise<number> {
    await etcd.ready();
    const leader = await etcd.leader();
    const times = { ttlMs: 7000, marginMs: 200, renewEveryMs: 300, callTimeoutMs: 3000 };
    const group = newGroup([etcd.endpoints[leader]!], { timing: times });
    const referee = group.join();
    const grant = grantOf(await persist(() => referee.acquire(claimOf('a'))));
    expect(await persist(() => referee.renew(grant))).toBeDefined();
    const observer = observerOf((leader + 1) % 3, times);
    etcd.kill(leader, 'SIGSTOP');
    try {
      // Answered only by the leader that the others have elected meanwhile.
      await persist(() => observer.view());
      const asked = referee.renew(grant).catch((error: Error) => error);
      await new Promise((resolve) => setTimeout(resolve, 100));
      etcd.kill(leader, 'SIGCONT');
      const answer = await asked;
      if (answer === undefined || answer instanceof Error) return 0;
      let looks = 0;
      // Whoever answered: what was confirmed lasts, for those who ask the true leader.
      while (bootTime() + 300 < answer.deadlineMs) {
        const view = await persist(() => observer.view());
        if (bootTime() < answer.deadlineMs) {
          expect(view.holder?.nodeId).toBe(nodeId('a'));
          looks += 1;
        }
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
      return looks;
    } finally {
      etcd.kill(leader, 'SIGCONT');
    }
  }

  it('is away, and grants nothing, while etcd has no quorum; and comes back', async () => {
    await etcd.ready();
    const group = newGroup(etcd.endpoints);
    const [one, two] = [group.join(), group.join()];
    const grant = grantOf(await persist(() => one.acquire(claimOf('a'))));
    await persist(() => one.recordRule(grant, { number: 1, rule: syncRule('b') }));
    const { keeper, states } = keep(one, grant);
    etcd.kill(0, 'SIGSTOP');
    etcd.kill(1, 'SIGSTOP');
    await expect.poll(() => states, { timeout: 30_000 }).toEqual(['expired']);
    expect(keeper.holds()).toBe(false);
    const claim = claimOf('b', { kind: 'promotion' });
    await expect(two.acquire(claim)).rejects.toMatchObject({ code: 'WAL_REFEREE_AWAY' });
    etcd.kill(0, 'SIGCONT');
    etcd.kill(1, 'SIGCONT');
    await expect.poll(() => states.at(-1), { timeout: 30_000 }).toBe('held');
    expect(keeper.grant.epoch).toBe(grant.epoch);
    expect(keeper.holds()).toBe(true);
    expect(reasonOf(await persist(() => two.acquire(claim)))).toBe('held');
  });
});
