import type { RefereeSpec } from '../referee/spec.js';
import type { CommitLevel } from '../replication/level.js';
import type { SentError } from './attached_calls.js';
import type { LogHandle } from './attachments.js';
import type { LogEventName } from './events.js';
import type { CloseOptions } from './log.js';
import type { LogLevel } from './logger.js';
import type { ReadRequest } from './read_options.js';
import type { Rebuild } from './rebuild.js';
import type { RejoinOptions } from './rejoin.js';
import type { LogStatus } from './status.js';

/** What `Log.open` is asked for, in a thread of its own: plain values. */
export interface ThreadData {
  readonly options: object;
  readonly logs: boolean;
  readonly tellsWaiting: boolean;
  /** Whether somebody rebuilds, who can be told before the log is open. */
  readonly rebuilds: boolean;
  readonly referee: ThreadReferee | undefined;
}

/** The referee that the thread makes for itself, and by what it sees that the application runs. */
export interface ThreadReferee {
  readonly spec: RefereeSpec;
  readonly tick: SharedArrayBuffer;
  readonly applicationTimeout: number;
}

/** A log that a thread has opened. */
export interface OpenedLog {
  readonly handle: LogHandle;
  readonly nodeId: string;
}

/** A reading, or what an applier reads: its signal is the affair of the thread that has it. */
export type SentRequest = Omit<ReadRequest, 'signal'>;

/** Calls that the thread which has the log answers. */
export type ThreadCall =
  /** `since`: when it was called, or what it is for was appended, by `sharedClock`. */
  | { readonly call: 'commit'; readonly level: CommitLevel | undefined; readonly since: number }
  | { readonly call: 'trim' | 'waitFor'; readonly lsn: number }
  | {
      readonly call: 'promote' | 'switchover' | 'demote' | 'setPolicy' | 'serveStatus';
      readonly options: object;
    }
  | { readonly call: 'rejoin'; readonly options: RejoinOptions }
  | { readonly call: 'pauseFailover'; readonly reason: string }
  | { readonly call: 'createSlot' | 'dropSlot'; readonly name: string }
  | { readonly call: 'resumeFailover' | 'forgetReferee' }
  | { readonly call: 'reloadTls'; readonly tls: unknown }
  | { readonly call: 'status' | 'scrub' | 'connected' | 'echo' }
  | { readonly call: 'next'; readonly reading: number }
  /** Answered when the applier has ended. */
  | { readonly call: 'apply'; readonly request: SentRequest }
  | { readonly call: 'closePage'; readonly page: number }
  | { readonly call: 'close'; readonly options: CloseOptions };

/** To that thread. */
export type ToThread =
  | { readonly id: number; readonly ask: ThreadCall }
  /** Nobody waits for the answer any more; 0: for the primary, in the opening. */
  | { readonly cancel: number }
  /** An event or a line was taken. */
  | { readonly taken: 1 }
  | { readonly rebuilt: number; readonly error: SentError | undefined }
  | { readonly read: number; readonly request: SentRequest }
  | { readonly letGo: number }
  /** The applier takes no further batch. */
  | { readonly stop: number }
  /** How far it is. `ended`: the callback has thrown, or no further batch is taken. */
  | {
      readonly applied: number;
      readonly lsn: number;
      readonly ended?: { readonly error: SentError | undefined };
    };

/** Whole batches, one behind the other, verified where they were read: a copy. */
export interface SentBatches {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** How many cuts they have seen: those past a later one are of a history that is gone. */
  readonly cuts: number;
}

/** From that thread. */
export type FromThread =
  | { readonly opened: OpenedLog }
  | { readonly failed: SentError; readonly cancelled: boolean }
  | { readonly waiting: SentError }
  | { readonly id: number; readonly value?: unknown; readonly error?: SentError }
  /** What is read for that call, or that applier, has come to its end for now. */
  | { readonly idle: number }
  | { readonly apply: number; readonly batches: SentBatches }
  /** The log was cut behind this LSN; nothing of the new history was sent before. */
  | { readonly cut: number }
  | { readonly rebuild: number; readonly about: Rebuild }
  | { readonly event: LogEventName; readonly args: readonly unknown[] }
  | { readonly line: LogLevel; readonly fields: object; readonly text: string }
  /** The log is closed, with the failure that kept it from flushing; nothing comes after this. */
  | { readonly closed: LogStatus | undefined; readonly error?: SentError };
