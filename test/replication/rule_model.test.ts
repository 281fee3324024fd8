import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Rule } from '../../src/native/native_log.js';
import { CommitPlace, type CommitPolicy } from '../../src/replication/commit_place.js';
import { CommitRule } from '../../src/replication/commit_rule.js';
import { parseStandbys } from '../../src/replication/policy.js';
import { Progress } from '../../src/replication/progress.js';
import { Quorum } from '../../src/replication/quorum.js';
import { openingRule } from '../../src/replication/rule.js';

/** In these tests a place at LSN n is at position 100 n. */
const names = ['a', 'b', 'c'] as const;
const policies: readonly CommitPolicy[] = [
  { synchronousCommit: 'local', standbys: undefined },
  ...['ANY 1 (*)', 'ANY 2 (*)', 'ANY 1 (b, c)', 'FIRST 1 (a, b, c)', 'FIRST 2 (a, b, c)'].map(
    (text) => ({ synchronousCommit: 'remote_flush' as const, standbys: parseStandbys(text) }),
  ),
  { synchronousCommit: 'remote_write', standbys: parseStandbys('ANY 1 (*)') },
];

/** A standby as it is, connected or not: what it holds and what it has recorded outlive a link. */
class Standby {
  readonly name: string;
  written = 0;
  flushed = 0;
  /** As recorded in this session: a rule from before may be out of date. */
  recorded: Rule | undefined;
  progress: Progress | undefined;

  constructor(name: string) {
    this.name = name;
  }
}

/** Everybody's own view, and what must hold between them; knows nothing of how rules change. */
class Group {
  readonly quorum = new Quorum();
  readonly rules: CommitRule;
  readonly commit: CommitPlace;
  readonly standbys = names.map((name) => new Standby(name));
  readonly told = new Map<number, Rule>();
  recordedHere: Rule;
  #storing: number | undefined;
  #local = 0;
  #committed = 0;

  constructor(policy: CommitPolicy) {
    this.rules = new CommitRule(policy, this.quorum, 0);
    this.commit = new CommitPlace(this.rules, { position: 0, lsn: 0 });
    this.commit.openedAt({ position: 0, lsn: 0 }, 0);
    this.recordedHere = openingRule(policy);
    this.told.set(1, this.recordedHere);
  }

  settle(): void {
    const local = {
      closedLsn: this.#local,
      flushPosition: this.#local * 100,
      flushLsn: this.#local,
    };
    this.commit.update(local);
    for (let i = 0; this.rules.update(this.commit.position); i += 1) {
      expect(i).toBeLessThan(10);
      this.commit.update(local);
    }
    const record = this.rules.takeToRecord();
    if (record !== undefined) {
      expect(this.#storing).toBeUndefined();
      this.told.set(record.number, record.rule);
      this.#storing = record.number;
      for (const { progress } of this.standbys) {
        if (progress !== undefined) progress.ruleTold = record.number;
      }
    }
    this.#check();
  }

  /** What was acknowledged is held by enough of the members that anybody in reach knows of. */
  #check(): void {
    const { lsn } = this.commit;
    expect(lsn).toBeGreaterThanOrEqual(this.#committed);
    expect(lsn).toBeLessThanOrEqual(this.#local);
    this.#committed = lsn;
    expect(this.rules.active.length).toBeLessThanOrEqual(3);
    const reach = this.standbys.filter(({ progress }) => progress !== undefined);
    for (const rule of [this.recordedHere, ...reach.map(({ recorded }) => recorded)]) {
      if (rule === undefined || rule.degraded || rule.synchronousStandbys === null) continue;
      const isWrite = rule.synchronousCommit === 'remote_write';
      const holders = this.standbys.filter(
        (each) =>
          rule.members.includes(each.name) && (isWrite ? each.written : each.flushed) >= lsn,
      );
      const { count } = parseStandbys(rule.synchronousStandbys);
      if (lsn > 0) expect(holders.length).toBeGreaterThanOrEqual(count);
    }
  }

  append(): void {
    this.#local += 1;
    for (const { progress } of this.standbys) progress?.sent(this.#local * 100, this.#local);
    this.settle();
  }

  connect(standby: Standby): void {
    const progress = new Progress(standby.name, standby.name);
    const start = standby.written;
    progress.accepted({ position: start * 100, lsn: start });
    for (let lsn = start + 1; lsn <= this.#local; lsn += 1) progress.sent(lsn * 100, lsn);
    standby.progress = progress;
    standby.recorded = undefined;
    this.quorum.add(progress);
    this.rules.connectedChanged();
    this.settle();
    progress.ruleTold = this.rules.newest.number;
  }

  disconnect(standby: Standby): void {
    const { progress } = standby;
    if (progress === undefined) return;
    standby.progress = undefined;
    this.quorum.remove(progress);
    this.rules.connectedChanged();
    this.settle();
  }

  /** It records what it was told last, and says so. */
  record(standby: Standby): void {
    const { progress } = standby;
    if (progress === undefined || progress.ruleTold === 0) return;
    standby.recorded = this.told.get(progress.ruleTold);
    this.#acknowledge(standby, progress, progress.ruleTold);
  }

  move(standby: Standby, write: number, flush: number): void {
    const { progress } = standby;
    if (progress === undefined || progress.rule === 0) return;
    standby.written = Math.max(standby.written, Math.min(this.#local, standby.written + write));
    standby.flushed = Math.min(standby.written, standby.flushed + flush);
    if (standby.written === this.#local) progress.state = 'live';
    this.#acknowledge(standby, progress, progress.rule);
  }

  storeHere(): void {
    if (this.#storing === undefined) return;
    const number = this.#storing;
    this.#storing = undefined;
    this.recordedHere = this.told.get(number)!;
    this.rules.recordedHere(number);
    this.settle();
  }

  #acknowledge({ written, flushed }: Standby, progress: Progress, rule: number): void {
    const fault = progress.acknowledge({
      writePosition: written * 100,
      writeLsn: written,
      flushPosition: flushed * 100,
      flushLsn: flushed,
      applyLsn: 0,
      rule,
    });
    expect(fault).toBeUndefined();
    this.settle();
  }

  /** Everybody is there, and does what it should. */
  calm(): void {
    for (const each of this.standbys) {
      this.disconnect(each);
      this.connect(each);
    }
    for (let i = 0; i < 8; i += 1) {
      for (const each of this.standbys) this.record(each);
      for (const each of this.standbys) this.move(each, 1000, 1000);
      this.storeHere();
    }
  }

  get isCaughtUp(): boolean {
    return this.commit.lsn === this.#local;
  }
}

const standby = fc.nat({ max: names.length - 1 });
const step = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('append' as const) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('move' as const),
      of: standby,
      write: fc.nat({ max: 3 }),
      flush: fc.nat({ max: 3 }),
    }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('record' as const), of: standby }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('storeHere' as const) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('connect' as const), of: standby }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('disconnect' as const), of: standby }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('alone' as const), is: fc.boolean() }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('policy' as const),
      to: fc.nat({ max: policies.length - 1 }),
      stays: fc.boolean(),
    }),
  },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

function take(group: Group, each: Step): void {
  const of = 'of' in each ? group.standbys[each.of]! : undefined;
  if (each.do === 'append') group.append();
  else if (each.do === 'storeHere') group.storeHere();
  else if (each.do === 'connect') group.connect(of!);
  else if (each.do === 'disconnect') group.disconnect(of!);
  else if (each.do === 'record') group.record(of!);
  else if (each.do === 'move') group.move(of!, each.write, each.flush);
  else if (each.do === 'alone') {
    group.rules.setAlone(each.is);
    group.settle();
  } else {
    group.rules.setPolicy(policies[each.to]!, each.stays);
    group.settle();
  }
}

describe('whatever comes in whatever order', () => {
  it('what was acknowledged meets every rule that is recorded in reach, and never falls', () => {
    fc.assert(
      fc.property(
        fc.nat({ max: policies.length - 1 }),
        fc.array(step, { minLength: 10, maxLength: 120 }),
        (policy, steps) => {
          const group = new Group(policies[policy]!);
          for (const each of steps) take(group, each);
        },
      ),
      { numRuns: 1000 },
    );
  });

  it('with everybody there again the policy is in force, and all is committed', () => {
    fc.assert(
      fc.property(
        fc.nat({ max: policies.length - 1 }),
        fc.array(step, { maxLength: 60 }),
        (policy, steps) => {
          const group = new Group(policies[policy]!);
          for (const each of steps) take(group, each);
          group.rules.setAlone(false);
          group.settle();
          group.calm();
          expect(group.isCaughtUp).toBe(true);
          const { inForce, active, policy: asked } = group.rules;
          expect(active).toHaveLength(1);
          const { synchronousCommit, synchronousStandbys } = openingRule(asked);
          expect(inForce.rule).toMatchObject({
            synchronousCommit,
            synchronousStandbys,
            degraded: false,
          });
        },
      ),
      { numRuns: 300 },
    );
  });
});
