import type { Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import { WalError } from '../api/errors.js';
import { loadBinding } from '../native/binding.js';
import { type NativeLog, type Place, type Rule, State, type Term } from '../native/native_log.js';
import { assert } from '../replication/assert.js';
import { BatchEnds } from '../replication/batch_ends.js';
import {
  type CommitKind,
  CommitPlace,
  type CommitPolicy,
  type LocalProgress,
  ownLevel,
} from '../replication/commit_place.js';
import type { CommitSource } from '../replication/commit_waiters.js';
import { compareTerms } from '../replication/history.js';
import type { NodeIdentity } from '../replication/identity.js';
import type { CommitLevel } from '../replication/level.js';
import type { PrimaryAction, PrimaryView } from '../replication/primary_session.js';
import type { Progress, ProgressState } from '../replication/progress.js';
import { type Measure, Quorum } from '../replication/quorum.js';
import type { NumberedRule } from '../replication/rule.js';
import { channelOf } from './channel.js';
import { Gate } from './gate.js';
import { type Endpoint, Listener, type ListenerCounts, type ListenOptions } from './listener.js';
import { Retention } from './retention.js';
import { RuleKeeper, type WatchVerdict } from './rule_keeper.js';
import { type LinkSecurity, linkSecurity, type Security, type TlsOptions } from './security.js';
import { StandbyLink, type StandbyLinkHost } from './standby_link.js';
import { StandbyRanges } from './standby_ranges.js';
import {
  defaultLimits,
  type ListenLimits,
  maxFetches,
  maxStandbys,
  type ReplicationTiming,
  withDefaults,
} from './timing.js';

/** A standby came or went. */
export interface StandbyChange {
  readonly name: string;
  readonly nodeId: string;
  readonly connected: boolean;
  /** Why it went; empty when it came. */
  readonly reason: string;
  /** As it is now, or was when it went. */
  readonly last: StandbyStatus;
}

export interface PrimaryHubEvents {
  /** The commit place or an acknowledgement moved: what waits may be met. Called synchronously. */
  onCommitMoved(): void;
  onStandby(event: StandbyChange): void;
  /** Somebody connected, and was not let in. */
  onRefused?(peer: { readonly address: string; readonly reason: string }): void;
  /** The log could not be read for a standby, which is turned away. */
  onUnreadable?(error: unknown): void;
  /** Another rule is in force (`PrimaryHub.rule`). Called synchronously. */
  onRule?(): void;
  /** A newer term exists. The hub acknowledges nothing any more; the log's role is `fenced`. */
  onHigherTerm(term: Term): void;
  /** Acknowledging has to stop for another reason: WAL_SPLIT or WAL_COMMITTED_LOST. */
  onStop?(error: WalError): void;
}

export interface PrimaryHubOptions {
  readonly native: NativeLog;
  readonly identity: NodeIdentity;
  readonly term: () => Term;
  /** The opening rule that it makes (replication/rule.ts) was recorded with the term. */
  readonly policy: CommitPolicy;
  /** Milliseconds of waiting for standbys after which the primary goes on alone. Default: never. */
  readonly degradeAfter?: number | undefined;
  readonly events: PrimaryHubEvents;
  /** Whether somebody still waits for room in the ring, who had said so by `ringWanted`. */
  readonly isRingWanted: () => boolean;
  readonly timing?: Partial<ReplicationTiming> | undefined;
  readonly listenLimits?: Partial<ListenLimits> | undefined;
  /** Page-aligned memory for reading segments. Default: the addon's. */
  readonly allocateAligned?: ((bytes: number) => Uint8Array) | undefined;
  /** Monotone milliseconds. */
  readonly now?: (() => number) | undefined;
}

export interface StandbyStatus {
  readonly name: string;
  readonly nodeId: string;
  readonly address: string;
  readonly security: LinkSecurity;
  readonly state: ProgressState;
  /** Since when, in milliseconds since 1970; looked at with each message and each tick. */
  readonly stateSince: number;
  /** Whether its acknowledgements count: it is a member by the rule in force. */
  readonly counts: boolean;
  readonly sentPosition: number;
  readonly sentLsn: number;
  readonly write: Place;
  readonly flush: Place;
  readonly applyLsn: number;
  /** Log bytes that it has not flushed yet. */
  readonly lagBytes: number;
  /** Milliseconds since it was last heard. */
  readonly silence: number;
  /** Memory that feeding it takes beside the log's own. */
  readonly bufferBytes: number;
}

export interface PrimaryHubStatus {
  readonly listening: Endpoint | null;
  readonly commit: Place;
  readonly standbys: readonly StandbyStatus[];
  readonly connections: Readonly<ListenerCounts>;
  /** Standbys whose connection was ended for something that they sent. */
  readonly rejected: number;
}

/**
 * What a log drives as a primary: the commit place, and the standbys that are connected. It
 * exists without `listen` too, so that commits have one path. Used from the thread that opened
 * the log, never re-entrantly out of `events`.
 */
export class PrimaryHub implements CommitSource, StandbyLinkHost {
  readonly native: NativeLog;
  readonly ring: Uint8Array | undefined;
  readonly ringBytes: number;
  readonly batchEnds = new BatchEnds();
  readonly timing: ReplicationTiming;
  readonly now: () => number;
  readonly allocateAligned: (bytes: number) => Uint8Array;
  /** What the connected standbys hold of the log, to repair this copy from. */
  readonly ranges = new StandbyRanges(() => this.#admitted.values());

  readonly #options: PrimaryHubOptions;
  readonly #events: PrimaryHubEvents;
  readonly #quorum = new Quorum();
  readonly #commit: CommitPlace;
  readonly #rules: RuleKeeper;
  readonly #listener: Listener;
  readonly #retention: Retention;
  readonly #links = new Set<StandbyLink>();
  readonly #admitted = new Map<string, StandbyLink>();
  readonly #local = { closedLsn: 0, flushPosition: 0, flushLsn: 0 } satisfies LocalProgress;
  #openedTerm: Term | undefined;
  #security: Pick<Security, 'tls' | 'secret'> = {};
  #moved = false;
  #listening: Endpoint | null = null;
  #timer: NodeJS.Timeout | undefined;
  #stallTimer: NodeJS.Timeout | undefined;
  #pushing = false;
  #writeAcks: boolean;
  #stopped = false;
  #closing = false;
  #closed = false;
  #sessions = 0;
  #rejected = 0;
  #fetches = 0;
  #holds = true;

  constructor(options: PrimaryHubOptions) {
    this.#options = options;
    this.#events = options.events;
    this.native = options.native;
    const info = options.native.info();
    this.ringBytes = info.ringBytes;
    this.ring = options.native.ring === undefined ? undefined : new Uint8Array(options.native.ring);
    this.timing = withDefaults(options.timing);
    this.now = options.now ?? (() => performance.now());
    this.allocateAligned =
      options.allocateAligned ?? ((bytes) => loadBinding().allocateAligned(bytes));
    this.#rules = this.#newKeeper(options);
    this.#commit = new CommitPlace(this.#rules.rules, info.commit);
    this.#writeAcks = options.policy.synchronousCommit === 'remote_write';
    this.#retention = new Retention(options.native);
    const limits = { ...defaultLimits, ...options.listenLimits };
    this.#listener = new Listener(limits, {
      now: this.now,
      onConnection: (socket, acceptedAt) => this.#connected(socket, acceptedAt),
      onRefused: (address, reason) => this.refused(address, reason),
    });
    this.#noteEnd();
    this.#settle();
  }

  /**
   * Takes standbys from now on. Refused off loopback without TLS, unless `plaintext` is said
   * (WAL_PLAINTEXT).
   */
  async listen(options: ListenOptions): Promise<Endpoint> {
    if (this.#listening !== null) throw new Error('the hub listens already');
    this.#security = { tls: options.tls, secret: options.secret };
    this.#listening = await this.#listener.listen(options);
    const { heartbeat, dead, handshake, close } = this.timing;
    const period = Math.max(5, Math.min(heartbeat, dead, handshake, close) / 2);
    this.#timer = setInterval(() => this.#tick(), period);
    this.#timer.unref();
    return this.#listening;
  }

  /**
   * Certificates, and who may come, for the connections from now on. Those that are there stay,
   * unless their peers may not come any more. Throws, and changes nothing, where they cannot be
   * used.
   */
  reloadTls(tls: TlsOptions): void {
    this.#listener.reloadTls(tls);
    this.#security = { ...this.#security, tls };
    for (const link of this.#links) link.revoke(tls.allow);
  }

  // -- what Log tells --

  /** A batch was closed: it is sent at once. */
  closedAdvanced(): void {
    if (this.#closed) return;
    this.#noteEnd();
    for (const link of this.#admitted.values()) link.feed();
  }

  /** The local flush moved, or the opening of a term is flushed. */
  flushAdvanced(): void {
    if (this.#closed) return;
    if (this.#settle()) this.#events.onCommitMoved();
    for (const link of this.#links) link.feed();
  }

  /**
   * Time passes: the primary may go on alone, or come back. To be called every 50 ms or so where
   * standbys are named, with monotone milliseconds. Returns what was decided: it is so when `rule`
   * says it.
   */
  watch(nowMs: number): WatchVerdict {
    if (this.#closed || this.#stopped) return undefined;
    const verdict = this.#rules.watch(nowMs);
    if (this.#takeMoved()) this.#events.onCommitMoved();
    return verdict;
  }

  /**
   * Another policy: from now on acknowledgements have to meet it too, and it alone once it is
   * recorded (`isPolicyInForce`).
   */
  setPolicy(policy: CommitPolicy, degradeAfter: number | undefined): void {
    this.#writeAcks ||= policy.synchronousCommit === 'remote_write';
    this.#rules.setPolicy(policy, degradeAfter);
    if (this.#takeMoved() && !this.#stopped) this.#events.onCommitMoved();
  }

  /**
   * The ring is full. Standbys that hold on to it are fed from copies from now on; one that makes
   * no progress meanwhile is dropped, since nothing else ends the writes that refer to the ring
   * (SAFETY 5.5). Goes on as long as it is wanted: who holds it may show only when the disk, which
   * is behind, has caught up.
   */
  ringWanted(): void {
    if (this.#stallTimer !== undefined || this.#closing) return;
    const marks = this.#holders().map((link) => ({ link, mark: link.feeder!.mark() }));
    for (const { link } of marks) link.feeder!.avoidRing();
    this.#stallTimer = setTimeout(() => {
      this.#stallTimer = undefined;
      if (!this.#options.isRingWanted()) return;
      for (const { link, mark } of marks) {
        if (!link.feeder!.hasStalled(mark)) continue;
        link.drop('the standby made no progress while the log memory was wanted');
      }
      this.ringWanted();
    }, this.timing.stall);
    this.#stallTimer.unref();
  }

  /** Whether listening, and standbys that are connected, keep the process alive. Default true. */
  setRef(holds: boolean): void {
    this.#holds = holds;
    this.#listener.setRef(holds);
    for (const { socket } of this.#links) setRef(socket, holds);
  }

  // -- what Log asks --

  get commit(): Place {
    return { position: this.#commit.position, lsn: this.#commit.lsn };
  }

  /** LSN up to which a level is met now; 0 once a newer primary was heard of. */
  reached(level: CommitKind): number {
    if (this.#stopped) return 0;
    // Somebody waits for writes: standbys are asked to acknowledge them without waiting for the
    // flush.
    if (level === 'remote_write') this.#writeAcks = true;
    return this.#commit.reached(level, this.#refreshLocal());
  }

  ownLevel(): CommitLevel {
    return ownLevel(this.#rules.rules.active[0]!);
  }

  /** The rule in force. */
  get rule(): Rule {
    return this.#rules.rules.inForce.rule;
  }

  /** Whether the rule in force is that of the policy that was set last. */
  get isPolicyInForce(): boolean {
    return this.#rules.isSettled;
  }

  /** Milliseconds for which commits have waited for standbys, by the calls of `watch`. */
  get waited(): number {
    return this.#rules.missing.waited;
  }

  /** Names of the standbys that had a say in meeting `level` for `lsn`. */
  standbysAt(level: CommitLevel, lsn: number): string[] {
    const measure = measures[level];
    return measure === undefined ? [] : this.#quorum.namesAt(measure, lsn);
  }

  status(): PrimaryHubStatus {
    return {
      listening: this.#listening,
      commit: this.commit,
      standbys: [...this.#admitted.values()].map((link) => this.#standbyStatus(link)),
      connections: { ...this.#listener.counts },
      rejected: this.#rejected,
    };
  }

  /** Lets what was sent leave, then ends all. Afterwards nothing refers to the ring. Idempotent. */
  async close(): Promise<void> {
    this.#closing = true;
    clearTimeout(this.#stallTimer);
    for (const link of this.#links) link.endGently('the primary closes');
    const deadline = setTimeout(() => {
      for (const link of this.#links) link.drop('the primary closes');
    }, this.timing.close);
    await this.#listener.close();
    clearTimeout(deadline);
    clearInterval(this.#timer);
    this.#listening = null;
    // A second call waits for the same sockets, and finds nothing left to do.
    if (this.#closed) return;
    this.#closed = true;
    this.#retention.releaseAll();
  }

  // -- what links need --

  commitPlace = (): Place => this.#commit;
  writeAcks = (): boolean => this.#writeAcks;

  view(): PrimaryView {
    const { state } = this.native;
    const info = this.native.info();
    return {
      identity: this.#options.identity,
      term: this.#options.term(),
      history: info.history,
      closed: { position: state[State.CLOSED_POSITION]!, lsn: state[State.CLOSED_LSN]! },
      commit: this.commit,
      start: state[State.START_POSITION]!,
    };
  }

  gate(socket: Socket): Gate {
    return new Gate(this.#security, channelOf(socket), this.#options.identity.logId);
  }

  get allow(): TlsOptions['allow'] | undefined {
    return this.#security.tls?.allow;
  }

  claim(nodeId: string, position: number): void {
    this.#retention.claim(nodeId, position);
  }

  hasRoom(nodeId: string): boolean {
    return this.#admitted.size < maxStandbys || this.#admitted.has(nodeId);
  }

  beginFetch(link: StandbyLink): boolean {
    if (this.#fetches >= maxFetches) return false;
    this.#fetches += 1;
    this.#listener.admitted(link.socket);
    return true;
  }

  endFetch(): void {
    this.#fetches -= 1;
  }

  admit(link: StandbyLink, progress: Progress): NumberedRule {
    if (link.fingerprint !== undefined) this.#endOthersOf(link.fingerprint, progress);
    return this.#rules.admit(progress);
  }

  accepted(link: StandbyLink, progress: Progress): void {
    this.#listener.admitted(link.socket);
    const before = this.#admitted.get(progress.nodeId);
    this.#admitted.set(progress.nodeId, link);
    if (before !== undefined) {
      const reason = 'the standby has a newer connection';
      this.#announce(before, false, reason);
      before.drop(reason);
    }
    this.#announce(link, true, '');
  }

  acknowledged(progress: Progress): void {
    this.#retention.moved(progress.nodeId, progress.flushPosition);
    this.#settle();
    if (!this.#stopped) this.#events.onCommitMoved();
  }

  rejected(): void {
    this.#rejected += 1;
  }

  refused(address: string, reason: string): void {
    this.#events.onRefused?.({ address, reason });
  }

  unreadable(error: unknown): void {
    this.#events.onUnreadable?.(error);
  }

  fenced(link: StandbyLink, action: PrimaryAction & { do: 'fenced' | 'split' | 'lost' }): void {
    if (this.#stopped) return;
    this.#stopped = true;
    if (action.do === 'fenced') this.#events.onHigherTerm(action.term);
    else if (action.do === 'split') this.#stopFor(splitError(action.term), action.term);
    else this.#stopFor(lostError(action.lsn), this.#options.term());
    // The one that brought the news still gets its answer; nobody else is let in or fed any more.
    for (const each of this.#links) if (each !== link) each.drop('this primary has stopped');
  }

  closed(link: StandbyLink, reason: string): void {
    this.#links.delete(link);
    const { progress } = link;
    if (progress === undefined) return;
    if (this.#admitted.get(progress.nodeId) === link) {
      this.#admitted.delete(progress.nodeId);
      this.#retention.away(progress.nodeId);
      this.#announce(link, false, reason);
    }
    this.#rules.gone(progress);
    if (this.#takeMoved() && !this.#stopped) this.#events.onCommitMoved();
  }

  // -- inside --

  /**
   * Under TLS a name is that of a certificate, and a node id only a word: one certificate counts
   * once, whatever ids, and which of its names, it is shown with; and so does one name. A standby
   * that was wiped has another id as well.
   */
  #endOthersOf(fingerprint: string, { name, nodeId }: Progress): void {
    for (const [id, link] of this.#admitted) {
      if (id === nodeId) continue;
      const named = link.name === name;
      if (!named && link.fingerprint !== fingerprint) continue;
      const what = named ? `of the name ${name}` : `with the certificate of ${link.name}`;
      const reason = `another node ${what} has connected, with another node id`;
      // At once: its acknowledgements may not count beside those of the other.
      this.closed(link, reason);
      link.drop(reason);
    }
  }

  #connected(socket: Socket, acceptedAt: number): void {
    if (this.#closing || this.#stopped || socket.destroyed) {
      socket.on('error', () => undefined);
      socket.destroy();
      return;
    }
    setRef(socket, this.#holds);
    this.#sessions = (this.#sessions + 1) >>> 0;
    this.#links.add(new StandbyLink(socket, acceptedAt, this.#sessions, this));
  }

  #noteEnd(): void {
    const { state } = this.native;
    this.batchEnds.push(state[State.CLOSED_POSITION]!, state[State.CLOSED_LSN]!);
  }

  #newKeeper({ policy, degradeAfter, native }: PrimaryHubOptions): RuleKeeper {
    const host = {
      native,
      commitPosition: () => this.#commit.position,
      flushPosition: () => this.native.state[State.FLUSH_POSITION]!,
      mayChange: () => !this.#stopped && !this.#closing,
      advance: () => this.#advance(),
      tell: (rule: NumberedRule) => {
        for (const link of this.#admitted.values()) link.tellRule(rule);
      },
      recorded: () => {
        if (!this.#closed && this.#settle()) this.#events.onCommitMoved();
      },
      changed: () => {
        // What is met may be more by now, also where the commit place did not move.
        this.#moved = true;
        this.#events.onRule?.();
      },
    };
    return new RuleKeeper(host, this.#quorum, policy, degradeAfter);
  }

  /** Moves the commit place and the rules. Returns whether what waits may be met. */
  #settle(): boolean {
    if (this.#stopped) return false;
    this.#rules.settle();
    return this.#takeMoved();
  }

  #takeMoved(): boolean {
    const moved = this.#moved;
    this.#moved = false;
    return moved;
  }

  /**
   * Moves the commit place; tells the engine and, at the end of this turn of the loop, the
   * standbys.
   */
  #advance(): void {
    if (this.#stopped) return;
    this.#noteOpening();
    if (!this.#commit.update(this.#refreshLocal())) return;
    this.#moved = true;
    this.native.setCommit(this.#commit.position, this.#commit.lsn);
    if (this.#admitted.size > 0 && !this.#pushing) {
      this.#pushing = true;
      // Whoever was woken by this commit may append at once, and the data then carries the commit
      // place.
      setImmediate(() => this.#pushCommit());
    }
  }

  #pushCommit(): void {
    this.#pushing = false;
    for (const link of this.#admitted.values()) link.pushCommit();
  }

  /** SAFETY 1.5 needs to know where the opening of the current term lies. */
  #noteOpening(): void {
    const term = this.#options.term();
    if (this.#openedTerm !== undefined && compareTerms(term, this.#openedTerm) === 'same') return;
    const { history, opened } = this.native.info();
    const start = history.at(-1);
    if (start === undefined || compareTerms(start, term) !== 'same') return;
    assert(opened > start.position, 'who leads a term has written its opening');
    this.#openedTerm = term;
    this.#commit.openedAt(start, opened);
  }

  #refreshLocal(): LocalProgress {
    const { state } = this.native;
    this.#local.closedLsn = state[State.CLOSED_LSN]!;
    this.#local.flushPosition = state[State.FLUSH_POSITION]!;
    this.#local.flushLsn = state[State.FLUSH_LSN]!;
    return this.#local;
  }

  /** Standbys for whose sake the ring keeps more than the local flush needs. */
  #holders(): StandbyLink[] {
    const flushed = this.native.state[State.FLUSH_POSITION]!;
    return [...this.#admitted.values()].filter((link) => link.feeder!.holdsFrom < flushed);
  }

  #tick(): void {
    const now = this.now();
    this.#listener.endSecuring(now - this.timing.handshake);
    for (const link of this.#links) link.tick(now);
  }

  #stopFor(error: WalError, term: Term): void {
    if (this.#events.onStop === undefined) this.#events.onHigherTerm(term);
    else this.#events.onStop(error);
  }

  #announce(link: StandbyLink, connected: boolean, reason: string): void {
    const last = this.#standbyStatus(link);
    const { name, nodeId } = last;
    this.#events.onStandby({ name, nodeId, connected, reason, last });
  }

  #standbyStatus(link: StandbyLink): StandbyStatus {
    const progress = link.progress!;
    const lag = this.native.state[State.CLOSED_POSITION]! - progress.flushPosition;
    return {
      name: progress.name,
      nodeId: progress.nodeId,
      address: link.address,
      security: linkSecurity(this.#security),
      state: progress.state,
      stateSince: link.stateSince,
      counts: progress.counts,
      sentPosition: progress.sentPosition,
      sentLsn: progress.sentLsn,
      write: progress.write,
      flush: progress.flush,
      applyLsn: progress.applyLsn,
      lagBytes: lag,
      silence: link.silence(),
      bufferBytes: link.feeder?.bufferBytes ?? 0,
    };
  }
}

const measures: Readonly<Record<CommitLevel, Measure | undefined>> = {
  off: undefined,
  local: undefined,
  remote_write: 'write',
  remote_flush: 'flush',
  remote_apply: 'apply',
};

function setRef(socket: Socket, holds: boolean): void {
  if (holds) socket.ref();
  else socket.unref();
}

function splitError(term: Term): WalError {
  return new WalError('WAL_SPLIT', `epoch ${term.epoch} was opened by another node too`);
}

function lostError(lsn: number): WalError {
  const text = `a standby knows LSN ${lsn} to be committed, and this log does not hold it`;
  return new WalError('WAL_COMMITTED_LOST', text, { lsn });
}
