import { setTimeout as sleep } from 'node:timers/promises';
import type { EtcdWeather } from './etcd_proxy.js';
import { aWhile, type Fault } from './failover_faults.js';
import type { FailoverGroup } from './failover_group.js';

/** Between the primary and etcd, between its standbys and etcd, or both, until it is over. */
async function under(
  weather: Partial<EtcdWeather>,
  group: FailoverGroup,
  primary: string,
  random: (below: number) => number,
): Promise<void> {
  const who = [[primary], group.others(primary), group.names][random(3)]!;
  for (const name of who) {
    group.note(`${name} and etcd: ${JSON.stringify(weather)}`);
    Object.assign(group.proxy(name).weather, weather);
    // Also connections that are there already lead nowhere.
    if (weather.isHung === true) group.proxy(name).cut();
  }
  const isKilled = random(4) === 0;
  if (isKilled) await group.kill(primary);
  await aWhile(random);
  for (const name of group.names) group.proxy(name).clear();
  group.note('all is well between everybody and etcd');
  if (isKilled) group.start(primary);
}

/** What happens between nodes and an etcd that is well itself. A call is given up after 700 ms. */
export const etcdFaults: Readonly<Record<string, Fault>> = {
  /** Just in time, or just not. */
  async etcdSlow(group, primary, random) {
    const late = 100 + random(500);
    const weather = random(2) === 0 ? { askDelayMs: late } : { answerDelayMs: late };
    await under(weather, group, primary, random);
  },

  /** All is done that is asked, and nobody who asked knows. */
  async etcdTooLate(group, primary, random) {
    await under({ answerDelayMs: 750 + random(2000) }, group, primary, random);
  },

  /** What is asked gets there when nobody waits for it any more. */
  async etcdAskedLate(group, primary, random) {
    await under({ askDelayMs: 750 + random(2000) }, group, primary, random);
  },

  async etcdSilent(group, primary, random) {
    const isDeaf = random(2) === 0;
    await under({ losesAsked: isDeaf, losesAnswers: !isDeaf }, group, primary, random);
  },

  async etcdHung(group, primary, random) {
    await under({ isHung: true }, group, primary, random);
  },

  /** In the middle of calls, of which some were done. */
  async etcdCut(group, primary, random) {
    for (let i = 5 + random(20); i > 0; i -= 1) {
      for (const name of group.names) if (random(2) === 0) group.proxy(name).cut();
      await sleep(random(200));
    }
    group.note(`connections to etcd were cut, the primary was ${primary}`);
  },
};
