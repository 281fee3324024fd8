import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { type Log, WalError } from '../../src/index.js';
import { Group, type Name } from './group_nodes.js';
import { until } from './helpers.js';

const rounds = 20;
const appenders = 6;

/** Appends to whichever is the primary, one commit after the other. */
class Load {
  readonly acknowledged = new Map<number, string>();
  readonly errors: unknown[] = [];
  /** Of commits whose outcome was unknown. */
  unknown = 0;
  #over = false;
  readonly #done: Promise<unknown>;

  constructor(logs: readonly Log[]) {
    this.#done = Promise.all(Array.from({ length: appenders }, (_, i) => this.#run(logs, i)));
  }

  async #run(logs: readonly Log[], who: number): Promise<void> {
    for (let i = 0; !this.#over; i += 1) {
      const log = logs.find((each) => each.status().role === 'primary');
      if (log === undefined) {
        await sleep(1);
        continue;
      }
      const text = `${who}.${i}`;
      try {
        const lsn = log.append(text);
        await log.commit(lsn);
        const before = this.acknowledged.get(lsn);
        if (before !== undefined) this.errors.push(`LSN ${lsn}: ${before} and ${text}`);
        this.acknowledged.set(lsn, text);
      } catch (error) {
        if (!(error instanceof WalError)) this.errors.push(error);
        else if (error.code === 'WAL_SWITCHING' && error.outcome === 'refused') {
          // Resolves where it is the primary still, and rejects where it is none any more.
          await log.drain().catch(() => undefined);
        } else if (error.outcome === 'unknown') this.unknown += 1;
        else if (error.code !== 'WAL_IS_STANDBY') this.errors.push(error);
      }
    }
  }

  async end(): Promise<void> {
    this.#over = true;
    await this.#done;
  }
}

describe('switchovers under load', () => {
  it(`lose and double nothing in ${rounds}, there and back`, async () => {
    const group = await Group.make();
    const anyOne = { synchronousStandbys: 'ANY 1 (*)' };
    const logs = {
      a: await group.primary('a', anyOne),
      b: await group.standby('b', 'a', anyOne),
      c: await group.standby('c', 'a', anyOne),
    };
    const all = Object.values(logs);
    const load = new Load(all);
    const pauses: number[] = [];
    let primary: Name = 'a';
    for (let i = 0; i < rounds; i += 1) {
      const to: Name = primary === 'a' ? 'b' : 'a';
      const isReady = () =>
        logs[primary as 'a' | 'b']
          .status()
          .standbys.some(
            ({ name, synchronous, state }) => name === to && synchronous && state === 'live',
          );
      await until(isReady, `${to} follows ${primary}`, 20_000);
      const before = load.acknowledged.size;
      await until(() => load.acknowledged.size > before + 20, 'commits go on', 20_000);
      const done = await logs[primary as 'a' | 'b'].switchover({ to });
      expect(done.term.epoch).toBe(i + 2);
      pauses.push(done.pauseMs);
      primary = to;
    }
    const before = load.acknowledged.size;
    await until(() => load.acknowledged.size > before + 20, 'commits go on', 20_000);
    await load.end();
    expect(load.errors).toEqual([]);
    // Every commit of the log's own level was met before its primary was demoted.
    expect(load.unknown).toBe(0);
    const last = Math.max(...load.acknowledged.keys());
    for (const log of all) {
      const has = () => Math.min(log.status().commitLsn, log.status().flushLsn) >= last;
      await until(has, `${log.name} has all`, 20_000);
      const found: string[] = [];
      for await (const batch of log.read({ live: false })) {
        for (const { data } of batch) found.push(data.toString());
      }
      for (const [lsn, text] of load.acknowledged) {
        if (found[lsn - 1] !== text) expect.fail(`LSN ${lsn} was ${text}, is ${found[lsn - 1]}`);
      }
      expect(new Set(found).size).toBe(found.length);
    }
    pauses.sort((x, y) => x - y);
    console.log(pauses, load.acknowledged.size);
  }, 120_000);
});
