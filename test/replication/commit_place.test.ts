import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CommitPlace, type CommitPolicy } from '../../src/replication/commit_place.js';
import type { ActiveRule } from '../../src/replication/commit_rule.js';
import type { CommitLevel } from '../../src/replication/level.js';
import { admits, parseStandbys } from '../../src/replication/policy.js';
import { type Acknowledgement, Progress } from '../../src/replication/progress.js';
import { kth, Quorum } from '../../src/replication/quorum.js';
import { openingRule, waitsForStandbys } from '../../src/replication/rule.js';

/** In these tests a place at LSN n is at position 100 n. */
function ackAt(write: number, flush = write, apply = 0): Acknowledgement {
  return {
    writePosition: write * 100,
    writeLsn: write,
    flushPosition: flush * 100,
    flushLsn: flush,
    applyLsn: apply,
    rule: 1,
  };
}

const places = Array.from({ length: 40 }, (_, i) => ({ position: (i + 1) * 100, lsn: i + 1 }));

function local(flush: number, closed = flush) {
  return { closedLsn: closed, flushPosition: flush * 100, flushLsn: flush };
}

/** One rule, which everybody who `counts` is a member of. */
function ruleOf(quorum: Quorum, policy: CommitPolicy): ActiveRule {
  return {
    rule: openingRule(policy),
    alone: !waitsForStandbys(policy),
    standbys: policy.standbys,
    get present() {
      return [...quorum.all].filter(({ counts }) => counts);
    },
  };
}

function setUp(synchronousCommit: CommitLevel, standbys?: string) {
  const quorum = new Quorum();
  const policy = {
    synchronousCommit,
    standbys: standbys === undefined ? undefined : parseStandbys(standbys),
  };
  const commit = new CommitPlace({ active: [ruleOf(quorum, policy)] }, { position: 0, lsn: 0 });
  commit.openedAt({ position: 0, lsn: 0 }, 0);
  const join = (nodeId: string, name = nodeId, sent = places): Progress => {
    const progress = new Progress(nodeId, name);
    progress.accepted({ position: 0, lsn: 0 });
    for (const { position, lsn } of sent) progress.sent(position, lsn);
    progress.ruleTold = 1;
    progress.counts = policy.standbys !== undefined && admits(policy.standbys, name);
    quorum.add(progress);
    return progress;
  };
  return { quorum, commit, join };
}

describe('the commit place', () => {
  it.each(['off', 'local'] as const)('with %s is the local flush', (level) => {
    const { commit, join } = setUp(level, 'ANY 1 (*)');
    join('x').acknowledge(ackAt(1));
    expect(commit.update(local(5))).toBe(true);
    expect(commit).toMatchObject({ position: 500, lsn: 5 });
  });

  it('with remote_write is the lower of the local flush and the k-th write', () => {
    const { commit, join } = setUp('remote_write', 'ANY 2 (*)');
    const [x, y, z] = [join('x'), join('y'), join('z')];
    x.acknowledge(ackAt(9, 0));
    expect(commit.update(local(8))).toBe(false);
    y.acknowledge(ackAt(4, 0));
    commit.update(local(8));
    expect(commit.lsn).toBe(4);
    z.acknowledge(ackAt(10, 0));
    commit.update(local(8));
    expect(commit.lsn).toBe(8);
  });

  it.each(['remote_flush', 'remote_apply'] as const)('with %s counts flushes', (level) => {
    const { commit, join } = setUp(level, 'ANY 1 (*)');
    join('x').acknowledge(ackAt(9, 3, 1));
    commit.update(local(8));
    expect(commit.lsn).toBe(3);
  });

  it('never falls when standbys leave', () => {
    const { commit, join, quorum } = setUp('remote_flush', 'ANY 1 (*)');
    const x = join('x');
    x.acknowledge(ackAt(6));
    commit.update(local(8));
    quorum.remove(x);
    expect(commit.update(local(9))).toBe(false);
    join('y').acknowledge(ackAt(2));
    expect(commit.update(local(9))).toBe(false);
    expect(commit.lsn).toBe(6);
  });

  it('moves by those that count only, from the moment that they do', () => {
    const { commit, join } = setUp('remote_flush', 'ANY 1 (paris)');
    const oslo = join('1', 'oslo');
    oslo.acknowledge(ackAt(9));
    expect(commit.update(local(9))).toBe(false);
    join('2', 'Paris').acknowledge(ackAt(4));
    expect(commit.update(local(9))).toBe(true);
    expect(commit.lsn).toBe(4);
    oslo.counts = true;
    commit.update(local(9));
    expect(commit.lsn).toBe(9);
  });

  it('counts a node once: its new connection starts from nothing', () => {
    const { commit, join, quorum } = setUp('remote_flush', 'ANY 2 (*)');
    const old = join('x');
    old.acknowledge(ackAt(9));
    const fresh = join('x');
    fresh.acknowledge(ackAt(1));
    expect(commit.update(local(9))).toBe(false);
    quorum.remove(old);
    join('y').acknowledge(ackAt(9));
    commit.update(local(9));
    expect(commit.lsn).toBe(1);
  });

  it('does not move before the opening of the term meets the policy', () => {
    const { commit, join } = setUp('remote_flush', 'ANY 1 (*)');
    commit.openedAt({ position: 500, lsn: 5 }, 600);
    const x = join('x', 'x', [...places.slice(0, 5), { position: 600, lsn: 5 }]);
    x.acknowledge(ackAt(4));
    expect(commit.update(local(8))).toBe(false);
    expect(commit.reached('remote_flush', local(8))).toBe(0);
    x.acknowledge(ackAt(5));
    expect(commit.update(local(8))).toBe(false);
    x.acknowledge({ ...ackAt(5), writePosition: 600, flushPosition: 600 });
    expect(commit.update(local(8))).toBe(true);
    expect(commit).toMatchObject({ position: 600, lsn: 5 });
    expect(commit.reached('remote_flush', local(8))).toBe(5);
  });

  it('does not move for the filler that may come before the opening', () => {
    const { commit, join } = setUp('remote_flush', 'ANY 1 (*)');
    commit.openedAt({ position: 65000, lsn: 5 }, 70000);
    const x = join('x', 'x', [
      { position: 65536 + 4096, lsn: 5 },
      { position: 70000, lsn: 5 },
    ]);
    const filler = { writePosition: 65536 + 4096, flushPosition: 65536 + 4096 };
    x.acknowledge({ ...ackAt(5), ...filler });
    expect(commit.update({ closedLsn: 5, flushPosition: 70000, flushLsn: 5 })).toBe(false);
    x.acknowledge({ ...ackAt(5), writePosition: 70000, flushPosition: 70000 });
    expect(commit.update({ closedLsn: 5, flushPosition: 70000, flushLsn: 5 })).toBe(true);
    expect(commit).toMatchObject({ position: 70000, lsn: 5 });
  });

  it('moves to the end of a filler that comes after the opening', () => {
    const { commit, join } = setUp('remote_flush', 'ANY 1 (*)');
    commit.openedAt({ position: 60000, lsn: 5 }, 60200);
    const filler = { writePosition: 65536 + 4096, flushPosition: 65536 + 4096 };
    join('x', 'x', [{ position: 65536 + 4096, lsn: 7 }]).acknowledge({ ...ackAt(7), ...filler });
    const all = { closedLsn: 7, flushPosition: 65536 + 4096, flushLsn: 7 };
    expect(commit.update(all)).toBe(true);
    expect(commit).toMatchObject({ position: 65536 + 4096, lsn: 7 });
    expect(commit.reached('remote_flush', all)).toBe(7);
  });

  it('known from an earlier term counts up to the opening of this one', () => {
    const policy = { synchronousCommit: 'local', standbys: undefined } as const;
    const commit = new CommitPlace(
      { active: [ruleOf(new Quorum(), policy)] },
      { position: 900, lsn: 9 },
    );
    commit.openedAt({ position: 600, lsn: 6 }, 700);
    expect(commit).toMatchObject({ position: 600, lsn: 6 });
  });

  it('does not move while the opening is not known', () => {
    const policy = { synchronousCommit: 'local', standbys: undefined } as const;
    const commit = new CommitPlace(
      { active: [ruleOf(new Quorum(), policy)] },
      { position: 0, lsn: 0 },
    );
    expect(commit.update(local(5))).toBe(false);
  });
});

describe('levels', () => {
  it('are met each on its own', () => {
    const { commit, join } = setUp('local', 'ANY 1 (*)');
    join('x').acknowledge(ackAt(7, 5, 2));
    const now = local(6, 9);
    const met = (level: CommitLevel): number => commit.reached(level, now);
    expect(met('off')).toBe(9);
    expect(met('local')).toBe(6);
    expect(met('remote_write')).toBe(6);
    expect(met('remote_flush')).toBe(5);
    expect(met('remote_apply')).toBe(2);
  });

  it('that are remote are met by nobody when nobody is named', () => {
    const { commit, join } = setUp('local');
    join('x').acknowledge(ackAt(7));
    expect(commit.reached('remote_write', local(9))).toBe(0);
  });
});

describe('the k-th place', () => {
  it('is what sorting would give', () => {
    const lsns = fc.array(fc.nat({ max: 30 }), { maxLength: 8 });
    fc.assert(
      fc.property(lsns, fc.integer({ min: 1, max: 9 }), (acks, k) => {
        const { commit, join, quorum } = setUp('remote_flush', `ANY ${k} (*)`);
        acks.forEach((lsn, i) => {
          join(`n${i}`).acknowledge(ackAt(lsn));
        });
        const expected = [...acks].sort((x, y) => y - x)[k - 1];
        const out = { position: -1, lsn: -1 };
        expect(kth([...quorum.all], k, 'flush', out)).toBe(expected !== undefined);
        if (expected !== undefined)
          expect(out).toEqual({ position: expected * 100, lsn: expected });
        commit.update(local(20));
        expect(commit.lsn).toBe(Math.min(20, expected ?? 0));
      }),
    );
  });
});

describe('an acknowledgement', () => {
  function progress(): Progress {
    const made = new Progress('x', 'x');
    made.accepted({ position: 100, lsn: 1 });
    made.ruleTold = 1;
    for (const { position, lsn } of places.slice(1, 10)) made.sent(position, lsn);
    expect(made.acknowledge(ackAt(5, 4, 3))).toBeUndefined();
    return made;
  }

  it.each([
    ['past what was sent', ackAt(11, 4, 3)],
    ['of an LSN past what was sent', { ...ackAt(5, 4, 3), writeLsn: 11 }],
    ['of an LSN past its position', { ...ackAt(5, 4, 3), writeLsn: 6 }],
    ['of an LSN before its position', { ...ackAt(6, 5, 3), flushLsn: 4 }],
    ['of an LSN past all that may end there', { ...ackAt(8, 4, 3), writePosition: 650 }],
    ['flushed before it is written', ackAt(5, 6, 3)],
    ['applied before it is flushed', ackAt(5, 4, 5)],
    ['backwards in its write', ackAt(4, 4, 3)],
    ['backwards in its flush', ackAt(5, 3, 3)],
    ['backwards in its applying', ackAt(5, 4, 2)],
    ['negative', { ...ackAt(5, 4, 3), applyLsn: -1 }],
    ['not a number', { ...ackAt(5, 4, 3), flushPosition: Number.NaN }],
    ['infinite', { ...ackAt(5, 4, 3), writePosition: Number.POSITIVE_INFINITY }],
    ['a fraction', { ...ackAt(5, 4, 3), writeLsn: 5.5 }],
    ['beyond 2^53', { ...ackAt(5, 4, 3), writePosition: 2 ** 60 }],
  ])('%s is refused, and nothing of it is taken', (_, ack) => {
    const made = progress();
    expect(made.acknowledge(ack)).toMatch(/acknowledgement/);
    expect(made).toMatchObject({ writeLsn: 5, flushLsn: 4, applyLsn: 3, writePosition: 500 });
  });

  it('within a batch counts up to the end before it', () => {
    const made = progress();
    const within = { ...ackAt(8, 6, 6), writePosition: 799, writeLsn: 7, flushPosition: 650 };
    expect(made.acknowledge(within)).toBeUndefined();
    expect(made.write).toEqual({ position: 700, lsn: 7 });
    expect(made.flush).toEqual({ position: 600, lsn: 6 });
    expect(made.applyLsn).toBe(6);
  });

  it('before the handshake is through is refused', () => {
    expect(new Progress('x', 'x').acknowledge(ackAt(0))).toMatch(/handshake/);
  });
});
