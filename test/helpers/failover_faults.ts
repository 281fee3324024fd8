import { setTimeout as sleep } from 'node:timers/promises';
import type { FailoverGroup } from './failover_group.js';

/** What happens to the primary of a group, until it is over. `random(n)`: 0 to n - 1. */
export type Fault = (
  group: FailoverGroup,
  primary: string,
  random: (below: number) => number,
) => Promise<void>;

/** Somebody else acknowledges, or is at least the primary. */
async function replaced(group: FailoverGroup, primary: string): Promise<void> {
  await group.eventually(
    () => group.others(primary).some((name) => group.role(name) === 'primary'),
    `somebody takes over from ${primary}`,
  );
}

/** For a time that may be over before a lease has ended, or long after it. */
export async function aWhile(random: (below: number) => number): Promise<void> {
  await sleep(random(2) === 0 ? random(2000) : 1500 + random(2500));
}

const both = (group: FailoverGroup, one: string, other: string): void => {
  group.cut(one, other);
  group.cut(other, one);
};

export const faults: Readonly<Record<string, Fault>> = {
  async killed(group, primary) {
    await group.kill(primary);
    await replaced(group, primary);
    group.start(primary);
  },

  async stopped(group, primary, random) {
    group.signal(primary, 'SIGSTOP');
    await replaced(group, primary);
    await sleep(random(300));
    group.signal(primary, 'SIGCONT');
  },

  /** It may be back before anybody has noticed, or in the middle of the takeover. */
  async killedAndBack(group, primary, random) {
    await group.kill(primary);
    await aWhile(random);
    group.start(primary);
  },

  async stoppedForAWhile(group, primary, random) {
    group.signal(primary, 'SIGSTOP');
    await aWhile(random);
    group.signal(primary, 'SIGCONT');
  },

  /** The new primary dies as well, at any moment from before it opens its epoch. */
  async killedTwice(group, primary, random) {
    await group.kill(primary);
    if (random(2) === 0) await replaced(group, primary);
    else await sleep(1200 + random(1500));
    const next = group.others(primary).find((name) => group.role(name) === 'primary');
    await sleep(random(60));
    const second = next ?? group.others(primary)[0]!;
    await group.kill(second);
    await sleep(random(500));
    for (const name of random(2) === 0 ? [primary, second] : [second, primary]) group.start(name);
  },

  async isolated(group, primary) {
    for (const other of [...group.others(primary), 'etcd']) both(group, primary, other);
    await replaced(group, primary);
    group.mend();
  },

  /** Nothing that it sends arrives. */
  async mute(group, primary) {
    for (const other of [...group.others(primary), 'etcd']) group.cut(primary, other);
    await replaced(group, primary);
    group.mend();
  },

  /** Nothing that is sent to it arrives. */
  async deaf(group, primary) {
    for (const other of [...group.others(primary), 'etcd']) group.cut(other, primary);
    await replaced(group, primary);
    group.mend();
  },

  /** Its standbys acknowledge to it, and it may not: they are fenced by the next one. */
  async withoutEtcd(group, primary, random) {
    if (random(3) > 0) group.cut(primary, 'etcd');
    if (random(3) > 0) group.cut('etcd', primary);
    await aWhile(random);
    group.mend();
  },

  /** Nobody takes over: it holds its lease, and waits for its standbys. */
  async withoutStandbys(group, primary, random) {
    const isDeaf = random(3);
    for (const other of group.others(primary)) {
      if (isDeaf !== 0) group.cut(primary, other);
      if (isDeaf !== 1) group.cut(other, primary);
    }
    await aWhile(random);
    group.mend();
  },

  async etcdKilled(group, primary, random) {
    await group.etcd.stop(0);
    group.note('etcd is killed');
    const isKilled = random(2) === 0;
    if (isKilled) await group.kill(primary);
    await aWhile(random);
    await group.etcd.restart(0);
    group.note('etcd is started');
    if (isKilled) {
      await sleep(random(3000));
      group.start(primary);
    }
  },

  async etcdStopped(group, primary, random) {
    group.etcd.kill(0, 'SIGSTOP');
    group.note('etcd is stopped');
    await aWhile(random);
    group.etcd.kill(0, 'SIGCONT');
    group.note('etcd goes on');
    if (random(2) === 0) group.signal(primary, 'SIGSTOP');
    await sleep(random(1000));
    group.signal(primary, 'SIGCONT');
  },
};
