import type { HistoryEntry, NativeInfo, Place, Rule, Term } from '../native/native_log.js';
import { fenceTerm, isFence } from './fence.js';
import { compareTerms, forkPoint } from './history.js';
import { parseStandbys } from './policy.js';
import { type RecordedRule, waitsForStandbys } from './rule.js';
import type { FenceGrant, Standing } from './standing.js';

/** Why a promotion may lose what was acknowledged, by all that is known. */
export type DoubtKind =
  | 'unknown'
  | 'degraded'
  | 'not_a_member'
  | 'too_few'
  | 'short'
  | 'unknown_rule'
  | 'superseded'
  | 'handed_over';

export interface Doubt {
  readonly kind: DoubtKind;
  /** What is wrong, for people. */
  readonly text: string;
  /** Ids of those of the synchronous set that did not answer. */
  readonly missing: readonly string[];
}

/** The last term that a node has heard somebody open. */
export function openedTerm(standing: Opened): Term | undefined {
  const { term, last } = standing;
  if (term.epoch > 0 && !isFence(term) && !hasNeverBegun(standing)) return term;
  return last;
}

type Opened = Pick<Standing, 'nodeId' | 'role' | 'term' | 'last'>;

/** It has stored a term of its own, to open it, and did not get there: a crash came in between. */
function hasNeverBegun({ nodeId, role, term, last }: Opened): boolean {
  if (role === 'primary' || term.opener !== nodeId || isFence(term)) return false;
  return last === undefined || compareTerms(last, term) !== 'same';
}

/**
 * Whoever has only heard of such a term takes it for opened; who stored it knows better. It has
 * acknowledged nothing in it: it never flushed its opening.
 */
function ofWhatBegan(each: Standing, all: readonly Standing[]): Standing {
  const { term, last } = each;
  if (last !== undefined && compareTerms(last, term) === 'same') return each;
  const opener = all.find(({ nodeId }) => nodeId === term.opener);
  const isVain = opener !== undefined && opener !== each && hasNeverBegun(opener);
  if (!isVain || compareTerms(opener.term, term) !== 'same') return each;
  // As after a fence, what it was told before counts.
  const isRuleCurrent = each.rule !== null;
  return { ...each, term: fenceTerm(term.epoch, term.opener), isRuleCurrent };
}

/** The rule of such a term says nothing of what was acknowledged before it. */
function withRuleOfBefore(standing: Standing): Standing {
  return hasNeverBegun(standing) ? { ...standing, rule: null } : standing;
}

/**
 * The rules by which somebody may have been acknowledged something last: all that those who answer
 * know of the highest term. There may be several, since whoever was away was not told of the
 * newest; each but the newest asks for nothing that was not so at its time. Of one that was fenced
 * before nobody can tell which term its rule is of, and it counts: unless all terms before its
 * fence are older than the one that was opened since.
 */
export function lastRules(all: readonly Standing[]): readonly Rule[] {
  const rules: Rule[] = [];
  const highest = ofHighestTerm(all);
  const top = new Set(highest);
  const opened = highest.map(openedTerm).at(0);
  for (const each of all) {
    const { rule, term } = each;
    if (!top.has(each) && !mayKnowLater(term, opened)) continue;
    if (!each.isRuleCurrent) continue;
    if (rule !== null && !rules.some((each) => isSame(each, rule))) rules.push(rule);
  }
  return rules;
}

/**
 * Whether a node was told what acknowledgements meant in the last term that it knows to be opened:
 * a standby hears of a term when it connects, and of its rule when it is let in. One that was
 * fenced has kept what it knew.
 */
export function isRuleCurrent(
  info: Pick<NativeInfo, 'rule' | 'term' | 'isRuleOfEarlierTerm' | 'isRuleUntold'>,
): boolean {
  if (info.rule === null) return false;
  return isFence(info.term) ? !info.isRuleUntold : !info.isRuleOfEarlierTerm;
}

/**
 * Whether its rule may be of the term that was opened, or of a later one: who is fenced has taken
 * nothing of the epoch of its fence. Of one that is fenced for another candidate of that same epoch
 * nobody can tell.
 */
function mayKnowLater(term: Term, opened: Term | undefined): boolean {
  if (!isFence(term)) return false;
  if (opened === undefined || term.epoch > opened.epoch) return true;
  return term.epoch === opened.epoch && term.opener !== opened.opener;
}

/**
 * What speaks against promoting `own`, with those of `others` that have answered. Any `k` of `n`
 * members may hold what was acknowledged alone; so `n - k + 1` have to answer, of which one holds
 * it (SAFETY 3.4). Only a member is promoted, and nobody but by force where the last primary went
 * on alone (SAFETY 4.2). Where no commit waited for a standby, `maximumLag` records may be lacking.
 *
 * A primary that was demoted has all that was acknowledged in its term. What it cannot know is
 * whether another was promoted since: so `k` have to answer, of whom one was asked for that; and
 * whom it has handed over to. So also where it went on alone: those who were away were not told,
 * and are promoted by the rule before. The primary of the rule that a referee has recorded need ask
 * nobody.
 *
 * `recorded`: that a referee granted it the group by, which says who may lead. The other rules that
 * are known say who has to be asked: one that was told, and had not come to the referee when its
 * primary was lost, counted only beside the one before (SAFETY 4.1). Of two such rules with
 * different members nobody may be a member of both.
 */
export function doubtsOf(
  ownWord: Standing,
  othersWords: readonly Standing[],
  maximumLag = 0,
  recorded?: RecordedRule,
): readonly Doubt[] {
  const words = [ownWord, ...othersWords];
  const own = ofWhatBegan(ownWord, words);
  const others = othersWords.map((each) => ofWhatBegan(each, words));
  const all = [own, ...others];
  const doubts: Doubt[] = [];
  // What it was created to follow has opened an epoch, which this one would open a second time.
  if (all.every((each) => openedTerm(each) === undefined)) {
    const text = 'this node has never met its primary, and nobody that answers has';
    doubts.push({ kind: 'unknown', text, missing: [] });
  }
  const isGranted = recorded !== undefined;
  const told = lastRules(all.map(withRuleOfBefore));
  // It goes on alone only when its referee knows.
  const rules = isGranted
    ? told.filter((each) => !each.degraded && !isSame(each, recorded.rule))
    : [...told];
  const hasLed = ledLastTerm(own, others);
  const isRecorded = recorded?.primary === own.nodeId;
  // Who leads records its rule before it acknowledges anything: after this node nobody did.
  if (!isRecorded) {
    for (const rule of rules) doubts.push(...doubtsByRule(rule, own, all, hasLed, isGranted));
    // Who led the last term that those who answer know of may have missed a later one.
    if (isGranted) doubts.push(...doubtsByRule(recorded.rule, own, all, false, true));
    if (hasLed) doubts.push(...doubtsOfSuccessor(own, others));
  }
  if (isGranted) rules.push(recorded.rule);
  const last = openedTerm(ofHighestTerm(all)[0] ?? own);
  if (rules.length === 0 && last !== undefined && last.epoch > 0) {
    const text = `nobody that answers knows what acknowledgements of epoch ${last.epoch} meant`;
    doubts.push({ kind: 'unknown_rule', text, missing: [] });
  }
  const known = furthestCommit(ofHighestTerm(all));
  const held = furthest(all);
  const isAsync = rules.length > 0 && !rules.some(waitsForStandbys);
  if (isShort(known, held, isAsync ? maximumLag : 0)) {
    const text =
      `${upTo(known)} is known to be committed, and of those that answer nobody's log reaches ` +
      `past ${upTo(held ?? known)}`;
    doubts.push({ kind: 'short', text, missing: [] });
  }
  const epoch = openedTerm(own)?.epoch ?? 0;
  const primary = others.find((each) => each.role === 'primary' && each.term.epoch > epoch);
  if (primary !== undefined) {
    const text = `${primary.name} is the primary, of epoch ${primary.term.epoch}`;
    doubts.push({ kind: 'superseded', text, missing: [] });
  }
  return doubts;
}

function isShort(
  known: Place | undefined,
  held: Place | undefined,
  maximumLag: number,
): known is Place {
  if (known === undefined || held === undefined || known.position <= held.position) return false;
  return maximumLag === 0 || known.lsn - held.lsn > maximumLag;
}

/** Whether the last term that anybody knows of is its own; who was fenced may know of more. */
function ledLastTerm(own: Standing, others: readonly Standing[]): boolean {
  const { last, nodeId } = own;
  if (last === undefined || last.opener !== nodeId) return false;
  if (others.some((each) => isFence(each.term) || hasNeverBegun(each))) return false;
  return [own, ...others].every((each) => {
    const opened = openedTerm(each);
    return opened === undefined || compareTerms(opened, last) !== 'newer';
  });
}

function doubtsOfSuccessor(
  { term, nodeId, primary }: Standing,
  others: readonly Standing[],
): readonly Doubt[] {
  const { opener } = term;
  if (!isFence(term) || opener === nodeId) return [];
  if (others.some((each) => each.nodeId === opener)) return [];
  const text = `this node has handed over to ${primary}, which may be the primary`;
  return [{ kind: 'handed_over', text, missing: [opener] }];
}

function doubtsByRule(
  rule: Rule,
  own: Standing,
  all: readonly Standing[],
  isOwn: boolean,
  isGranted: boolean,
): readonly Doubt[] {
  if (rule.synchronousStandbys === null || !waitsForStandbys(rule)) return [];
  if (rule.degraded && !isOwn) {
    const text = 'the last primary went on alone, and may have acknowledged what nobody else has';
    return [{ kind: 'degraded', text, missing: [] }];
  }
  const doubts: Doubt[] = [];
  if (!isOwn && !isGranted && !rule.members.includes(own.nodeId)) {
    const count = rule.members.length;
    const text =
      count === 0
        ? 'nobody has acknowledged anything under the last rule, and the one before is not known'
        : `this node is not one of the ${count} whose acknowledgements counted`;
    doubts.push({ kind: 'not_a_member', text, missing: [] });
  }
  if (rule.members.length === 0) return doubts;
  const needed = isOwn ? acknowledging(rule) : answersNeeded(rule);
  const missing = rule.members.filter((id) => !all.some(({ nodeId }) => nodeId === id));
  const there = rule.members.length - missing.length;
  if (there < needed) {
    const text =
      `${there} of the ${rule.members.length} nodes answer whose acknowledgements counted, and ` +
      `${needed} are needed, so that one of them ` +
      (isOwn ? 'knows of a newer primary' : 'has all that was acknowledged');
    doubts.push({ kind: 'too_few', text, missing });
  }
  return doubts;
}

/** So many of its members have to answer: any `k` that acknowledged are not all of the others. */
export function answersNeeded(rule: Rule): number {
  if (rule.synchronousStandbys === null) return 0;
  return Math.max(1, rule.members.length - acknowledging(rule) + 1);
}

/** So many of its members acknowledge; any so many meet all that may have promoted another. */
function acknowledging({ members, synchronousStandbys }: Rule): number {
  return Math.min(members.length, parseStandbys(synchronousStandbys!).count);
}

/**
 * Whether whoever was promoted since a primary led is known by now, which asks before it goes on
 * with its term: that one has asked `n - k + 1` of its members, of which any `k` that answer are
 * one (SAFETY 3.4, 3.6). Where it was started or promoted and nobody has come to it since, who may
 * promote another by the rule before is not known, and nobody may be missing. `answered`: their
 * ids.
 */
export function wouldKnowNewer(
  { rule, term }: Pick<Standing, 'rule' | 'term'>,
  answered: readonly string[],
  isAnyMissing: boolean,
): boolean {
  if (answered.length === 0) return false;
  // By the rule alone anybody may have been promoted then.
  if (rule?.synchronousStandbys == null || !waitsForStandbys(rule)) return true;
  const isNew = term.epoch === 1 && term.incarnation === 1;
  if (rule.members.length === 0) return isNew || !isAnyMissing;
  const there = rule.members.filter((id) => answered.includes(id));
  return there.length >= acknowledging(rule);
}

/**
 * Another candidate that is ahead: it has stored its fence, or this node has been fenced for it. Of
 * two that have each stored their own, the one of the higher node id is. Who goes on all the same
 * takes the epoch above, and ends what the other has opened meanwhile.
 */
export function candidateAhead(own: Standing, others: readonly Standing[]): Standing | undefined {
  return others.find(
    (other) =>
      other.isCandidate &&
      (isFencedFor(own, other) ||
        (isFencedFor(other, other) && !(isFencedFor(own, own) && own.nodeId > other.nodeId))),
  );
}

function isFencedFor({ term }: Standing, { nodeId }: Standing): boolean {
  return isFence(term) && term.opener === nodeId;
}

/**
 * How a node stands that was fenced: what it told then counts. Its rule may have changed since it
 * was asked, and does not any more.
 */
export function standingFenced(asked: Standing, grant: FenceGrant): Standing {
  const { before: term, rule, isRuleCurrent, end, commit, history } = grant;
  const last = history.at(-1);
  return { ...asked, term, rule, isRuleCurrent, end, commit, last };
}

/**
 * The best log of those that were fenced: by (term of the last batch, flush position), never by
 * length alone (SAFETY 3.3).
 */
export function bestOf<Log extends FencedLog>(logs: readonly [Log, ...Log[]]): Log {
  let [best] = logs;
  for (const each of logs) if (isBetter(each, best)) best = each;
  return best;
}

/**
 * Those of whom nothing that they acknowledged from their disks in the last term of the best log,
 * or after it, is lacking in that log: until their fence they knew of no term above it, and so have
 * followed nobody who had them cut what is of it (docs/adr/0013). Of others nobody can tell.
 */
export function witnesses(logs: readonly [FenceGrant, ...FenceGrant[]]): readonly string[] {
  const last = bestOf(logs).history.at(-1);
  if (last === undefined) return [];
  const knewNoMore = ({ before }: FenceGrant): boolean =>
    ['same', 'older'].includes(compareTerms(before, last));
  return logs.filter(knewNoMore).map(({ nodeId }) => nodeId);
}

type FencedLog = Pick<FenceGrant, 'history' | 'end'>;

function isBetter(a: FencedLog, b: FencedLog): boolean {
  const order = compareLast(a.history.at(-1), b.history.at(-1));
  return order > 0 || (order === 0 && a.end.position > b.end.position);
}

/** An epoch has one opener, so the incarnation decides within it. */
function compareLast(a: HistoryEntry | undefined, b: HistoryEntry | undefined): number {
  if (a === undefined || b === undefined) return (a === undefined ? 0 : 1) - (b ? 1 : 0);
  return a.epoch - b.epoch || a.incarnation - b.incarnation;
}

/** Whether all of `own` is in `other`, which may go on after it. */
export function isPrefixOf(own: FencedLog, other: FencedLog): boolean {
  return forkPoint(own, other)?.position === own.end.position;
}

function ofHighestTerm(all: readonly Standing[]): readonly Standing[] {
  let highest: Term | undefined;
  for (const each of all) {
    const opened = openedTerm(each);
    if (opened === undefined) continue;
    if (highest === undefined || compareTerms(opened, highest) === 'newer') highest = opened;
  }
  if (highest === undefined) return [];
  const top = highest;
  return all.filter((each) => {
    const opened = openedTerm(each);
    return opened !== undefined && compareTerms(opened, top) !== 'older';
  });
}

function furthestCommit(all: readonly Standing[]): Place | undefined {
  return furthestPlace(all.map(({ commit }) => commit));
}

/** The best log by what was answered, as `bestOf` would find it. */
function furthest(all: readonly Standing[]): Place | undefined {
  const top = all.reduce<number>((epoch, { last }) => Math.max(epoch, last?.epoch ?? 0), 0);
  return furthestPlace(all.filter(({ last }) => (last?.epoch ?? 0) === top).map(({ end }) => end));
}

function furthestPlace(places: readonly Place[]): Place | undefined {
  return places.reduce<Place | undefined>(
    (far, place) => (far === undefined || place.position > far.position ? place : far),
    undefined,
  );
}

function upTo({ lsn }: Place): string {
  return `LSN ${lsn}`;
}

function isSame(a: Rule, b: Rule): boolean {
  return (
    a.synchronousCommit === b.synchronousCommit &&
    a.synchronousStandbys === b.synchronousStandbys &&
    a.degraded === b.degraded &&
    a.members.length === b.members.length &&
    a.members.every((id) => b.members.includes(id))
  );
}
