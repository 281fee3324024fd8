import type { ArchiveStatus } from '../archive/archive_status.js';
import type { NativeCopy, NativeInfo, Role, Term } from '../native/native_log.js';
import type { LeaseState } from '../referee/lease_keeper.js';
import type { CommitLevel } from '../replication/level.js';
import type { LinkSecurity } from '../transport/security.js';
import type { WalErrorCode } from './errors.js';
import type { RoleReason } from './events.js';
import type { DurationBucket } from './flush_times.js';
import type { LogLevel } from './logger.js';
import type { UpstreamRule } from './old_primary.js';
import type { WhenMissing } from './policy_options.js';
import type { ScrubStatus } from './scrub.js';
import type { SeedingStatus } from './seeding.js';
import type { SlotStatus } from './slots.js';
import type { SnapshotStatus } from './snapshots.js';

/** What a standby lacks of the closed batches of its primary. */
export interface StageLag {
  readonly records: number;
  /** Log bytes; for `apply` at least so many, to the start of a batch or of some older ones. */
  readonly bytes: number;
  /**
   * Age of the first record that it lacks, to a sixteenth; 0 while it lacks none. Of a record that
   * was there when this log became a primary: since then.
   */
  readonly milliseconds: number;
}

/**
 * What a primary knows of a standby. LSNs as the standby acknowledged them over this connection,
 * or over its last one.
 */
export interface StandbyStatus {
  readonly name: string;
  readonly nodeId: string;
  readonly address: string;
  /** What keeps strangers out of its connection. */
  readonly security: LinkSecurity;
  /**
   * `catchup`: fed from copies of older log; `live`: fed as batches are closed. `disconnected`: it
   * was here since this log became a primary; the last 64 of these are listed, one a name.
   */
  readonly state: 'catchup' | 'live' | 'disconnected';
  /** Why it is disconnected; null while it is not. */
  readonly reason: string | null;
  /** Since when it is in this state, ISO 8601 by this machine's clock, to half a heartbeat. */
  readonly since: string;
  /** Whether its acknowledgements count for synchronous commits. */
  readonly synchronous: boolean;
  readonly sentLsn: number;
  readonly writeLsn: number;
  readonly flushLsn: number;
  readonly applyLsn: number;
  /** How far it is behind, connected or not. */
  readonly lag: { readonly write: StageLag; readonly flush: StageLag; readonly apply: StageLag };
  /** Milliseconds since it was last heard of. */
  readonly lastContactMs: number;
}

/** What a log with a referee knows of it. */
export interface RefereeStatus {
  /** Primary: whether it may acknowledge; null: it is none. */
  readonly lease: LeaseState | null;
  /** Who was granted the group last; null: nobody, or it is not known yet. */
  readonly leader: {
    readonly name: string;
    readonly nodeId: string;
    readonly epoch: number;
  } | null;
  /** Whether the lease of somebody lives; null: not known yet. */
  readonly held: boolean | null;
  /** By whom automation is paused, why and since when (ISO 8601); null: it is not. */
  readonly pause: { readonly by: string; readonly reason: string; readonly at: string } | null;
  /**
   * Primary: why the lease is not renewed. Standby: why it would not be promoted now. null: nothing
   * is wrong.
   */
  readonly reason: string | null;
}

/** A standby's link to its primary. */
export interface UpstreamStatus {
  readonly address: string;
  /** Name of the primary, as far as it is known. */
  readonly primary: string;
  /** What keeps strangers out of the connection, or will when it is up. */
  readonly security: LinkSecurity;
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
  readonly whenMissing: WhenMissing;
  readonly syncTimeout: number;
  /**
   * What commits wait for now beside the disk, in words, or, while the log goes on alone, what it
   * waits for to come back; null while nothing is missing.
   */
  readonly waitingFor: string | null;
  /** Since when what is flushed here waits for standbys, ISO 8601; null: nothing does. */
  readonly waitingSince: string | null;
  /** How many commits have not been answered yet; a wait for the disk counts too. */
  readonly waitingCommits: number;
  /** The log goes on alone: since when (ISO 8601), and why. null: it does not. */
  readonly degraded: { readonly since: string; readonly reason: string } | null;
  /** Whether it is recorded, and counts alone. Until then commits meet the policy before too. */
  readonly inForce: boolean;
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
  /** With `mirrorQuorum`: bytes that are to be written here yet, acknowledged or not. */
  readonly behind: number;
}

/**
 * A log that was judged since it was opened, under a new primary: an old one that comes back, or a
 * standby that is longer than it.
 */
export interface RejoinStatus {
  /**
   * `waiting`: the new primary was not reached yet; `asks`: it would follow with `rejoin: 'auto'`
   * or, with a `quorumLsn`, with `rejoin` as the LSN before `firstLsn`; `refused`: it cannot
   * follow, see `upstream.reason`; `split`: another node opened the same epoch, and an operator
   * chooses one of the two to be promoted by force, which the other then follows; `done`: it
   * follows.
   */
  readonly state: 'waiting' | 'asks' | 'refused' | 'split' | 'done';
  /** The records that the new primary does not have; 0 and 0 while that is not known, or none. */
  readonly firstLsn: number;
  readonly lastLsn: number;
  readonly records: number;
  /** Last of them that may have been committed and seen; 0: none may, or it is not known. */
  readonly seenLsn: number;
  /** Last of them that a quorum may have committed; 0: none may, or it is not known. */
  readonly quorumLsn: number;
  /** Where they were set aside; null while they are in the log, or there were none. */
  readonly file: string | null;
}

export const unknownTail: RejoinStatus = {
  state: 'waiting',
  firstLsn: 0,
  lastLsn: 0,
  records: 0,
  seenLsn: 0,
  quorumLsn: 0,
  file: null,
};

/** Another node of the group (`members`), as it answered lately; null: it did not. */
export interface MemberStatus {
  /** As it was given. */
  readonly address: string;
  readonly name: string | null;
  readonly nodeId: string | null;
  readonly role: Role | null;
  /** The highest epoch that it knows. */
  readonly epoch: number | null;
  /** Last LSN of its log, and the last one that it knows to be committed. */
  readonly lsn: number | null;
  readonly commitLsn: number | null;
  /** Name of the node that it takes for the primary; '': none. */
  readonly primary: string | null;
  /** Whether it gets the log from there, or is the primary. */
  readonly connected: boolean | null;
  /** Why it did not answer; null: it did. */
  readonly reason: string | null;
  /** Milliseconds since it was asked; null: not yet. */
  readonly askedMs: number | null;
}

export interface LastError {
  readonly code: WalErrorCode;
  readonly message: string;
  /** ISO 8601 by this machine's clock. */
  readonly at: string;
}

/** Something that happened to the log, in words. Never holds a byte of a record. */
export interface RecentEvent {
  /** ISO 8601 by this machine's clock. */
  readonly at: string;
  readonly level: LogLevel;
  /** Name of the event (`Log.on`), or 'opened'. */
  readonly event: string;
  /** One line. */
  readonly message: string;
}

/**
 * Answer of `Log.status()`. A documented contract: `schema` changes when a field changes meaning.
 */
export interface LogStatus {
  readonly schema: 1;
  readonly state: 'open' | 'failed' | 'closing' | 'closed';
  readonly role: Role;
  /** Since when it has this role, in this process; ISO 8601 by this machine's clock. */
  readonly roleSince: string;
  /** Why: as in the event `role`. */
  readonly roleReason: RoleReason;
  readonly name: string;
  readonly dir: string;
  readonly logId: string;
  readonly nodeId: string;
  readonly term: Term;
  /** How batches are written: past the cache of the operating system, or through it. */
  readonly io: 'direct' | 'buffered';
  /** Why not directly; null if they are. */
  readonly ioReason: string | null;
  /**
   * What a commit at the log's own level gets now: `local` while it goes on without its standbys.
   * null where none are taken.
   */
  readonly durability: CommitLevel | null;
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
  /**
   * In how many of them a commit is flushed before it is acknowledged: `mirrorQuorum`, or all that
   * are in, where it was not given or they are fewer. null: there is one directory.
   */
  readonly mirrorQuorum: number | null;
  readonly ring: { readonly bytes: number; readonly free: number };
  readonly segments: {
    /** Size of one; how many hold log, and how many are ready for more. */
    readonly bytes: number;
    readonly used: number;
    readonly spare: number;
    /** Bytes of all of them, in each directory. */
    readonly diskBytes: number;
  };
  /** Since this log was opened. */
  readonly flushes: {
    readonly count: number;
    readonly bytes: number;
    readonly totalMs: number;
    /** Time that 50 and 99 of 100 took at most, to a quarter; null before the first one. */
    readonly p50Ms: number | null;
    readonly p99Ms: number | null;
    readonly slowestMs: number;
    /** By rising limits; limits at 1 ms and its doublings among them. */
    readonly histogram: readonly DurationBucket[];
    /** Flushes that took a second or more: each is a `slowFlush` event too. */
    readonly slow: number;
  };
  /** Calls of `commit` since this log was opened; more than one a batch, where they share it. */
  readonly commits: {
    /** Not answered yet, and for how long the oldest of them has waited; null: nobody waits. */
    readonly waiting: number;
    readonly oldestWaitMs: number | null;
    readonly acknowledged: number;
    /** Ended without: failed, cancelled, timed out. The record may be in the log. */
    readonly rejected: number;
  };
  /** Where the primary listens; null if it does not. */
  readonly listening: { readonly host: string; readonly port: number } | null;
  /** Primary: the standbys that are connected, then those that are not any more. */
  readonly standbys: readonly StandbyStatus[];
  /**
   * Durable claims of standbys on the log. On a standby those of its primary, as it last told them.
   */
  readonly slots: readonly SlotStatus[];
  /** Why slots are not known, or cannot be stored, so that the log is kept; null: all is well. */
  readonly slotsFault: string | null;
  /** Primary: the policy of its commits; null on others. */
  readonly policy: PolicyStatus | null;
  /** Standby: its link to the primary; null on others. */
  readonly upstream: UpstreamStatus | null;
  /** The other members, as they answered in the last seconds; empty without `members`. */
  readonly members: readonly MemberStatus[];
  /** null: the log has none. */
  readonly referee: RefereeStatus | null;
  /** An old primary that was opened with `follow`; null on others. */
  readonly rejoin: RejoinStatus | null;
  /** What the application has to rebuild, and was not told yet (`onRebuild`); null: nothing. */
  readonly rebuild: { readonly from: number; readonly to: number } | null;
  /** The application's, newest first; null: it has none (`snapshot`). */
  readonly snapshots: readonly SnapshotStatus[] | null;
  /** How far a snapshot has come that this standby is given; null: none is on its way. */
  readonly seeding: SeedingStatus | null;
  /** What of the log is archived; null: nothing is to be (`archive`). */
  readonly archive: ArchiveStatus | null;
  /** The verification of what lies on the disk. */
  readonly scrub: ScrubStatus;
  /** What opening found. */
  readonly recovery: NativeInfo['recovery'];
  /** The last 32, oldest first, since this log was opened. */
  readonly events: readonly RecentEvent[];
  /** The last error of the engine or of the link to the primary, mended or not; null: none yet. */
  readonly lastError: LastError | null;
  /** Why the log has stopped; null while it has not. */
  readonly failure: { readonly code: WalErrorCode; readonly message: string } | null;
}

export function copyStatus(copy: NativeCopy): CopyStatus {
  const { dir, state, reason, since, filled, toFill, badReads, behind } = copy;
  return {
    dir,
    state,
    reason: state === 'in' ? null : reason,
    since: new Date(since).toISOString(),
    progress: state === 'resyncing' ? (toFill === 0 ? 0 : filled / toFill) : null,
    badReads,
    behind,
  };
}
