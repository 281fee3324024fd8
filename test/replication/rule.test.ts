import { describe, expect, it } from 'vitest';
import { parseStandbys } from '../../src/replication/policy.js';
import { Progress } from '../../src/replication/progress.js';
import { CommitRule, maxMembers, sameRule } from '../../src/replication/rule.js';

function setUp(standbys: string | undefined) {
  const rule = new CommitRule({
    synchronousCommit: standbys === undefined ? 'local' : 'remote_flush',
    standbys: standbys === undefined ? undefined : parseStandbys(standbys),
  });
  const connected = new Set<Progress>();
  const join = (nodeId: string, name = nodeId): Progress => {
    const progress = new Progress(nodeId, name);
    progress.accepted({ position: 0, lsn: 0 });
    rule.admit(progress);
    for (const each of [...connected, progress]) each.ruleTold = rule.newest.number;
    connected.add(progress);
    return progress;
  };
  const record = (progress: Progress, number = rule.newest.number): void => {
    progress.rule = number;
    rule.settle(connected);
  };
  const recordHere = (): void => {
    rule.recordedHere(rule.newest.number);
    rule.settle(connected);
  };
  const leave = (progress: Progress): void => {
    connected.delete(progress);
    rule.settle(connected);
  };
  return { rule, connected, join, record, recordHere, leave };
}

describe('the rule of a primary', () => {
  it('begins with nobody, and names who is let in', () => {
    const { rule, join } = setUp('ANY 1 (*)');
    expect(rule.newest).toEqual({
      number: 1,
      rule: {
        synchronousCommit: 'remote_flush',
        synchronousStandbys: 'ANY 1 (*)',
        members: [],
      },
    });
    join('x');
    join('y');
    join('x');
    expect(rule.newest).toMatchObject({ number: 3, rule: { members: ['x', 'y'] } });
  });

  it('names only whom the policy admits', () => {
    const { rule, join, recordHere, record } = setUp('ANY 1 (paris)');
    const oslo = join('1', 'oslo');
    recordHere();
    record(oslo);
    expect(oslo.counts).toBe(false);
    const paris = join('2', 'Paris');
    recordHere();
    record(oslo);
    record(paris);
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
    const again = join('x');
    expect(again.counts).toBe(true);
    expect(rule.newest.number).toBe(4);
  });

  it('has room for 64 members; whom it cannot name cannot count', () => {
    const { rule, join, record, recordHere, connected } = setUp('ANY 1 (*)');
    for (let i = 0; i < maxMembers; i += 1) join(`n${i}`);
    const more = join('more');
    recordHere();
    for (const each of connected) record(each);
    expect(rule.newest.rule.members).toHaveLength(maxMembers);
    expect([...connected].filter((each) => each.counts)).toHaveLength(maxMembers);
    expect(more.counts).toBe(false);
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
  } as const;

  it('are the same only in all that they say', () => {
    expect(sameRule(rule, { ...rule, members: ['x', 'y'] })).toBe(true);
    for (const other of [
      { ...rule, synchronousCommit: 'local' },
      { ...rule, synchronousStandbys: 'ANY 2 (*)' },
      { ...rule, members: ['x'] },
      { ...rule, members: ['y', 'x'] },
    ] as const) {
      expect(sameRule(rule, other)).toBe(false);
    }
    expect(sameRule(null, rule)).toBe(false);
  });
});
