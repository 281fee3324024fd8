import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { readLog } from '../format/read_log.js';
import { missing } from '../global/requirements.js';
import { etcdFaults } from '../helpers/etcd_faults.js';
import { type Fault, faults } from '../helpers/failover_faults.js';
import { FailoverGroup } from '../helpers/failover_group.js';
import { randomFrom } from '../native/native.js';

const isLong = process.env.WALMIRROR_EXHAUSTIVE !== undefined;
/** Failovers of each group; WALMIRROR_FAILOVERS for another number. */
const FAILOVERS = Number(process.env.WALMIRROR_FAILOVERS ?? (isLong ? 170 : 2));
/** Told each time that so many more are over. */
const progressEvery = 25;
const SEED = Number(process.env.WALMIRROR_SEED ?? 1);
/** Only faults whose names match. */
const FAULTS = new RegExp(process.env.WALMIRROR_FAULTS ?? '');
const reason = missing({ root: true, programs: ['etcd', 'etcdctl', 'ip'] });

const kinds = Object.entries({ ...faults, ...etcdFaults }).filter(([kind]) => FAULTS.test(kind));

const groups = [
  { nodes: 2, synchronousStandbys: 'ANY 1 (*)' },
  { nodes: 3, synchronousStandbys: 'ANY 2 (*)' },
  { nodes: 3, synchronousStandbys: 'ANY 1 (*)' },
].slice(0, isLong ? 3 : 2);

/** All faults in one order, then in another. */
class Deck {
  readonly #random: (below: number) => number;
  #left: [string, Fault][] = [];

  constructor(random: (below: number) => number) {
    this.#random = random;
  }

  draw(): [string, Fault] {
    if (this.#left.length === 0) this.#left = [...kinds];
    return this.#left.splice(this.#random(this.#left.length), 1)[0]!;
  }
}

/** What is wrong with the logs of nodes that do not run any more. */
function compare(group: FailoverGroup, primary: string): string[] {
  const [own, ...others] = [primary, ...group.others(primary)].map((name) => {
    const { records, damage } = readLog(group.dir(name));
    const found = damage === undefined ? [] : [`${name}: ${damage.reason}`];
    return { name, records: records.map((each) => Buffer.from(each).toString()), found };
  });
  const wrong = [...own!.found, ...group.history.compare(own!.records)];
  for (const { name, records, found } of others) {
    wrong.push(...found);
    const at = records.findIndex((text, i) => i < own!.records.length && text !== own!.records[i]);
    if (at >= 0) wrong.push(`LSN ${at + 1} is ${records[at]} on ${name}`);
  }
  return wrong;
}

describe.skipIf(reason)('nodes on hosts of their own, and etcd', () => {
  it.concurrent.each(groups)(
    '$nodes nodes, $synchronousStandbys: nothing is lost, repeated or read before its time',
    { timeout: 60_000 + FAILOVERS * 15_000 },
    async ({ nodes, synchronousStandbys }) => {
      const random = randomFrom(SEED + nodes);
      const deck = new Deck(random);
      const group = await FailoverGroup.make(nodes, { synchronousStandbys });
      const { history } = group;
      const happened = new Map<string, number>();
      try {
        group.start('a', { openAlone: true });
        await group.eventually(() => group.primary === 'a', 'the first one opens');
        for (const name of group.others('a')) group.start(name);
        for (let next = progressEvery; group.failovers < FAILOVERS; ) {
          await group.settled();
          if (group.failovers >= next) {
            process.stdout.write(
              `${nodes} nodes, ${synchronousStandbys}: ${group.failovers} so far\n`,
            );
            next += progressEvery;
          }
          expect(history.errors).toEqual([]);
          await sleep(random(300));
          // What the fault before it has begun may not have been over: somebody takes over yet.
          if (!group.isSettled) continue;
          const [kind, fault] = deck.draw();
          happened.set(kind, (happened.get(kind) ?? 0) + 1);
          group.note(`-- ${kind}`);
          await fault(group, group.primary!, random);
        }
        await group.settled();
        const primary = group.primary!;
        await group.end();
        expect(compare(group, primary)).toEqual([]);
        // Only where any one of several may have acknowledged without the others.
        if (nodes === 2 || synchronousStandbys === 'ANY 2 (*)') expect(group.asked).toBe(0);
      } catch (error) {
        const { message } = error as Error;
        const text = `after ${group.failovers} failovers: ${message}\n${group.events}`;
        // The other groups go on, for a long time.
        process.stderr.write(`${text}\n`);
        throw new Error(text, { cause: error });
      } finally {
        await group.close();
      }
      const told = [...happened].map(([kind, count]) => `${kind} ${count}`).join(', ');
      process.stdout.write(
        `${nodes} nodes, ${synchronousStandbys}: ${group.failovers} failovers (${told}), ` +
          `${history.acknowledged} records acknowledged, ${history.reads} read; ` +
          `an operator was asked ${group.asked} times\n`,
      );
    },
  );
});
