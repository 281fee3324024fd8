import type { OldPrimary } from './old_primary.js';

/**
 * Every error that operating walmirror can raise. One table: the keys are `WalError.code`;
 * `meaning` says what is wrong, and `hint` is that of an error whose cause is not known more
 * closely. Rendered to docs/errors.md. Wrong arguments are TypeError or RangeError instead.
 */
export const errorCodes = {
  WAL_RING_FULL: {
    meaning: 'There is no room in the log memory, or no segment is ready: nothing was taken.',
    hint: 'Await `log.drain()`, then append again.',
  },
  WAL_CLOSED: {
    meaning: 'The log is closed, or was closed while something was waited for.',
    hint: 'Open it again with `Log.open`.',
  },
  WAL_CLOSE_TIMEOUT: {
    meaning:
      'The log was not flushed and closed within `timeout`; `lsn` is the first record that is ' +
      'not known to be flushed. Closing goes on.',
    hint: 'Look at the disk. The directory can be opened again when the closing is through.',
  },
  WAL_FAILED: {
    meaning: 'The log has failed for good; `cause` is the error that it failed with.',
    hint: 'Mend what `cause` names; then close the log and open it anew, which recovers it.',
  },
  WAL_FLUSH_FAILED: {
    meaning:
      'A write or a flush failed, or memory for one. It is never tried again: whether what was ' +
      'not acknowledged is on the disk is unknown.',
    hint: 'Look at the disk and at the memory; then close the log and open it again.',
  },
  WAL_NO_MEMORY: {
    meaning: 'Memory ran out in the engine. Nothing that was acknowledged is lost.',
    hint: 'Free memory, or give the process more, and try again.',
  },
  WAL_IO: {
    meaning: 'A call of the operating system failed, on a file or on a connection.',
    hint: 'Look at the disk, the permissions or the network, whichever it was, and try again.',
  },
  WAL_NO_SPACE: {
    meaning: 'The disk is full: a file, such as another segment, could not be written.',
    hint: 'Free space there, or trim the log.',
  },
  WAL_LOCKED: {
    meaning: 'Another process, or another Log of this process, has the directory open.',
    hint: 'Close the log there, or end that process, first.',
  },
  WAL_NOT_FOUND: {
    meaning: 'There is no log in the directory, or no such object in the archive.',
    hint: 'Look at the path; `Log.open` and `walmirror primary` create a log.',
  },
  WAL_NOT_A_LOG: {
    meaning: 'The directory, or the peer, holds another log than the one asked for, or none.',
    hint: 'Look at the directory and at the address: both must be of the log that is meant.',
  },
  WAL_DIR_PERMISSIONS: {
    meaning: 'Others than the user of this process may write the log directory.',
    hint: 'Run `chmod go-w` on it.',
  },
  WAL_CORRUPT: {
    meaning: 'Bytes that were once durable do not verify. Nothing was changed.',
    hint: 'Write them anew from another copy or a standby with `walmirror repair`.',
  },
  WAL_COPY_MISSING: {
    meaning:
      'A copy of the log is not given or cannot be read, and may have gone on without the others.',
    hint: 'Give all directories; for one that is gone for good, pass `acceptMissing`.',
  },
  WAL_COPY_SPLIT: {
    meaning: 'Two copies of the log were used, each without the other.',
    hint: 'Decide which one to keep, and empty the directory of the other: it is filled again.',
  },
  WAL_VERSION: {
    meaning: 'The format or protocol version is not one that this release can read.',
    hint: 'Run the same release of walmirror on all nodes, and not an older one on a log.',
  },
  WAL_UNSUPPORTED: {
    meaning: 'The platform, or the combination of options, is not supported.',
    hint: 'Use what is supported; the message or the documentation names it.',
  },
  WAL_LSN_GONE: {
    meaning: 'The record was trimmed; `lsn` is the first one there is.',
    hint:
      'Begin at the first LSN that is kept; what lies before it has to come from elsewhere. ' +
      'For a standby that is away a slot keeps the log: `createSlot`.',
  },
  WAL_SNAPSHOT_MISSING: {
    meaning:
      'The beginning of the log was trimmed, and no good snapshot holds what was in it; `lsn` is ' +
      'the first record there is.',
    hint:
      'Put back the files of `snapshots` from a backup. Where the state comes from elsewhere, ' +
      'pass `required: false` in `snapshot`, and apply from its LSN on.',
  },
  WAL_ARCHIVE_CONFLICT: {
    meaning:
      'The archive holds something else under the name of a segment, or a damaged one. Nothing ' +
      'was overwritten, and nothing more is archived.',
    hint:
      'Look at the file that the message names, keep it aside, and open the log again: what is ' +
      'not in the archive is stored anew, as far as the log still has it.',
  },
  WAL_IS_STANDBY: {
    meaning: 'The log is a standby, or its directory was last used as one.',
    hint: 'Open it with `follow`; to append to it, promote it first.',
  },
  WAL_SWITCHING: {
    meaning:
      'The log takes no appends for the moment: a `switchover` or `demote` is under way. Of a ' +
      'commit: its record is in the log, and whether it met its level is unknown.',
    hint:
      'Await `log.drain()`: it resolves once appends are taken here again, and rejects with ' +
      'WAL_IS_STANDBY once another node is the primary: append there.',
  },
  WAL_SWITCHOVER_REFUSED: {
    meaning:
      'The switchover was given up, for the reason that the message gives, before this log was ' +
      'demoted: it is the primary still, and takes appends.',
    hint: 'Mend that, or name another standby, and call it again.',
  },
  WAL_DEMOTED: {
    meaning:
      'This log is demoted, and its successor has not said that it is the primary: it may be. ' +
      'Nothing is lost, and this log stays a standby.',
    hint:
      'See `walmirror status --members`: where no node is the primary, promote the successor, or ' +
      'this one.',
  },
  WAL_WAS_PRIMARY: {
    meaning:
      'The log was a primary, and has records that the new primary does not have and that may ' +
      'have been seen. Nothing was removed.',
    hint: 'Look at them: `walmirror dump`. With `rejoin` it sets them aside and follows.',
  },
  WAL_REBUILD: {
    meaning:
      'Records that were read, from `lsn` on, are not in the log any more: a new primary has ' +
      'others there.',
    hint: 'Rebuild what was made of them, from before `lsn`; then read on from there.',
  },
  WAL_FENCED: {
    meaning: 'There is a newer primary: this one acknowledges nothing any more.',
    hint: 'Append there; here, open the log with `follow` of it: it rejoins.',
  },
  WAL_SPLIT: {
    meaning: 'Two nodes opened the same epoch; both have stopped to acknowledge.',
    hint: 'Choose one, promote it with `force: true`; the other rejoins it: open it with `follow`.',
  },
  WAL_DIVERGED: {
    meaning: 'The logs differ where they should be equal. Neither was changed.',
    hint: 'Choose which one is right; start the other anew from an empty directory.',
  },
  WAL_COMMITTED_LOST: {
    meaning: 'The primary ends below what a standby knows to be committed. Both stop.',
    hint: 'Stop the primary and promote the standby: it holds the records.',
  },
  WAL_PRIMARY_REACHABLE: {
    meaning: 'A promotion was not told that the old primary is stopped; `oldPrimary` describes it.',
    hint: 'Stop the old primary, then promote with `primaryStopped: true`.',
  },
  WAL_PROMOTION_REFUSED: {
    meaning:
      'By what is known, this promotion would lose records that were acknowledged, or may. ' +
      'Nothing was changed.',
    hint: 'Bring back those that are missing, or promote the node that has more; or `force: true`.',
  },
  WAL_MEMBERS_AWAY: {
    meaning: 'Too few members of the group answer: whether there is a newer primary is unknown.',
    hint: 'Start other members first; or pass `openAlone: true` where no other was promoted.',
  },
  WAL_NOT_STANDBY: {
    meaning: 'The call is for a standby, and this log is none, or is being promoted.',
    hint: 'Look at `log.status().role` before the call.',
  },
  WAL_NO_STANDBYS: {
    meaning: 'A remote commit level was asked for, and no standby is named that could meet it.',
    hint: "Pass synchronousStandbys: 'ANY 1 (*)', or another level.",
  },
  WAL_SYNC_TIMEOUT: {
    meaning: 'The standbys asked for did not answer within `syncTimeout`.',
    hint: 'The record stays in the log: wait with `commit(lsn)` again; see who is connected.',
  },
  WAL_APPLY_FAILED: {
    meaning: 'The callback of `log.apply` has thrown, and this log applies nothing any more.',
    hint: 'See what `done` of the applier rejects with; then start another one.',
  },
  WAL_COMMIT_ABORTED: {
    meaning: 'The wait for a commit was cancelled by its signal.',
    hint: 'The record stays in the log, and may commit later: `commit(lsn)` waits again.',
  },
  WAL_PLAINTEXT: {
    meaning: 'Replication would leave this machine, and it is not encrypted.',
    hint: 'Pass `tls` with `listen` and `follow` or, on a network to trust, `plaintext: true`.',
  },
  WAL_AUTH_FAILED: {
    meaning: 'A peer, or this node, could not show who it is, by certificate or by secret.',
    hint: 'Look at the certificates, names and secrets of both nodes: docs/security.md.',
  },
  WAL_PEER_INVALID: {
    meaning: 'The peer sent bytes that are not the protocol, or that do not verify.',
    hint: 'Look at what listens at that address; if it is walmirror, at its log: `verify`.',
  },
  WAL_PEER_REFUSED: {
    meaning: 'The peer refused the connection, for a reason that the message gives.',
    hint: 'Mend that on the peer, or look at the address; a standby tries again by itself.',
  },
  WAL_REENTRANT: {
    meaning: 'The log was called from inside an `appendInto` callback.',
    hint: 'Write only into the buffer there; call the log before it or after it.',
  },
  WAL_BAD_FRAME: {
    meaning: 'The bytes are not frames: a length is over the limit, or the input ends inside one.',
    hint: 'Look at what writes them: a frame is a little-endian 32-bit length, then so many bytes.',
  },
  WAL_NOT_GRANTED: {
    meaning:
      'The referee did not grant this node the group, for the reason that the message gives.',
    hint: 'See who the primary is, and follow it; `walmirror status` says what the referee holds.',
  },
  WAL_REFEREE_AWAY: {
    meaning: 'The referee does not answer: whether what it was asked for was done is unknown.',
    hint: 'Look at the referee (etcd, or the file) and at the network; it is asked again.',
  },
  WAL_REFEREE_REFUSED: {
    meaning: 'The referee does not take what it is asked: it would refuse it again.',
    hint: 'Look at the credentials and permissions, at the address, and at who else writes there.',
  },
  WAL_REFEREE_PAST: {
    meaning: 'The referee was restored to the past, or is another one. Automation has stopped.',
    hint: 'See who the primary is, and stop the others; then let what was seen be forgotten.',
  },
  WAL_CONTROL: {
    meaning: 'The control socket of the log directory did not answer as it should.',
    hint: 'Look at the process that has the log open: it may be stopped, or of another release.',
  },
} as const;

export type WalErrorCode = keyof typeof errorCodes;

/**
 * Whether the record is surely absent (`refused`) or may be in the log, now or later (`unknown`).
 */
export type Outcome = 'refused' | 'unknown';

export interface WalErrorDetails {
  readonly hint?: string | undefined;
  readonly lsn?: number | undefined;
  readonly file?: string | undefined;
  readonly offset?: number | undefined;
  readonly outcome?: Outcome | undefined;
  readonly oldPrimary?: OldPrimary | undefined;
  readonly cause?: unknown;
}

/**
 * An operating error: `code` is stable, the message says what is wrong, and `hint` what to do about
 * it.
 */
export class WalError extends Error {
  override readonly name = 'WalError';
  readonly code: WalErrorCode;
  readonly hint: string;
  // Declared only: what does not apply is not there, and not printed as undefined.
  declare readonly lsn?: number;
  declare readonly file?: string;
  declare readonly offset?: number;
  declare readonly outcome?: Outcome;
  /** With WAL_PRIMARY_REACHABLE: what to decide by. */
  declare readonly oldPrimary?: OldPrimary;

  constructor(code: WalErrorCode, message: string, details: WalErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = code;
    this.hint = details.hint ?? errorCodes[code].hint;
    if (details.lsn !== undefined) this.lsn = details.lsn;
    if (details.file !== undefined) this.file = details.file;
    if (details.offset !== undefined) this.offset = details.offset;
    if (details.outcome !== undefined) this.outcome = details.outcome;
    if (details.oldPrimary !== undefined) this.oldPrimary = details.oldPrimary;
  }

  /**
   * An error of the addon (an Error with `code`, `file`, ...) as a WalError; others pass through.
   */
  static from(error: unknown): unknown {
    if (error instanceof WalError || !(error instanceof Error)) return error;
    const raw = error as Error & WalErrorDetails & { code?: unknown };
    if (typeof raw.code !== 'string' || !Object.hasOwn(errorCodes, raw.code)) return error;
    return new WalError(raw.code as WalErrorCode, raw.message, {
      hint: raw.hint,
      file: raw.file,
      offset: raw.offset,
      lsn: raw.lsn,
      outcome: raw.outcome,
    });
  }
}
