import type { NativeAttachedLog } from '../native/native_log.js';
import type { CommitResult } from '../replication/commit_waiters.js';
import type { CommitLevel } from '../replication/level.js';
import { type Outcome, WalError, type WalErrorCode } from './errors.js';
import { withOutcome } from './failure.js';
import { KeepAlive } from './keep_alive.js';
import type { Layout } from './ring_space.js';
import type { LogStatus } from './status.js';

/** What the thread that opened a log is asked by one that attached to it. */
export interface AttachedCalls {
  /** Other threads append from now on. */
  attach: { readonly ask: object; readonly answer: AttachedTo };
  commit: {
    readonly ask: { readonly lsn: number; readonly level?: CommitLevel | undefined };
    readonly answer: CommitResult;
  };
  drain: { readonly ask: { readonly bytes?: number | undefined }; readonly answer: null };
  status: { readonly ask: object; readonly answer: LogStatus };
  /** All that was appended is flushed. */
  flush: { readonly ask: object; readonly answer: null };
  /** Nobody waits for the answer to `id` any more. */
  cancel: { readonly ask: { readonly of: number }; readonly answer: null };
}

export type AttachedCall = keyof AttachedCalls;

/** What who attached has to know of the log. */
export interface AttachedTo {
  readonly name: string;
  readonly dir: string;
  readonly maxRecordBytes: number;
  readonly layout: Layout;
}

/** As it goes to the owner, in JSON. */
export type Ask = {
  [C in AttachedCall]: { readonly id: number; readonly call: C } & AttachedCalls[C]['ask'];
}[AttachedCall];

/** As it comes back; `id` 0: the log was closed, and all of it is flushed. */
export interface Answer {
  readonly id: number;
  readonly value?: unknown;
  readonly error?: SentError;
}

interface SentError {
  readonly name: string;
  readonly message: string;
  readonly code?: WalErrorCode;
  readonly hint?: string;
  readonly lsn?: number | undefined;
  readonly file?: string | undefined;
  readonly offset?: number | undefined;
  readonly outcome?: Outcome | undefined;
}

export function sentError(error: unknown): SentError {
  if (error instanceof WalError) {
    const { name, message, code, hint, lsn, file, offset, outcome } = error;
    return { name, message, code, hint, lsn, file, offset, outcome };
  }
  if (error instanceof Error) return { name: error.name, message: error.message };
  return { name: 'Error', message: String(error) };
}

function receivedError(sent: SentError): Error {
  const { name, message, code } = sent;
  if (code !== undefined) return new WalError(code, message, sent);
  if (name === 'RangeError') return new RangeError(message);
  if (name === 'TypeError') return new TypeError(message);
  return new Error(message);
}

/** The other way in which an attached log ends: its owner has closed it, or has ended. */
export function ownerGone(outcome: Outcome): WalError {
  return new WalError('WAL_CLOSED', 'the thread that opened the log has closed it, or has ended', {
    outcome,
    hint: 'Open the log again there, and attach by the handle that it then has.',
  });
}

interface Pending {
  readonly resolve: (value: never) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Asks the thread that opened the log. Every question ends: with its answer, with its signal, or
 * when that thread lets go of the log or this one detaches (`end`).
 */
export class AttachedClient {
  readonly #native: NativeAttachedLog;
  readonly #keepAlive: KeepAlive;
  readonly #pending = new Map<number, Pending>();
  readonly #onOwnerGone: () => void;
  #next = 1;
  #ended: WalError | undefined;
  #isFlushed = false;

  constructor(native: NativeAttachedLog, onOwnerGone: () => void) {
    this.#native = native;
    this.#onOwnerGone = onOwnerGone;
    this.#keepAlive = new KeepAlive(native);
    native.onTold((text) => this.#told(text));
  }

  /** Whether the owner, before it has closed the log, said that all is flushed. */
  get isFlushed(): boolean {
    return this.#isFlushed;
  }

  ask<C extends AttachedCall>(
    call: C,
    about: AttachedCalls[C]['ask'],
    signal?: AbortSignal,
  ): Promise<AttachedCalls[C]['answer']> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    if (signal?.aborted) return Promise.reject(signal.reason);
    const id = this.#next++;
    if (!this.#native.ask(JSON.stringify({ ...about, id, call }))) {
      return Promise.reject(ownerGone('unknown'));
    }
    return new Promise((resolve, reject) => {
      this.#keepAlive.acquire();
      const end = (): void => {
        this.#pending.delete(id);
        this.#keepAlive.release();
        signal?.removeEventListener('abort', onAbort);
      };
      const onAbort = (): void => {
        end();
        this.#native.ask(JSON.stringify({ id: 0, call: 'cancel', of: id } satisfies Ask));
        reject(signal?.reason);
      };
      this.#pending.set(id, {
        resolve: (value) => {
          end();
          resolve(value);
        },
        reject: (error) => {
          end();
          reject(error);
        },
      });
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** Detaches: nothing is heard any more, and who still waits gets this error. */
  end(error: WalError): void {
    if (this.#ended !== undefined) return;
    this.#ended = withOutcome(error, 'refused');
    for (const pending of [...this.#pending.values()]) pending.reject(error);
    this.#keepAlive.detach();
    this.#native.close();
  }

  #told(text: string | undefined): void {
    if (text === undefined) {
      this.#onOwnerGone();
      return;
    }
    const { id, value, error } = JSON.parse(text) as Answer;
    if (id === 0) this.#isFlushed = true;
    const pending = this.#pending.get(id);
    if (error === undefined) pending?.resolve(value as never);
    else pending?.reject(receivedError(error));
  }
}
