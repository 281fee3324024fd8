import { describe, expect, it } from 'vitest';
import type { HistoryEntry, Rule, Term } from '../../src/native/native_log.js';
import {
  answersNeeded,
  bestOf,
  candidateAhead,
  doubtsOf,
  isPrefixOf,
  isRuleCurrent,
  lastRules,
  openedTerm,
  standingFenced,
  witnesses,
  wouldKnowNewer,
} from '../../src/replication/candidacy.js';
import { fenceTerm, hasGivenUp, mayFence } from '../../src/replication/fence.js';
import type { FenceGrant, Standing } from '../../src/replication/standing.js';

const id = (name: string): string => name.padEnd(32, '0');
const [a, b, c, d] = [id('a'), id('b'), id('c'), id('d')];

function term(epoch: number, opener = a, incarnation = 1): Term {
  return { epoch, opener, incarnation };
}

function rule(members: readonly string[], more: Partial<Rule> = {}): Rule {
  return {
    synchronousCommit: 'remote_flush',
    synchronousStandbys: 'ANY 1 (*)',
    members,
    degraded: false,
    ...more,
  };
}

function standing(nodeId: string, more: Partial<Standing> = {}): Standing {
  return {
    nodeId,
    name: nodeId[0]!,
    role: 'standby',
    term: term(1),
    last: term(1),
    end: { position: 8000, lsn: 10 },
    commit: { position: 8000, lsn: 10 },
    rule: rule([b, c]),
    isRuleCurrent: more.rule !== null,
    primary: 'a',
    primaryAddress: '',
    connected: false,
    isCandidate: false,
    hasReferee: false,
    ...more,
  };
}

const kinds = (own: Standing, ...others: Standing[]) =>
  doubtsOf(own, others).map(({ kind }) => kind);

describe('a primary that is started again', () => {
  const of = (more: Partial<Rule>, incarnation = 1) => ({
    rule: rule([b, c, d], more),
    term: term(1, a, incarnation),
  });

  it('hears of a newer one from any k of those that counted', () => {
    const two = { synchronousStandbys: 'ANY 2 (*)' };
    expect(wouldKnowNewer(of(two), [b, d], true)).toBe(true);
    expect(wouldKnowNewer(of(two), [b], true)).toBe(false);
    // Who was asked for a promotion is one of them, and not this one.
    expect(wouldKnowNewer(of({ members: [b] }), [c, d], true)).toBe(false);
    expect(wouldKnowNewer(of({ ...two, members: [b] }), [b], true)).toBe(true);
  });

  it('asks everybody where it does not know who they were', () => {
    expect(wouldKnowNewer(of({ members: [] }, 2), [b, c], true)).toBe(false);
    expect(wouldKnowNewer(of({ members: [] }, 2), [b, c, d], false)).toBe(true);
    // Of a new log, in its first life, nobody else had anything.
    expect(wouldKnowNewer(of({ members: [] }), [b], true)).toBe(true);
    // Who was promoted was one of others, which may promote another by the rule before.
    const promoted = { rule: rule([]), term: term(2) };
    expect(wouldKnowNewer(promoted, [b], true)).toBe(false);
    expect(wouldKnowNewer(promoted, [b, c], false)).toBe(true);
  });

  it('has to hear from somebody, whatever its rule', () => {
    const local = { synchronousCommit: 'local', synchronousStandbys: null, members: [] } as const;
    expect(wouldKnowNewer(of(local), [], false)).toBe(false);
    expect(wouldKnowNewer(of(local), [c], true)).toBe(true);
  });

  it('asks those whom it went on without: another is promoted by the rule that they know', () => {
    const alone = { degraded: true, synchronousStandbys: 'ANY 2 (*)' };
    expect(wouldKnowNewer(of(alone), [b], true)).toBe(false);
    expect(wouldKnowNewer(of(alone), [b, d], true)).toBe(true);
    expect(wouldKnowNewer(of({ ...alone, members: [] }, 2), [b, c], true)).toBe(false);
  });
});

describe('a term that was stored and never opened', () => {
  const never = { role: 'fenced', term: term(2, b), last: term(1), rule: rule([]) } as const;

  it('says nothing of who has to answer', () => {
    expect(openedTerm(standing(b, never))).toEqual(term(1));
    expect(openedTerm(standing(b, { ...never, last: term(2, b) }))).toEqual(term(2, b));
    expect(openedTerm(standing(b, { ...never, term: term(2, c) }))).toEqual(term(2, c));
    expect(kinds(standing(c), standing(b, never))).toEqual([]);
    expect(kinds(standing(b, never), standing(c))).toEqual([]);
    // Nor does the node get by without the rule that it had before.
    expect(kinds(standing(b, never))).toEqual(['unknown_rule']);
    expect(kinds(standing(b, never), standing(a, { rule: null }))).toEqual(['unknown_rule']);
  });

  it('is told apart from one whose rule names nobody yet', () => {
    const [doubt] = doubtsOf(standing(b, { rule: rule([]) }), []);
    expect(doubt).toMatchObject({ kind: 'not_a_member' });
    expect(doubt!.text).toContain('nobody has acknowledged anything');
  });
});

describe('such a term that others have heard of', () => {
  const never = { role: 'fenced', term: term(2, b) } as const;
  const heard = { role: 'fenced', nodeId: a, term: term(2, b), isRuleCurrent: false } as const;

  it('counts as opened, unless who stored it answers and says that it was not', () => {
    expect(kinds(standing(c), standing(a, heard))).toContain('unknown_rule');
    expect(kinds(standing(c), standing(a, heard), standing(b, never))).toEqual([]);
    // It knows of one that was let in while the candidate was away.
    const knowsMore = standing(a, { ...heard, rule: rule([c, d]) });
    expect(kinds(standing(c), knowsMore, standing(b, never))).toEqual(['too_few']);
    // It has flushed the opening.
    const follows = standing(a, { ...heard, last: term(2, b) });
    expect(kinds(standing(c), follows, standing(b, never))).toContain('unknown_rule');
    // It has opened it, and knows by which rule.
    const begun = standing(b, { term: term(2, b), last: term(2, b), rule: rule([a]) });
    expect(kinds(standing(c), standing(a, heard), begun)).toEqual(['not_a_member']);
  });
});

describe('who has to answer before a promotion', () => {
  it('is one more than could have acknowledged without the others', () => {
    const any2 = { synchronousStandbys: 'ANY 2 (*)' };
    expect(answersNeeded(rule([b]))).toBe(1);
    expect(answersNeeded(rule([b, c]))).toBe(2);
    expect(answersNeeded(rule([b, c, d]))).toBe(3);
    expect(answersNeeded(rule([b, c, d], any2))).toBe(2);
    expect(answersNeeded(rule([b, c], any2))).toBe(1);
  });

  it('every k of n share a member with any n - k + 1', () => {
    for (let n = 1; n <= 5; n += 1) {
      for (let k = 1; k <= n; k += 1) {
        const members = Array.from({ length: n }, (_, i) => id(`m${i}`));
        const needed = answersNeeded(rule(members, { synchronousStandbys: `ANY ${k} (*)` }));
        expect(needed + k).toBe(n + 1);
      }
    }
  });

  it('the candidate counts, and names who is missing', () => {
    expect(kinds(standing(c), standing(b))).toEqual([]);
    const [doubt] = doubtsOf(standing(c), [standing(d)]);
    expect(doubt).toMatchObject({ kind: 'too_few', missing: [b] });
  });

  it('a node that is no member is not promoted', () => {
    expect(kinds(standing(d), standing(b), standing(c))).toEqual(['not_a_member']);
    expect(kinds(standing(d, { rule: rule([]) }))).toEqual(['not_a_member']);
  });

  it('where the last primary went on alone nobody is', () => {
    const alone = rule([b, c], { degraded: true });
    expect(kinds(standing(c, { rule: alone }), standing(b))).toEqual(['degraded']);
    // One that was away does not know.
    expect(kinds(standing(c), standing(b, { rule: alone }))).toEqual(['degraded']);
  });

  it('a rule that another one knows counts too', () => {
    const newer = rule([b, c, d]);
    expect(kinds(standing(c), standing(b, { rule: newer }))).toEqual(['too_few']);
    expect(kinds(standing(c), standing(b, { rule: newer }), standing(d))).toEqual([]);
  });

  it('whom a referee has granted the group may lead, by the rule that it had', () => {
    const granted = (by: Rule, own: Standing, ...others: Standing[]) =>
      doubtsOf(own, others, 0, { epoch: 1, primary: a, rule: by }).map(({ kind }) => kind);
    // From c to b, and the referee was not told: by both rules together nobody may lead.
    const next = rule([b]);
    const told = standing(b, { rule: next });
    expect(kinds(standing(c, { rule: next }), told)).toEqual(['not_a_member']);
    expect(granted(rule([c]), standing(c, { rule: next }), told)).toEqual([]);
    // Who may have all that was acknowledged is asked, by each of the rules.
    expect(granted(rule([c]), standing(c, { rule: next }))).toEqual(['too_few']);
    expect(granted(rule([c, d]), standing(c, { rule: next }), told)).toEqual(['too_few']);
    // It had not gone on alone yet; or had, as the referee was told and nobody else.
    const alone = rule([c], { degraded: true });
    expect(granted(rule([c]), standing(c, { rule: alone }))).toEqual([]);
    expect(granted(alone, standing(c, { rule: rule([c]) }))).toEqual(['degraded']);
    // Who led the last term that those who answer know of may have missed all of a later one.
    const led = standing(b, { rule: null, last: term(1, b) });
    expect(granted(rule([b, c, d]), led, standing(d, { rule: null }))).toEqual(['too_few']);
    // The primary itself has it all, fenced for another candidate or not.
    const fenced = { term: fenceTerm(2, d) };
    expect(granted(rule([c]), standing(a, fenced), standing(c, fenced))).toEqual([]);
    expect(granted(alone, standing(a, fenced), standing(c, fenced))).toEqual([]);
    // Nobody need be asked: who was granted the group since has not come so far as to acknowledge.
    expect(granted(rule([c, d]), standing(a, fenced))).toEqual([]);
    const begun = { term: term(2, c), last: term(2, c), rule: rule([a]) };
    expect(granted(rule([c, d]), standing(a, fenced), standing(c, begun))).toEqual([]);
    // That one runs yet, and may have been granted it again.
    const running = standing(c, { ...begun, role: 'primary' });
    expect(granted(rule([c, d]), standing(a), running)).toEqual(['superseded']);
    // Without a referee nobody knows how far that came.
    expect(kinds(standing(a, fenced))).toEqual(['too_few', 'handed_over']);
  });

  it('a rule of an earlier term does not', () => {
    const old = standing(d, { rule: rule([d, a]) });
    const now = { term: term(2, b), last: term(2, b) };
    const own = standing(c, now);
    expect(lastRules([own, old])).toEqual([own.rule]);
    expect(kinds(own, standing(b, now), old)).toEqual([]);
  });

  it('a fence that nobody has opened takes no rule away', () => {
    const fenced = { term: fenceTerm(2, c) };
    expect(kinds(standing(c, fenced), standing(b, fenced))).toEqual([]);
    expect(kinds(standing(c, fenced))).toEqual(['too_few']);
  });

  it('who was fenced before the last term was opened knows no rule that counts', () => {
    const old = standing(b, { term: fenceTerm(2, a), rule: rule([a, b]) });
    const now = { term: term(3), last: term(3), rule: rule([c]) };
    expect(kinds(standing(c, now), old)).toEqual([]);
    expect(kinds(standing(c, now), { ...old, term: fenceTerm(3, a) })).toEqual([]);
    const of = fenceTerm(3, d);
    expect(kinds(standing(c, now), { ...old, term: of })).toEqual(['not_a_member', 'too_few']);
    const later = { ...old, term: fenceTerm(4, a) };
    expect(kinds(standing(c, now), later)).toEqual(['not_a_member', 'too_few']);
  });

  it('who led the last term needs who would know of another, and its successor', () => {
    const own = standing(a, { primary: '' });
    // Any k meet any n - k + 1 that may have promoted another.
    expect(kinds(own)).toEqual(['too_few']);
    expect(kinds(own, standing(c))).toEqual([]);
    const any2 = rule([b, c, d], { synchronousStandbys: 'ANY 2 (*)' });
    expect(kinds(standing(a, { rule: any2 }), standing(b))).toEqual(['too_few']);
    expect(kinds(standing(a, { rule: any2 }), standing(b), standing(d))).toEqual([]);
    // Whom it went on without was not told, and is promoted by the rule before.
    const alone = { rule: rule([b, c], { degraded: true }) };
    expect(kinds(standing(a, alone))).toEqual(['too_few']);
    expect(kinds(standing(a, alone), standing(d, { rule: null }))).toEqual(['too_few']);
    expect(kinds(standing(a, alone), standing(c))).toEqual([]);
    const given = standing(a, { term: fenceTerm(2, b), primary: 'b' });
    expect(kinds(given, standing(c))).toEqual(['handed_over']);
    expect(kinds(given, standing(b))).toEqual([]);
    expect(doubtsOf(given, [standing(c)])[0]).toMatchObject({ missing: [b] });
    // One that was fenced may know of a term that is newer; and this one does.
    expect(kinds(own, standing(b, { term: fenceTerm(3, c) }))).toContain('not_a_member');
    const opened = { term: term(2, b), last: term(2, b) };
    expect(kinds(own, standing(b, opened))).toContain('not_a_member');
  });

  it('where nobody waits for standbys, nobody has to', () => {
    const local = rule([], { synchronousCommit: 'local', synchronousStandbys: null });
    expect(kinds(standing(c, { rule: local }))).toEqual([]);
    expect(kinds(standing(c, { rule: null }))).toEqual(['unknown_rule']);
  });

  it('what an acknowledgement meant in the last term has to be known to somebody', () => {
    const untold = standing(c, { term: term(2, b), isRuleCurrent: false });
    expect(kinds(untold)).toEqual(['unknown_rule']);
    expect(kinds(untold, standing(b))).toEqual(['unknown_rule']);
    const told = standing(d, { term: term(2, b), rule: rule([c, d]) });
    expect(kinds(untold, told)).toEqual([]);
    // By the one that was told it, and not by the one of an earlier term.
    expect(kinds({ ...untold, rule: rule([a, b]) }, told)).toEqual([]);
    const nothingYet = { term: { epoch: 0, opener: '', incarnation: 0 }, last: undefined };
    expect(kinds(standing(c, { ...nothingYet, rule: null }))).toEqual(['unknown']);
  });

  it('a rule is current where its term was the last one opened, or none was told since', () => {
    const info = {
      rule: rule([b]),
      term: term(2),
      isRuleOfEarlierTerm: false,
      isRuleUntold: false,
    };
    expect(isRuleCurrent(info)).toBe(true);
    expect(isRuleCurrent({ ...info, rule: null })).toBe(false);
    expect(isRuleCurrent({ ...info, isRuleOfEarlierTerm: true })).toBe(false);
    const fenced = { ...info, term: fenceTerm(3, c), isRuleOfEarlierTerm: true };
    expect(isRuleCurrent(fenced)).toBe(true);
    expect(isRuleCurrent({ ...fenced, isRuleUntold: true })).toBe(false);
  });

  it('a commit that none of the logs reaches is one that would be lost', () => {
    const commit = { position: 9000, lsn: 11 };
    expect(kinds(standing(c, { commit }), standing(b))).toEqual(['short']);
    const longer = standing(b, { end: { position: 9000, lsn: 11 } });
    expect(kinds(standing(c, { commit }), longer)).toEqual([]);
  });

  it('a length of an earlier term makes up for nothing', () => {
    const commit = { position: 9000, lsn: 11 };
    const now = { term: term(2, b), last: term(2, b), commit };
    const old = standing(a, { end: { position: 20_000, lsn: 90 } });
    expect(kinds(standing(c, now), standing(b, now), old)).toEqual(['short']);
  });

  it('a newer primary that answers is followed, not replaced unawares', () => {
    const primary = standing(b, { role: 'primary', term: term(2, b) });
    expect(kinds(standing(c, { rule: null }), primary)).toContain('superseded');
  });

  it('of two candidates the one that has begun is ahead, or the one of the higher id', () => {
    const begun = (nodeId: string) =>
      standing(nodeId, { term: fenceTerm(2, nodeId), isCandidate: true });
    const asks = (nodeId: string) => standing(nodeId, { isCandidate: true });
    expect(candidateAhead(asks(b), [begun(c)])?.nodeId).toBe(c);
    expect(candidateAhead(asks(c), [begun(b)])?.nodeId).toBe(b);
    expect(candidateAhead(begun(b), [begun(c)])?.nodeId).toBe(c);
    expect(candidateAhead(begun(c), [begun(b)])).toBeUndefined();
    expect(candidateAhead(begun(c), [asks(b)])).toBeUndefined();
    // One that has failed, or was closed meanwhile, is none.
    expect(candidateAhead(asks(b), [{ ...begun(c), isCandidate: false }])).toBeUndefined();
    // It was asked before it had stored its fence, and has come round by now.
    expect(candidateAhead({ ...asks(b), term: fenceTerm(2, c) }, [asks(c)])?.nodeId).toBe(c);
  });

  it('the rule that counts is that of when they were fenced, not of when they were asked', () => {
    const asked = [standing(c), standing(b)] as const;
    expect(kinds(...asked)).toEqual([]);
    const grant = {
      ...{ nodeId: b, name: 'b', term: fenceTerm(2, c), before: term(1), crc: 0 },
      ...{ rule: rule([b, c, d]), isRuleCurrent: true, end: asked[1].end, commit: asked[1].commit },
      history: [{ ...term(1), position: 4096, lsn: 0 }],
    };
    // d was let in between, and may have acknowledged alone.
    expect(kinds(asked[0], standingFenced(asked[1], grant))).toEqual(['too_few']);
    const alone = { ...grant, rule: rule([b, c], { degraded: true }) };
    expect(kinds(asked[0], standingFenced(asked[1], alone))).toEqual(['degraded']);
    // Fenced before, nobody can tell of which term its rule is: it counts.
    const again = { ...grant, before: fenceTerm(1, d), history: [] };
    expect(kinds(asked[0], standingFenced(asked[1], again))).toEqual(['too_few']);
  });
});

describe('the best log', () => {
  const log = (last: Term | undefined, position: number) => ({
    history: last === undefined ? [] : [{ ...last, position: 4096, lsn: 0 } satisfies HistoryEntry],
    end: { position, lsn: 0 },
  });

  it('is that of the highest last term, and then the longest', () => {
    const long = log(term(1), 50_000);
    const newer = log(term(2, b), 6000);
    const newest = log(term(2, b, 2), 5000);
    const longer = log(term(2, b, 2), 5500);
    expect(bestOf([long, newer])).toBe(newer);
    expect(bestOf([newer, newest, long])).toBe(newest);
    expect(bestOf([newest, longer, newer])).toBe(longer);
    expect(bestOf([log(undefined, 4096), long])).toBe(long);
    expect(bestOf([long, log(undefined, 4096)])).toBe(long);
  });

  it('has all of those who knew of no term after its last one, until they were fenced', () => {
    const granted = (nodeId: string, before: Term, last = term(2, b)): FenceGrant => ({
      ...{ nodeId, name: nodeId, term: fenceTerm(5, a), before, crc: 0 },
      ...{ rule: null, isRuleCurrent: false, commit: { position: 0, lsn: 0 } },
      ...log(last, 9000),
    });
    const best = granted(a, term(2, b));
    const told = (...others: FenceGrant[]) => witnesses([best, ...others]);
    expect(told(granted(c, term(2, b)), granted(d, term(2, b)))).toEqual([a, c, d]);
    // What it has flushed, it never had a reason to cut; of the last term it may have got nothing.
    expect(told(granted(c, term(1), term(1)))).toEqual([a, c]);
    // It has followed somebody since, or may have, before it was fenced the first time.
    for (const before of [
      term(3, d),
      term(2, b, 2),
      term(2, d),
      fenceTerm(4, a),
      fenceTerm(3, d),
    ]) {
      expect(told(granted(c, before, term(1)))).toEqual([a]);
    }
    expect(witnesses([granted(c, term(3, d)), best])).toEqual([a]);
    const empty = { ...granted(c, term(0, '0'.repeat(32), 0)), history: [] };
    expect(told(empty)).toEqual([a, c]);
    expect(witnesses([empty])).toEqual([]);
  });

  it('is taken only where it goes on from what is here', () => {
    const first = { ...term(1), position: 4096, lsn: 0 };
    const second = { ...term(2, b), position: 9000, lsn: 5 };
    const own = { history: [first], end: { position: 8000, lsn: 4 } };
    const tail = { history: [first], end: { position: 12_000, lsn: 9 } };
    const best = { history: [first, second], end: { position: 10_000, lsn: 6 } };
    expect(isPrefixOf(own, best)).toBe(true);
    expect(isPrefixOf(tail, best)).toBe(false);
  });
});

describe('a fence', () => {
  it('is granted for a higher epoch only, and to one candidate', () => {
    expect(mayFence(term(1), 2, b)).toBe(true);
    expect(mayFence(term(2), 2, a)).toBe(false);
    expect(mayFence(term(3), 2, b)).toBe(false);
    expect(mayFence(fenceTerm(2, b), 2, b)).toBe(true);
    expect(mayFence(fenceTerm(2, b), 2, c)).toBe(false);
    expect(mayFence(fenceTerm(2, b), 3, c)).toBe(true);
    // It has opened the epoch: the fence is over.
    expect(mayFence(term(2, b), 2, b)).toBe(false);
  });

  it('is over when its candidate, and nobody else, tells of another that opened the epoch', () => {
    const fence = fenceTerm(3, c);
    const follows = standing(c, { term: term(3, b) });
    expect(hasGivenUp(follows, fence)).toBe(true);
    expect(hasGivenUp({ ...follows, nodeId: a }, fence)).toBe(false);
    expect(hasGivenUp({ ...follows, nodeId: b }, fence)).toBe(false);
    // It may open the epoch yet, or has done so; of a newer one it may have been both.
    for (const known of [term(2), fenceTerm(3, c), fenceTerm(3, b), term(3, c), term(4, b)]) {
      expect(hasGivenUp({ ...follows, term: known }, fence)).toBe(false);
    }
    // Nobody is bound by a term that was opened.
    expect(hasGivenUp(follows, term(3, c))).toBe(false);
  });
});
