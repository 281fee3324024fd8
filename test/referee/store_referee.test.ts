import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Lease } from '../../src/referee/lease.js';
import type { Claim, Grant } from '../../src/referee/referee.js';
import { StoreReferee } from '../../src/referee/store_referee.js';
import { fileTiming as timing } from '../../src/referee/timing.js';
import { asyncRule, claimOf, grantOf, KeptMemory, nodeId, reasonOf, syncRule } from './claims.js';
import { type Group, refereeContract } from './contract.js';
import { MemoryStore } from './memory_store.js';

class World implements Group {
  nowMs = 1000;
  readonly clocks = { bootTime: () => this.nowMs, wallClock: () => Date.now() };
  readonly store = new MemoryStore(() => this.nowMs);
  readonly memories: KeptMemory[] = [];
  readonly now = () => this.nowMs;

  readonly pass = async (milliseconds: number): Promise<void> => {
    this.nowMs += milliseconds;
  };

  readonly join = (memory = new KeptMemory()): StoreReferee => {
    this.memories.push(memory);
    return new StoreReferee({ store: this.store, timing, memory, environment: this.clocks });
  };
}

const away = { code: 'WAL_REFEREE_AWAY' };
const promotion = (name: string): Claim => claimOf(name, { kind: 'promotion' });

/** A group whose primary a, with these members, has given its lease back. */
async function leftBy(world: World, ...members: readonly string[]) {
  const one = world.join();
  const grant = grantOf(await one.acquire(claimOf('a')));
  await one.recordRule(grant, { number: 1, rule: syncRule(...members) });
  return { one, grant };
}

describe('the referee over a store in memory', () => {
  refereeContract(() => {
    const world = new World();
    // The contract cancels calls; this store answers at once.
    const read = world.store.read.bind(world.store);
    world.store.read = (signal?: AbortSignal) => {
      signal?.throwIfAborted();
      return read();
    };
    return world;
  });
});

it('tells whom it grants the group by which rule', async () => {
  const world = new World();
  const { one, grant } = await leftBy(world, 'b');
  expect(grant.rule).toBeUndefined();
  await one.release(grant);
  const { rule } = grantOf(await world.join().acquire(promotion('b')));
  expect(rule).toMatchObject({ epoch: grant.epoch, number: 1, primary: grant.nodeId });
  expect(rule?.rule).toEqual(syncRule('b'));
});

describe('what comes in between', () => {
  it('a pause, while a candidate is granted the group: it is not, and leaves nothing', async () => {
    const world = new World();
    const { one, grant } = await leftBy(world, 'b');
    await one.release(grant);
    const two = world.join();
    world.store.beforeCommit = () => one.pause('me', 'why');
    const raced = await two.acquire(promotion('b'));
    expect(reasonOf(raced)).toBe('raced');
    expect(raced).toMatchObject({ view: { pause: { by: 'me' } } });
    // No lease that others wait for, no epoch.
    const { holder, leader } = await two.view();
    expect({ holder, epoch: leader?.epoch }).toEqual({ holder: undefined, epoch: grant.epoch });
    expect(world.store.leases).toBe(0);
  });

  it('a claim that cannot be recorded: no lease is asked for', async () => {
    const world = new World();
    const one = world.join();
    for (const bad of [{ name: 'two\nlines' }, { epoch: Number.MAX_SAFE_INTEGER }]) {
      await expect(one.acquire(claimOf('a', bad))).rejects.toThrow(RangeError);
    }
    expect(world.store.leases).toBe(0);
  });

  it('a degraded rule, of a primary that is granted the group again: nobody else is', async () => {
    const world = new World();
    const { one, grant } = await leftBy(world, 'b');
    await one.release(grant);
    world.store.beforeCommit = async () => {
      const again = grantOf(await one.acquire(claimOf('a')));
      await one.recordRule(again, { number: 1, rule: { ...syncRule('b'), degraded: true } });
      await one.release(again);
    };
    expect(reasonOf(await world.join().acquire(promotion('b')))).toBe('raced');
    expect(reasonOf(await world.join().acquire(promotion('b')))).toBe('degraded');
  });

  it('progress, of a primary that had its lease again: who lags now is refused', async () => {
    const world = new World();
    const one = world.join();
    const grant = grantOf(await one.acquire(claimOf('a')));
    await one.recordRule(grant, { number: 1, rule: asyncRule });
    await one.recordProgress(grant, { number: 1, lsn: 100 });
    world.nowMs += timing.ttlMs;
    world.store.beforeCommit = async () => {
      const again = await one.regain(grant);
      await one.recordProgress(again!, { number: 1, lsn: 500 });
      await one.release(again!);
    };
    const candidate = claimOf('b', { kind: 'promotion', lsn: 100 });
    expect(reasonOf(await world.join().acquire(candidate))).toBe('raced');
    expect(reasonOf(await world.join().acquire(candidate))).toBe('lagging');
  });

  it('the first grant of all, to another: it is not made twice', async () => {
    const world = new World();
    const two = world.join();
    world.store.beforeCommit = async () => {
      // Back without a lease: only the leader record tells of it.
      await two.release(grantOf(await two.acquire(claimOf('b'))));
    };
    expect(reasonOf(await world.join().acquire(claimOf('a')))).toBe('raced');
    expect((await two.view()).leader).toMatchObject({ epoch: 1, nodeId: nodeId('b') });
  });

  it('another rule, or other progress, of the same grant: neither goes back', async () => {
    const world = new World();
    const { one, grant } = await leftBy(world, 'b');
    const number = 2;
    world.store.beforeCommit = async () => {
      await one.recordRule(grant, { number: 3, rule: syncRule('b', 'c') });
    };
    const old = one.recordRule(grant, { number, rule: asyncRule });
    await expect(old).rejects.toThrow(RangeError);
    world.store.beforeCommit = async () => {
      await one.recordProgress(grant, { number: 1, lsn: 9 });
    };
    expect(await one.recordProgress(grant, { number: 1, lsn: 5 })).toBe(true);
    const { rule, progress } = await one.view();
    expect([rule?.number, progress?.lsn]).toEqual([3, 9]);
  });

  it('another node, as the primary records its rule: it is not recorded', async () => {
    const world = new World();
    const { one, grant } = await leftBy(world, 'b');
    world.store.beforeCommit = async () => {
      world.nowMs += timing.ttlMs;
      grantOf(await world.join().acquire(promotion('b')));
    };
    const rule = { ...syncRule('b'), degraded: true };
    expect(await one.recordRule(grant, { number: 2, rule })).toBe(false);
    expect((await one.view()).rule?.number).toBe(1);
  });

  it('others that write all the time: it is given up, and told', async () => {
    const world = new World();
    const { one, grant } = await leftBy(world, 'b');
    const read = world.store.commit.bind(world.store);
    world.store.commit = async (_, writes) => await read({ leader: 'never' }, writes);
    const recorded = one.recordRule(grant, { number: 2, rule: asyncRule });
    await expect(recorded).rejects.toMatchObject({ code: 'WAL_REFEREE_AWAY' });
  });
});

describe('an answer that is late', () => {
  it('does not make the lease longer: it counts from when it was asked for', async () => {
    const world = new World();
    const one = world.join();
    const longest = () => world.nowMs + timing.ttlMs - timing.marginMs;
    const late = async <Result>(call: () => Promise<Result>): Promise<Result> => {
      world.store.onWay = () => {
        world.nowMs += 50;
      };
      return await call().finally(() => {
        world.store.onWay = () => undefined;
      });
    };
    // Each is asked for after a look, which is 100 ms on its way too.
    let most = longest() + 100;
    const grant = grantOf(await late(() => one.acquire(claimOf('a'))));
    expect(grant.deadlineMs).toBeLessThanOrEqual(most);
    most = longest();
    expect((await late(() => one.renew(grant)))?.deadlineMs).toBeLessThanOrEqual(most);
    world.nowMs += timing.ttlMs;
    most = longest() + 100;
    expect((await late(() => one.regain(grant)))?.deadlineMs).toBeLessThanOrEqual(most);
  });
});

describe('a renewal that is denied', () => {
  it('while the lease lives: the group is not lost, and the lease is renewed', async () => {
    const world = new World();
    const { one, grant } = await leftBy(world, 'b');
    const renew = world.store.renew.bind(world.store);
    world.store.renew = () => Promise.resolve(undefined);
    expect(await one.renew(grant)).toBeUndefined();
    await expect(one.regain(grant)).rejects.toMatchObject(away);
    world.store.renew = renew;
    expect(await one.renew(grant)).toBeDefined();
  });

  it('as another takes the group, or the lease for it ends: it is lost, or it is not', async () => {
    const world = new World();
    const { one, grant } = await leftBy(world, 'b');
    world.nowMs += timing.ttlMs;
    world.store.beforeCommit = async () => {
      world.nowMs += timing.ttlMs;
    };
    await expect(one.regain(grant)).rejects.toMatchObject(away);
    world.store.beforeCommit = async () => {
      grantOf(await world.join().acquire(promotion('b')));
    };
    expect(await one.regain(grant)).toBeUndefined();
  });

  it('since it is kept for another: it is lost', async () => {
    const world = new World();
    const { one, grant } = await leftBy(world, 'b');
    expect(await one.release(grant, nodeId('b'))).toBe(true);
    expect(await one.regain(grant)).toBeUndefined();
  });
});

describe('an answer that is lost', () => {
  it('of a rule: recording it again finds it', async () => {
    const world = new World();
    const { one, grant } = await leftBy(world, 'b');
    const record = () => one.recordRule(grant, { number: 2, rule: syncRule('c') });
    world.store.faults.push(undefined, 'lost');
    await expect(record()).rejects.toMatchObject({ code: 'WAL_REFEREE_AWAY' });
    expect(await record()).toBe(true);
    expect((await one.view()).rule).toMatchObject({ number: 2, rule: syncRule('c') });
  });

  it('of a grant: the lease is given back, and its epoch is not given again', async () => {
    const world = new World();
    const { one, grant } = await leftBy(world, 'b');
    await one.release(grant);
    const two = world.join();
    // The look, the lease, the swap.
    world.store.faults.push(undefined, undefined, 'lost');
    const lost = two.acquire(promotion('b'));
    await expect(lost).rejects.toMatchObject({ code: 'WAL_REFEREE_AWAY' });
    expect((await two.view()).holder).toBeUndefined();
    const next = grantOf(await one.acquire(claimOf('a')));
    expect(next.epoch).toBe(grant.epoch + 2);
  });

  it('of a lease that is taken again: the group is not lost, and comes back', async () => {
    const world = new World();
    const { one, grant } = await leftBy(world, 'b');
    world.nowMs += timing.ttlMs;
    expect(await one.renew(grant)).toBeUndefined();
    // The look, the lease, the swap, and the lease that is given back.
    world.store.faults.push(undefined, undefined, 'lost', 'refused');
    await expect(one.regain(grant)).rejects.toMatchObject(away);
    expect(await one.renew(grant)).toBeUndefined();
    await expect(one.regain(grant)).rejects.toMatchObject(away);
    world.nowMs += timing.ttlMs;
    const again = await one.regain(grant);
    expect(again?.epoch).toBe(grant.epoch);
    expect(await one.renew(again!)).toBeDefined();
  });

  it('of a swap that was repeated on the way: it was made, whatever is answered', async () => {
    const world = new World();
    const commit = world.store.commit.bind(world.store);
    world.store.commit = async (...all) => {
      await commit(...all);
      return await commit(...all);
    };
    const one = world.join();
    const grant = grantOf(await one.acquire(claimOf('a')));
    expect(await one.recordRule(grant, { number: 1, rule: syncRule('b') })).toBe(true);
    expect(await one.renew(grant)).toBeDefined();
    await one.pause('me', 'why');
    await one.resume();
    expect((await one.view()).pause).toBeUndefined();
  });
});

describe('a referee of the past', () => {
  it('is found by the revision, and decides nothing until what was seen is forgotten', async () => {
    const world = new World();
    const { one, grant } = await leftBy(world, 'b');
    const old = world.store.backup();
    await one.recordRule(grant, { number: 2, rule: { ...syncRule('b'), degraded: true } });
    world.store.restore(old);
    const past = { code: 'WAL_REFEREE_PAST' };
    await expect(one.renew(grant)).rejects.toMatchObject(past);
    const calls = world.store.calls;
    await expect(one.acquire(claimOf('a'))).rejects.toMatchObject(past);
    await expect(one.pause('me', 'why')).rejects.toMatchObject(past);
    expect(world.store.calls).toBe(calls);
    await one.forget();
    expect((await one.view()).rule?.number).toBe(1);
  });

  it('is found by a candidate that had only looked, and by one that was started anew', async () => {
    const world = new World();
    const { one, grant } = await leftBy(world, 'b');
    const old = world.store.backup();
    const memory = new KeptMemory();
    const two = world.join(memory);
    await one.recordRule(grant, { number: 2, rule: { ...syncRule('b'), degraded: true } });
    await two.view();
    world.store.restore(old);
    world.nowMs += timing.ttlMs;
    const past = { code: 'WAL_REFEREE_PAST' };
    await expect(two.acquire(promotion('b'))).rejects.toMatchObject(past);
    await expect(world.join(memory).acquire(promotion('b'))).rejects.toMatchObject(past);
  });

  it('that went on since is found by its epoch', async () => {
    const world = new World();
    const { one, grant } = await leftBy(world, 'b');
    const old = world.store.backup();
    await one.release(grant);
    grantOf(await one.acquire(claimOf('a')));
    world.store.restore(old);
    world.nowMs += timing.ttlMs;
    const stranger = world.join();
    for (let i = 0; i < 20; i += 1) await stranger.pause('me', `${i}`);
    const message = expect.stringContaining('its epoch is 1, and was 2 before');
    await expect(one.view()).rejects.toMatchObject({ code: 'WAL_REFEREE_PAST', message });
  });

  it('is forgotten for good, also what is being stored meanwhile', async () => {
    const world = new World();
    const memory = new KeptMemory();
    const one = world.join(memory);
    const grant = grantOf(await one.acquire(claimOf('a')));
    const store = memory.store.bind(memory);
    let go = (): void => undefined;
    const isLet = new Promise<void>((resolve) => {
      go = resolve;
    });
    let isStoring = false;
    memory.store = async (seen) => {
      isStoring = true;
      await isLet;
      await store(seen);
    };
    const recorded = one.recordRule(grant, { number: 1, rule: asyncRule });
    await expect.poll(() => isStoring).toBe(true);
    const forgotten = one.forget();
    go();
    await Promise.all([recorded, forgotten]);
    expect(memory.seen).toBeUndefined();
  });

  it('is told by a watch, also after the referee was away', async () => {
    const world = new World();
    const { one, grant } = await leftBy(world, 'b');
    const old = world.store.backup();
    await one.recordRule(grant, { number: 2, rule: syncRule('c') });
    const seen: unknown[] = [];
    world.store.faults.push(undefined, 'refused', 'refused');
    for await (const sight of one.watch({ signal: AbortSignal.timeout(8000) })) {
      seen.push('away' in sight ? (sight.away as { code?: unknown }).code : 'view');
      if (seen.length === 2) world.store.restore(old);
      if (seen.length === 3) break;
    }
    expect(seen).toEqual(['view', 'WAL_REFEREE_AWAY', 'WAL_REFEREE_PAST']);
  });

  it('is remembered before anything is done by what was seen, and not for each look', async () => {
    const world = new World();
    const memory = new KeptMemory();
    const one = world.join(memory);
    memory.store = () => Promise.reject(new Error('the disk is full'));
    await expect(one.acquire(claimOf('a'))).rejects.toThrow('the disk is full');
    const kept = new KeptMemory();
    const two = world.join(kept);
    const grant = grantOf(await two.acquire(claimOf('a')));
    expect(kept.seen?.epoch).toBe(grant.epoch);
    const { stores } = kept;
    for (let i = 0; i < 5; i += 1) await two.renew(grant);
    await two.recordProgress(grant, { number: 1, lsn: 1 });
    expect(kept.stores).toBe(stores);
    await two.recordRule(grant, { number: 1, rule: asyncRule });
    expect(kept.stores).toBe(stores + 1);
  });
});

describe('a watch', () => {
  it('tells again that nobody holds the group, when somebody did in between', async () => {
    const world = new World();
    const { one, grant } = await leftBy(world, 'b');
    await one.release(grant);
    const seen: boolean[] = [];
    for await (const sight of world.join().watch({ signal: AbortSignal.timeout(8000) })) {
      seen.push('view' in sight && sight.view.holder !== undefined);
      if (seen.length === 2) break;
      // A candidate that was raced by this has looked away.
      await one.release((await one.regain(grant))!);
    }
    expect(seen).toEqual([false, false]);
  });
});

describe('any life of a group', () => {
  type Deed = 'acquire' | 'renew' | 'regain' | 'release' | 'record';
  interface Step {
    readonly node: string;
    readonly does: Deed;
    readonly passMs: number;
    readonly wayMs: number;
    readonly faults: readonly ('refused' | 'lost' | undefined)[];
  }
  const deeds: readonly Deed[] = [
    'acquire',
    'acquire',
    'acquire',
    'renew',
    'regain',
    'release',
    'record',
    'record',
  ];
  const step: fc.Arbitrary<Step> = fc.record({
    node: fc.constantFrom('a', 'b', 'c'),
    does: fc.constantFrom(...deeds),
    passMs: fc.integer({ min: 0, max: timing.ttlMs }),
    wayMs: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 700 })),
    faults: fc.array(fc.constantFrom(undefined, undefined, 'refused' as const, 'lost' as const), {
      maxLength: 4,
    }),
  });

  it('has one node at most that may acknowledge, and no epoch twice', async () => {
    let grants = 0;
    const life = async (steps: readonly Step[]): Promise<void> => {
      const world = new World();
      const nodes = new Map(['a', 'b', 'c'].map((name) => [name, new Node(world, name)]));
      const epochs: number[] = [];
      const look = (): void => {
        const holding = [...nodes.values()].filter(({ lease }) => lease?.holds(world.nowMs));
        expect(holding.length).toBeLessThanOrEqual(1);
      };
      for (const { node, does, passMs, wayMs, faults } of steps) {
        world.nowMs += passMs;
        look();
        world.store.faults.splice(0, Number.POSITIVE_INFINITY, ...faults);
        world.store.onWay = () => {
          world.nowMs += wayMs;
          look();
        };
        const epoch = await nodes.get(node)!.step(does);
        if (epoch !== undefined) epochs.push(epoch);
        look();
      }
      expect(epochs).toEqual([...new Set(epochs)].sort((x, y) => x - y));
      grants += epochs.length;
    };
    await fc.assert(fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), life), {
      numRuns: 150,
    });
    // Else it would show nothing. Seen: 139 and more.
    expect(grants).toBeGreaterThan(50);
  });

  class Node {
    readonly #referee: StoreReferee;
    readonly #name: string;
    #grant: Grant | undefined;
    #number = 0;
    lease: Lease | undefined;

    constructor(world: World, name: string) {
      this.#referee = world.join();
      this.#name = name;
    }

    /** The epoch that it was granted by it. */
    async step(does: Deed): Promise<number | undefined> {
      try {
        return await this.#do(does);
      } catch (error) {
        expect(error).toMatchObject({ code: 'WAL_REFEREE_AWAY' });
        return undefined;
      }
    }

    async #do(does: Deed): Promise<number | undefined> {
      if (does === 'acquire') return await this.#acquire();
      const grant = this.#grant;
      if (grant === undefined) return undefined;
      if (does === 'renew') {
        const renewal = await this.#referee.renew(grant);
        if (renewal !== undefined) this.lease?.renewed(renewal.deadlineMs);
      }
      if (does === 'regain') {
        const again = await this.#referee.regain(grant);
        if (again === undefined) return undefined;
        this.#grant = again;
        this.lease?.renewed(again.deadlineMs);
      }
      if (does === 'release') {
        this.lease?.lost();
        await this.#referee.release(grant);
        this.#grant = undefined;
      }
      if (does === 'record') {
        this.#number += 1;
        const rule = syncRule('a', 'b', 'c');
        await this.#referee.recordRule(grant, { number: this.#number, rule });
      }
      return undefined;
    }

    async #acquire(): Promise<number | undefined> {
      const answer = await this.#referee.acquire(claimOf(this.#name));
      if (!('grant' in answer)) return undefined;
      this.#grant = answer.grant;
      this.#number = 0;
      this.lease = new Lease(answer.grant.deadlineMs);
      expect(answer.grant.nodeId).toBe(nodeId(this.#name));
      return answer.grant.epoch;
    }
  }
});
