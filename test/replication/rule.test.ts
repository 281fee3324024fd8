import { describe, expect, it } from 'vitest';
import { CommitRule } from '../../src/replication/commit_rule.js';
import type { CommitLevel } from '../../src/replication/level.js';
import { parseStandbys } from '../../src/replication/policy.js';
import { Progress } from '../../src/replication/progress.js';
import { Quorum } from '../../src/replication/quorum.js';
import { maxMembers, sameRule } from '../../src/replication/rule.js';

function policyOf(standbys: string | undefined, level: CommitLevel = 'remote_flush') {
  return {
    synchronousCommit: standbys === undefined ? 'local' : level,
    standbys: standbys === undefined ? undefined : parseStandbys(standbys),
  } as const;
}

/** A primary whose commit place is at `commit` whatever happens, so that steps show one by one. */
function setUp(standbys: string | undefined, termStart = 0) {
  const quorum = new Quorum();
  const rule = new CommitRule(policyOf(standbys), quorum, termStart);
  const state = { commit: 0 };
  const told: string[][] = [];
  const update = (): void => {
    while (rule.update(state.commit));
    const record = rule.takeToRecord();
    if (record === undefined) return;
    told.push([...record.rule.members]);
    for (const each of quorum.all) each.ruleTold = record.number;
  };
  const join = (nodeId: string, name = nodeId, live = true): Progress => {
    const progress = new Progress(nodeId, name);
    progress.accepted({ position: 0, lsn: 0 });
    if (live) progress.state = 'live';
    quorum.add(progress);
    rule.connectedChanged();
    update();
    progress.ruleTold = rule.newest.number;
    return progress;
  };
  const record = (progress: Progress, number = rule.newest.number): void => {
    progress.rule = number;
    update();
  };
  const recordHere = (): void => {
    rule.recordedHere(rule.newest.number);
    update();
  };
  const recordAll = (): void => {
    for (let i = 0; i < 100 && rule.inForce.number < rule.newest.number; i += 1) {
      recordHere();
      for (const each of quorum.all) record(each);
    }
  };
  const leave = (progress: Progress): void => {
    quorum.remove(progress);
    rule.connectedChanged();
    update();
  };
  const flushed = (progress: Progress, position: number): void => {
    progress.writePosition = position;
    progress.flushPosition = position;
    update();
  };
  const alone = (is: boolean): void => {
    rule.setAlone(is);
    update();
  };
  const set = (text: string | undefined, level?: CommitLevel): void => {
    rule.setPolicy(policyOf(text, level), false);
    update();
  };
  return {
    rule,
    quorum,
    state,
    told,
    update,
    join,
    record,
    recordHere,
    recordAll,
    leave,
    flushed,
    alone,
    set,
  };
}

/** Members of each rule that an acknowledgement has to meet; `alone` for the primary's own. */
function active({ rule }: { rule: CommitRule }): unknown[] {
  return rule.active.map((each) => (each.alone ? 'alone' : each.rule.members));
}

describe('the rule of a primary', () => {
  it('begins with nobody, and names who is let in', () => {
    const { rule, join, recordAll } = setUp('ANY 1 (*)');
    expect(rule.newest).toEqual({
      number: 1,
      rule: {
        synchronousCommit: 'remote_flush',
        synchronousStandbys: 'ANY 1 (*)',
        members: [],
        degraded: false,
      },
    });
    join('x');
    recordAll();
    join('y');
    join('x');
    expect(rule.newest).toMatchObject({ number: 3, rule: { members: ['x', 'y'] } });
  });

  it('names nobody who lacks what was there when its term began', () => {
    const one = setUp('ANY 1 (*)', 100);
    const x = one.join('x');
    one.flushed(x, 99);
    expect(one.told).toEqual([]);
    one.flushed(x, 100);
    expect(one.told).toEqual([['x']]);
    one.recordAll();
    // It is one of those of whom one has all.
    one.join('y');
    expect(one.told).toEqual([['x'], ['x', 'y']]);

    // By a rule of fewer than are asked for each of them may be promoted alone.
    const two = setUp('ANY 2 (*)', 100);
    two.flushed(two.join('x'), 100);
    two.recordAll();
    const late = two.join('y');
    two.recordAll();
    expect(two.told).toEqual([['x']]);
    two.flushed(late, 100);
    expect(two.told).toEqual([['x'], ['x', 'y']]);
    two.recordAll();
    two.join('z');
    expect(two.told.at(-1)).toEqual(['x', 'y', 'z']);
  });

  it('is recorded one after the other: who comes meanwhile is in the next one', () => {
    const { rule, told, join, recordHere, record, recordAll } = setUp('ANY 1 (*)');
    const x = join('x');
    const y = join('y');
    const z = join('z');
    expect(told).toEqual([['x']]);
    recordHere();
    for (const each of [x, y, z]) record(each);
    expect(told).toEqual([['x'], ['x', 'y', 'z']]);
    expect([x.counts, y.counts, z.counts]).toEqual([true, false, false]);
    recordAll();
    expect(rule.inForce.number).toBe(3);
    expect([x.counts, y.counts, z.counts]).toEqual([true, true, true]);
  });

  it('names only whom the policy admits', () => {
    const { rule, join, recordAll } = setUp('ANY 1 (paris)');
    const oslo = join('1', 'oslo');
    recordAll();
    expect(oslo.counts).toBe(false);
    const paris = join('2', 'Paris');
    recordAll();
    expect([oslo.counts, paris.counts]).toEqual([false, true]);
    expect(rule.newest.rule.members).toEqual(['2']);
    const none = setUp(undefined);
    none.join('x');
    expect(none.rule.newest).toMatchObject({ number: 1, rule: { members: [] } });
  });

  it('lets a member count when it is recorded here and by the member, in either order', () => {
    for (const hereFirst of [true, false]) {
      const { join, record, recordHere } = setUp('ANY 1 (*)');
      const x = join('x');
      if (hereFirst) recordHere();
      else record(x);
      expect(x.counts).toBe(false);
      if (hereFirst) record(x);
      else recordHere();
      expect(x.counts).toBe(true);
    }
  });

  it('lets a newcomer count only when every standby that is connected has recorded it', () => {
    const { join, record, recordHere } = setUp('ANY 1 (*)');
    const x = join('x');
    recordHere();
    record(x);
    const y = join('y');
    recordHere();
    record(y);
    // By what x has recorded, x alone holds all that was acknowledged: it must stay so.
    expect([x.counts, y.counts]).toEqual([true, false]);
    record(x);
    expect([x.counts, y.counts]).toEqual([true, true]);
  });

  it('does not wait for a standby that is gone, and is not undone by one that comes', () => {
    const { rule, join, record, recordHere, leave } = setUp('ANY 1 (*)');
    const x = join('x');
    recordHere();
    record(x);
    const y = join('y');
    recordHere();
    record(y);
    leave(x);
    expect(y.counts).toBe(true);
    const z = join('z');
    expect([y.counts, z.counts]).toEqual([true, false]);
    expect(rule.newest.number).toBe(4);
    const again = join('x');
    expect(again.counts).toBe(true);
    expect(rule.newest.number).toBe(4);
  });

  it('has room for 64 members; one more takes the place of one that is away', () => {
    const { rule, state, join, leave, flushed, recordAll } = setUp('ANY 1 (*)');
    const all = Array.from({ length: maxMembers }, (_, i) => join(`n${i}`));
    recordAll();
    for (const each of all.slice(1, 40)) leave(each);
    state.commit = 10;
    const more = join('more');
    recordAll();
    // All that was acknowledged has to meet the new rule before it is told to anybody.
    expect(rule.inForce.rule.members).not.toContain('more');
    flushed(more, 10);
    recordAll();
    expect(more.counts).toBe(true);
    const { members } = rule.inForce.rule;
    expect(members).toHaveLength(maxMembers);
    expect(members).not.toContain('n1');
    expect(members).toContain('n2');
    const again = join('n1');
    flushed(again, 10);
    recordAll();
    expect(again.counts).toBe(true);
    expect(rule.inForce.rule.members).not.toContain('n2');
  });

  it('has room for 64 members that are there; whom it cannot name cannot count', () => {
    const { rule, quorum, join, recordAll } = setUp('ANY 1 (*)');
    for (let i = 0; i < maxMembers; i += 1) join(`n${i}`);
    const more = join('more');
    recordAll();
    expect(rule.newest.rule.members).toHaveLength(maxMembers);
    expect([...quorum.all].filter((each) => each.counts)).toHaveLength(maxMembers);
    expect(more.counts).toBe(false);
  });
});

describe('with FIRST', () => {
  it('those of highest priority are the members, all of whom have to acknowledge', () => {
    const group = setUp('FIRST 2 (a, b, c)');
    const [c, a] = [group.join('c'), group.join('a')];
    group.recordAll();
    expect(active(group)).toEqual([['a', 'c']]);
    const b = group.join('b');
    // Both rules until the new one is recorded.
    expect(active(group)).toEqual([
      ['a', 'c'],
      ['a', 'b'],
    ]);
    expect([a.counts, b.counts, c.counts]).toEqual([true, false, true]);
    group.recordAll();
    expect(active(group)).toEqual([['a', 'b']]);
    expect([a.counts, b.counts, c.counts]).toEqual([true, true, false]);
  });

  it('one that comes back is a member only when it has flushed all that is committed', () => {
    const group = setUp('FIRST 1 (a, b)');
    const a = group.join('a');
    group.recordAll();
    const b = group.join('b');
    group.flushed(b, 100);
    group.state.commit = 100;
    group.leave(a);
    group.recordAll();
    expect(active(group)).toEqual([['b']]);
    const again = group.join('a', 'a', false);
    group.recordAll();
    // It catches up: who is in its place stays there, alone.
    expect(active(group)).toEqual([['b']]);
    again.state = 'live';
    group.flushed(again, 99);
    expect(group.told.at(-1)).toEqual(['b']);
    expect(active(group)).toEqual([['b'], ['a']]);
    group.flushed(again, 100);
    expect(group.told.at(-1)).toEqual(['a']);
    expect(active(group)).toEqual([['b'], ['a']]);
    group.recordAll();
    expect(active(group)).toEqual([['a']]);
  });

  it('nobody takes the place of one that went, before it has all that is committed', () => {
    const group = setUp('FIRST 1 (a, b)');
    const a = group.join('a');
    group.recordAll();
    const b = group.join('b');
    group.state.commit = 100;
    group.flushed(b, 99);
    group.leave(a);
    group.recordAll();
    expect(active(group)).toEqual([['a'], ['b']]);
    expect(group.told).toEqual([['a']]);
    // It comes back: what was decided is taken back, and nobody was told of it.
    group.join('a');
    expect(active(group)).toEqual([['a']]);
  });

  it('too few leave the members as they are', () => {
    const group = setUp('FIRST 2 (*)');
    const [a] = [group.join('a'), group.join('b')];
    group.recordAll();
    group.leave(a);
    group.recordAll();
    expect(active(group)).toEqual([['a', 'b']]);
    group.join('a');
    expect(group.rule.newest.number).toBe(2);
  });

  it('among equals those that came first are taken, and a new connection changes nothing', () => {
    const group = setUp('FIRST 1 (z, *)');
    group.join('b');
    group.recordAll();
    group.join('a');
    group.join('b');
    group.recordAll();
    expect(active(group)).toEqual([['b']]);
    group.join('z');
    group.recordAll();
    expect(active(group)).toEqual([['z']]);
  });
});

describe('a primary that goes on alone', () => {
  function degraded() {
    const group = setUp('ANY 1 (*)');
    const x = group.join('x');
    group.recordAll();
    group.leave(x);
    const y = group.join('y', 'y');
    group.alone(true);
    return { group, y };
  }

  it('acknowledges nothing by that before it is recorded by all who are there', () => {
    const { group, y } = degraded();
    // The rule that names y was being recorded already, and comes first.
    expect(active(group)).toEqual([['x'], ['x', 'y'], 'alone']);
    group.recordAll();
    expect(active(group)).toEqual(['alone']);
    expect(group.rule.inForce.rule).toMatchObject({ degraded: true, members: ['x', 'y'] });
    expect(y.counts).toBe(false);
    expect(y.rule).toBe(group.rule.inForce.number);
  });

  it('comes back when enough have flushed all that is committed, and that is recorded', () => {
    const { group, y } = degraded();
    group.recordAll();
    group.state.commit = 100;
    group.flushed(y, 99);
    expect(group.rule.couldMeet(100)).toBe(false);
    expect(group.rule.couldMeet(99)).toBe(true);
    group.alone(false);
    expect(active(group)).toEqual(['alone', ['y']]);
    group.recordAll();
    expect(group.rule.inForce.rule.degraded).toBe(true);
    group.flushed(y, 100);
    expect(active(group)).toEqual(['alone', ['y']]);
    expect(group.rule.newest.rule).toMatchObject({ degraded: false, members: ['y'] });
    group.recordAll();
    expect(active(group)).toEqual([['y']]);
    expect(y.counts).toBe(true);
  });

  it('gives the way back up where it is not told yet, and goes alone anew where it is', () => {
    const { group, y } = degraded();
    group.recordAll();
    group.state.commit = 100;
    group.flushed(y, 99);
    group.alone(false);
    group.alone(true);
    expect(active(group)).toEqual(['alone']);
    group.flushed(y, 100);
    group.alone(false);
    group.alone(true);
    // Some node may know of it by now.
    expect(active(group)).toEqual(['alone', ['y'], 'alone']);
    group.recordAll();
    expect(active(group)).toEqual(['alone']);
  });

  it('is never one that waits for nobody anyway', () => {
    const group = setUp(undefined);
    group.alone(true);
    expect(group.rule).toMatchObject({ isAlone: false, newest: { number: 1 } });
  });
});

describe('another policy', () => {
  it('is met beside the old one until it is recorded', () => {
    const group = setUp('ANY 1 (*)');
    const [x, y] = [group.join('x'), group.join('y')];
    group.recordAll();
    group.state.commit = 100;
    group.flushed(x, 100);
    group.flushed(y, 90);
    group.set('ANY 2 (*)');
    expect(active(group)).toEqual([
      ['x', 'y'],
      ['x', 'y'],
    ]);
    group.recordAll();
    expect(group.rule.inForce.rule.synchronousStandbys).toBe('ANY 1 (*)');
    group.flushed(y, 100);
    expect(group.rule.newest.rule.synchronousStandbys).toBe('ANY 2 (*)');
    group.recordAll();
    expect(group.rule.inForce.rule.synchronousStandbys).toBe('ANY 2 (*)');
    expect(group.rule.active).toHaveLength(1);
  });

  it('that asks for less is recorded at once, and counts when it is', () => {
    const group = setUp('ANY 2 (*)');
    group.join('x');
    group.recordAll();
    group.set(undefined);
    expect(active(group)).toEqual([['x'], 'alone']);
    group.recordAll();
    expect(active(group)).toEqual(['alone']);
    expect(group.rule.inForce.rule).toMatchObject({ members: [], synchronousCommit: 'local' });
  });

  it('of flushes after writes waits for the flush of what was only written', () => {
    const group = setUp('ANY 1 (*)');
    const x = group.join('x');
    group.recordAll();
    group.set('ANY 1 (*)', 'remote_write');
    group.recordAll();
    group.state.commit = 100;
    group.flushed(x, 90);
    group.set('ANY 1 (*)', 'remote_flush');
    group.recordAll();
    expect(group.rule.inForce.rule.synchronousCommit).toBe('remote_write');
    group.flushed(x, 100);
    group.recordAll();
    expect(group.rule.inForce.rule.synchronousCommit).toBe('remote_flush');
  });
});

describe('an acknowledgement', () => {
  const nothing = { writePosition: 0, writeLsn: 0, flushPosition: 0, flushLsn: 0, applyLsn: 0 };
  const something = { ...nothing, writePosition: 100, flushPosition: 100 };

  it('is taken only under a rule that was told and is recorded', () => {
    const progress = new Progress('x', 'x');
    progress.accepted({ position: 100, lsn: 0 });
    progress.ruleTold = 2;
    expect(progress.acknowledge({ ...nothing, rule: 0 })).toBeUndefined();
    expect(progress.acknowledge({ ...something, rule: 0 })).toMatch(/under no rule/);
    expect(progress.acknowledge({ ...something, rule: 3 })).toMatch(/not told/);
    expect(progress.acknowledge({ ...something, rule: 2 })).toBeUndefined();
    expect(progress.rule).toBe(2);
    expect(progress.acknowledge({ ...something, rule: 1 })).toMatch(/below the last/);
  });
});

describe('two rules', () => {
  const rule = {
    synchronousCommit: 'remote_flush',
    synchronousStandbys: 'ANY 1 (*)',
    members: ['x', 'y'],
    degraded: false,
  } as const;

  it('are the same only in all that they say', () => {
    expect(sameRule(rule, { ...rule, members: ['x', 'y'] })).toBe(true);
    for (const other of [
      { ...rule, synchronousCommit: 'local' },
      { ...rule, synchronousStandbys: 'ANY 2 (*)' },
      { ...rule, members: ['x'] },
      { ...rule, members: ['y', 'x'] },
      { ...rule, degraded: true },
    ] as const) {
      expect(sameRule(rule, other)).toBe(false);
    }
    expect(sameRule(null, rule)).toBe(false);
  });
});
