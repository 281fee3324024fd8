import type { ReadableStream, WritableStream } from 'node:stream/web';
import type { StatusPage } from '../observe/status_page.js';
import type { CommitResult } from '../replication/commit_waiters.js';
import type { CommitLevel } from '../replication/level.js';
import type { TlsOptions } from '../transport/security.js';
import type { AppendedRange } from './append_many.js';
import {
  type Applier,
  type ApplyFunction,
  type ApplyOptions,
  applyRequest,
  hasApplier,
} from './applier.js';
import { receivedError, type SentError, sharedClock } from './attached_calls.js';
import { noteMet, noteUnknown, unknownEnd } from './attached_commits.js';
import { AttachedLog } from './attached_log.js';
import type { LogHandle } from './attachments.js';
import type { Batch, LogRecord } from './batch.js';
import { closeTimeout } from './close.js';
import { type DemoteOptions, demoteKeys } from './demote.js';
import { channels, tellRoles, trace } from './diagnostics.js';
import { WalError } from './errors.js';
import { LogEmitter, type LogEventName, type LogEvents, type LogListener } from './events.js';
import { type ClosesAtExit, closeAtExit, forgetAtExit } from './exit_hook.js';
import { closedError, cutShortByClose, withOutcome } from './failure.js';
import { fencedError } from './fenced_driver.js';
import {
  type CloseOptions,
  type CommitOptions,
  commitOptions,
  type WaitOptions,
  waitSignal,
} from './log.js';
import type { ThreadedOptions } from './options.js';
import { policyKeys } from './policy_options.js';
import { type Promoted, type PromoteOptions, promoteKeys } from './promote.js';
import { type ReadOptions, type ReadRequest, readKeys, readRequest } from './read_options.js';
import {
  LogReadStream,
  type ReadStreamOptions,
  readStreamKeys,
  sourcePlan,
} from './read_stream.js';
import type { RecordData } from './record.js';
import type { RejoinOptions } from './rejoin.js';
import type { ScrubStatus } from './scrub.js';
import type { ServeStatusOptions } from './serve_status.js';
import type { SetPolicyOptions } from './set_policy.js';
import type { SlotStatus } from './slots.js';
import type { LogStatus, PolicyStatus } from './status.js';
import { type SwitchedOver, type SwitchoverOptions, switchoverKeys } from './switchover.js';
import type { OpenedLog, SentBatches } from './thread_calls.js';
import { ThreadClient, type ThreadListener } from './thread_client.js';
import { ThreadedApplier } from './threaded_applier.js';
import { ThreadedReader } from './threaded_reader.js';
import * as check from './validate.js';
import { Wakeups } from './wakeup.js';
import {
  type ReadableOptions,
  readableStream,
  type WritableOptions,
  writableStream,
} from './web_streams.js';
import {
  LogWriteStream,
  type RecordChunk,
  type RecordSink,
  type WriteStreamOptions,
  writeKeys,
  writePlan,
} from './write_stream.js';

/** So long a thread may take to say what is not flushed, once the time of `close` is over. */
const ANSWER_MS = 1000;
/** The longest that a timer of Node takes. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * A log that runs in a thread of its own (`replicationThread: 'worker'`), and is used from this
 * one: sockets, heartbeats, standbys, the policy, fences and flushes need nothing of this thread's
 * event loop. Appends go into the log's memory by one native call each, as those of `AttachedLog`;
 * all else is asked of that thread. Where it dies, every call and wait ends with WAL_CLOSED, and
 * 'failed' fires.
 *
 * As `Log`, but for these: `status()` is a promise. What only the log knows, its role say, is
 * refused by a rejection where `Log` throws at once (but for appends). Reading copies each batch
 * once more, and `borrow` saves nothing. `appendInto` copies what was encoded. Of the diagnostics
 * channels this thread hears `role` and `failover`. While it is blocked, 1,024 events and lines for
 * the logger wait for it; of what comes then only a role and a failure is told.
 */
export class ThreadedLog {
  readonly #thread: ThreadClient;
  readonly #data: AttachedLog;
  readonly #handle: LogHandle;
  readonly #nodeId: string;
  /** The end of the process: what was appended here is published, for that thread to flush. */
  readonly #atExit: ClosesAtExit = { closeAtExit: () => this.#data.publish() };
  readonly #events = new LogEmitter();
  /** Write streams, which end with the log. */
  readonly #refused = new Wakeups();
  readonly #sink: RecordSink;
  #applier: ThreadedApplier | undefined;
  #failure: WalError | undefined;
  #fenced: WalError | undefined;
  #died: WalError | undefined;
  #closing: Promise<void> | undefined;
  #detached: Promise<void> | undefined;
  #whenClosed: { resolve(): void; reject(error: unknown): void } | undefined;
  #lastStatus: LogStatus | undefined;
  #serves: boolean;
  /** Whether anything was ever read, or applied. */
  #reads = false;
  #holds = true;

  private constructor(
    thread: ThreadClient,
    data: AttachedLog,
    { handle, nodeId }: OpenedLog,
    options: ThreadedOptions,
  ) {
    this.#thread = thread;
    this.#data = data;
    this.#handle = handle;
    this.#nodeId = nodeId;
    this.#serves = options.listen !== undefined || options.follow !== undefined;
    this.#sink = this.#makeSink();
    tellRoles({ log: data.name, dir: data.dir }, this.#events);
    closeAtExit(this.#atExit);
    thread.setRef(this.#serves);
    thread.listen(this.#listener());
  }

  /** @internal What `Log.open` does with `replicationThread: 'worker'`. */
  static async open(options: ThreadedOptions): Promise<ThreadedLog> {
    const { client, ...opened } = await ThreadClient.start(options);
    try {
      const data = await AttachedLog.attach(opened.handle, undefined);
      return new ThreadedLog(client, data, opened, options);
    } catch (error) {
      await client.terminate();
      throw error;
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

  // -- writing --

  append(data: RecordData): number {
    return this.#data.append(data);
  }

  appendMany(items: Iterable<RecordData>): AppendedRange {
    return this.#data.appendMany(items);
  }

  appendInto(maxBytes: number, encode: (buffer: Buffer, offset: number) => number): number {
    return this.#data.appendInto(maxBytes, encode);
  }

  /** As `AttachedLog.needsDrain`. */
  get needsDrain(): boolean {
    return this.#data.needsDrain;
  }

  /** As `AttachedLog.drain`: what it resolved for is kept for nobody. */
  drain(bytes?: number, options?: WaitOptions): Promise<void> {
    return this.#data.drain(bytes, options);
  }

  /** As `Log.commit`. Without `lsn`: all that is in the log when its thread hears of it. */
  commit(lsn?: number, options?: CommitOptions): Promise<CommitResult> {
    if (lsn !== undefined) return this.#seen(this.#data.commit(lsn, options));
    try {
      const { level, signal } = commitOptions(options, 'commit');
      this.#requireOpen();
      return this.#seen(this.#commitAll(level, signal));
    } catch (error) {
      return Promise.reject(unknownEnd(error));
    }
  }

  appendAndCommit(data: RecordData, options?: CommitOptions): Promise<CommitResult> {
    return this.#seen(this.#data.appendAndCommit(data, options));
  }

  createWriteStream(options?: WriteStreamOptions): LogWriteStream {
    const raw = check.optionsObject(options, 'createWriteStream', writeKeys);
    return new LogWriteStream(this.#sink, writePlan(this.#sink, raw));
  }

  writable(options?: WritableOptions): WritableStream<RecordChunk> {
    return writableStream(this.#sink, options);
  }

  // -- reading --

  /** As `Log.read`; every batch is a copy, borrowed or not. */
  read(options?: ReadOptions): AsyncIterableIterator<Batch> {
    const request = readRequest(check.optionsObject(options, 'read', readKeys));
    this.#requireOpen();
    return this.#begin(request);
  }

  createReadStream(options?: ReadStreamOptions): LogReadStream {
    const raw = check.optionsObject(options, 'createReadStream', readStreamKeys);
    this.#requireOpen();
    return new LogReadStream(sourcePlan(raw, (request) => this.#begin(request)));
  }

  readable(options: ReadableOptions & { readonly mode: 'bytes' }): ReadableStream<Buffer>;
  readable(options?: ReadableOptions): ReadableStream<LogRecord>;
  readable(options?: ReadableOptions): ReadableStream {
    this.#requireOpen();
    return readableStream(options, (request) => this.#begin(request));
  }

  async waitFor(lsn: number, options?: WaitOptions): Promise<void> {
    const signal = waitSignal(options, 'waitFor');
    check.integer(lsn, 'waitFor(lsn)', 0, Number.MAX_SAFE_INTEGER);
    this.#requireOpen();
    await this.#thread.ask({ call: 'waitFor', lsn }, { signal });
  }

  /** As `Log.apply`: batches that were read in one go come together, and are applied one by one. */
  apply(options: ApplyOptions | undefined, apply: ApplyFunction): Applier {
    const request = applyRequest(options, apply);
    this.#requireOpen();
    if (this.#applier?.ended === false) throw hasApplier();
    const isClosing = (): boolean => this.#closing !== undefined;
    this.#reads = true;
    this.#applier = new ThreadedApplier(this.#thread, request, apply, isClosing);
    return this.#applier;
  }

  async trim(lsn: number): Promise<void> {
    check.integer(lsn, 'trim(lsn)', 1, Number.MAX_SAFE_INTEGER);
    this.#requireOpen();
    await this.#thread.ask({ call: 'trim', lsn });
  }

  async createSlot(name: string): Promise<SlotStatus> {
    this.#requireOpen();
    return (await this.#thread.ask({ call: 'createSlot', name })) as SlotStatus;
  }

  async dropSlot(name: string): Promise<boolean> {
    this.#requireOpen();
    return (await this.#thread.ask({ call: 'dropSlot', name })) as boolean;
  }

  async scrub(options?: WaitOptions): Promise<ScrubStatus> {
    const signal = waitSignal(options, 'scrub');
    this.#requireOpen();
    return (await this.#thread.ask({ call: 'scrub' }, { signal })) as ScrubStatus;
  }

  // -- role --

  async connected(options?: WaitOptions): Promise<void> {
    const signal = waitSignal(options, 'connected');
    this.#requireOpen();
    await this.#thread.ask({ call: 'connected' }, { signal });
  }

  async promote(options?: PromoteOptions): Promise<Promoted> {
    this.#requireOpen();
    if (!channels.failover.hasSubscribers) return this.#promote(options);
    const context = { log: this.name, dir: this.dir, action: 'promote' as const };
    return trace(channels.failover, context, () => this.#promote(options));
  }

  async rejoin(options: RejoinOptions): Promise<void> {
    this.#requireOpen();
    await this.#thread.ask({ call: 'rejoin', options });
  }

  async pauseFailover(reason: string, options?: WaitOptions): Promise<void> {
    const signal = waitSignal(options, 'pauseFailover');
    this.#requireOpen();
    await this.#thread.ask({ call: 'pauseFailover', reason }, { signal });
  }

  async resumeFailover(options?: WaitOptions): Promise<void> {
    const signal = waitSignal(options, 'resumeFailover');
    this.#requireOpen();
    await this.#thread.ask({ call: 'resumeFailover' }, { signal });
  }

  async switchover(options: SwitchoverOptions): Promise<SwitchedOver> {
    this.#requireOpen();
    if (!channels.failover.hasSubscribers) return this.#switchover(options);
    const context = { log: this.name, dir: this.dir, action: 'switchover' as const };
    return trace(channels.failover, context, () => this.#switchover(options));
  }

  async demote(options?: DemoteOptions): Promise<void> {
    this.#requireOpen();
    const { signal, ...plain } = check.optionsObject(options, 'demote', demoteKeys);
    const until = { signal: check.abortSignal(signal, 'signal') };
    await this.#thread.ask({ call: 'demote', options: plain }, until);
  }

  async setPolicy(options: SetPolicyOptions): Promise<PolicyStatus> {
    const raw = check.optionsObject(options, 'setPolicy', ['signal', ...policyKeys]);
    const { signal, ...plain } = raw;
    const until = { signal: check.abortSignal(signal, 'signal') };
    this.#requireOpen();
    return (await this.#thread.ask({ call: 'setPolicy', options: plain }, until)) as PolicyStatus;
  }

  async reloadTls(tls: TlsOptions): Promise<void> {
    this.#requireOpen();
    await this.#thread.ask({ call: 'reloadTls', tls });
  }

  // -- observing --

  /** As `Log.status`, of when its thread hears of it; works on a closed log too. */
  async status(options?: WaitOptions): Promise<LogStatus> {
    const signal = waitSignal(options, 'status');
    if (this.#lastStatus !== undefined) return this.#lastStatus;
    if (this.#closing === undefined) this.#requireOpen();
    return (await this.#thread.ask({ call: 'status' }, { signal })) as LogStatus;
  }

  /** As `Log.serveStatus`; the page is served by the thread of the log. */
  async serveStatus(options?: ServeStatusOptions): Promise<StatusPage> {
    this.#requireOpen();
    const id = this.#thread.newId();
    const ask = { call: 'serveStatus', options: options ?? {} } as const;
    const page = (await this.#thread.ask(ask, { id })) as Omit<StatusPage, 'close'>;
    const close = async (): Promise<void> => {
      // Pages end with the log.
      if (this.#closing !== undefined || this.#failure !== undefined) return;
      await this.#thread.ask({ call: 'closePage', page: id });
    };
    return { ...page, close };
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

  // -- end --

  unref(): this {
    this.#holds = false;
    this.#reference();
    return this;
  }

  ref(): this {
    this.#holds = true;
    this.#reference();
    return this;
  }

  /**
   * As `Log.close`; the thread ends with it. Where that does not answer within a second of the
   * `timeout`, this rejects with WAL_CLOSE_TIMEOUT all the same.
   */
  close(options?: CloseOptions): Promise<void> {
    let timeout: number | undefined;
    try {
      if (this.#closing === undefined) this.#data.refuseReentry();
      timeout = closeTimeout(options);
    } catch (error) {
      return Promise.reject(error);
    }
    this.#closing ??= this.#close();
    return timeout === undefined ? this.#closing : this.#closeWithin(this.#closing, timeout);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  // -- within --

  #begin(request: ReadRequest): ThreadedReader {
    this.#reads = true;
    return new ThreadedReader(this.#thread, request);
  }

  /** In its order: commits that were asked for, the flush of all that was appended, the close. */
  #close(): Promise<void> {
    forgetAtExit(this.#atExit);
    if (this.#died !== undefined) return Promise.reject(this.#died);
    // Refused from here on; what it waits for ends with the log.
    this.#detached = this.#data.close().catch(() => undefined);
    this.#refused.rejectAll(cutShortByClose());
    this.#thread.closing();
    this.#thread.ask({ call: 'close', options: {} }).catch(() => undefined);
    return new Promise<void>((resolve, reject) => {
      this.#whenClosed = { resolve, reject };
    });
  }

  async #closeWithin(closing: Promise<void>, timeout: number): Promise<void> {
    closing.catch(() => undefined);
    let timer: NodeJS.Timeout | undefined;
    const silent = new Promise<never>((_, reject) => {
      const most = Math.min(timeout + ANSWER_MS, MAX_TIMER_MS);
      timer = setTimeout(() => reject(unanswered(timeout)), most);
    });
    const told = this.#thread.ask({ call: 'close', options: { timeout } }).then(
      () => closing,
      (error: unknown) => (isCloseTimeout(error) ? Promise.reject(error) : closing),
    );
    try {
      await Promise.race([closing, told, silent]);
    } catch (error) {
      if (isCloseTimeout(error)) this.#endWaits();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** The closing goes on. */
  #endWaits(): void {
    this.#data.close({ signal: AbortSignal.abort() }).catch(() => undefined);
    this.#thread.rejectAll(cutShortByClose());
  }

  #listener(): ThreadListener {
    return {
      event: (event, args) => this.#heard(event, args),
      batches: (id, batches) => this.#heardBatches(id, batches),
      closed: (status, failure) => void this.#closed(status, failure),
      died: (error) => this.#hasDied(error),
    };
  }

  #heard(event: LogEventName, args: readonly unknown[]): void {
    if (event === 'failed') {
      this.#fail(receivedError(args[0] as SentError) as WalError);
      return;
    }
    if (event === 'role') {
      const [{ role, term }] = args as LogEvents['role'];
      this.#fenced = role === 'fenced' ? fencedError(term, 'refused', this.#nodeId) : undefined;
      this.#refused.settle();
      void this.#seeWhatItServes();
    }
    this.#events.emit(event, ...(args as never));
  }

  /** Another role may listen, or not. */
  async #seeWhatItServes(): Promise<void> {
    try {
      const { role, listening } = await this.status();
      this.#serves = role === 'standby' || listening !== null;
      this.#reference();
    } catch {
      // The log has ended, and keeps nothing alive.
    }
  }

  #heardBatches(id: number, batches: SentBatches): void {
    if (this.#applier?.id === id) this.#applier.heard(batches);
  }

  async #closed(status: LogStatus | undefined, failure: WalError | undefined): Promise<void> {
    this.#lastStatus = status;
    this.#thread.end(cutShortByClose());
    // Commits that the last flush meets have resolved by then.
    await Promise.all([this.#detached, this.#thread.terminate()]);
    if (failure === undefined) this.#whenClosed?.resolve();
    else this.#whenClosed?.reject(failure);
  }

  #hasDied(error: WalError): void {
    this.#died = error;
    forgetAtExit(this.#atExit);
    this.#whenClosed?.reject(error);
    const { logger } = this.#thread;
    const fields = { event: 'failed', log: this.name, dir: this.dir, code: error.code };
    if (logger !== undefined) this.#thread.log('error', fields, error.message);
    // Nobody else would say that a primary is gone.
    else process.emitWarning(`${error.message} (${this.dir})`, 'WalMirrorWarning', error.code);
    this.#fail(error);
  }

  #fail(error: WalError): void {
    if (this.#failure !== undefined) return;
    this.#failure = error;
    this.#refused.settle();
    this.#events.emit('failed', error);
  }

  /** What is committed is seen, by those that wait for it here, before the process may end. */
  #seen(commit: Promise<CommitResult>): Promise<CommitResult> {
    if (this.#reads) {
      commit.then(
        () => void this.#thread.catchUp(),
        () => undefined,
      );
    }
    return commit;
  }

  #reference(): void {
    this.#thread.setRef(this.#serves && this.#holds);
  }

  #requireOpen(): void {
    this.#data.refuseReentry();
    if (this.#died !== undefined) throw withOutcome(this.#died, 'refused');
    if (this.#closing !== undefined) throw closedError();
  }

  async #commitAll(
    level: CommitLevel | undefined,
    signal: AbortSignal | undefined,
  ): Promise<CommitResult> {
    const { own } = this.#data;
    const asked = sharedClock();
    const ask = { call: 'commit', level, since: Math.min(asked, own.since ?? asked) } as const;
    try {
      const result = (await this.#thread.ask(ask, { signal })) as CommitResult;
      noteMet(own, level ?? 'own', result, asked);
      return result;
    } catch (error) {
      noteUnknown(own, error);
      if (signal?.aborted !== true || error !== signal.reason) throw unknownEnd(error);
      throw new WalError('WAL_COMMIT_ABORTED', 'the wait for the commit was cancelled', {
        outcome: 'unknown',
        cause: error,
      });
    }
  }

  async #promote(options: PromoteOptions | undefined): Promise<Promoted> {
    const { signal, ...plain } = check.optionsObject(options, 'promote', promoteKeys);
    const until = { signal: check.abortSignal(signal, 'signal') };
    return (await this.#thread.ask({ call: 'promote', options: plain }, until)) as Promoted;
  }

  async #switchover(options: SwitchoverOptions): Promise<SwitchedOver> {
    const { signal, ...plain } = check.optionsObject(options, 'switchover', switchoverKeys);
    const until = { signal: check.abortSignal(signal, 'signal') };
    return (await this.#thread.ask({ call: 'switchover', options: plain }, until)) as SwitchedOver;
  }

  #makeSink(): RecordSink {
    const data = this.#data;
    const requireTaking = (): void => {
      if (this.#closing !== undefined) throw cutShortByClose();
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#fenced !== undefined) throw this.#fenced;
    };
    return {
      append: (record) => data.append(record),
      commit: (lsn, options) => this.commit(lsn, options),
      drain: (bytes, options) => data.drain(bytes, options),
      get needsDrain() {
        return data.needsDrain;
      },
      requireTaking: () => {
        this.#requireOpen();
        requireTaking();
      },
      untilRefused: (signal) =>
        this.#refused.until(() => {
          requireTaking();
          return false;
        }, signal),
    };
  }
}

function isCloseTimeout(error: unknown): boolean {
  return error instanceof WalError && error.code === 'WAL_CLOSE_TIMEOUT';
}

function unanswered(timeout: number): WalError {
  const message = `not closed within ${timeout} ms: the thread of the log does not answer`;
  return new WalError('WAL_CLOSE_TIMEOUT', message, { outcome: 'unknown' });
}
