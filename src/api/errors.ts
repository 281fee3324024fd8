import type { OldPrimary } from './old_primary.js';

/**
 * Every error that operating walmirror can raise. One table: the keys are `WalError.code`, the
 * texts are rendered to docs/errors.md. Wrong arguments are TypeError or RangeError instead.
 */
export const errorCodes = {
  WAL_RING_FULL: 'The log memory is full: nothing was taken. Await `log.drain()` and append again.',
  WAL_CLOSED: 'The log is closed.',
  WAL_FAILED: 'The log has failed for good (see `cause`); close it and open it again to recover.',
  WAL_FLUSH_FAILED:
    'A write or flush failed. It is never retried: what was not acknowledged is unknown.',
  WAL_IO: 'An operating system call failed.',
  WAL_NO_SPACE: 'There is no space for another segment. Free space on the disk, or trim the log.',
  WAL_LOCKED: 'Another process, or another Log of this process, has the directory open.',
  WAL_NOT_FOUND: 'There is no log in the directory.',
  WAL_NOT_A_LOG: 'The directory holds other files, or the log of another creation.',
  WAL_DIR_PERMISSIONS: 'Others may write the log directory. Run `chmod go-w` on it.',
  WAL_CORRUPT:
    'Bytes that were once durable do not verify. Nothing was changed; `walmirror repair` writes ' +
    'them anew from another copy.',
  WAL_COPY_MISSING:
    'A copy of the log is not given or cannot be read, and may have gone on without the others. ' +
    'Give all directories, or accept by name that one is gone: `acceptMissing`.',
  WAL_COPY_SPLIT:
    'Two copies of the log were used without each other. Keep one, and empty the other directory.',
  WAL_VERSION: 'The format or protocol version is not one that this release can read.',
  WAL_UNSUPPORTED: 'The platform, or the combination of options, is not supported.',
  WAL_LSN_GONE: 'The record was trimmed; `lsn` is the first one there is.',
  WAL_IS_STANDBY: 'The directory was last used as a standby. Promote it, or open it with `follow`.',
  WAL_WAS_PRIMARY:
    'The directory was last used as a primary and does not follow by a changed option.',
  WAL_FENCED: 'A newer primary exists: this one acknowledges nothing any more.',
  WAL_SPLIT: 'Two nodes opened the same epoch. Both stop acknowledging; an operator chooses.',
  WAL_DIVERGED: 'The logs differ where they should be equal. Neither was changed.',
  WAL_COMMITTED_LOST: 'The primary ends below what this standby knows to be committed. Both stop.',
  WAL_PRIMARY_REACHABLE:
    'Promotion needs to know that the old primary is stopped: pass `primaryStopped: true`.',
  WAL_NOT_STANDBY: 'The call is for a standby, and this log is not one.',
  WAL_NO_STANDBYS: 'A remote commit level needs `synchronousStandbys`.',
  WAL_SYNC_TIMEOUT: 'The standbys asked for did not answer in time; the outcome is unknown.',
  WAL_COMMIT_ABORTED:
    'The wait for a commit was cancelled; the record stays in the log, its outcome is unknown.',
  WAL_PLAINTEXT: 'Replication without TLS off loopback has to be asked for: `plaintext: true`.',
  WAL_PEER_INVALID: 'The peer sent bytes that are not the protocol, or that do not verify.',
  WAL_PEER_REFUSED: 'The peer refused the connection; the message says why.',
  WAL_REENTRANT: 'The log was called from inside an `appendInto` callback.',
  WAL_CONTROL: 'The control socket of the log directory did not answer as it should.',
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

/** An operating error: `code` is stable, `hint` says what to do. */
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
    this.hint = details.hint ?? errorCodes[code];
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
    const raw = error as Error & { code?: unknown; file?: string; offset?: number; lsn?: number };
    if (typeof raw.code !== 'string' || !(raw.code in errorCodes)) return error;
    return new WalError(raw.code as WalErrorCode, raw.message, {
      file: raw.file,
      offset: raw.offset,
      lsn: raw.lsn,
    });
  }
}
