import { describe, expect, it } from 'vitest';
import type { HistoryEntry, Place, Rule } from '../../src/native/native_log.js';
import { describeTail, judgeTail, mayGo, type ReturningLog } from '../../src/replication/rejoin.js';

const [a, b, c, d] = ['a', 'b', 'c', 'd'].map((digit) => digit.repeat(32)) as [
  ...[string, string, string, string],
];

function at(lsn: number): Place {
  return { position: 4096 + lsn * 100, lsn };
}

function opened(incarnation: number, lsn: number): HistoryEntry {
  return { epoch: 1, opener: a, incarnation, ...at(lsn) };
}

function sync(standbys: string, ...members: string[]): Rule {
  const synchronousCommit = 'remote_flush';
  return { synchronousCommit, synchronousStandbys: standbys, members, degraded: false };
}

const local: Rule = {
  ...{ synchronousCommit: 'local', synchronousStandbys: null, members: [], degraded: false },
};

function fromMemory(rule: Rule): Rule {
  return { ...rule, synchronousCommit: 'remote_write' };
}

/** 80 records, the last term from the first one on; the new primary, b, has 50 of them. */
function judge(own: Partial<ReturningLog>, fork = 50, witnesses: readonly string[] = []) {
  const log = { history: [opened(1, 0)], end: at(80), commit: at(0), rule: local };
  const facts = { isCommitExact: false, quorumLsn: 0, quorumMostLsn: 0, isRuleUndercut: false };
  return judgeTail({ ...log, ...facts, ...own }, at(fork), { primaryId: b, witnesses });
}

describe('the tail of an old primary', () => {
  it.each([
    ['local', local],
    ['degraded', { ...sync('ANY 1 (*)', b), degraded: true }],
  ])('may have been seen to its end where the rule was %s', (_, rule) => {
    expect(judge({ rule })).toEqual({
      verdict: 'ask',
      tail: { firstLsn: 51, lastLsn: 80, records: 30, seenLsn: 80, quorumLsn: 0 },
    });
  });

  it.each([
    ['not known', null],
    ['met by another alone', sync('ANY 1 (*)', b, c)],
    ['met by two others', sync('ANY 2 (*)', b, c, a)],
    ['of a standby that is not the new primary', sync('FIRST 1 (c, b)', c)],
    ['met from the memory of the new primary', fromMemory(sync('ANY 1 (*)', b))],
  ])('may have been committed by a quorum to its end where the rule was %s', (_, rule) => {
    expect(judge({ rule })).toEqual({
      verdict: 'name',
      tail: { firstLsn: 51, lastLsn: 80, records: 30, seenLsn: 80, quorumLsn: 80 },
    });
  });

  it.each([
    ['no member', sync('ANY 1 (*)')],
    ['the new primary alone', sync('ANY 1 (*)', b)],
    ['as many members as are needed', sync('ANY 2 (*)', b, c)],
    ['too few without the new primary', sync('FIRST 2 (b, c)', b, c)],
    ['too few who may have had it in memory', fromMemory(sync('ANY 2 (*)', b))],
  ])('was seen by nobody where the rule had %s', (_, rule) => {
    expect(judge({ rule })).toMatchObject({ verdict: 'follow', tail: { records: 30 } });
  });

  it('was seen by nobody where all who may have had it alone were fenced', () => {
    const rule = sync('ANY 1 (*)', b, c);
    expect(judge({ rule }, 50, [b, c]).verdict).toBe('follow');
    expect(judge({ rule }, 50, [c]).verdict).toBe('follow');
    expect(judge({ rule }, 50, [b, d]).verdict).toBe('name');
    // Any one of two others is enough, and one of them was not heard.
    expect(judge({ rule: sync('ANY 1 (*)', b, c, d) }, 50, [b, c]).verdict).toBe('name');
    expect(judge({ rule: sync('ANY 2 (*)', b, c, d) }, 50, [b, c]).verdict).toBe('follow');
  });

  it('is judged as ever where those who were fenced say nothing of it', () => {
    const heard = (own: Partial<ReturningLog>) => judge(own, 50, [b, c]).verdict;
    const rule = sync('ANY 1 (*)', b, c);
    expect(heard({ rule: fromMemory(rule) })).toBe('name');
    expect(heard({ rule: { ...rule, degraded: true } })).toBe('ask');
    expect(heard({ rule: local })).toBe('ask');
    expect(heard({ rule: null })).toBe('name');
    expect(heard({ rule, isRuleUndercut: true })).toBe('ask');
    expect(heard({ rule, commit: at(55) })).toBe('ask');
    expect(heard({ rule, quorumLsn: 51 })).toBe('never');
    // What lies before the last term the rule does not speak of.
    expect(heard({ rule, history: [opened(1, 0), opened(2, 60)] })).toBe('name');
  });

  it('may have been seen up to the opening of a term that the new primary lacks', () => {
    const rule = sync('ANY 1 (*)', b);
    const history = [opened(1, 0), opened(2, 60)];
    for (const one of [rule, local]) {
      expect(judge({ rule: one, history })).toMatchObject({
        verdict: 'name',
        tail: { seenLsn: one === rule ? 60 : 80, quorumLsn: 60 },
      });
    }
    expect(judge({ rule, history }, 60).verdict).toBe('follow');
    expect(judge({ rule: local, history }, 60).verdict).toBe('ask');
    expect(judge({ rule, history: [] }).verdict).toBe('name');
  });

  it('was seen as far as this node acknowledged it, where that is known to be all', () => {
    const known = { isCommitExact: true, commit: at(55) };
    for (const rule of [sync('ANY 1 (*)', b, c), fromMemory(sync('ANY 1 (*)', b))]) {
      expect(judge({ ...known, rule })).toMatchObject({
        verdict: 'name',
        tail: { seenLsn: 55, quorumLsn: 55 },
      });
      expect(judge({ ...known, rule }, 55).verdict).toBe('follow');
    }
    expect(judge({ ...known, rule: local })).toMatchObject({
      verdict: 'ask',
      tail: { seenLsn: 55, quorumLsn: 0 },
    });
    expect(judge({ ...known, rule: local }, 55).verdict).toBe('follow');
    // Of its own term it acknowledged nothing, which says nothing of the one before.
    const history = [opened(1, 0), { ...opened(2, 60), position: at(60).position + 50 }];
    const rule = sync('ANY 1 (*)', b);
    expect(judge({ ...known, rule, history, commit: at(52) })).toMatchObject({
      verdict: 'name',
      tail: { seenLsn: 60, quorumLsn: 60 },
    });
  });

  it('may have been seen where commits were acknowledged below the rule', () => {
    const rule = sync('ANY 1 (*)', b);
    const isRuleUndercut = true;
    const seen = { verdict: 'ask', tail: { seenLsn: 80, quorumLsn: 0 } };
    expect(judge({ rule, isRuleUndercut })).toMatchObject(seen);
    const known = { isCommitExact: true, commit: at(50) };
    expect(judge({ rule, isRuleUndercut, ...known })).toMatchObject({
      ...seen,
      tail: { seenLsn: 80, quorumLsn: 50 },
    });
  });

  it('may have been committed by a quorum before the rule waited for nobody', () => {
    expect(judge({ quorumMostLsn: 60 })).toMatchObject({
      verdict: 'name',
      tail: { seenLsn: 80, quorumLsn: 60 },
    });
    expect(judge({ quorumMostLsn: 50 }).verdict).toBe('ask');
  });

  it('goes by itself, by word, by its LSN or not at all', () => {
    const goes = (own: Partial<ReturningLog>) =>
      (['ask', 'auto', 49, 50, 51] as const).filter((mode) => mayGo(judge(own), mode));
    expect(goes({ rule: sync('ANY 1 (*)', b) })).toEqual(['ask', 'auto', 49, 50, 51]);
    expect(goes({})).toEqual(['auto', 50]);
    expect(goes({ rule: null })).toEqual([50]);
    expect(goes({ quorumLsn: 51 })).toEqual([]);
  });

  it('was seen as far as it is known to be committed, whatever the rule', () => {
    const rule = sync('ANY 1 (*)', b);
    expect(judge({ rule, commit: at(55) })).toMatchObject({
      verdict: 'ask',
      tail: { seenLsn: 55 },
    });
  });

  it('is never removed where a quorum committed some of it', () => {
    for (const rule of [local, null, sync('ANY 1 (*)', b)]) {
      expect(judge({ rule, quorumLsn: 51 }).verdict).toBe('never');
      expect(judge({ rule, quorumLsn: 50 }).verdict).not.toBe('never');
    }
  });

  it('is none where it holds no record', () => {
    expect(judge({ quorumLsn: 80, commit: at(80) }, 80)).toMatchObject({
      verdict: 'follow',
      tail: { records: 0 },
    });
    // A commit place that was told of records which never came here.
    expect(judge({ quorumLsn: 90 }, 80).verdict).toBe('follow');
  });

  it('is told in words', () => {
    expect(describeTail(judge({}).tail)).toBe(
      'LSN 51 to 80 (30 records), which may have been committed and seen',
    );
    expect(describeTail(judge({}, 79).tail)).toMatch(/^LSN 80 \(1 record\), which may have/);
    const rule = sync('ANY 1 (*)', b);
    expect(describeTail(judge({ rule }).tail)).toMatch(/which nobody can have seen$/);
    expect(describeTail(judge({ rule, commit: at(55) }).tail)).toMatch(/those up to LSN 55 may/);
    expect(describeTail(judge({}, 80).tail)).toBe('no records');
    expect(describeTail(judge({ rule: null }).tail)).toMatch(
      /may have been committed by a quorum$/,
    );
    expect(describeTail(judge({ quorumMostLsn: 60 }).tail)).toMatch(
      /of which those up to LSN 60 may have been committed by a quorum$/,
    );
  });
});

describe('the tail of a standby whose primary was opened anew, in another epoch', () => {
  const next = (opener: string, lsn: number): HistoryEntry => ({
    ...{ epoch: 2, opener, incarnation: 1 },
    ...at(lsn),
  });
  const judged = (own: Partial<ReturningLog>, by: HistoryEntry) =>
    judgeTail(
      {
        ...{ history: [opened(1, 0)], end: at(80), commit: at(0), rule: sync('ANY 1 (*)', b, c) },
        ...{ isCommitExact: false, quorumLsn: 0, quorumMostLsn: 0, isRuleUndercut: false },
        ...own,
      },
      at(50),
      { primaryId: a, next: by, witnesses: [] },
    ).verdict;

  it('was never flushed there, and goes', () => {
    expect(judged({}, next(a, 50))).toBe('follow');
    expect(judged({ rule: null }, next(a, 50))).toBe('follow');
  });

  it('asks where another took over, or it is not all of one term, or is known to be seen', () => {
    expect(judged({}, next(b, 50))).toBe('name');
    expect(judged({ history: [opened(1, 0), opened(2, 60)] }, next(a, 50))).toBe('name');
    expect(judged({}, next(a, 60))).toBe('name');
    expect(judged({ commit: at(60) }, next(a, 50))).toBe('ask');
    expect(judged({ quorumLsn: 60 }, next(a, 50))).toBe('never');
  });
});
