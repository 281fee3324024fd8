import { describe, expect, it, onTestFinished } from 'vitest';
import { WalError } from '../../src/index.js';
import { LeaseKeeper, type LeaseState } from '../../src/referee/lease_keeper.js';
import type { Grant, Referee, Renewal } from '../../src/referee/referee.js';
import { processEnvironment } from '../../src/transport/environment.js';

const first: Grant = {
  epoch: 1,
  nodeId: 'a',
  place: undefined,
  deadlineMs: 1000,
  lease: 'first',
  leaderVersion: '1',
};
const away = new WalError('WAL_REFEREE_AWAY', 'as the test wants it');

/** A keeper of a lease until 1000, at 0, whose referee answers as the test says. */
function keep() {
  const world = {
    nowMs: 0,
    renew: (): Renewal | undefined | Error => away,
    regain: (): Grant | undefined | Error => away,
    renewals: 0,
    onState: (): unknown => undefined,
  };
  const answer = async <Result>(say: () => Result | Error): Promise<Result> => {
    await undefined;
    const said = say();
    if (said instanceof Error) throw said;
    return said;
  };
  const referee = {
    timing: { ttlMs: 1000, marginMs: 20, renewEveryMs: 4, callTimeoutMs: 4 },
    renew: () => {
      world.renewals += 1;
      return answer(world.renew);
    },
    regain: () => answer(world.regain),
  } as unknown as Referee;
  const states: [LeaseState, boolean][] = [];
  const causes: unknown[] = [];
  const keeper: LeaseKeeper = new LeaseKeeper({
    referee,
    grant: first,
    environment: { ...processEnvironment, bootTime: () => world.nowMs },
    onState: (state, cause) => {
      causes.push((cause as { code?: unknown } | undefined)?.code);
      states.push([state, keeper.holds()]);
      world.onState();
    },
  });
  keeper.start();
  onTestFinished(() => keeper.stop());
  return { world, keeper, states, causes };
}

describe('who keeps a lease', () => {
  it('holds it by the clock, whether a timer has run or not', () => {
    const { world, keeper } = keep();
    expect(keeper.holds()).toBe(true);
    world.nowMs = 999.9;
    expect(keeper.holds()).toBe(true);
    world.nowMs = 1000;
    expect(keeper.holds()).toBe(false);
  });

  it('renews it until it is stopped; then it holds nothing', async () => {
    const { world, keeper, states } = keep();
    world.renew = () => ({ deadlineMs: world.nowMs + 1000, view: {} });
    world.nowMs = 10;
    await expect.poll(() => keeper.deadlineMs).toBe(1010);
    await keeper.stop();
    const { renewals } = world;
    expect(keeper.holds()).toBe(false);
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(world.renewals).toBe(renewals);
    expect(states).toEqual([]);
  });

  it('tries again while the referee is away, tells of the end, and comes back', async () => {
    const { world, keeper, states } = keep();
    world.nowMs = 500;
    await expect.poll(() => world.renewals).toBeGreaterThan(2);
    expect([keeper.holds(), keeper.cause]).toEqual([true, away]);
    world.nowMs = 1000;
    await expect.poll(() => states).toEqual([['expired', false]]);
    // It had not ended there.
    world.renew = () => ({ deadlineMs: 3000, view: {} });
    await expect.poll(() => states.at(-1)).toEqual(['held', true]);
    expect(keeper.cause).toBeUndefined();
  });

  it('takes a lease that has ended again, with the same epoch', async () => {
    const { world, keeper, states } = keep();
    world.renew = () => undefined;
    await expect.poll(() => states[0]).toEqual(['expired', false]);
    // Before its deadline too: the referee says that it has ended.
    expect([world.nowMs, keeper.holds()]).toEqual([0, false]);
    world.regain = () => ({ ...first, deadlineMs: 2000, lease: 'second' });
    await expect.poll(() => states.at(-1)).toEqual(['held', true]);
    expect(keeper.grant).toMatchObject({ epoch: 1, lease: 'second' });
  });

  it('has lost it for good when another was granted the group', async () => {
    const { world, keeper, states } = keep();
    world.renew = () => undefined;
    world.regain = () => undefined;
    await expect.poll(() => states.at(-1)).toEqual(['lost', false]);
    const { renewals } = world;
    world.renew = () => ({ deadlineMs: 9000, view: {} });
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect([world.renewals, keeper.holds()]).toEqual([renewals, false]);
  });

  it('tells why it does not hold it, and when that is another cause', async () => {
    const { world, states, causes } = keep();
    const past = new WalError('WAL_REFEREE_PAST', 'as the test wants it');
    world.renew = () => undefined;
    await expect.poll(() => causes).toEqual([undefined, 'WAL_REFEREE_AWAY']);
    const { renewals } = world;
    await expect.poll(() => world.renewals).toBeGreaterThan(renewals + 3);
    // Not with each failure.
    expect(causes.length).toBe(2);
    world.regain = () => past;
    await expect.poll(() => causes.at(-1)).toBe('WAL_REFEREE_PAST');
    expect(states).toEqual(Array(3).fill(['expired', false]));
  });

  it('goes on when who is told throws, and that is not hidden', async () => {
    const uncaught: unknown[] = [];
    const others = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', (error) => uncaught.push(error));
    onTestFinished(() => {
      process.removeAllListeners('uncaughtException');
      for (const each of others) process.on('uncaughtException', each);
    });
    const { world, states } = keep();
    const error = new Error('as the test wants it');
    world.onState = () => {
      throw error;
    };
    world.nowMs = 1000;
    await expect.poll(() => uncaught).toEqual([error]);
    world.onState = () => undefined;
    world.renew = () => ({ deadlineMs: 3000, view: {} });
    await expect.poll(() => states.at(-1)).toEqual(['held', true]);
    expect(uncaught).toEqual([error]);
  });

  it('renews at once what was granted long before it was started', async () => {
    let asked = 0;
    const referee = {
      timing: { ttlMs: 90_000, marginMs: 900, renewEveryMs: 60_000, callTimeoutMs: 4 },
      renew: () => {
        asked += 1;
        return Promise.resolve({ deadlineMs: 200_000, view: {} });
      },
    } as unknown as Referee;
    const grant = { ...first, deadlineMs: 89_100 };
    const environment = { ...processEnvironment, bootTime: () => 60_000 };
    const keeper = new LeaseKeeper({ referee, grant, environment });
    keeper.start();
    onTestFinished(() => keeper.stop());
    await expect.poll(() => asked).toBe(1);
  });
});
