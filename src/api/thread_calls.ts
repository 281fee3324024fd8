import type { TlsOptions } from '../transport/security.js';
import { type SentError, sentError } from './attached_calls.js';
import type { LogHandle } from './attachments.js';
import type { LogEventName, LogEvents } from './events.js';
import type { CloseOptions } from './log.js';
import type { LogLevel } from './logger.js';

/** What `Log.open` is asked for, in a thread of its own: plain values. */
export interface ThreadData {
  readonly options: Readonly<Record<string, unknown>>;
  readonly logs: boolean;
  readonly tellsWaiting: boolean;
}

/** Calls that the thread which has the log runs for the one that it was opened for. */
export type ThreadCall =
  | { readonly call: 'trim' | 'waitFor'; readonly lsn: number }
  | { readonly call: 'promote' | 'setPolicy'; readonly options: object }
  | { readonly call: 'reloadTls'; readonly tls: TlsOptions }
  | { readonly call: 'scrub' | 'connected' }
  | { readonly call: 'read'; readonly options: object }
  | { readonly call: 'next' | 'return'; readonly reader: number }
  | { readonly call: 'apply'; readonly from: number }
  | { readonly call: 'stop'; readonly applier: number }
  | { readonly call: 'close'; readonly options: CloseOptions };

/** To that thread. `cancel`: nobody waits for that call any more. */
export type ToThread =
  | { readonly id: number; readonly ask: ThreadCall }
  | { readonly cancel: number }
  /** So many events or lines were taken. */
  | { readonly heard: number }
  | { readonly applied: number; readonly error?: SentError | undefined };

/** A batch that crosses threads: a copy of its bytes, verified where they were read. */
export interface SentBatch {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly firstLsn: number;
  readonly lastLsn: number;
}

/** From that thread. */
export type FromThread =
  | { readonly opened: LogHandle }
  | { readonly failed: SentError }
  | { readonly waiting: SentError }
  | { readonly id: number; readonly value?: unknown; readonly error?: SentError }
  | { readonly apply: number; readonly of: number; readonly batch: SentBatch }
  | { readonly event: LogEventName; readonly args: readonly unknown[] }
  | { readonly line: LogLevel; readonly fields: object; readonly text: string };

/** Errors among the arguments of an event: of `failed`. */
export function sentArguments<E extends LogEventName>(args: LogEvents[E]): unknown[] {
  return args.map((arg) => (arg instanceof Error ? { error: sentError(arg) } : arg));
}
