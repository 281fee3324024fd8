import type { WalError, WalErrorCode } from '../api/errors.js';
import type { Place, Rule, Term } from '../native/native_log.js';
import type { Judgement } from '../replication/rejoin.js';
import type { ToldSlot } from '../replication/slot.js';

/** What a follower tells of itself. */
export interface FollowerEvents {
  /** The commit place moved, or this log reaches further into it. Called synchronously. */
  onCommitMoved(): void;
  onConnected?(link: { readonly primary: string; readonly term: Term }): void;
  onDisconnected?(link: {
    readonly code: WalErrorCode;
    readonly reason: string;
    readonly final: boolean;
  }): void;
  /** This standby cannot go on: its own log failed, or WAL_COMMITTED_LOST. */
  onFailed?(error: WalError): void;
  /** More of the log was received, or flushed. */
  onReceived?(): void;
  /** The primary's rule is recorded here. */
  onRule?(rule: Rule): void;
  onSlots?(slots: readonly ToldSlot[]): void;
  /** The log was cut, and is durable so. Called before anything of the new history is taken. */
  onCut?(cut: LogCut): void;
  /** Under a newer epoch: what the tail of this log was found to be. */
  onJudged?(judgement: Judgement): void;
  /** Nothing of that is left; an old primary is a standby now. */
  onRejoined?(): void;
}

export interface LogCut {
  /** Where the log ends now. */
  readonly fork: Place;
  /** What went is there. */
  readonly file: string;
}
