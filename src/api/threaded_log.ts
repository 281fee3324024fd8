import { Worker } from 'node:worker_threads';
import type { CommitResult } from '../replication/commit_waiters.js';
import type { TlsOptions } from '../transport/security.js';
import type { AppendedRange } from './append_many.js';
import type { Applier, ApplyFunction } from './applier.js';
import { receivedError, type SentError, sentError } from './attached_calls.js';
import { AttachedLog } from './attached_log.js';
import type { LogHandle } from './attachments.js';
import { Batch } from './batch.js';
import { WalError } from './errors.js';
import { LogEmitter, type LogEventName, type LogListener } from './events.js';
import { type ClosesAtExit, closeAtExit, forgetAtExit } from './exit_hook.js';
import type { ApplyOptions, CloseOptions, CommitOptions, WaitOptions } from './log.js';
import type { Logger, LogLevel } from './logger.js';
import { resolveOpenOptions, type ThreadedOptions } from './options.js';
import type { Promoted, PromoteOptions } from './promote.js';
import type { ReadOptions } from './read_options.js';
import type { RecordData } from './record.js';
import type { ScrubStatus } from './scrub.js';
import type { SetPolicyOptions } from './set_policy.js';
import type { LogStatus, PolicyStatus } from './status.js';
import type { FromThread, SentBatch, ThreadCall, ThreadData, ToThread } from './thread_calls.js';
import * as check from './validate.js';

interface Pending {
  readonly resolve: (value: never) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * A log that runs in a thread of its own (`replicationThread: 'worker'`), and is used from this
 * one: sockets, heartbeats, standbys, the policy, fences and the flush need nothing of this
 * thread's event loop. Appends go into the log's memory by one native call each, as those of
 * `AttachedLog`; all else is asked of that thread. Where it dies, every call and wait ends with
 * WAL_CLOSED, and 'failed' fires.
 *
 * As `Log`, but for: `status()` is a promise; what `Log` throws at once, but for appends, rejects
 * here; `read` and `apply` copy each batch between the threads; there are no streams, no
 * `serveStatus`, and no metrics for Prometheus. While this thread is blocked, events and lines for
 * the logger wait for it, 1,024 at most; of what comes then only a role and a failure is told.
 */
export class ThreadedLog {
  readonly #worker: Worker;
  readonly #data: AttachedLog;
  readonly #handle: LogHandle;
  /** The end of the process: what was appended here is published, for that thread to flush. */
  readonly #atExit: ClosesAtExit = { closeAtExit: () => this.#data.publish() };
  readonly #events = new LogEmitter();
  readonly #pending = new Map<number, Pending>();
  readonly #applies = new Map<number, ApplyFunction>();
  #next = 1;
  #gone: WalError | undefined;
  #closing: Promise<void> | undefined;
  #holds = true;
  #waits = 0;
  /** Whether it serves others, and so keeps the process alive. */
  #serves: boolean;

  private constructor(worker: Worker, data: AttachedLog, handle: LogHandle, serves: boolean) {
    this.#worker = worker;
    this.#data = data;
    this.#handle = handle;
    this.#serves = serves;
    worker.on('exit', () => this.#ended());
    closeAtExit(this.#atExit);
    this.#hold();
  }

  /** @internal What `Log.open` does with `replicationThread: 'worker'`. */
  static async open(options: ThreadedOptions): Promise<ThreadedLog> {
    const { signal, logger, onWaiting } = resolveOpenOptions(options);
    signal?.throwIfAborted();
    const plain: Record<string, unknown> = { ...options };
    for (const key of ['signal', 'logger', 'onWaiting', 'replicationThread']) delete plain[key];
    const worker = new Worker(new URL('./log_thread.js', import.meta.url), {
      name: 'walmirror',
      workerData: {
        options: plain,
        logs: logger !== undefined,
        tellsWaiting: onWaiting !== undefined,
      } satisfies ThreadData,
    });
    let log: ThreadedLog | undefined;
    const heard = (message: FromThread): void => {
      if (log !== undefined) log.#heard(message);
    };
    const ended = (died: WalError): void => {
      if (log !== undefined) log.#ended(died);
    };
    const onAbort = (): void => void worker.terminate();
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      const handle = await new Promise<LogHandle>((resolve, reject) => {
        worker.on('message', (message: FromThread) => {
          if ('opened' in message) resolve(message.opened);
          else if ('failed' in message) reject(receivedError(message.failed));
          else if ('waiting' in message) onWaiting?.(receivedError(message.waiting) as WalError);
          else if ('line' in message) {
            worker.postMessage({ heard: 1 } satisfies ToThread);
            tellLogger(logger, message);
          } else heard(message);
        });
        worker.on('error', (error) => {
          const died = diedOf(error);
          reject(died);
          ended(died);
        });
        worker.on('exit', () => reject(signal?.aborted ? signal.reason : diedOf(undefined)));
      });
      const data = await AttachedLog.attach(handle, { signal });
      const serves = options.listen !== undefined || options.follow !== undefined;
      log = new ThreadedLog(worker, data, handle, serves);
      return log;
    } catch (error) {
      await worker.terminate();
      throw error;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  get name(): string {
    return this.#data.name;
  }

  get dir(): string {
    return this.#data.dir;
  }

  /** By which further threads attach (`Log.attach`). */
  get handle(): LogHandle {
    this.#requireOpen();
    return this.#handle;
  }

  get maxRecordBytes(): number {
    return this.#data.maxRecordBytes;
  }

  append(data: RecordData): number {
    return this.#data.append(data);
  }

  appendMany(items: Iterable<RecordData>): AppendedRange {
    return this.#data.appendMany(items);
  }

  appendInto(maxBytes: number, encode: (buffer: Buffer, offset: number) => number): number {
    return this.#data.appendInto(maxBytes, encode);
  }

  get needsDrain(): boolean {
    return this.#data.needsDrain;
  }

  drain(bytes?: number, options?: WaitOptions): Promise<void> {
    return this.#data.drain(bytes, options);
  }

  commit(lsn?: number, options?: CommitOptions): Promise<CommitResult> {
    return this.#data.commit(lsn, options);
  }

  appendAndCommit(data: RecordData, options?: CommitOptions): Promise<CommitResult> {
    return this.#data.appendAndCommit(data, options);
  }

  status(): Promise<LogStatus> {
    return this.#data.status();
  }

  async trim(lsn: number): Promise<void> {
    await this.#ask({ call: 'trim', lsn });
  }

  async waitFor(lsn: number, options?: WaitOptions): Promise<void> {
    await this.#ask({ call: 'waitFor', lsn }, signalOf(options, 'waitFor'));
  }

  async scrub(options?: WaitOptions): Promise<ScrubStatus> {
    return (await this.#ask({ call: 'scrub' }, signalOf(options, 'scrub'))) as ScrubStatus;
  }

  async connected(options?: WaitOptions): Promise<void> {
    await this.#ask({ call: 'connected' }, signalOf(options, 'connected'));
  }

  async promote(options?: PromoteOptions): Promise<Promoted> {
    const { signal, ...plain } = options ?? {};
    const promoted = (await this.#ask({ call: 'promote', options: plain }, signal)) as Promoted;
    return promoted;
  }

  async setPolicy(options: SetPolicyOptions): Promise<PolicyStatus> {
    const { signal, ...plain } = options;
    return (await this.#ask({ call: 'setPolicy', options: plain }, signal)) as PolicyStatus;
  }

  async reloadTls(tls: TlsOptions): Promise<void> {
    await this.#ask({ call: 'reloadTls', tls });
  }

  /** As `Log.read`; `borrow` lends nothing here, every batch is a copy. */
  read(options?: ReadOptions): AsyncIterableIterator<Batch> {
    const { signal, borrow: _, ...plain } = options ?? {};
    return new ThreadedReader((ask, ended) => this.#ask(ask, ended), plain, signal);
  }

  /** As `Log.apply`: the next batch comes when this one is applied here. */
  apply(options: ApplyOptions | undefined, apply: ApplyFunction): Applier {
    const raw = check.optionsObject(options, 'apply', ['from', 'signal']);
    check.callback(apply, 'apply(options, fn)');
    const max = Number.MAX_SAFE_INTEGER;
    const from = raw.from === undefined ? 1 : check.integer(raw.from, 'from', 1, max);
    const signal = check.abortSignal(raw.signal, 'signal');
    let appliedLsn = from - 1;
    let failure: unknown;
    const id = this.#next;
    this.#applies.set(id, async (batch) => {
      try {
        await apply(batch);
        appliedLsn = batch.lastLsn;
      } catch (error) {
        failure = error;
        throw error;
      }
    });
    const stop = (): Promise<void> =>
      this.#gone === undefined
        ? this.#ask({ call: 'stop', applier: id }).then(() => undefined)
        : Promise.resolve();
    const onAbort = (): void => void stop().catch(() => undefined);
    const done = this.#ask({ call: 'apply', from })
      .then(
        () => undefined,
        (error: unknown) => {
          throw failure ?? error;
        },
      )
      .finally(() => {
        this.#applies.delete(id);
        signal?.removeEventListener('abort', onAbort);
      });
    signal?.addEventListener('abort', onAbort, { once: true });
    return {
      done,
      stop,
      get appliedLsn() {
        return appliedLsn;
      },
    };
  }

  on<E extends LogEventName>(event: E, listener: LogListener<E>): this {
    this.#events.on(event, listener);
    return this;
  }

  once<E extends LogEventName>(event: E, listener: LogListener<E>): this {
    this.#events.once(event, listener);
    return this;
  }

  off<E extends LogEventName>(event: E, listener: LogListener<E>): this {
    this.#events.off(event, listener);
    return this;
  }

  unref(): this {
    this.#holds = false;
    this.#hold();
    return this;
  }

  ref(): this {
    this.#holds = true;
    this.#hold();
    return this;
  }

  /** As `Log.close`. The thread ends with it. */
  close(options: CloseOptions = {}): Promise<void> {
    this.#closing ??= this.#close(options);
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(options: CloseOptions): Promise<void> {
    forgetAtExit(this.#atExit);
    this.#data.publish();
    if (this.#gone !== undefined) throw this.#gone;
    const exit = new Promise((resolve) => this.#worker.once('exit', resolve));
    this.#waits += 1;
    try {
      await this.#ask({ call: 'close', options });
      await exit;
    } finally {
      this.#waits -= 1;
      this.#hold();
    }
  }

  #requireOpen(): void {
    if (this.#gone !== undefined) throw this.#gone;
  }

  #ask(ask: ThreadCall, signal?: AbortSignal): Promise<unknown> {
    const id = this.#next++;
    if (this.#gone !== undefined) return Promise.reject(this.#gone);
    if (signal?.aborted) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      const end = (): void => {
        this.#pending.delete(id);
        this.#waits -= 1;
        this.#hold();
        signal?.removeEventListener('abort', onAbort);
      };
      const onAbort = (): void => {
        end();
        this.#tell({ cancel: id });
        reject(signal?.reason);
      };
      this.#waits += 1;
      this.#hold();
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
      this.#tell({ id, ask });
    });
  }

  #tell(message: ToThread): void {
    this.#worker.postMessage(message);
  }

  #heard(message: FromThread): void {
    if ('id' in message) {
      const pending = this.#pending.get(message.id);
      if (message.error === undefined) pending?.resolve(message.value as never);
      else pending?.reject(receivedError(message.error));
    } else if ('apply' in message) void this.#applyHere(message);
    else if ('event' in message) {
      this.#tell({ heard: 1 });
      this.#emit(message.event, message.args);
    }
  }

  async #applyHere({ apply, of, batch }: Extract<FromThread, { apply: number }>): Promise<void> {
    try {
      await this.#applies.get(of)?.(receivedBatch(batch));
      this.#tell({ applied: apply });
    } catch (error) {
      this.#tell({ applied: apply, error: sentError(error) });
    }
  }

  #emit(event: LogEventName, args: readonly unknown[]): void {
    const received = args.map((arg) => {
      const sent = (arg as { readonly error?: SentError } | null)?.error;
      return sent === undefined ? arg : receivedError(sent);
    });
    this.#events.emit(event, ...(received as never));
  }

  /** The thread has ended: as it was asked to, or it died. */
  #ended(died?: WalError): void {
    if (this.#gone !== undefined) return;
    const asked = this.#closing !== undefined;
    this.#gone = died ?? diedOf(undefined);
    if (asked && died === undefined) {
      this.#gone = new WalError('WAL_CLOSED', 'the log is closed', { outcome: 'refused' });
    }
    for (const pending of [...this.#pending.values()]) pending.reject(this.#gone);
    forgetAtExit(this.#atExit);
    if (!asked || died !== undefined) this.#events.emit('failed', this.#gone);
  }

  #hold(): void {
    if (this.#waits > 0 || (this.#serves && this.#holds)) this.#worker.ref();
    else this.#worker.unref();
  }
}

type AskThread = (ask: ThreadCall, signal?: AbortSignal) => Promise<unknown>;

/** A reading of that thread, batch by batch. `return()` ends a `next()` that waits. */
class ThreadedReader implements AsyncIterableIterator<Batch> {
  readonly #ask: AskThread;
  readonly #reader: Promise<number>;
  readonly #signal: AbortSignal | undefined;
  #done = false;

  constructor(ask: AskThread, options: object, signal: AbortSignal | undefined) {
    this.#ask = ask;
    this.#signal = signal;
    this.#reader = ask({ call: 'read', options }, signal) as Promise<number>;
    // Told to who asks for a batch.
    this.#reader.catch(() => undefined);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<Batch, undefined>> {
    if (this.#done) return { done: true, value: undefined };
    try {
      const reader = await this.#reader;
      const sent = (await this.#ask({ call: 'next', reader }, this.#signal)) as
        | SentBatch
        | undefined;
      if (sent !== undefined) return { done: false, value: receivedBatch(sent) };
      this.#done = true;
      return { done: true, value: undefined };
    } catch (error) {
      await this.return();
      throw error;
    }
  }

  async return(): Promise<IteratorResult<Batch, undefined>> {
    if (!this.#done) {
      this.#done = true;
      // Where the thread or the reading is gone, there is nothing to let go of.
      await this.#reader
        .then((reader) => this.#ask({ call: 'return', reader }))
        .catch(() => undefined);
    }
    return { done: true, value: undefined };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }
}

function receivedBatch({ bytes, firstLsn, lastLsn }: SentBatch): Batch {
  return new Batch(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length), firstLsn, lastLsn);
}

/** What a logger throws is ignored, as it is in the thread of the log. */
function tellLogger(
  logger: Logger | undefined,
  { line, fields, text }: Extract<FromThread, { line: LogLevel }>,
): void {
  try {
    logger?.[line]({ ...fields }, text);
  } catch {
    return;
  }
}

function diedOf(error: unknown): WalError {
  const why = error instanceof Error ? `: ${error.message}` : '';
  return new WalError('WAL_CLOSED', `the thread of the log has ended${why}`, {
    outcome: 'unknown',
    cause: error,
  });
}

function signalOf(options: unknown, what: string): AbortSignal | undefined {
  return check.abortSignal(check.optionsObject(options, what, ['signal']).signal, 'signal');
}
