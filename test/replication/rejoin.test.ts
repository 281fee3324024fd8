import { describe, expect, it } from 'vitest';
import type { HistoryEntry, Place, Rule } from '../../src/native/native_log.js';
import { describeTail, judgeTail, type ReturningLog } from '../../src/replication/rejoin.js';

const [a, b, c] = ['a', 'b', 'c'].map((digit) => digit.repeat(32)) as [string, string, string];

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

/** 80 records, the last term from the first one on; the new primary, b, has 50 of them. */
function judge(own: Partial<ReturningLog>, fork = 50) {
  const log = { history: [opened(1, 0)], end: at(80), commit: at(0), quorumLsn: 0, rule: local };
  return judgeTail({ ...log, ...own }, at(fork), b);
}

describe('the tail of an old primary', () => {
  it.each([
    ['local', local],
    ['degraded', { ...sync('ANY 1 (*)', b), degraded: true }],
    ['not known', null],
    ['met by another alone', sync('ANY 1 (*)', b, c)],
    ['met by two others', sync('ANY 2 (*)', b, c, a)],
    ['of a standby that is not the new primary', sync('FIRST 1 (c, b)', c)],
  ])('may have been seen to its end where the rule was %s', (_, rule) => {
    expect(judge({ rule })).toEqual({
      verdict: 'ask',
      tail: { firstLsn: 51, lastLsn: 80, records: 30, seenLsn: 80 },
    });
  });

  it.each([
    ['no member', sync('ANY 1 (*)')],
    ['the new primary alone', sync('ANY 1 (*)', b)],
    ['as many members as are needed', sync('ANY 2 (*)', b, c)],
    ['too few without the new primary', sync('FIRST 2 (b, c)', b, c)],
  ])('was seen by nobody where the rule had %s', (_, rule) => {
    expect(judge({ rule })).toMatchObject({ verdict: 'follow', tail: { records: 30 } });
  });

  it('may have been seen up to the opening of a term that the new primary lacks', () => {
    const rule = sync('ANY 1 (*)', b);
    const history = [opened(1, 0), opened(2, 60)];
    expect(judge({ rule, history })).toMatchObject({ verdict: 'ask', tail: { seenLsn: 60 } });
    expect(judge({ rule, history }, 60).verdict).toBe('follow');
    expect(judge({ rule, history: [] }).verdict).toBe('ask');
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
  });
});
