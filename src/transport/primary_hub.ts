import { WalError } from '../api/errors.js';
import { type NativeLog, type Place, type Rule, State, type Term } from '../native/native_log.js';
import { assert } from '../replication/assert.js';
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
import { type CommitLevel, commitLevels } from '../replication/level.js';
import type { PrimaryAction } from '../replication/primary_session.js';
import type { Progress } from '../replication/progress.js';
import { type Measure, Quorum } from '../replication/quorum.js';
import type { NumberedRule } from '../replication/rule.js';
import type { ToldSlot } from '../replication/slot.js';
import { Door } from './door.js';
import { type Environment, processEnvironment, type Timer } from './environment.js';
import type { Endpoint, ListenerCounts, ListenOptions } from './listener.js';
import type { MemberDesk } from './member_desk.js';
import type { SlotKeeper } from './retention.js';
import { RuleKeeper, type WatchVerdict } from './rule_keeper.js';
import type { TlsOptions } from './security.js';
import type { SeedShelf } from './seed_shelf.js';
import type { StandbyLink } from './standby_link.js';
import {
  type LinksOwner,
  type StandbyChange,
  StandbyLinks,
  type StandbyStatus,
} from './standby_links.js';
import type { StandbyRanges } from './standby_ranges.js';
import { type ListenLimits, type ReplicationTiming, withDefaults } from './timing.js';

export type { StandbyChange, StandbyStatus } from './standby_links.js';

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
  /** Of that term (`Accept.witnesses`). Default: none are known. */
  readonly witnesses?: readonly string[] | undefined;
  /** The opening rule that it makes (replication/rule.ts) was recorded with the term. */
  readonly policy: CommitPolicy;
  /** Milliseconds of waiting for standbys after which the primary goes on alone. Default: never. */
  readonly degradeAfter?: number | undefined;
  readonly events: PrimaryHubEvents;
  /**
   * Whether anything may be acknowledged now: asked right before, each time. When it may again,
   * `flushAdvanced` is called. Default: always.
   */
  readonly mayAcknowledge?: (() => boolean) | undefined;
  /** `RuleKeeperHost.recordElsewhere`. */
  readonly recordRule?: ((rule: NumberedRule) => Promise<void>) | undefined;
  /** Whether somebody still waits for room in the ring, who had said so by `ringWanted`. */
  readonly isRingWanted: () => boolean;
  /** Where it listens, whatever its role. Default: a door of its own, which `listen` opens. */
  readonly door?: Door | undefined;
  /** Who answers members; nobody without. */
  readonly desk?: MemberDesk | undefined;
  /** What keeps the log for standbys over restarts. */
  readonly slots?: SlotKeeper | undefined;
  /** Snapshots for standbys that need them. */
  readonly seeds?: SeedShelf | undefined;
  readonly timing?: Partial<ReplicationTiming> | undefined;
  readonly listenLimits?: Partial<ListenLimits> | undefined;
  /** Page-aligned memory for reading segments. Default: the addon's. */
  readonly allocateAligned?: ((bytes: number) => Uint8Array) | undefined;
  readonly environment?: Environment | undefined;
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
export class PrimaryHub implements CommitSource, LinksOwner {
  readonly isPrimary = true;
  readonly witnesses: readonly string[];
  readonly #environment: Environment;
  readonly #options: PrimaryHubOptions;
  readonly #events: PrimaryHubEvents;
  readonly #mayAcknowledge: () => boolean;
  readonly #native: NativeLog;
  readonly #timing: ReplicationTiming;
  readonly #quorum = new Quorum();
  readonly #commit: CommitPlace;
  readonly #rules: RuleKeeper;
  readonly #door: Door;
  readonly #links: StandbyLinks;
  readonly #local = { closedLsn: 0, flushPosition: 0, flushLsn: 0 } satisfies LocalProgress;
  #openedTerm: Term | undefined;
  #moved = false;
  #stallTimer: Timer | undefined;
  #pushing = false;
  #writeAcks: boolean;
  #stopped = false;
  #closing = false;
  #closed = false;

  constructor(options: PrimaryHubOptions) {
    this.#options = options;
    this.#events = options.events;
    this.witnesses = options.witnesses ?? [];
    this.#mayAcknowledge = options.mayAcknowledge ?? (() => true);
    const { native, identity, desk, slots, seeds } = options;
    const { environment = processEnvironment } = options;
    this.#environment = environment;
    this.#native = native;
    this.#timing = withDefaults(options.timing);
    const { listenLimits: limits } = options;
    const own = { logId: identity.logId, timing: this.#timing, environment, limits };
    this.#door = options.door ?? new Door(own);
    this.#rules = this.#newKeeper(options);
    this.#commit = new CommitPlace(this.#rules.rules, native.info().commit);
    this.#writeAcks = options.policy.synchronousCommit === 'remote_write';
    this.#links = new StandbyLinks({
      ...{ native, identity, desk, slots, seeds, environment },
      ...{ timing: this.#timing, door: this.#door },
      toTell: slots && (() => slots.toTell),
      owner: this,
      ring: native.ring === undefined ? undefined : new Uint8Array(native.ring),
      allocateAligned:
        options.allocateAligned ?? ((bytes) => environment.binding().allocateAligned(bytes)),
    });
    this.#settle();
  }

  /** What the connected standbys hold of the log, to repair this copy from. */
  get ranges(): StandbyRanges {
    return this.#links.ranges;
  }

  /**
   * Takes standbys from now on, where the door is open already or at this address. Refused off
   * loopback without TLS, unless `plaintext` is said (WAL_PLAINTEXT).
   */
  async listen(options: ListenOptions): Promise<Endpoint> {
    this.#door.keptBy(this.#links);
    return this.#door.listening ?? this.#door.listen(options);
  }

  /**
   * Certificates, and who may come, for the connections from now on. Those that are there stay,
   * unless their peers may not come any more. Throws, and changes nothing, where they cannot be
   * used.
   */
  reloadTls(tls: TlsOptions): void {
    this.#door.reloadTls(tls);
  }

  // -- what Log tells --

  /** A batch was closed: it is sent at once. */
  closedAdvanced(): void {
    if (this.#closed) return;
    this.#links.noteEnd();
    this.#links.feedAdmitted();
  }

  /** The local flush moved, or the opening of a term is flushed. */
  flushAdvanced(): void {
    if (this.#closed) return;
    if (this.#settle()) this.#events.onCommitMoved();
    this.#links.feedAll();
  }

  /**
   * Time passes: the primary may go on alone, or come back. To be called every 50 ms or so where
   * standbys are named, with monotone milliseconds. Returns what was decided: it is so when `rule`
   * says it.
   */
  watch(nowMs: number): WatchVerdict {
    if (this.#closed || this.#stopped) return undefined;
    // What waits for the referee does not wait for standbys.
    if (!this.#mayAcknowledge()) {
      this.#rules.missing.restart();
      return undefined;
    }
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
    this.#stallTimer = this.#environment.setTimeout(() => {
      this.#stallTimer = undefined;
      if (!this.#options.isRingWanted()) return;
      for (const { link, mark } of marks) {
        if (!link.feeder!.hasStalled(mark)) continue;
        link.drop('the standby made no progress while the log memory was wanted');
      }
      this.ringWanted();
    }, this.#timing.stall);
    this.#stallTimer.unref();
  }

  /** Whether listening, and standbys that are connected, keep the process alive. Default true. */
  setRef(holds: boolean): void {
    this.#door.setRef(holds);
    this.#links.setRef(holds);
  }

  // -- what Log asks --

  get commit(): Place {
    return { position: this.#commit.position, lsn: this.#commit.lsn };
  }

  /** LSN up to which a level is met now; 0 once a newer primary was heard of. */
  reached(level: CommitKind): number {
    if (this.#stopped) return 0;
    if (level !== 'off' && !this.#mayAcknowledge()) return 0;
    // Somebody waits for writes: standbys are asked to acknowledge them without waiting for the
    // flush.
    if (level === 'remote_write') this.#writeAcks = true;
    return this.#commit.reached(level, this.#refreshLocal());
  }

  ownLevel(): CommitLevel {
    return ownLevel(this.#rules.rules.active[0]!);
  }

  /** The highest level by which this log may be judged, by rules that are not settled yet too. */
  get highestLevel(): CommitLevel {
    const levels = this.#rules.rules.active.map(ownLevel);
    levels.push(this.#rules.rules.policy.synchronousCommit);
    return levels.reduce((a, b) => (commitLevels.indexOf(b) > commitLevels.indexOf(a) ? b : a));
  }

  tellSlots(slots: readonly ToldSlot[] | undefined): void {
    this.#links.tellSlots(slots);
  }

  /** The rule in force. */
  get rule(): Rule {
    return this.#rules.rules.inForce.rule;
  }

  /** Whether the rule in force is that of the policy that was set last. */
  get isPolicyInForce(): boolean {
    return this.#rules.isSettled;
  }

  /** Milliseconds for which commits have waited for standbys, by the calls of `watch`; 0: none. */
  get waited(): number {
    return this.#rules.missing.waitedAt(this.#commit.position);
  }

  /** Names of the standbys that had a say in meeting `level` for `lsn`. */
  standbysAt(level: CommitLevel, lsn: number): string[] {
    const measure = measures[level];
    return measure === undefined ? [] : this.#quorum.namesAt(measure, lsn);
  }

  status(): PrimaryHubStatus {
    return {
      listening: this.#door.listening,
      commit: this.commit,
      standbys: this.#links.statuses(),
      connections: this.#door.counts,
      rejected: this.#links.rejectedCount,
    };
  }

  /**
   * Lets what was sent leave, then ends all. Afterwards nothing refers to the ring. A door that it
   * was given stays open. Idempotent.
   */
  async close(): Promise<void> {
    this.#closing = true;
    this.#environment.clearTimer(this.#stallTimer);
    const closed = this.#links.close('the primary closes');
    if (this.#options.door === undefined) await this.#door.close();
    await closed;
    this.#closed = true;
    if (!this.#stopped) this.#native.endCommits();
    this.#stopped = true;
  }

  /**
   * Nothing is acknowledged from now on. That what was until now is all is stored with the next
   * change of the role: this node is judged by it.
   */
  stop(): void {
    if (this.#stopped) return;
    this.#advance();
    this.#stopped = true;
    this.#native.endCommits();
  }

  // -- what the links need --

  term = (): Term => this.#options.term();
  commitPlace = (): Place => this.#commit;
  writeAcks = (): boolean => this.#writeAcks;

  refusal(): WalError | undefined {
    if (!this.#stopped && !this.#closing) return undefined;
    return new WalError('WAL_FENCED', 'this primary has stopped');
  }

  admit(progress: Progress): NumberedRule {
    return this.#rules.admit(progress);
  }

  acknowledged(): void {
    this.#settle();
    if (!this.#stopped) this.#events.onCommitMoved();
  }

  onStandby(event: StandbyChange): void {
    this.#events.onStandby(event);
  }

  onRefused(address: string, reason: string): void {
    this.#events.onRefused?.({ address, reason });
  }

  onUnreadable(error: unknown): void {
    this.#events.onUnreadable?.(error);
  }

  fenced(link: StandbyLink, action: PrimaryAction & { do: 'fenced' | 'split' | 'lost' }): void {
    if (this.#stopped) return;
    this.stop();
    if (action.do === 'fenced') this.#events.onHigherTerm(action.term);
    else if (action.do === 'split') this.#stopFor(splitError(action.term), action.term);
    else this.#stopFor(lostError(action.lsn), this.#options.term());
    // The one that brought the news still gets its answer; nobody else is let in or fed any more.
    this.#links.dropAll('this primary has stopped', link);
  }

  gone(progress: Progress): void {
    this.#rules.gone(progress);
    if (this.#takeMoved() && !this.#stopped) this.#events.onCommitMoved();
  }

  // -- inside --

  #newKeeper({ policy, degradeAfter, native, recordRule }: PrimaryHubOptions): RuleKeeper {
    const host = {
      native,
      recordElsewhere: recordRule,
      commitPosition: () => this.#commit.position,
      flushPosition: () => this.#native.state[State.FLUSH_POSITION]!,
      mayChange: () => !this.#stopped && !this.#closing,
      advance: () => this.#advance(),
      tell: (rule: NumberedRule) => this.#links.tellRule(rule),
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
    if (this.#stopped || !this.#mayAcknowledge()) return;
    this.#noteOpening();
    if (!this.#commit.update(this.#refreshLocal())) return;
    this.#moved = true;
    this.#native.setCommit(this.#commit.position, this.#commit.lsn);
    if (this.#links.size > 0 && !this.#pushing) {
      this.#pushing = true;
      // Whoever was woken by this commit may append at once, and the data then carries the commit
      // place.
      this.#environment.setImmediate(() => this.#pushCommit());
    }
  }

  #pushCommit(): void {
    this.#pushing = false;
    this.#links.pushCommit();
  }

  /** SAFETY 1.5 needs to know where the opening of the current term lies. */
  #noteOpening(): void {
    const term = this.#options.term();
    if (this.#openedTerm !== undefined && compareTerms(term, this.#openedTerm) === 'same') return;
    const { history, opened } = this.#native.info();
    const start = history.at(-1);
    if (start === undefined || compareTerms(start, term) !== 'same') return;
    assert(opened > start.position, 'who leads a term has written its opening');
    this.#openedTerm = term;
    this.#commit.openedAt(start, opened);
  }

  #refreshLocal(): LocalProgress {
    const { state } = this.#native;
    this.#local.closedLsn = state[State.CLOSED_LSN]!;
    this.#local.flushPosition = state[State.FLUSH_POSITION]!;
    this.#local.flushLsn = state[State.FLUSH_LSN]!;
    return this.#local;
  }

  /** Standbys for whose sake the ring keeps more than the local flush needs. */
  #holders(): StandbyLink[] {
    const flushed = this.#native.state[State.FLUSH_POSITION]!;
    return [...this.#links.admitted].filter((link) => link.feeder!.holdsFrom < flushed);
  }

  #stopFor(error: WalError, term: Term): void {
    if (this.#events.onStop === undefined) this.#events.onHigherTerm(term);
    else this.#events.onStop(error);
  }
}

const measures: Readonly<Record<CommitLevel, Measure | undefined>> = {
  off: undefined,
  local: undefined,
  remote_write: 'write',
  remote_flush: 'flush',
  remote_apply: 'apply',
};

function splitError(term: Term): WalError {
  return new WalError('WAL_SPLIT', `epoch ${term.epoch} was opened by another node too`);
}

function lostError(lsn: number): WalError {
  const text = `a standby knows LSN ${lsn} to be committed, and this log does not hold it`;
  return new WalError('WAL_COMMITTED_LOST', text, { lsn });
}
