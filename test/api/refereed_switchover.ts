import { expect, it } from 'vitest';
import type { Log, OpenOptions } from '../../src/index.js';
import type { Referee } from '../../src/referee/referee.js';
import type { RefereeTiming } from '../../src/referee/timing.js';
import { anyOne, type Name, textsOf } from './group_nodes.js';
import { until, walError } from './helpers.js';
import { openStepping, SteppingGroup } from './switchover_nodes.js';

/** Leases end, and a machine may be slow. */
const patienceMs = 60_000;
export const switchoverTestMs = 4 * patienceMs;
/** A call that is given up ends a switchover, and leaves it to the referee. */
export const switchoverTiming: RefereeTiming = {
  ...{ ttlMs: 10_000, marginMs: 200, renewEveryMs: 400, callTimeoutMs: 4000 },
};

/** A referee for a node of a group; each group that a test makes has another one. */
export type Referees = (name: Name) => Referee;

class RefereedPair {
  readonly group: SteppingGroup;
  readonly referee: Referees;

  constructor(group: SteppingGroup, referee: Referees) {
    this.group = group;
    this.referee = referee;
  }

  open(name: Name, options: Partial<OpenOptions> = {}): Promise<Log> {
    const { group, steps } = this.group;
    const referee = this.referee(name);
    return openStepping(steps[name], { ...group.of(name), ...anyOne, referee, ...options });
  }

  /** `a` the primary, `b` its synchronous standby, which has all. */
  async started(): Promise<{ a: Log; b: Log }> {
    const a = await this.open('a', { openAlone: true });
    const b = await this.open('b');
    await b.connected();
    await a.appendAndCommit('one');
    await this.ready(a, b);
    return { a, b };
  }

  /** A switchover to `standby` has nothing to wait for. */
  async ready(primary: Log, standby: Log): Promise<void> {
    const { nodeId } = standby.status();
    const isThere = (): boolean =>
      primary.status().policy?.inForce === true &&
      primary.status().standbys.some((each) => each.nodeId === nodeId && each.synchronous) &&
      standby.status().flushLsn === primary.status().flushLsn;
    await until(isThere, 'the standby counts', patienceMs);
  }
}

function primaries(...logs: Log[]): string[] {
  const all = logs.filter((log) => log.status().role === 'primary');
  return all.map((log) => log.status().name);
}

/** What a switchover does with this kind of referee. */
export function switchoversWith(make: () => Promise<Referees>): void {
  const pair = async (): Promise<RefereedPair> =>
    new RefereedPair(await SteppingGroup.make(2), await make());

  it('hands over, there and back, by the objects that there are, under load', async () => {
    const nodes = await pair();
    const logs = await nodes.started();
    const acknowledged = new Map<number, string>([[1, 'one']]);
    let isOver = false;
    const load = async (): Promise<void> => {
      for (let i = 0; !isOver; i += 1) {
        const log = [logs.a, logs.b].find((each) => each.status().role === 'primary');
        try {
          const lsn = log?.append(`record ${i}`);
          await log?.commit(lsn);
          if (lsn !== undefined) acknowledged.set(lsn, `record ${i}`);
        } catch (error) {
          expect((error as { code?: unknown }).code).toMatch(/^WAL_(SWITCHING|IS_STANDBY|FENCED)$/);
        }
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    };
    const done = load();
    let from: 'a' | 'b' = 'a';
    for (let round = 0; round < 4; round += 1) {
      const to: 'a' | 'b' = from === 'a' ? 'b' : 'a';
      const before = acknowledged.size;
      await until(() => acknowledged.size > before + 5, 'commits go on', patienceMs);
      const counts = (): boolean =>
        logs[from].status().standbys.some((each) => each.name === to && each.synchronous);
      await until(counts, `${to} counts`, patienceMs);
      const { term } = await logs[from].switchover({ to, timeout: patienceMs });
      expect(term.opener).toBe(logs[to].status().nodeId);
      expect(primaries(logs.a, logs.b)).toEqual([to]);
      expect(logs[from].status()).toMatchObject({ role: 'standby', roleReason: 'switchover' });
      await until(() => logs[to].status().referee?.lease === 'held', 'a lease', patienceMs);
      from = to;
    }
    isOver = true;
    await done;
    await logs.a.appendAndCommit('the last one');
    await nodes.ready(logs.a, logs.b);
    const texts = await textsOf(logs.a);
    for (const [lsn, text] of acknowledged) expect(texts[lsn - 1]).toBe(text);
    expect(new Set(texts).size).toBe(texts.length);
  });

  it('hands over while automation is paused: an operator asks for it', async () => {
    const nodes = await pair();
    const { a, b } = await nodes.started();
    await a.pauseFailover('maintenance');
    const { term } = await a.switchover({ to: 'b', timeout: patienceMs });
    expect(term).toMatchObject({ opener: b.status().nodeId });
    expect(primaries(a, b)).toEqual(['b']);
    await b.resumeFailover();
    await b.appendAndCommit('two');
    await nodes.ready(b, a);
  });

  it('keeps the group for a successor that the message does not reach', async () => {
    const nodes = await pair();
    const { a, b } = await nodes.started();
    nodes.group.steps.b.isDeaf = true;
    // It may see that before or after the old one has looked for it in vain.
    await a.switchover({ to: 'b', timeout: patienceMs }).catch((error: unknown) => {
      expect(error).toMatchObject({ code: 'WAL_DEMOTED', lsn: 1 });
    });
    await until(() => primaries(a, b).includes('b'), 'b takes over', patienceMs);
    await b.appendAndCommit('two');
    expect(primaries(a, b)).toEqual(['b']);
    await nodes.ready(b, a);
  });

  it('makes the old primary one again, where its successor is gone before it leads', async () => {
    const nodes = await pair();
    const { a, b } = await nodes.started();
    nodes.group.steps.a.afterRole = async () => {
      delete nodes.group.steps.a.afterRole;
      await b.close();
    };
    const error = await walError(() => a.switchover({ to: 'b', timeout: patienceMs }));
    expect(error).toMatchObject({ code: 'WAL_DEMOTED', lsn: 1 });
    expect(a.status()).toMatchObject({ role: 'standby', roleReason: 'switchover' });
    // The group is free once it was kept for b in vain. Whether b has opened, a does not know; the
    // referee does, whether b has acknowledged anything.
    await until(() => a.status().role === 'primary', 'a leads again', patienceMs);
    const two = a.appendAndCommit('two');
    const again = await nodes.open('b');
    await two;
    await nodes.ready(a, again);
    expect(primaries(a, again)).toEqual(['a']);
    expect(await textsOf(a)).toEqual(['one', 'two']);
  });
}
