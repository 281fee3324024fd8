import type { HistoryEntry, Place, Term } from '../native/native_log.js';

/** Where batches start in an empty log: after the first segment's header. */
export const firstPosition = 4096;

/** How a term stands to another (SAFETY 2.1, 2.3). */
export type TermOrder = 'same' | 'older' | 'newer' | 'split';

/**
 * Epochs order; incarnations order only within one epoch and opener. The same epoch with two
 * openers is a split, which nothing here resolves; of two candidates, each is older to those that
 * were fenced for the other. Answers what `term` is, seen from `other`.
 */
export function compareTerms(term: Term, other: Term): TermOrder {
  if (term.epoch !== other.epoch) return term.epoch < other.epoch ? 'older' : 'newer';
  if (term.opener !== other.opener) {
    // Nobody has opened it for one of them: who was fenced takes nothing of another, that is all.
    return term.incarnation === 0 || other.incarnation === 0 ? 'older' : 'split';
  }
  if (term.incarnation === other.incarnation) return 'same';
  return term.incarnation < other.incarnation ? 'older' : 'newer';
}

export function showTerm(term: Term): string {
  return `${term.epoch}.${term.incarnation} of ${term.opener.slice(0, 8)}`;
}

/**
 * What of a standby's commit place lies past `bound`. It may be no record, but an opening or a
 * filler (docs/adr/0006).
 */
export function showPast(commit: Place, bound: Place): string {
  if (commit.lsn > bound.lsn) return `LSN ${commit.lsn} to be committed`;
  return (
    `the log to be committed past LSN ${commit.lsn}, up to a term's opening or a segment's end ` +
    'behind it'
  );
}

/** Whether terms rise strictly and positions and LSNs do not fall: anything else is no history. */
export function isHistory(history: readonly HistoryEntry[]): boolean {
  for (let i = 0; i < history.length; i += 1) {
    const entry = history[i]!;
    const before = history[i - 1];
    if (entry.position < firstPosition) return false;
    if (before === undefined) continue;
    if (compareTerms(before, entry) !== 'older') return false;
    if (entry.position <= before.position || entry.lsn < before.lsn) return false;
  }
  return true;
}

/** A log as far as finding the fork point goes. */
export interface Lineage {
  readonly history: readonly HistoryEntry[];
  /** Where its last batch ends. */
  readonly end: Place;
}

/**
 * The place up to which two logs are the same, by their histories alone: after the longest
 * common prefix of terms, the lower of the places where each goes on with a term of its own, or
 * ends. Lengths and last terms alone do not tell (KIP-101, KIP-279: a term without records in
 * between).
 *
 * Histories may have lost their oldest entries; undefined where what is left has nothing in common,
 * so that no fork point can be told.
 */
export function forkPoint(a: Lineage, b: Lineage): Place | undefined {
  // An empty log has no history, and is the beginning of every log.
  if (a.history.length === 0 || b.history.length === 0) return lower(goesOn(a, 0), goesOn(b, 0));
  let i = 0;
  let j = 0;
  if (!sameEntry(a.history[0]!, b.history[0]!)) {
    i = a.history.findIndex((entry) => sameEntry(entry, b.history[0]!));
    j = b.history.findIndex((entry) => sameEntry(entry, a.history[0]!));
    const areWhole = [a, b].every(({ history }) => history[0]!.position === firstPosition);
    if (i < 0 && j < 0 && !areWhole) return undefined;
    i = Math.max(0, i);
    j = i > 0 ? 0 : Math.max(0, j);
  }
  while (i < a.history.length && j < b.history.length) {
    if (!sameEntry(a.history[i]!, b.history[j]!)) break;
    i += 1;
    j += 1;
  }
  return lower(goesOn(a, i), goesOn(b, j));
}

function goesOn(log: Lineage, index: number): Place {
  const { position, lsn } = log.history[index] ?? log.end;
  return { position, lsn };
}

function lower(a: Place, b: Place): Place {
  return b.position < a.position ? b : a;
}

function sameEntry(a: HistoryEntry, b: HistoryEntry): boolean {
  return compareTerms(a, b) === 'same' && a.position === b.position && a.lsn === b.lsn;
}
