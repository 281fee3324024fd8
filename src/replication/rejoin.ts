import type { HistoryEntry, Place, Rule } from '../native/native_log.js';
import { parseStandbys } from './policy.js';
import { waitsForStandbys } from './rule.js';

/** What an old primary does where records would go that may have been seen. */
export type RejoinMode = 'ask' | 'auto';

/** The log of a node that was a primary, and comes back to one that took its place. */
export interface ReturningLog {
  readonly history: readonly HistoryEntry[];
  readonly end: Place;
  /** Last place that is known to be committed; more may be. */
  readonly commit: Place;
  /** Last record that a quorum is known to have committed, under whichever rule. */
  readonly quorumLsn: number;
  /** What acknowledgements in the last term of `history` meant; null: not known. */
  readonly rule: Rule | null;
}

/** The records past the fork point; none where `records` is 0. */
export interface Tail {
  readonly firstLsn: number;
  readonly lastLsn: number;
  readonly records: number;
  /** Last of them that may have been committed and seen; below `firstLsn`: none may. */
  readonly seenLsn: number;
}

/**
 * `follow`: nothing goes that anybody may have seen. `ask`: something may. `never`: a quorum
 * committed some of it, and the new primary should have it.
 */
export type Verdict = 'follow' | 'ask' | 'never';

export interface Judgement {
  readonly verdict: Verdict;
  readonly tail: Tail;
}

/** What may become of the log past the fork point with the log of the node `primaryId`. */
export function judgeTail(own: ReturningLog, fork: Place, primaryId: string): Judgement {
  const seenLsn = Math.max(lastSeen(own, primaryId), own.commit.lsn);
  const tail: Tail = {
    firstLsn: fork.lsn + 1,
    lastLsn: own.end.lsn,
    records: Math.max(0, own.end.lsn - fork.lsn),
    seenLsn,
  };
  if (tail.records === 0) return { verdict: 'follow', tail };
  if (own.quorumLsn > fork.lsn) return { verdict: 'never', tail };
  return { verdict: seenLsn > fork.lsn ? 'ask' : 'follow', tail };
}

/**
 * Last record that may have been committed, for all that this node and the new primary know. What
 * could be acknowledged only with the new primary's part is in the new primary's log, which keeps
 * all that it received; so past the fork point nothing of that term was. Of the terms before it the
 * rule is not known any more.
 */
function lastSeen({ rule, history, end }: ReturningLog, primaryId: string): number {
  const opening = history.at(-1);
  if (rule === null || opening === undefined) return end.lsn;
  if (rule.synchronousStandbys === null || !waitsForStandbys(rule) || rule.degraded) return end.lsn;
  const others = rule.members.filter((id) => id !== primaryId);
  const { count } = parseStandbys(rule.synchronousStandbys);
  return others.length >= count ? end.lsn : opening.lsn;
}

/** In words, for whoever decides. */
export function describeTail({ firstLsn, lastLsn, records, seenLsn }: Tail): string {
  if (records === 0) return 'no records';
  const range = records === 1 ? `LSN ${firstLsn}` : `LSN ${firstLsn} to ${lastLsn}`;
  const count = records === 1 ? '1 record' : `${records} records`;
  const seen =
    seenLsn >= lastLsn
      ? 'which may have been committed and seen'
      : seenLsn < firstLsn
        ? 'which nobody can have seen'
        : `of which those up to LSN ${seenLsn} may have been committed and seen`;
  return `${range} (${count}), ${seen}`;
}
