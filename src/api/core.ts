import type { Archiver } from '../archive/archiver.js';
import {
  type NativeInfo,
  type NativeLog,
  type Place,
  type Role,
  State,
  type Term,
} from '../native/native_log.js';
import { firstPosition } from '../replication/history.js';
import type { Door } from '../transport/door.js';
import type { Environment } from '../transport/environment.js';
import type { MemberDesk } from '../transport/member_desk.js';
import type { TlsOptions } from '../transport/security.js';
import { Appender, type AppenderHost, reentrant } from './appender.js';
import type { RunningApplier } from './applier.js';
import { Attachments } from './attachments.js';
import { CommitTally } from './commit_tally.js';
import { CopyWatch } from './copy_watch.js';
import { Desk } from './desk.js';
import { AppendChannel, type DiagnosticsLog, FlushChannel, tellRoles } from './diagnostics.js';
import { Drains } from './drain.js';
import type { Driver } from './driver.js';
import { WalError } from './errors.js';
import { LogEmitter, type RoleReason } from './events.js';
import { type ClosesAtExit, closeAtExit, forgetAtExit } from './exit_hook.js';
import { closedError, cutShortByClose, fatal, refusedByFailure, withOutcome } from './failure.js';
import { KeepAlive } from './keep_alive.js';
import type { LogRetention } from './log_retention.js';
import { type Members, newMembers } from './members.js';
import { Narrator } from './narrator.js';
import type { ResolvedOptions } from './options.js';
import type { Cuts, ReaderHost } from './reader.js';
import { RebuildNotice } from './rebuild.js';
import { LogScrub } from './scrub.js';
import type { SnapshotDisk } from './snapshot_disk.js';
import { Snapshots } from './snapshots.js';
import type { LastError, LogStatus, RejoinStatus } from './status.js';
import { Unheard } from './unheard.js';
import { Wakeups } from './wakeup.js';

const nowhere: Place = { position: Number.POSITIVE_INFINITY, lsn: Number.POSITIVE_INFINITY };

/**
 * What an open log is made of, and the one place where its engine's news arrive: flushes, closed
 * batches, failures. `Log` is the face of it, the driver what the role does.
 *
 *   open --fail--> failed --close--> closed        open --close--> closing --> closed
 */
export class LogCore implements AppenderHost, ReaderHost, ClosesAtExit {
  readonly native: NativeLog;
  readonly info: NativeInfo;
  readonly environment: Environment;
  /** As `open` was given them; certificates may be newer. */
  options: ResolvedOptions;
  /** What `reloadTls` was last given. */
  renewedTls: TlsOptions | undefined;
  readonly events = new LogEmitter();
  readonly news: Narrator;
  readonly commits = new CommitTally();
  /** What messages on diagnostics channels name. */
  readonly identity: DiagnosticsLog;
  readonly keepAlive: KeepAlive;
  readonly unheard = new Unheard();
  readonly appender: Appender;
  readonly drains: Drains;
  readonly scrub: LogScrub;
  /** Once it is read: before the log has a role. */
  retention!: LogRetention;
  /** undefined: the log has none. Like `retention`, before the log has a role. */
  archive: Archiver | undefined;
  /** undefined: the application has none (`snapshot`). */
  readonly snapshots: Snapshots | undefined;
  /** Readers, the applier, a promotion: whoever waits for something visible. */
  readonly moved = new Wakeups();
  /** The end of `close`: waits for the disk. */
  readonly flushes = new Wakeups();
  applier: RunningApplier | undefined;
  state: 'open' | 'closing' | 'closed' = 'open';
  failure: WalError | undefined;
  lastError: LastError | null = null;
  cuts: Cuts = {
    ...{ count: 0, latest: nowhere, lowest: nowhere },
    ...{ latestSeenLsn: nowhere.lsn, lowestSeenLsn: nowhere.lsn },
  };
  readonly rebuild: RebuildNotice;
  /** null: this log was no old primary when it was opened. */
  rejoin: RejoinStatus | null = null;
  /** It was a primary, and lacks what it had: it takes no group back. */
  isOlderCopy = false;
  /** Told behind which LSN the log is cut, before anybody else is. */
  onCut: ((lsn: number) => void) | undefined;
  roleSince: string;
  roleReason: RoleReason = 'opened';
  /** A promotion or a fencing that is under way, which `close` waits for. */
  roleChange: Promise<unknown> | undefined;
  control: { close(): Promise<void> } | undefined;
  /** Where this node listens, in every role; undefined: nowhere. */
  door: Door | undefined;
  readonly desk: Desk;
  /** undefined: it knows of no group. */
  readonly members: Members | undefined;
  /** The log closes: what asks other nodes ends. */
  readonly closing = new AbortController();
  /** Comes back as a standby, where the group goes on by itself. */
  followAgain: (() => Promise<void>) | undefined;
  /** Takes the place of a primary that hands over. */
  takeOver: MemberDesk['takeOver'] | undefined;
  /** Status pages, which end with the log. */
  readonly pages = new Set<{ close(): Promise<void> }>();
  /** The status as it was when the native side was closed. */
  lastStatus: LogStatus | undefined;
  #driver: Driver | undefined;
  #roleEnds = new AbortController();
  #slowFlushes = 0;
  #holds = true;
  #attachments: Attachments | undefined;
  readonly #copies: CopyWatch;
  readonly #appends: AppendChannel;
  readonly #flushed: FlushChannel;

  constructor(
    native: NativeLog,
    options: ResolvedOptions,
    environment: Environment,
    disk: SnapshotDisk,
  ) {
    this.native = native;
    this.environment = environment;
    this.roleSince = this.timestamp();
    this.info = native.info();
    this.options = options;
    this.identity = { log: options.name, dir: options.dir };
    this.#appends = new AppendChannel(this.identity, native.state);
    this.#flushed = new FlushChannel(this.identity, native.state);
    tellRoles(this.identity, this.events);
    this.news = new Narrator(options, this.events, options.logger);
    this.rebuild = new RebuildNotice(this);
    this.keepAlive = new KeepAlive(native);
    this.desk = new Desk(this);
    this.closing.signal.addEventListener('abort', () => this.#roleEnds.abort(), { once: true });
    const { nodeId, logId, salt } = this.info;
    const own = { nodeId, logId, salt };
    this.members = newMembers(options, own, this.closing.signal, environment, (found) =>
      this.driver.surveyed(found.answers),
    );
    const { info } = this;
    const layout = {
      segmentBytes: info.segmentBytes,
      ringBytes: info.ringBytes,
      maxBatchBytes: info.maxBatchBytes,
      align: info.padded ? 4096 : 8,
    };
    this.appender = new Appender(native, layout, info.maxRecordBytes, this);
    this.drains = new Drains(this.appender, environment);
    this.scrub = new LogScrub(native, this.events, options.scrub);
    const { snapshot } = options;
    this.snapshots = snapshot && new Snapshots(this, snapshot, disk);
    this.#copies = new CopyWatch(native, this.events);
    native.onProgress(() => this.#progressed());
    if (environment.ownsProcess) closeAtExit(this);
  }

  /** What other threads of the process attach by. */
  get attachments(): Attachments {
    this.#attachments ??= new Attachments(this);
    return this.#attachments;
  }

  /** The same, if the handle was ever asked for. */
  get attached(): Attachments | undefined {
    return this.#attachments;
  }

  /** Of now, as in the status. */
  timestamp(): string {
    return new Date(this.environment.wallClock()).toISOString();
  }

  get driver(): Driver {
    if (this.#driver === undefined) throw new Error('the log has no role yet');
    return this.#driver;
  }

  get hasRole(): boolean {
    return this.#driver !== undefined;
  }

  get isPrimary(): boolean {
    return this.#driver?.commits !== undefined;
  }

  set driver(driver: Driver) {
    this.#driver = driver;
    if (this.isPrimary) this.retention.slots.leads();
    this.#roleEnds.abort();
    this.#roleEnds = new AbortController();
    if (this.closing.signal.aborted) this.#roleEnds.abort();
    this.roleSince = this.timestamp();
    this.#appends.restart();
    this.#flushed.restart();
    if (!this.#holds) driver.setRef(false);
    this.moved.settle();
  }

  /** The role is durably another one. */
  roleChanged(role: Role, term: Term, reason: RoleReason): void {
    this.roleReason = reason;
    this.events.emit('role', { role, term, reason });
  }

  /** What is done as long as this log has its role. */
  get roleEnds(): AbortController {
    return this.#roleEnds;
  }

  /** Throws unless the log is open and sound. For calls of every role. */
  requireOpen(): void {
    if (this.appender.inCallback) throw reentrant();
    if (this.state !== 'open') throw closedError();
    if (this.failure !== undefined) throw this.failure;
  }

  /** The same for reading, which goes on while the log is being closed around it: no. */
  requireReadable(): void {
    if (this.state !== 'open') throw cutShortByClose();
    if (this.failure !== undefined) throw this.failure;
  }

  visible(upTo: 'commit' | 'flush'): Place {
    const { state } = this.native;
    const position = state[State.FLUSH_POSITION] ?? 0;
    if (upTo === 'commit') {
      const commit = this.driver.commit;
      if (commit.position < position) return this.rebuild.bound(commit);
    }
    return this.rebuild.bound({ position, lsn: state[State.FLUSH_LSN] ?? 0 });
  }

  /** Whether listening and following keep the process alive. */
  setRef(holds: boolean): void {
    this.#holds = holds;
    if (this.state === 'open') this.#driver?.setRef(holds);
  }

  // -- what the appender tells --

  refusal(): Error {
    if (this.state !== 'open') return closedError();
    if (this.failure !== undefined) return refusedByFailure(this.failure);
    return this.driver.refusal();
  }

  batchClosed(): void {
    this.#appends.closed();
    this.driver.batchClosed();
    if (this.native.state[State.FAILED] === 1) this.fail(this.native.failure());
  }

  committedPosition(): number {
    return this.driver.commit.position;
  }

  ringWanted(): void {
    this.driver.ringWanted();
  }

  broken(error: unknown): void {
    this.fail(error);
  }

  refusedBy(error: unknown): unknown {
    const raw = WalError.from(error);
    const known = this.explain(error);
    // Of a group that was cut short, a part may be in the log.
    if (raw instanceof WalError && raw.outcome === 'unknown') return known;
    if (this.failure !== undefined) return refusedByFailure(this.failure);
    return known instanceof WalError ? withOutcome(known, 'refused') : known;
  }

  // -- what the engine and the driver tell --

  /**
   * An error that a call of the engine ended with, as callers see it. A call may hear of a failure
   * before the report of it arrives; it is the one failure all the same.
   */
  explain(error: unknown): unknown {
    const known = WalError.from(error);
    if (known === error || !(known instanceof WalError)) return error;
    const cause = this.state === 'closed' ? undefined : this.native.failure();
    if (this.failure === undefined) this.noteError(known);
    if (cause !== undefined) this.fail(cause);
    else if (known.code === 'WAL_CORRUPT' && this.state === 'open') this.scrub.suspect();
    return this.failure ?? known;
  }

  /** The commit place moved, or the driver learned something that a wait may depend on. */
  commitMoved(): void {
    this.moved.settle();
  }

  get rebuildFrom(): number {
    const from = this.rebuild.pending?.from ?? Number.POSITIVE_INFINITY;
    // What has to be rebuilt from before the log begins is not read from the log.
    return from <= (this.native.state[State.START_LSN] ?? 0) ? Number.POSITIVE_INFINITY : from;
  }

  /** What lay past `fork` is of another history. Before anything of that is visible. */
  wasCut(fork: Place, file: string): void {
    this.onCut?.(fork.lsn);
    this.retention.slots.cut(fork);
    this.snapshots?.wasCut(fork.lsn);
    const { count, lowest, lowestSeenLsn } = this.cuts;
    const wasSeen = this.rebuild.wasCut(fork, file);
    const latestSeenLsn = wasSeen ? fork.lsn : nowhere.lsn;
    this.cuts = {
      count: count + 1,
      latest: fork,
      lowest: fork.position < lowest.position ? fork : lowest,
      latestSeenLsn,
      lowestSeenLsn: Math.min(lowestSeenLsn, latestSeenLsn),
    };
    this.archive?.wasCut();
    if (wasSeen) this.applier?.cutAt(fork.lsn);
    this.moved.settle();
  }

  /** The log begins at `start` now, and holds nothing that it held. */
  wasReplaced(start: Place): void {
    this.snapshots?.wasReplaced(start.lsn);
    this.rebuild.wasReplaced(start);
    // Whoever has read of it goes on nowhere.
    const fork = { position: firstPosition, lsn: 0 };
    const seen = { latestSeenLsn: fork.lsn, lowestSeenLsn: fork.lsn };
    this.cuts = { count: this.cuts.count + 1, latest: fork, lowest: fork, ...seen };
    this.applier?.cutAt(0);
    this.moved.settle();
  }

  appliedMoved(): void {
    if (this.applier?.error !== undefined) this.#applierFailed(this.applier);
    const lsn = this.applier?.appliedLsn ?? 0;
    if (this.failure === undefined && this.state === 'open') this.driver.applied(lsn);
    this.moved.settle();
  }

  /** What the callback says of it may hold a record: only what kind of error it is is told. */
  #applierFailed({ error, appliedLsn }: RunningApplier): void {
    if (error === this.failure) return;
    const own = error instanceof WalError ? `${error.code}: ${error.message}` : errorName(error);
    const message = `the applier has failed after LSN ${appliedLsn}: ${own}`;
    this.noteError({ code: 'WAL_APPLY_FAILED', message });
    this.news.tell('error', 'applier', message, { appliedLsn });
  }

  /** Nothing mends it: every present and later wait ends with this one error. */
  fail(cause: unknown): void {
    if (this.failure !== undefined) return;
    const failure = fatal(cause ?? this.native.failure() ?? new Error('unknown failure'));
    this.failure = failure;
    this.noteError(failure);
    this.appender.abandon();
    this.endWaits(failure);
    this.events.emit('failed', failure);
  }

  /** For the status: what went wrong last. */
  noteError({ code, message }: Pick<WalError, 'code' | 'message'>): void {
    this.lastError = { code, message, at: this.timestamp() };
  }

  /** For an opening that failed: there may be no role yet. */
  async closeDriver(): Promise<void> {
    this.closing.abort();
    await this.#driver?.close().catch(() => undefined);
    await this.door?.close();
  }

  endWaits(error: unknown): void {
    this.flushes.settle();
    this.#driver?.rejectWaits(error);
    this.drains.waits.rejectAll(error);
    this.scrub.waits.rejectAll(error);
    this.moved.rejectAll(error);
  }

  /**
   * At the `exit` event nothing can be waited for: what was appended is closed and flushed at
   * once.
   */
  closeAtExit(): void {
    if (this.state === 'closed') return;
    this.state = 'closed';
    this.keepAlive.detach();
    try {
      this.appender.stop();
      this.native.closeSync();
    } catch {
      // The process ends; what was acknowledged is on disk, and the next opening recovers.
    }
  }

  /** The native side is closed; nothing may call it any more. */
  closed(): void {
    this.state = 'closed';
    forgetAtExit(this);
  }

  #progressed(): void {
    if (this.state === 'closed') return;
    const { state } = this.native;
    if (state[State.FAILED] === 1) this.fail(this.native.failure());
    this.#copies.look();
    if (this.failure !== undefined) return;
    this.#flushed.progressed();
    this.retention?.progressed();
    this.appender.noteClosed();
    this.#driver?.progressed();
    this.drains.waits.settle();
    this.flushes.settle();
    this.scrub.progressed();
    if (this.moved.waiting) this.moved.settle();
    this.#watchFlushes();
  }

  #watchFlushes(): void {
    const count = this.native.state[State.SLOW_FLUSHES] ?? 0;
    if (count === this.#slowFlushes) return;
    this.#slowFlushes = count;
    this.events.emit('slowFlush', { milliseconds: this.native.info().lastSlowFlushMs });
  }
}

function errorName(error: unknown): string {
  return error instanceof Error ? error.name : typeof error;
}
