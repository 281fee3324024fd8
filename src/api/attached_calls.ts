import type { NativeAttachedLog } from '../native/native_log.js';
import type { CommitResult } from '../replication/commit_waiters.js';
import type { CommitLevel } from '../replication/level.js';
import { type Outcome, WalError, type WalErrorCode } from './errors.js';
import { withOutcome } from './failure.js';
import { KeepAlive } from './keep_alive.js';
import type { OldPrimary } from './old_primary.js';
import type { Layout } from './ring_space.js';
import type { LogStatus } from './status.js';

/** What the thread that opened a log is asked by one that attached to it. */
export interface AttachedCalls {
  /** Other threads append from now on. */
  attach: { readonly ask: object; readonly answer: AttachedTo };
  commit: {
    readonly ask: {
      readonly lsn: number;
      readonly level?: CommitLevel | undefined;
      /** When it was called, by `sharedClock`: its time-out counts from then. */
      readonly since: number;
      /** When the first record was appended there that no commit has met yet. */
      readonly appended?: number | undefined;
    };
    readonly answer: CommitResult;
  };
  drain: {
    readonly ask: {
      readonly bytes?: number | undefined;
      readonly refused?: readonly number[] | undefined;
    };
    readonly answer: null;
  };
  /** Records of these sizes were refused for want of room; none: they are not wanted any more. */
  refused: {
    readonly ask: { readonly sizes?: readonly number[] | undefined };
    readonly answer: null;
  };
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

/** An error as it crosses threads. */
export interface SentError {
  readonly name: string;
  readonly message: string;
  readonly code?: WalErrorCode;
  readonly hint?: string;
  readonly lsn?: number | undefined;
  readonly file?: string | undefined;
  readonly offset?: number | undefined;
  readonly outcome?: Outcome | undefined;
  readonly oldPrimary?: OldPrimary | undefined;
}

export function sentError(thrown: unknown): SentError {
  const error = WalError.from(thrown);
  if (error instanceof WalError) {
    const { name, message, code, hint, lsn, file, offset, outcome, oldPrimary } = error;
    return { name, message, code, hint, lsn, file, offset, outcome, oldPrimary };
  }
  if (error instanceof Error) return { name: error.name, message: error.message };
  return { name: 'Error', message: String(error) };
}

export function receivedError(sent: SentError): Error {
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
  readonly id: number;
  readonly text: string;
  readonly resolve: (value: never) => void;
  readonly reject: (error: unknown) => void;
}

/** Questions of one kind: some are asked, the others wait in line until one is answered. */
interface Lane {
  /** Asked, and not answered yet: who has cancelled one is answered too. */
  asked: number;
  readonly line: Set<Pending>;
}

/** So many notes of one kind may wait for an owner whose event loop is blocked. */
const MAX_ASKED = 256;

/** Milliseconds on a clock that all threads of the process share. */
export function sharedClock(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1000 + nanoseconds / 1e6;
}

/**
 * Asks the thread that opened the log. Every question ends: with its answer, with its signal, or
 * when that thread lets go of the log or this one detaches (`end`).
 */
export class AttachedClient {
  readonly #native: NativeAttachedLog;
  readonly #keepAlive: KeepAlive;
  readonly #pending = new Map<number, Pending>();
  readonly #lanes = new Map<string, Lane>();
  /** The lanes of what is not answered yet. */
  readonly #asked = new Map<number, Lane>();
  readonly #onOwnerGone: () => void;
  #next = 1;
  #most = MAX_ASKED;
  #ended: WalError | undefined;
  #isFlushed = false;

  /** Why nothing is asked any more. */
  get ended(): WalError | undefined {
    return this.#ended;
  }

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

  /** `name` of its lane: those of one do not wait for those of another to be answered. */
  ask<C extends AttachedCall>(
    call: C,
    about: AttachedCalls[C]['ask'],
    signal?: AbortSignal,
    name: string = call,
  ): Promise<AttachedCalls[C]['answer']> {
    if (this.#ended !== undefined) return Promise.reject(this.#ended);
    if (signal?.aborted) return Promise.reject(signal.reason);
    const id = this.#next++;
    const lane = this.#laneOf(name);
    return new Promise((resolve, reject) => {
      const end = (): void => {
        this.#pending.delete(id);
        lane.line.delete(pending);
        this.#keepAlive.release();
        signal?.removeEventListener('abort', onAbort);
      };
      const onAbort = (): void => {
        const isAsked = !lane.line.has(pending);
        pending.reject(signal?.reason);
        if (isAsked) this.#cancel(id);
      };
      const pending: Pending = {
        id,
        text: JSON.stringify({ ...about, id, call }),
        resolve: (value) => {
          end();
          resolve(value);
        },
        reject: (error) => {
          end();
          reject(error);
        },
      };
      this.#keepAlive.acquire();
      this.#pending.set(id, pending);
      signal?.addEventListener('abort', onAbort, { once: true });
      lane.line.add(pending);
      this.#advance(lane);
    });
  }

  /** Asks for all that stands in line, however much it is: nothing more comes. */
  askAll(): void {
    this.#most = Number.POSITIVE_INFINITY;
    for (const lane of this.#lanes.values()) this.#advance(lane);
  }

  /** Detaches: nothing is heard any more, and who still waits gets this error. */
  end(error: WalError): void {
    if (this.#ended !== undefined) return;
    this.#ended = withOutcome(error, 'refused');
    for (const pending of [...this.#pending.values()]) pending.reject(error);
    this.#keepAlive.detach();
    this.#native.close();
  }

  #laneOf(name: string): Lane {
    const lane = this.#lanes.get(name) ?? { asked: 0, line: new Set() };
    this.#lanes.set(name, lane);
    return lane;
  }

  #advance(lane: Lane): void {
    for (const pending of lane.line) {
      if (lane.asked >= this.#most) return;
      lane.line.delete(pending);
      try {
        // Where the owner has ended, its last words are on their way: this ends with them.
        if (!this.#native.ask(pending.text)) continue;
        lane.asked += 1;
        this.#asked.set(pending.id, lane);
      } catch (error) {
        pending.reject(WalError.from(error));
      }
    }
  }

  #cancel(id: number): void {
    try {
      this.#native.ask(JSON.stringify({ id: 0, call: 'cancel', of: id } satisfies Ask));
    } catch {
      // No memory for it: the owner waits on until it is met, or until this thread detaches.
    }
  }

  #told(text: string | undefined): void {
    if (text === undefined) {
      this.#onOwnerGone();
      return;
    }
    const { id, value, error } = JSON.parse(text) as Answer;
    if (id === 0) this.#isFlushed = true;
    const pending = this.#pending.get(id);
    const lane = this.#asked.get(id);
    if (lane !== undefined) {
      this.#asked.delete(id);
      lane.asked -= 1;
      this.#advance(lane);
    }
    if (error === undefined) pending?.resolve(value as never);
    else pending?.reject(receivedError(error));
  }
}
