import type { HistoryEntry, Place, Role, Rule, Term } from '../native/native_log.js';

/** What a node says of itself when another one asks; it stores nothing for that. */
export interface Standing {
  readonly nodeId: string;
  readonly name: string;
  readonly role: Role;
  /** The highest that it knows: of its primary, or of a candidate that it was fenced for. */
  readonly term: Term;
  /** Of its last batch; undefined: its log is empty. */
  readonly last: Term | undefined;
  /** Where its log ends: what is received and verified, which a fence flushes. */
  readonly end: Place;
  /** The highest commit place that it knows; it may lie past its log. */
  readonly commit: Place;
  /** What acknowledgements meant, as it was last told; null: it was not. */
  readonly rule: Rule | null;
  /** That is of the last term of which it knows that it was opened (`isRuleCurrent`). */
  readonly isRuleCurrent: boolean;
  /** Whom it takes for the primary, and where; '': it does not know. */
  readonly primary: string;
  readonly primaryAddress: string;
  /** It gets the log from there now. */
  readonly connected: boolean;
  /** It is being promoted. */
  readonly isCandidate: boolean;
  /** It takes no role that a referee has not granted. */
  readonly hasReferee: boolean;
}

/** A node that was fenced: it takes and acknowledges nothing more of an older epoch. */
export interface FenceGrant {
  readonly nodeId: string;
  readonly name: string;
  /** What it has stored. */
  readonly term: Term;
  /** What it knew before: the term that `rule` is of, unless it was a fence too. */
  readonly before: Term;
  readonly rule: Rule | null;
  /** As in `Standing`. */
  readonly isRuleCurrent: boolean;
  /** Of its log, which does not grow any more; the last entry is of its last batch. */
  readonly history: readonly HistoryEntry[];
  /** Where that ends, all of it flushed. */
  readonly end: Place;
  /** Of the batch that ends there; 0: the log is empty. */
  readonly crc: number;
  readonly commit: Place;
}
