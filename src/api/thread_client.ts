import { Worker } from 'node:worker_threads';
import { receivedError } from './attached_calls.js';
import { WalError } from './errors.js';
import type { LogEventName } from './events.js';
import { withOutcome } from './failure.js';
import { HandedReferee } from './handed_referee.js';
import type { Logger, LogLevel } from './logger.js';
import { type ResolvedOptions, resolveOpenOptions, type ThreadedOptions } from './options.js';
import type { LogStatus } from './status.js';
import type {
  FromThread,
  OpenedLog,
  SentBatches,
  ThreadCall,
  ThreadData,
  ToThread,
} from './thread_calls.js';
import { RebuildRunner } from './thread_rebuild.js';

/** What the thread of a log tells of itself. */
export interface ThreadListener {
  event(event: LogEventName, args: readonly unknown[]): void;
  batches(applier: number, batches: SentBatches): void;
  closed(status: LogStatus | undefined, failure: WalError | undefined): void;
  /** It has ended without having closed the log. */
  died(error: WalError): void;
}

interface Pending {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
  /** Whether it keeps the process alive. */
  holds: boolean;
  /** Whether it does so until it is answered. */
  isFinal: boolean;
}

export interface AskOptions {
  readonly signal?: AbortSignal | undefined;
  /** From `newId`, where it has to be known before. */
  readonly id?: number;
}

/**
 * The thread of a log, from the thread that it was opened for. Every question ends: with its
 * answer, with its signal, or with that thread.
 */
export class ThreadClient {
  readonly #worker: Worker;
  readonly #logger: Logger | undefined;
  readonly #onWaiting: ResolvedOptions['onWaiting'];
  readonly #pending = new Map<number, Pending>();
  #opening: { resolve(opened: OpenedLog): void; reject(error: unknown): void } | undefined;
  #listener: ThreadListener | undefined;
  /** What came for the listener before there was one. */
  #early: FromThread[] = [];
  #next = 1;
  #waits = 0;
  /** Whether the log serves others, and so keeps the process alive. */
  #serves = true;
  #ended: WalError | undefined;
  #isBehind = false;
  #isCatchingUp = false;
  #cancelled: AbortSignal | undefined;
  #isOpen = false;
  /** LSNs behind which the log was cut, in that order. */
  readonly #cuts: number[] = [];
  readonly #rebuilds: RebuildRunner;
  readonly #referee: HandedReferee | undefined;

  private constructor(
    worker: Worker,
    { logger, onWaiting, onRebuild }: ResolvedOptions,
    referee: HandedReferee | undefined,
  ) {
    this.#worker = worker;
    this.#logger = logger;
    this.#onWaiting = onWaiting;
    this.#rebuilds = new RebuildRunner(onRebuild, (id, error) => this.tell({ rebuilt: id, error }));
    this.#referee = referee;
    worker.on('message', (message: FromThread) => this.#heard(message));
    // The thread has let go of the directory when it has ended, and not before.
    let cause: WalError | undefined;
    worker.on('messageerror', (error) => {
      cause ??= diedOf(error);
      void worker.terminate();
    });
    worker.on('error', (error) => {
      cause ??= this.#opening === undefined ? diedOf(error) : notStarted(error);
    });
    worker.on('exit', () => this.#died(cause ?? diedOf(undefined)));
  }

  /** Starts the thread, which opens the log. */
  static async start(options: ThreadedOptions) {
    const resolved = resolveOpenOptions(options);
    const { signal, logger, onWaiting, dir, mirrors } = resolved;
    signal?.throwIfAborted();
    const plain: Record<string, unknown> = { ...options, dir: [dir, ...mirrors] };
    for (const key of keptHere) delete plain[key];
    const referee = HandedReferee.of(resolved);
    const data = {
      options: plain,
      logs: logger !== undefined,
      tellsWaiting: onWaiting !== undefined,
      rebuilds: resolved.onRebuild !== undefined,
      referee: referee?.sent,
    } satisfies ThreadData;
    try {
      const client = new ThreadClient(spawn(data), resolved, referee);
      const { handle, nodeId } = await client.#opened(signal);
      referee?.standIn(() => client.ask({ call: 'forgetReferee' }));
      return { client, handle, nodeId };
    } catch (error) {
      referee?.end();
      throw error;
    }
  }

  #opened(signal: AbortSignal | undefined): Promise<OpenedLog> {
    this.#cancelled = signal;
    const onAbort = (): void => this.tell({ cancel: 0 });
    signal?.addEventListener('abort', onAbort, { once: true });
    return new Promise<OpenedLog>((resolve, reject) => {
      this.#opening = { resolve, reject };
    }).finally(() => {
      this.#opening = undefined;
      signal?.removeEventListener('abort', onAbort);
    });
  }

  /** What comes from now on is for this one. */
  listen(listener: ThreadListener): void {
    this.#listener = listener;
    for (const message of this.#early.splice(0)) this.#heard(message);
    if (this.#ended !== undefined) listener.died(this.#ended);
  }

  get logger(): Logger | undefined {
    return this.#logger;
  }

  /** How many cuts of the log were heard of. */
  get cutCount(): number {
    return this.#cuts.length;
  }

  /** The last LSN that is, still, of the history that has seen so many cuts. */
  lastOf(cuts: number): number {
    if (cuts === this.#cuts.length) return Number.POSITIVE_INFINITY;
    return Math.min(...this.#cuts.slice(cuts));
  }

  newId(): number {
    return this.#next++;
  }

  /** What cannot be sent throws TypeError. */
  tell(message: ToThread): void {
    try {
      this.#worker.postMessage(message);
    } catch (error) {
      throw notPlain(error);
    }
  }

  ask(ask: ThreadCall, { signal, id = this.newId() }: AskOptions = {}): Promise<unknown> {
    if (this.#ended !== undefined) return Promise.reject(withOutcome(this.#ended, 'refused'));
    if (signal?.aborted) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      this.tell({ id, ask });
      const end = (): void => {
        this.#letGo(pending);
        this.#pending.delete(id);
        signal?.removeEventListener('abort', onAbort);
      };
      const onAbort = (): void => {
        end();
        this.tell({ cancel: id });
        reject(signal?.reason);
      };
      const pending: Pending = {
        holds: false,
        isFinal: false,
        resolve: (value) => {
          end();
          resolve(value);
        },
        reject: (error) => {
          end();
          reject(error);
        },
      };
      this.#pending.set(id, pending);
      this.hold(id);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** This question keeps the process alive, as every one does at first. */
  hold(id: number): void {
    const pending = this.#pending.get(id);
    if (pending === undefined || pending.holds) return;
    pending.holds = true;
    this.#waits += 1;
    this.#reference();
  }

  /** The same to its end: the answer is on its way, whatever is heard before. */
  holdToTheEnd(id: number): void {
    this.hold(id);
    const pending = this.#pending.get(id);
    if (pending !== undefined) pending.isFinal = true;
  }

  /** What is waited for may never come: the process need not wait for it. */
  rest(id: number): void {
    const pending = this.#pending.get(id);
    if (pending?.isFinal === false) this.#letGo(pending);
  }

  #letGo(pending: Pending): void {
    if (!pending.holds) return;
    pending.holds = false;
    this.#waits -= 1;
    this.#reference();
  }

  /**
   * What became visible by now is on its way to those that rest: the process waits for that. The
   * answer comes behind it.
   */
  async catchUp(): Promise<void> {
    this.#isBehind = true;
    if (this.#isCatchingUp || this.#serves || this.#pending.size === this.#waits) return;
    this.#isCatchingUp = true;
    try {
      while (this.#isBehind) {
        this.#isBehind = false;
        await this.ask({ call: 'echo' });
      }
    } catch {
      // The thread has ended.
    } finally {
      this.#isCatchingUp = false;
    }
  }

  /** Whether the log itself keeps the process alive. */
  setRef(serves: boolean): void {
    this.#serves = serves;
    this.#reference();
  }

  /** Every question that is not answered ends so, and so do those to come. */
  end(error: WalError): void {
    this.#ended ??= error;
    this.closing();
    this.#referee?.end();
    this.rejectAll(error);
  }

  /** What rebuilds here hears that nobody waits for it. */
  closing(): void {
    this.#rebuilds.end();
  }

  rejectAll(error: WalError): void {
    for (const pending of [...this.#pending.values()]) pending.reject(error);
  }

  async terminate(): Promise<void> {
    await this.#worker.terminate();
  }

  #reference(): void {
    if (this.#waits > 0 || this.#serves) this.#worker.ref();
    else this.#worker.unref();
  }

  #heard(message: FromThread): void {
    if ('id' in message) this.#answered(message);
    else if ('cut' in message) this.#cuts.push(message.cut);
    else if ('idle' in message) this.rest(message.idle);
    else if ('apply' in message) this.#listener?.batches(message.apply, message.batches);
    else if ('rebuild' in message && !this.#isOpen) {
      void this.#rebuilds.run(message.rebuild, message.about);
    } else if (this.#listener === undefined && isForListener(message)) this.#early.push(message);
    else if ('rebuild' in message) {
      // Whoever listens does so from then on.
      setImmediate(() => {
        if (this.#rebuilds.hasEnded) return;
        this.#listener?.event('rebuild', [message.about]);
        void this.#rebuilds.run(message.rebuild, message.about);
      });
    } else if ('event' in message) {
      this.tell({ taken: 1 });
      this.#listener?.event(message.event, message.args);
    } else if ('line' in message) {
      this.tell({ taken: 1 });
      this.log(message.line, message.fields, message.text);
    } else if ('closed' in message) this.#closed(message);
    else this.#heardOfOpening(message);
  }

  #answered({ id, value, error }: Extract<FromThread, { id: number }>): void {
    const pending = this.#pending.get(id);
    if (error === undefined) pending?.resolve(value);
    else pending?.reject(receivedError(error));
  }

  #closed({ closed, error }: Extract<FromThread, { closed: unknown }>): void {
    const failure = error === undefined ? undefined : (receivedError(error) as WalError);
    this.#listener?.closed(closed, failure);
  }

  #heardOfOpening(
    message: Extract<FromThread, { opened: unknown } | { failed: unknown } | { waiting: unknown }>,
  ): void {
    if ('opened' in message) {
      this.#isOpen = true;
      this.#opening?.resolve(message.opened);
    } else if ('waiting' in message) this.#onWaiting?.(receivedError(message.waiting) as WalError);
    else {
      const { cancelled, failed } = message;
      this.#opening?.reject(cancelled ? this.#cancelled?.reason : receivedError(failed));
    }
  }

  /** What a logger throws is ignored, as it is in the thread of the log. */
  log(level: LogLevel, fields: object, text: string): void {
    try {
      const written: unknown = this.#logger?.[level]({ ...fields }, text);
      if (written instanceof Promise) written.catch(() => undefined);
    } catch {
      return;
    }
  }

  #died(error: WalError): void {
    if (this.#ended !== undefined) return;
    this.#opening?.reject(error);
    this.end(error);
    this.#listener?.died(error);
  }
}

/** Options that are not sent as they are. */
const keptHere = [
  'signal',
  'logger',
  'onWaiting',
  'onRebuild',
  'referee',
  'applicationTimeout',
  'replicationThread',
];

function isForListener(message: FromThread): boolean {
  return 'event' in message || 'closed' in message || 'rebuild' in message;
}

/** Without this thread's own flags: preloads, `--input-type`, a debugger's break. */
function spawn(workerData: ThreadData): Worker {
  try {
    const url = new URL('./log_thread.js', import.meta.url);
    return new Worker(url, { name: 'walmirror', execArgv: [], workerData });
  } catch (error) {
    if ((error as Error).name === 'DataCloneError') throw notPlain(error);
    throw notStarted(error);
  }
}

function notPlain(error: unknown): unknown {
  if ((error as Error).name !== 'DataCloneError') return error;
  const { message } = error as Error;
  return new TypeError(
    `a log with replicationThread: 'worker' takes plain values, which can be sent to its thread: ` +
      message,
    { cause: error },
  );
}

function notStarted(error: unknown): WalError {
  const { message, code } = error as Error & { readonly code?: unknown };
  if (code === 'ERR_WORKER_OUT_OF_MEMORY') return diedOf(error);
  return new WalError('WAL_UNSUPPORTED', `the thread of the log cannot start: ${message}`, {
    hint: "Keep walmirror out of bundles (external), or pass replicationThread: 'main'.",
    cause: error,
  });
}

function diedOf(error: unknown): WalError {
  const why = error instanceof Error ? `: ${error.message}` : '';
  return new WalError('WAL_CLOSED', `the thread of the log has ended${why}`, {
    outcome: 'unknown',
    hint: 'Open the log again: what was acknowledged is there.',
    cause: error,
  });
}
