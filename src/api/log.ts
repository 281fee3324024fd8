import type { ReadableStream, WritableStream } from 'node:stream/web';
import type { StatusPage } from '../observe/status_page.js';
import type { CommitResult } from '../replication/commit_waiters.js';
import { type CommitLevel, commitLevels } from '../replication/level.js';
import type { Environment } from '../transport/environment.js';
import type { TlsOptions } from '../transport/security.js';
import type { AppendedRange } from './append_many.js';
import { reentrant } from './appender.js';
import {
  type Applier,
  type ApplyFunction,
  type ApplyOptions,
  applyRequest,
  hasApplier,
  startApplier,
} from './applier.js';
import { AttachedLog } from './attached_log.js';
import type { LogHandle } from './attachments.js';
import type { Batch, LogRecord } from './batch.js';
import { closeLog, closeTimeout, closeWithin } from './close.js';
import type { Commits } from './commits.js';
import type { LogCore } from './core.js';
import { type DemoteOptions, demote } from './demote.js';
import type { Driver } from './driver.js';
import { WalError } from './errors.js';
import type { LogEventName, LogListener } from './events.js';
import { asUnknown } from './failure.js';
import { logStatus } from './log_status.js';
import { openLog } from './open.js';
import type { OpenOptions, ThreadedOptions } from './options.js';
import { pauseFailover, resumeFailover } from './pause.js';
import { type Promoted, type PromoteOptions, promote } from './promote.js';
import { type ReadOptions, readKeys, readRequest } from './read_options.js';
import {
  LogReadStream,
  type ReadStreamOptions,
  readStreamKeys,
  sourcePlan,
} from './read_stream.js';
import { beginReading } from './reader.js';
import type { RecordData } from './record.js';
import { type RejoinOptions, rejoin } from './rejoin.js';
import { reloadTls } from './reload_tls.js';
import type { ScrubStatus } from './scrub.js';
import { type ServeStatusOptions, serveStatus } from './serve_status.js';
import { type SetPolicyOptions, setPolicy } from './set_policy.js';
import { createSlot, dropSlot } from './slot_calls.js';
import type { SlotStatus } from './slots.js';
import type { TakeSnapshotOptions } from './snapshot_options.js';
import { requireSnapshots, type Snapshot } from './snapshots.js';
import { StandbyDriver } from './standby_driver.js';
import type { LogStatus, PolicyStatus } from './status.js';
import { type SwitchedOver, type SwitchoverOptions, switchover } from './switchover.js';
import { ThreadedLog } from './threaded_log.js';
import { trimTo } from './trim.js';
import * as check from './validate.js';
import { waitFor } from './wait_for.js';
import {
  type ReadableOptions,
  readableStream,
  type WritableOptions,
  writableStream,
} from './web_streams.js';
import {
  LogWriteStream,
  type RecordChunk,
  sinkOf,
  type WriteStreamOptions,
  writeKeys,
  writePlan,
} from './write_stream.js';

/** Options of `commit` and `appendAndCommit`. */
export interface CommitOptions {
  /** What this one call waits for; the log's own level otherwise. */
  readonly level?: CommitLevel;
  /** Ends the wait with WAL_COMMIT_ABORTED; the record stays in the log, its outcome is unknown. */
  readonly signal?: AbortSignal;
}

/** Options of `close`. */
export interface CloseOptions {
  readonly timeout?: number;
}

export interface WaitOptions {
  readonly signal?: AbortSignal;
}

/** `Log.open` with another clock, network and disk: for simulations. */
export let openIn: (environment: Environment, options: OpenOptions) => Promise<Log>;

/**
 * A write-ahead log: a durable sequence of records, numbered 1, 2, 3 (LSN), in one directory that
 * one `Log` has open at a time. Opened alone it is a local log, with `listen` a primary, with
 * `follow` a standby; `promote` turns the latter into the former, on the same object.
 *
 * `append` takes a record into memory at once; `commit` waits until it is as safe as asked for.
 * A wrong argument throws TypeError or RangeError. Operating errors are `WalError`s: thrown by what
 * answers at once, rejected by what returns a promise. After a failure that nothing can mend, every
 * present and later wait rejects with the same error (and 'failed' fires once).
 *
 * A `Log` is used by the thread that opened it; others attach to it (`handle`). At a normal exit,
 * what was appended is flushed. A standby and a primary that listens keep the process alive until
 * they are closed (or `unref`); another log does not, but a pending commit, drain or close does.
 */
export class Log {
  readonly #core: LogCore;
  #closing: Promise<void> | undefined;

  private constructor(core: LogCore) {
    this.#core = core;
  }

  /**
   * Opens, or creates, the log in `dir`. Resolves when the log is recovered and, as a primary, its
   * term is durably opened. As a standby it resolves connected or not; a fresh directory
   * first waits for the primary, to learn which log to create. With `follow`, the directory of an
   * old primary is `fenced` until it has rejoined (`rejoin`).
   *
   * Rejects with WAL_LOCKED, WAL_CORRUPT, WAL_IS_STANDBY, WAL_FENCED, WAL_UNSUPPORTED and others.
   */
  static open(options: ThreadedOptions): Promise<ThreadedLog>;
  static open(options: OpenOptions): Promise<Log>;
  static open(options: OpenOptions | ThreadedOptions): Promise<Log | ThreadedLog>;
  static async open(options: OpenOptions | ThreadedOptions): Promise<Log | ThreadedLog> {
    if (options?.replicationThread === 'worker') return ThreadedLog.open(options);
    return Log.over(await openLog(options));
  }

  /** @internal */
  static over(core: LogCore): Log {
    return new Log(core);
  }

  /**
   * Attaches to a log that another thread of this process has open, by the `handle` that its owner
   * has sent. Waits for the event loop of that thread. In that log every append is a native call
   * from then on, in all threads.
   *
   * Rejects with WAL_CLOSED where no open log of this process has that handle, with the log's
   * failure, or with the signal's reason.
   */
  static attach(handle: LogHandle, options?: WaitOptions): Promise<AttachedLog> {
    return AttachedLog.attach(handle, options);
  }

  /**
   * By which other threads of the process attach to this log (`Log.attach`): a plain object, to be
   * sent with `postMessage` or as `workerData`. It is worth nothing once this log is closed.
   */
  get handle(): LogHandle {
    this.#core.requireOpen();
    return this.#core.attachments.handle;
  }

  static {
    openIn = async (environment, options) => new Log(await openLog(options, environment));
  }

  get name(): string {
    return this.#core.options.name;
  }

  get dir(): string {
    return this.#core.options.dir;
  }

  /** Largest record that `append` takes, in bytes. */
  get maxRecordBytes(): number {
    return this.#core.info.maxRecordBytes;
  }

  // -- writing --

  /**
   * Takes a record, at once and without I/O, and returns its LSN. Not durable before a commit. The
   * bytes are copied: the buffer may be reused right away. A string is stored as UTF-8.
   *
   * Throws WAL_RING_FULL (nothing taken; await `drain`), WAL_IS_STANDBY, WAL_FENCED, WAL_FAILED,
   * WAL_CLOSED; RangeError for a record over `maxRecordBytes`.
   */
  append(data: RecordData): number {
    return this.#core.appender.append(data);
  }

  /**
   * Takes all of these records or none. They may span batches, and a crash may fall between two.
   * Throws as `append` does, and at once: WAL_RING_FULL also where the segments that they need are
   * not ready (await `drain`); RangeError for what could not fit the log memory everywhere.
   */
  appendMany(items: Iterable<RecordData>): AppendedRange {
    return this.#core.appender.appendMany(items);
  }

  /**
   * Lets `encode` write a record of at most `maxBytes` straight into log memory: it gets a buffer
   * and the offset at which to start, and returns the offset after its last byte. The buffer may be
   * longer, and be the same one for some calls in a row; what is written past the end is not kept.
   * The encoder must be synchronous, and must not keep the buffer. If it throws or its end is out
   * of bounds, nothing is appended; calling the log inside it throws WAL_REENTRANT.
   */
  appendInto(maxBytes: number, encode: (buffer: Buffer, offset: number) => number): number {
    check.callback(encode, 'appendInto(maxBytes, encode)');
    return this.#core.appender.appendInto(maxBytes, encode);
  }

  /**
   * Whether the log memory, or the segment with none ready behind it, is nearly full: time to await
   * `drain()`. While it is false the next record is taken, whatever its size; once other threads
   * append too (`attach`), it may be refused all the same: they may have been faster. Cheap.
   */
  get needsDrain(): boolean {
    return this.#core.drains.needed;
  }

  /**
   * Waits for room in the log memory, and for the segments that it takes: for records of `bytes`
   * bytes in all (count 8 more for each), or for comfortable room. What `drain(bytes)` resolved for
   * is kept for its caller until the end of this turn of the event loop: append it before anything
   * else is awaited. Several callers of `drain()` check `needsDrain` again when it has resolved.
   * From other threads that append too (`attach`) nothing is kept: where one was faster, an append
   * throws WAL_RING_FULL, and is to be drained for again.
   *
   * RangeError if that could never be. WAL_NO_SPACE where the disk has no room for a segment; the
   * log goes on, and takes appends again once there is space.
   */
  async drain(bytes?: number, options?: WaitOptions): Promise<void> {
    const signal = waitSignal(options, 'drain');
    if (bytes !== undefined) check.integer(bytes, 'drain(bytes)', 0, Number.MAX_SAFE_INTEGER);
    const core = this.#core;
    core.requireOpen();
    requirePrimary(core);
    await core.keepAlive.during(core.drains.wait(bytes, signal));
  }

  /**
   * Waits until the record `lsn`, and all before it, are as safe as the log's policy, or `level`,
   * asks for. Without `lsn`: all that was appended. The result says what was reached, and where.
   *
   * Rejects with WAL_COMMIT_ABORTED, WAL_SYNC_TIMEOUT, WAL_FENCED, WAL_CLOSED or the log's failure;
   * with WAL_NO_STANDBYS for a remote level that nobody is named for. The outcome is unknown in
   * each case: the record may be in the log. WAL_FENCED also comes once, from a log that is a
   * primary again, for what was appended before it lost that role and was not committed then: it
   * may be gone, and its LSN another record's.
   */
  commit(lsn?: number, options?: CommitOptions): Promise<CommitResult> {
    if (options === undefined) {
      // The hot path: many commits of one turn share the promise of the batch that they are in.
      const { commits } = this.#core.driver;
      const shared = commits?.shared;
      if (shared !== undefined && this.#core.appender.isOpen(lsn)) {
        commits?.joined();
        return shared;
      }
    }
    return this.#commit(lsn, options);
  }

  /**
   * `isNew`: of a record that was appended just now.
   *
   * Gives out the very promise of the batch: one around it would resolve some microtasks later than
   * that of the others, and whoever has it would miss every second batch.
   */
  #commit(
    lsn: number | undefined,
    options: CommitOptions | undefined,
    isNew = false,
  ): Promise<CommitResult> {
    try {
      const { level, signal } = commitOptions(options, 'commit');
      const core = this.#core;
      core.requireOpen();
      const { commits } = requirePrimary(core);
      if (!isNew) core.unheard.require(lsn);
      const last = core.appender.lsn;
      const target = lsn === undefined ? last : check.integer(lsn, 'commit(lsn)', 0, last);
      return commits.commit(target, level, signal);
    } catch (error) {
      return Promise.reject(error instanceof WalError ? asUnknown(error) : error);
    }
  }

  /**
   * `append`, then `commit` of that record. Where nothing was taken it rejects with what `append`
   * throws, for a wrong option, or with WAL_NO_STANDBYS, outcome refused; else as `commit` does.
   */
  appendAndCommit(data: RecordData, options?: CommitOptions): Promise<CommitResult> {
    let lsn: number;
    try {
      if (options !== undefined) this.#requireMeetable(options);
      lsn = this.append(data);
    } catch (error) {
      return Promise.reject(error);
    }
    if (this.#core.unheard.any) return this.#commit(lsn, options, true);
    return this.commit(lsn, options);
  }

  /** What can be said before the append is: afterwards the record is in the log. */
  #requireMeetable(options: CommitOptions): void {
    const { level } = commitOptions(options, 'appendAndCommit');
    if (level !== undefined) this.#core.driver.commits?.requireStandbys(level);
  }

  /**
   * A Node stream that appends what is written to it, and commits as `commit` says: `each` record
   * before the next, in a `batch` (default) with what was written meanwhile, or all at the `end`,
   * which 'finish' then waits for. `lastLsn` and `committedLsn` tell how far it is, and so does the
   * event 'committed'.
   *
   * Throws as `append` does on a log that takes none, and WAL_NO_STANDBYS for a level that cannot
   * be met. Later errors destroy it: those of `append`, `drain` and `commit`, WAL_FENCED and
   * WAL_CLOSED while it is idle too, and Node's AbortError for the signal.
   */
  createWriteStream(options?: WriteStreamOptions): LogWriteStream {
    const raw = check.optionsObject(options, 'createWriteStream', writeKeys);
    const sink = sinkOf(this, this.#core);
    return new LogWriteStream(sink, writePlan(sink, raw));
  }

  /**
   * The same as a web stream: `close()` resolves when all is committed, and a write when there is
   * room for the next one (under `commit: 'each'`: when it is committed). Aborting it ends what it
   * waits for, and takes nothing back. Errored as that is destroyed, or with the signal's reason.
   */
  writable(options?: WritableOptions): WritableStream<RecordChunk> {
    return writableStream(sinkOf(this, this.#core), options);
  }

  // -- reading --

  /**
   * The log's batches, in LSN order, as an async iterable that is used once. While it is open its
   * segments are kept; leaving the loop lets go of them. Bytes handed out belong to the caller
   * (the records of one reading share memory: copy what is kept for long), unless they were
   * borrowed (`borrow`): those are valid until the next batch is asked for.
   *
   * The iteration rejects with WAL_LSN_GONE (with the first LSN there is), WAL_REBUILD where what
   * was handed out was replaced (with the first LSN of that), the signal's reason,
   * WAL_CLOSED when the log is closed meanwhile, or the log's failure.
   */
  read(options?: ReadOptions): AsyncIterableIterator<Batch> {
    const raw = check.optionsObject(options, 'read', readKeys);
    return beginReading(this.#core, readRequest(raw));
  }

  /**
   * The same reading as a Node stream of records, or of their bytes (`mode: 'bytes'`). It reads
   * ahead by `highWaterMark` and no more, and goes on through a promotion, as `read` does.
   * Destroying it, or its signal, lets go of the segments at once. What `read` rejects with
   * destroys it.
   *
   * With `borrow` a record is valid until the stream is asked for the next one: in a 'data'
   * listener, or in the body of a `for await`. Not for `pipe`, whose destination may queue.
   */
  createReadStream(options?: ReadStreamOptions): LogReadStream {
    const raw = check.optionsObject(options, 'createReadStream', readStreamKeys);
    return new LogReadStream(sourcePlan(raw, (request) => beginReading(this.#core, request)));
  }

  /**
   * The same as a web stream. It begins to read at once. Cancelling it, or its signal, lets go of
   * the segments; it is errored with what `read` rejects with, or with the signal's reason.
   */
  readable(options: ReadableOptions & { readonly mode: 'bytes' }): ReadableStream<Buffer>;
  readable(options?: ReadableOptions): ReadableStream<LogRecord>;
  readable(options?: ReadableOptions): ReadableStream {
    return readableStream(options, (request) => beginReading(this.#core, request));
  }

  /**
   * Resolves when the record is readable here and, where this log has an applier, applied by it:
   * then whoever wrote it reads it here. On a standby, and on a primary. It may be a record to
   * come. While an applier is stopped the wait goes on, until another one has the record.
   *
   * Rejects with the signal's reason, with what the applier failed with, with WAL_FENCED where a
   * primary will never show it, WAL_CLOSED or the log's failure.
   */
  async waitFor(lsn: number, options?: WaitOptions): Promise<void> {
    const signal = waitSignal(options, 'waitFor');
    check.integer(lsn, 'waitFor(lsn)', 0, Number.MAX_SAFE_INTEGER);
    this.#core.requireOpen();
    await waitFor(this.#core, lsn, signal);
  }

  /**
   * Starts the applier of this log, of which there is one at a time: `apply` gets every batch
   * from `from` on, one after the other; a batch counts as applied when what it returns has
   * resolved. It goes on through a promotion. Without `from` it begins behind the snapshot that was
   * loaded, or at LSN 1.
   */
  apply(options: ApplyOptions | undefined, apply: ApplyFunction): Applier {
    const core = this.#core;
    const request = applyRequest(options, apply, core.snapshots);
    core.requireOpen();
    if (core.applier?.ended === false) throw hasApplier();
    core.snapshots?.goesOn();
    return startApplier(core, beginReading(core, request), apply, request);
  }

  /**
   * Takes a snapshot of the application's state (`snapshot` in `Log.open`) while all goes on.
   * Resolves when it is durable, was read back and verified, and the commit position has passed its
   * LSN; the newest `keep` of them stay. What was begun and fails, or is cancelled, is removed.
   * With an applier it is of the last batch that was applied: not to be awaited in its callback,
   * which it waits for. Without one `lsn` says which record is the last in the state, and `save` is
   * called in this turn. One at a time. A snapshot that is there already is given again.
   *
   * Rejects with what `save` throws, the signal's reason, WAL_IO, WAL_NO_SPACE, WAL_CORRUPT where
   * what is read back is not what was written, WAL_REBUILD where a new primary has other records
   * there, WAL_FENCED, WAL_CLOSED or the log's failure.
   */
  async snapshot(options?: TakeSnapshotOptions): Promise<Snapshot> {
    this.#core.requireOpen();
    return requireSnapshots(this.#core).take(options);
  }

  /**
   * Loads the newest good snapshot, as opening does: for state that has to be rebuilt (`rebuild`).
   * null: there is none, and the log is whole. Not while an applier runs. Rejects with what `load`
   * throws (half a state may be there), the signal's reason, WAL_SNAPSHOT_MISSING, WAL_CLOSED.
   */
  async loadSnapshot(options?: WaitOptions): Promise<Snapshot | null> {
    const signal = waitSignal(options, 'loadSnapshot');
    this.#core.requireOpen();
    return (await requireSnapshots(this.#core).load(signal)) ?? null;
  }

  /** The snapshot that the state came from, as long as it holds; null: none was loaded. */
  get loadedSnapshot(): Snapshot | null {
    return this.#core.snapshots?.loaded ?? null;
  }

  /**
   * Says that no record below `lsn` is needed here any more: whole segments below it are
   * recycled, as far as no reader and no standby needs them and they are committed; with
   * `snapshot`, below all that are kept, once there are `keep`. Resolves when that is done.
   */
  async trim(lsn: number): Promise<void> {
    const core = this.#core;
    check.integer(lsn, 'trim(lsn)', 1, Number.MAX_SAFE_INTEGER);
    core.requireOpen();
    await trimTo(core, lsn);
  }

  /**
   * Primary: makes a slot for the standby of that name: from now on the log that it has not flushed
   * is kept for it, connected or not, over restarts too, within `maxSlotBytes` and `maxSlotAge`.
   * For one that is not connected all is kept that there is. Durable here when it resolves; one
   * that is there already stays as it is, unless it is lost. A slot of this node's own name is for
   * the time after another one was promoted.
   *
   * Rejects with WAL_IO where it cannot be stored (there is none then), with WAL_IS_STANDBY or
   * WAL_FENCED, with RangeError past 64 slots, with WAL_CORRUPT where the slots that there are
   * cannot be read (the log keeps everything then).
   */
  async createSlot(name: string): Promise<SlotStatus> {
    return createSlot(this.#core, name);
  }

  /**
   * Primary: the slot is no more, durably when it resolves, and what it alone held may be let go
   * of. false: there was none. Rejects as `createSlot` does, and the slot stays.
   */
  async dropSlot(name: string): Promise<boolean> {
    return dropSlot(this.#core, name);
  }

  /**
   * Reads every sealed segment now, beside all that goes on, and verifies it. Resolves with what is
   * damaged, which reading rejects with WAL_CORRUPT and `walmirror repair` mends.
   */
  async scrub(options?: WaitOptions): Promise<ScrubStatus> {
    const signal = waitSignal(options, 'scrub');
    const core = this.#core;
    core.requireOpen();
    return core.keepAlive.during(core.scrub.run(signal));
  }

  // -- role --

  /**
   * Standby: resolves when the link to the primary is up. Rejects where only somebody who acts can
   * help: with WAL_WAS_PRIMARY, say, where an old primary asks (`rejoin`).
   */
  async connected(options?: WaitOptions): Promise<void> {
    const signal = waitSignal(options, 'connected');
    const core = this.#core;
    core.requireOpen();
    await requireStandby(core, 'connected').connected(signal);
  }

  /**
   * Makes this standby the primary, in a new epoch (SAFETY.md 3). Everything that was received is
   * kept. Resolves when the new term is durable and the applier, if there is one, has taken
   * everything up to it; from then on `append` works. A cancelled wait leaves the role taken.
   *
   * With `force` also a node that is fenced, by its operator's word: it goes on with its own
   * history, and what the newer primary has committed since is not in it.
   *
   * Rejects with WAL_NOT_STANDBY; with WAL_PRIMARY_REACHABLE unless `primaryStopped: true` says
   * that the old primary is stopped: nothing else can tell that two primaries do not run at once.
   * `error.oldPrimary` is what is known to decide by; the result has it too. Where no role was
   * taken, with WAL_NO_SPACE say, it may be asked for again; the link may be down by then.
   */
  async promote(options?: PromoteOptions): Promise<Promoted> {
    const core = this.#core;
    core.requireOpen();
    return promote(core, options);
  }

  /**
   * Primary with `members`: hands over to the standby of the name `to`, and is its standby from
   * then on, on the same object. No record is lost, and no two nodes are the primary: appends stop
   * (WAL_SWITCHING), the standby flushes all there is, this log stores that it is demoted, and only
   * then the other opens its epoch. Resolves when it takes appends. Commits that wait end as they
   * would have; where one has not met its level by then, with WAL_SWITCHING, outcome unknown.
   *
   * Rejects before this log is demoted with WAL_SWITCHOVER_REFUSED (also for the time-out), with
   * the signal's reason, with WAL_FENCED, WAL_UNSUPPORTED without `members`; then it takes appends
   * again. Afterwards with WAL_DEMOTED, where the other was not heard to be the primary: this log
   * stays a standby. A control file that cannot be written fails the log.
   */
  async switchover(options: SwitchoverOptions): Promise<SwitchedOver> {
    const core = this.#core;
    core.requireOpen();
    return switchover(core, options);
  }

  /**
   * Primary with `members`: a standby from now on, durably, of whoever is promoted next. All that
   * was appended is flushed; commits that standbys have not met within `timeout` end with
   * WAL_SWITCHING, outcome unknown. With a referee the group is given back, and this node is no
   * candidate before it has followed another one. By hand any may be promoted, this one too. On a
   * standby it does nothing.
   */
  async demote(options?: DemoteOptions): Promise<void> {
    const core = this.#core;
    core.requireOpen();
    return demote(core, options);
  }

  /**
   * With a referee: from now on no standby is promoted by itself, until `resumeFailover`, whatever
   * happens to whom. Pausing again replaces the reason (text, 1000 characters at most). Durable
   * when it resolves. Rejects as the referee does: WAL_REFEREE_AWAY, WAL_REFEREE_REFUSED,
   * WAL_REFEREE_PAST.
   */
  async pauseFailover(reason: string, { signal }: WaitOptions = {}): Promise<void> {
    await pauseFailover(this.#core, reason, signal);
  }

  /** With a referee: automation goes on. Durable when it resolves; rejects as `pauseFailover`. */
  async resumeFailover({ signal }: WaitOptions = {}): Promise<void> {
    await resumeFailover(this.#core, signal);
  }

  /**
   * Fenced: follows the primary that took this one's place, on the same object. What this log holds
   * that the new primary lacks is judged as at an opening with `follow`: set aside, or asked about
   * as `rejoin` says. May be called again, with another answer, while it asks. Resolves when it
   * tries to follow: `connected()` and `status().rejoin` say what came of it. With a referee it
   * follows by itself, as the log was opened; this is for another answer.
   *
   * Rejects with WAL_NOT_STANDBY where the log is not fenced.
   */
  async rejoin(options: RejoinOptions): Promise<void> {
    const core = this.#core;
    core.requireOpen();
    return rejoin(core, options);
  }

  /**
   * Primary: another policy, at run time; what is left out stays. From the call on commits have to
   * meet it too; it counts alone, and this resolves, when enough standbys have flushed all that
   * is committed and it is recorded here and by each standby that is connected. A cancelled wait
   * leaves it set. Waits at the log's own level wait for what the new policy asks. Not remembered:
   * `open` says it anew.
   */
  async setPolicy(options: SetPolicyOptions): Promise<PolicyStatus> {
    const core = this.#core;
    core.requireOpen();
    return setPolicy(core, options);
  }

  /**
   * Other certificates, or another `allow`, for all connections from now on, wherever this log has
   * `tls`. Those that are up stay, unless `allow` does not name their peer any more.
   *
   * Rejects with TypeError or RangeError where they cannot be used; those in force then stay so.
   */
  async reloadTls(tls: TlsOptions): Promise<void> {
    const core = this.#core;
    core.requireOpen();
    reloadTls(core, tls);
  }

  // -- observing --

  /** A snapshot, at once; works in every state, on a closed log too. */
  status(): LogStatus {
    if (this.#core.appender.inCallback) throw reentrant();
    return logStatus(this.#core);
  }

  /**
   * Serves a page that shows this log and its group live in a browser, read-only, to this machine
   * unless told otherwise. Ends with the log; does not keep the process alive. Rejects with WAL_IO
   * where the port is taken, with WAL_PLAINTEXT off loopback unless `plaintext` is said.
   */
  async serveStatus(options?: ServeStatusOptions): Promise<StatusPage> {
    this.#core.requireOpen();
    return serveStatus(this.#core, options);
  }

  on<E extends LogEventName>(event: E, listener: LogListener<E>): this {
    this.#core.events.on(event, listener);
    return this;
  }

  once<E extends LogEventName>(event: E, listener: LogListener<E>): this {
    this.#core.events.once(event, listener);
    return this;
  }

  off<E extends LogEventName>(event: E, listener: LogListener<E>): this {
    this.#core.events.off(event, listener);
    return this;
  }

  // -- end --

  /**
   * A standby, and a primary that listens, keep the process alive until they are closed; after
   * `unref` they do not, and `ref` takes that back. What waits (a commit, a drain, a close) does in
   * any case. At the end of the process what was appended is flushed.
   */
  unref(): this {
    this.#core.setRef(false);
    return this;
  }

  ref(): this {
    this.#core.setRef(true);
    return this;
  }

  /**
   * Flushes what was appended, ends every wait, and lets the directory go. A commit that is met
   * by that flush still resolves; others reject with WAL_CLOSED, outcome unknown. Idempotent.
   * Rejects if the flush failed.
   *
   * `timeout`: milliseconds after which it is waited for no longer, on a disk that hangs say. Every
   * wait ends then, and this rejects with WAL_CLOSE_TIMEOUT, which names what is not flushed; the
   * closing goes on behind, and the directory is let go of when it is through. `process.exit()`
   * waits for a call to the disk that is under way: where the disk never answers, only a signal
   * (SIGKILL) ends the process.
   */
  close(options?: CloseOptions): Promise<void> {
    if (this.#core.appender.inCallback) return Promise.reject(reentrant());
    let timeout: number | undefined;
    try {
      timeout = closeTimeout(options);
    } catch (error) {
      return Promise.reject(error);
    }
    this.#closing ??= closeLog(this.#core);
    if (timeout === undefined) return this.#closing;
    return closeWithin(this.#core, this.#closing, timeout);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

export function commitOptions(options: unknown, what: string) {
  const raw = check.optionsObject(options, what, ['level', 'signal']);
  const level = raw.level === undefined ? undefined : check.oneOf(raw.level, 'level', commitLevels);
  return { level, signal: check.abortSignal(raw.signal, 'signal') };
}

export function waitSignal(options: unknown, what: string): AbortSignal | undefined {
  const raw = check.optionsObject(options, what, ['signal']);
  return check.abortSignal(raw.signal, 'signal');
}

function requirePrimary(core: LogCore): Driver & { readonly commits: Commits } {
  const { driver } = core;
  if (driver.commits === undefined) throw driver.refusal();
  return driver as Driver & { readonly commits: Commits };
}

function requireStandby(core: LogCore, call: string): StandbyDriver {
  const { driver } = core;
  if (driver instanceof StandbyDriver) return driver;
  throw new WalError('WAL_NOT_STANDBY', `${call} is for a standby; this log is ${driver.role}`);
}
