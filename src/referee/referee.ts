import type { NumberedRule } from '../replication/rule.js';
import type { Refusal } from './eligibility.js';
import type { LeaderRecord, PauseRecord, ProgressRecord, Records, RuleRecord } from './records.js';
import type { RefereeTiming } from './timing.js';

/** All that a referee holds of a group, at one moment; what there is none of is not there. */
export type GroupView = Partial<Records>;

/** A node that wants to be the primary. */
export interface Claim {
  readonly logId: string;
  readonly nodeId: string;
  /** For people, at most 255 characters. */
  readonly name: string;
  /** The highest epoch that the node knows, of its own or heard from others. */
  readonly epoch: number;
  /** The highest one that its directory holds. */
  readonly storedEpoch: number;
  /** Of the last batch of its log; 0: that is empty. Of two logs LSNs compare only within one. */
  readonly lastEpoch: number;
  /** Where that is locked (place.ts); undefined: it cannot be told. */
  readonly place: string | undefined;
  /** The last LSN that it has flushed. */
  readonly lsn: number;
  /**
   * `open`: it opens its directory as a primary; this alone begins a group. `promotion`: a standby,
   * by itself. `forced`: an operator says so, who has paused automation first, and answers for what
   * the node may lack (SAFETY 3.5).
   */
  readonly kind: 'open' | 'promotion' | 'forced';
  /** In async mode a candidate may lack so many records (SAFETY 4.2). */
  readonly maximumLag: number;
}

/** The right to be the primary, as far as it was granted; it does not renew itself. */
export interface Grant {
  /** The fencing number: above every epoch that was granted, or that the claim knew of. */
  readonly epoch: number;
  readonly nodeId: string;
  /** As it was claimed. */
  readonly place: string | undefined;
  /** Milliseconds of `bootTime()`: from then on nothing may be acknowledged by this grant. */
  readonly deadlineMs: number;
  /** Of the referee: which lease, and which version of the leader record. Opaque. */
  readonly lease: string;
  readonly leaderVersion: string;
  /**
   * The rule by which it was granted, which stays the last one until this grant records another:
   * what it does not ask for was never acknowledged. undefined: there was none, or it is not told.
   */
  readonly rule?: RuleRecord | undefined;
}

export type Answer =
  | { readonly grant: Grant }
  /** Not now, or not this node; `view` is what decided. */
  | { readonly refusal: Refusal; readonly view: GroupView };

export interface Renewal {
  readonly deadlineMs: number;
  readonly view: GroupView;
}

/** What a watch saw: the records, when they have changed; or why not, once for each code. */
export type Sight = { readonly view: GroupView } | { readonly away: Error };

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
}

/**
 * Decides who of a group is the primary (SAFETY 4). It holds a lease, the epoch as its fencing
 * number, and the rule by which the primary acknowledges: whoever acknowledged last is never
 * replaced by a node that may lack what it acknowledged.
 *
 * Every call ends within `timing.callTimeoutMs` for each question that it asks, or when its signal
 * says so (with the signal's reason). It rejects with
 * - WAL_REFEREE_AWAY: no answer; what was asked for may have been done, or may yet be;
 * - WAL_REFEREE_REFUSED: the referee does not take the question: credentials, permissions, records
 *   that are not of this library;
 * - WAL_REFEREE_PAST: it was restored to the past, or it is another one. From then on every call
 *   rejects so, until `forget`.
 */
export interface Referee {
  readonly timing: RefereeTiming;

  view(options?: CallOptions): Promise<GroupView>;

  /** Asks once. The grant's epoch is recorded durably before this resolves. */
  acquire(claim: Claim, options?: CallOptions): Promise<Answer>;

  /** Makes the lease last. undefined: it has ended, or another was granted the group. */
  renew(grant: Grant, options?: CallOptions): Promise<Renewal | undefined>;

  /**
   * Takes a lease that has ended again, with the same epoch: if nobody was granted the group in
   * between. undefined: somebody was, or may take it. While a lease of this grant lives yet, it
   * rejects with WAL_REFEREE_AWAY: renewing and regaining are tried again.
   */
  regain(grant: Grant, options?: CallOptions): Promise<Grant | undefined>;

  /**
   * Gives the lease back; nothing may be acknowledged by the grant from before this is called. With
   * a `successor`, a node id, it is kept for that node for one time to live. False: it
   * was not held any more.
   */
  release(grant: Grant, successor?: string, options?: CallOptions): Promise<boolean>;

  /**
   * Records the rule that acknowledgements meet, durably, if the group is still this grant's.
   * False: it is not. A rule of a lower number than what is recorded for this epoch is not taken.
   */
  recordRule(grant: Grant, rule: NumberedRule, options?: CallOptions): Promise<boolean>;

  /**
   * In async mode: how far the log is, for the lag of candidates, by the rule of that `number`,
   * which was recorded when this was looked up. False as above.
   */
  recordProgress(
    grant: Grant,
    progress: Pick<ProgressRecord, 'number' | 'lsn'>,
    options?: CallOptions,
  ): Promise<boolean>;

  /** From then on no standby is promoted by itself. Pausing again replaces the reason. */
  pause(by: string, reason: string, options?: CallOptions): Promise<void>;
  resume(options?: CallOptions): Promise<void>;

  /** What the referee holds, now and whenever it changes, until the signal or `close` ends it. */
  watch(options: { readonly signal: AbortSignal }): AsyncIterable<Sight>;

  /** An operator has seen to a referee that was restored: what was seen before counts no more. */
  forget(): Promise<void>;

  close(): void;
}

export type { LeaderRecord, PauseRecord, ProgressRecord, RuleRecord };
