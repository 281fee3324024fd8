import type { WalErrorCode } from '../api/errors.js';

/**
 * `starting`: the store was not asked yet; `working`; `paused`: this node does not know now what is
 * committed (fenced, or a standby without its primary); `failing`: the last call has failed, and it
 * is tried again; `stopped`: the store holds something else under a name of this log.
 */
export type ArchiveState = 'starting' | 'working' | 'paused' | 'failing' | 'stopped';

/** The archive of a log, as its status shows it. */
export interface ArchiveStatus {
  readonly state: ArchiveState;
  /** Which store it is. */
  readonly store: string;
  /**
   * The records from `firstLsn` to `archivedLsn` are in the store, without a gap; null: none is, or
   * the store was not asked yet.
   */
  readonly firstLsn: number | null;
  readonly archivedLsn: number | null;
  /**
   * Milliseconds since the oldest segment was full that is committed and not archived yet; null:
   * there is none, or it is not known.
   */
  readonly oldestUnarchivedMs: number | null;
  /** Bytes of the log that are not archived, and kept therefore, at most `maxBytes`. */
  readonly heldBytes: number;
  /** Since the log was opened: segments stored, their bytes, and what they take in the store. */
  readonly segments: number;
  readonly rawBytes: number;
  readonly storedBytes: number;
  /** Records that are missing in the archive before `firstLsn`; null: none is. */
  readonly gap: ArchiveGap | null;
  /** Why it fails or has stopped; null: it does not. */
  readonly error: { readonly code: WalErrorCode; readonly message: string } | null;
}

export interface ArchiveGap {
  readonly from: number;
  readonly to: number;
}

/** The event `archive`. */
export interface ArchiveChange {
  /**
   * `working`: it goes on after a failure; `failing`, `stopped`: see `reason`; `behind`: more than
   * half of what may be kept for it waits; `gap`: log was let go of that was not archived.
   */
  readonly change: 'working' | 'failing' | 'stopped' | 'behind' | 'gap';
  readonly archivedLsn: number | null;
  readonly heldBytes: number;
  /** With `failing` and `stopped`; null with the others. */
  readonly reason: string | null;
  readonly gap: ArchiveGap | null;
}

/** In words, for the log of the application. */
export function describeArchive({ change, heldBytes, reason, gap }: ArchiveChange): string {
  const held = `${heldBytes} bytes of the log are kept for it`;
  if (change === 'working') return 'the archive works again';
  if (change === 'failing') return `the archive fails: ${reason}; ${held}`;
  if (change === 'stopped') return `the archive has stopped: ${reason}; ${held}`;
  if (change === 'behind') return `the archive is behind: ${held}, more than half of the most`;
  return `the archive has a gap: LSN ${gap?.from} to ${gap?.to} were let go of unarchived`;
}
