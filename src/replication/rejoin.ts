import type { HistoryEntry, Place, Rule } from '../native/native_log.js';
import { parseStandbys } from './policy.js';
import { waitsForStandbys } from './rule.js';

/**
 * What a node does with records that its new primary lacks, and that may have been seen. `auto`
 * sets them aside, but for those that a quorum may have committed. An LSN does so for all that
 * lies past it: the word of somebody who has seen what would go.
 */
export type RejoinMode = 'ask' | 'auto' | number;

/** The log of a node whose primary is another one from now on, of a newer epoch. */
export interface ReturningLog {
  readonly history: readonly HistoryEntry[];
  readonly end: Place;
  /** Last place that is known to be committed; more may be. */
  readonly commit: Place;
  /** This node led the last term, and has acknowledged nothing past `commit`. */
  readonly isCommitExact: boolean;
  /**
   * Last record that a quorum is known to have committed, and the last that it may have under a
   * rule that `rule` took the place of.
   */
  readonly quorumLsn: number;
  readonly quorumMostLsn: number;
  /** What acknowledgements in the last term of `history` meant; null: not known. */
  readonly rule: Rule | null;
  /** Some commits were acknowledged at a level below it. */
  readonly isRuleUndercut: boolean;
}

/** The records past the fork point; none where `records` is 0. */
export interface Tail {
  readonly firstLsn: number;
  readonly lastLsn: number;
  readonly records: number;
  /** Last of them that may have been committed and seen; below `firstLsn`: none may. */
  readonly seenLsn: number;
  /** The same of those that a quorum may have committed. */
  readonly quorumLsn: number;
}

/**
 * `follow`: nothing goes that anybody may have seen. `ask`: something may. `name`: a quorum may
 * have committed some of it. `never`: it has, and the new primary should have that.
 */
export type Verdict = 'follow' | 'ask' | 'name' | 'never';

export interface Judgement {
  readonly verdict: Verdict;
  readonly tail: Tail;
}

/** The log that the fork parts from. */
export interface NewLog {
  readonly primaryId: string;
  /** The term with which it goes on at the fork, if it does. */
  readonly next?: HistoryEntry | undefined;
  /** Of that term (`Accept.witnesses`). */
  readonly witnesses: readonly string[];
}

/** What may become of the log past the fork point with the new one. */
export function judgeTail(own: ReturningLog, fork: Place, other: NewLog): Judgement {
  const may = wasOpenedAnew(own, fork, other.next)
    ? { seenLsn: fork.lsn, quorumLsn: fork.lsn }
    : mayBeCommitted(own, [other.primaryId, ...other.witnesses]);
  const tail: Tail = {
    firstLsn: fork.lsn + 1,
    lastLsn: own.end.lsn,
    records: Math.max(0, own.end.lsn - fork.lsn),
    seenLsn: Math.max(may.seenLsn, own.commit.lsn),
    quorumLsn: Math.max(may.quorumLsn, own.quorumLsn),
  };
  return { verdict: verdictOf(tail, own.quorumLsn), tail };
}

function verdictOf({ firstLsn, records, seenLsn, quorumLsn }: Tail, knownLsn: number): Verdict {
  if (records === 0) return 'follow';
  if (knownLsn >= firstLsn) return 'never';
  if (quorumLsn >= firstLsn) return 'name';
  return seenLsn >= firstLsn ? 'ask' : 'follow';
}

/** Whether what was found may go. */
export function mayGo({ verdict, tail }: Judgement, mode: RejoinMode): boolean {
  if (verdict === 'never') return false;
  if (verdict === 'follow' || mode === tail.firstLsn - 1) return true;
  return verdict === 'ask' && mode === 'auto';
}

/**
 * The primary of the last term went on at the fork with another term, and so had flushed nothing
 * past it. Nothing is committed that its primary has not flushed (SAFETY 1.2): that it has a new
 * epoch, by its referee, is as if it had a new incarnation (SAFETY 2.5).
 */
function wasOpenedAnew({ history }: ReturningLog, fork: Place, next?: HistoryEntry): boolean {
  const last = history.at(-1);
  if (last === undefined || next === undefined) return false;
  const isAllOfIt = last.position < fork.position && next.position === fork.position;
  return isAllOfIt && last.opener === next.opener;
}

/**
 * Last record that may have been committed by anybody, and by a quorum, for all that this node and
 * the new primary know. Of the terms before the last one the rule is not known any more.
 */
function mayBeCommitted(own: ReturningLog, heard: readonly string[]) {
  const { rule, history, end, commit } = own;
  const opening = history.at(-1);
  if (rule === null || opening === undefined) return { seenLsn: end.lsn, quorumLsn: end.lsn };
  const isAlone = rule.synchronousStandbys === null || !waitsForStandbys(rule) || rule.degraded;
  // The commit place passes the opening with all that lies before it (SAFETY 1.5).
  const exact = commit.position > opening.position ? commit.lsn : opening.lsn;
  const byRule = isAlone || mayBeMetWithout(heard, rule) ? end.lsn : opening.lsn;
  const lastLsn = own.isCommitExact ? exact : byRule;
  return {
    seenLsn: own.isRuleUndercut ? end.lsn : lastLsn,
    quorumLsn: isAlone ? Math.max(opening.lsn, own.quorumMostLsn) : lastLsn,
  };
}

/**
 * Whether the rule can be met by a record that the new primary does not have now. What these nodes
 * have flushed it has; what they acknowledged from memory may be gone with that.
 */
function mayBeMetWithout(heard: readonly string[], rule: Rule): boolean {
  const { synchronousCommit, synchronousStandbys, members } = rule;
  const { count } = parseStandbys(synchronousStandbys!);
  const others =
    synchronousCommit === 'remote_write' ? members : members.filter((id) => !heard.includes(id));
  return others.length >= count;
}

/** In words, for whoever decides. */
export function describeTail({ firstLsn, lastLsn, records, seenLsn, quorumLsn }: Tail): string {
  if (records === 0) return 'no records';
  const range = records === 1 ? `LSN ${firstLsn}` : `LSN ${firstLsn} to ${lastLsn}`;
  const count = records === 1 ? '1 record' : `${records} records`;
  const seen =
    quorumLsn >= firstLsn
      ? mayHave(quorumLsn, lastLsn, 'been committed by a quorum')
      : seenLsn >= firstLsn
        ? mayHave(seenLsn, lastLsn, 'been committed and seen')
        : 'which nobody can have seen';
  return `${range} (${count}), ${seen}`;
}

function mayHave(lsn: number, lastLsn: number, what: string): string {
  return lsn >= lastLsn
    ? `which may have ${what}`
    : `of which those up to LSN ${lsn} may have ${what}`;
}
