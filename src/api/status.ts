import type { NativeCopy, NativeInfo, Role, Term } from '../native/native_log.js';
import type { CommitLevel } from '../replication/level.js';
import type { WalErrorCode } from './errors.js';
import type { UpstreamRule } from './old_primary.js';
import type { ScrubStatus } from './scrub.js';

/**
 * What a primary knows of a standby. LSNs as the standby acknowledged them over this connection.
 */
export interface StandbyStatus {
  readonly name: string;
  readonly nodeId: string;
  readonly address: string;
  /** `catchup`: fed from copies of older log; `live`: fed as batches are closed. */
  readonly state: 'handshake' | 'catchup' | 'live';
  /** Whether its acknowledgements count for synchronous commits. */
  readonly synchronous: boolean;
  readonly writeLsn: number;
  readonly flushLsn: number;
  readonly applyLsn: number;
  /** Log bytes that it has not flushed yet. */
  readonly lagBytes: number;
  /** Milliseconds since it was last heard of. */
  readonly lastContactMs: number;
}

/** A standby's link to its primary. */
export interface UpstreamStatus {
  readonly address: string;
  /** Name of the primary, as far as it is known. */
  readonly primary: string;
  readonly connected: boolean;
  /** Milliseconds since the primary was last heard of; null if not since this log was opened. */
  readonly lastContactMs: number | null;
  /**
   * When the primary was last heard of, ISO 8601 by this machine's clock, known across restarts:
   * after a crash it may be 10 seconds too early. null: unknown.
   */
  readonly lastContact: string | null;
  /** Why the link is down; null while it is up. */
  readonly reason: string | null;
  /** Last LSN of the primary's log when it last said so; null if it never did. */
  readonly primaryLsn: number | null;
  /** Last LSN that the primary said was committed; this log may not have it yet. */
  readonly primaryCommitLsn: number;
  /** What the primary's commits wait for; null before it has told. */
  readonly rule: UpstreamRule | null;
}

export interface PolicyStatus {
  readonly synchronousCommit: CommitLevel;
  /** null: nobody is named. */
  readonly synchronousStandbys: string | null;
  readonly whenMissing: 'block' | 'fail';
  readonly syncTimeout: number;
  /** What commits wait for now beside the disk, in words; null while nothing is missing. */
  readonly waitingFor: string | null;
}

/** A directory of a log that has several. */
export interface CopyStatus {
  readonly dir: string;
  /**
   * `in`: it has all that is acknowledged; `dropped`: the log goes on without it; `resyncing`: it
   * is being filled.
   */
  readonly state: 'in' | 'dropped' | 'resyncing';
  /** Why it is not in; null while it is. */
  readonly reason: string | null;
  /** Since when, ISO 8601 by this machine's clock. */
  readonly since: string;
  /** While it is resynchronised: how much of it is done, from 0 to 1; null otherwise. */
  readonly progress: number | null;
  /** Reads that failed or did not verify here, and were served from another copy. */
  readonly badReads: number;
}

/**
 * Answer of `Log.status()`. A documented contract: `schema` changes when a field changes meaning.
 */
export interface LogStatus {
  readonly schema: 1;
  readonly state: 'open' | 'failed' | 'closing' | 'closed';
  readonly role: Role;
  readonly name: string;
  readonly dir: string;
  readonly logId: string;
  readonly nodeId: string;
  readonly term: Term;
  readonly io: 'direct' | 'buffered';
  /** First record that is still there (or the next one to come, if there is none). */
  readonly firstLsn: number;
  /**
   * Last record in memory; in a closed batch; on stable storage here; that the policy lets be
   * seen.
   */
  readonly appendLsn: number;
  readonly closedLsn: number;
  readonly flushLsn: number;
  readonly commitLsn: number;
  /** Last record that the applier has applied; null without one. */
  readonly applyLsn: number | null;
  /** The directories, where there are several. */
  readonly copies: readonly CopyStatus[];
  readonly ring: { readonly bytes: number; readonly free: number };
  readonly segments: { readonly bytes: number; readonly used: number; readonly spare: number };
  readonly flushes: {
    readonly count: number;
    readonly bytes: number;
    readonly slowestMs: number;
    /** Flushes that took a second or more: each is a `slowFlush` event too. */
    readonly slow: number;
  };
  /** Where the primary listens; null if it does not. */
  readonly listening: { readonly host: string; readonly port: number } | null;
  /** Primary: the standbys that are connected. */
  readonly standbys: readonly StandbyStatus[];
  /** Primary: the policy of its commits; null on others. */
  readonly policy: PolicyStatus | null;
  /** Standby: its link to the primary; null on others. */
  readonly upstream: UpstreamStatus | null;
  /** The verification of what lies on the disk. */
  readonly scrub: ScrubStatus;
  /** What opening found. */
  readonly recovery: NativeInfo['recovery'];
  readonly failure: { readonly code: WalErrorCode; readonly message: string } | null;
}

export function copyStatus(copy: NativeCopy): CopyStatus {
  const { dir, state, reason, since, filled, toFill, badReads } = copy;
  return {
    dir,
    state,
    reason: state === 'in' ? null : reason,
    since: new Date(since).toISOString(),
    progress: state === 'resyncing' ? (toFill === 0 ? 0 : filled / toFill) : null,
    badReads,
  };
}
