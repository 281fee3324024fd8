import { type Place, State, type Term } from '../native/native_log.js';
import type { HeldGroup } from '../referee/held_group.js';
import type { LeaseState } from '../referee/lease_keeper.js';
import type { LeaderRecord } from '../referee/records.js';
import { ClosedTimes } from '../replication/closed_times.js';
import { CommitWaiters } from '../replication/commit_waiters.js';
import { fenceTerm } from '../replication/fence.js';
import { compareTerms } from '../replication/history.js';
import { type CommitLevel, commitLevels } from '../replication/level.js';
import { openingRule, waitsForStandbys } from '../replication/rule.js';
import type { Timer } from '../transport/environment.js';
import {
  type StandbyStatus as HubStandby,
  PrimaryHub,
  type StandbyChange,
} from '../transport/primary_hub.js';
import type { TlsOptions } from '../transport/security.js';
import { Commits } from './commits.js';
import type { LogCore } from './core.js';
import { channels, ReplicateChannel } from './diagnostics.js';
import type { Driver, DriverStatus, UpstreamLink } from './driver.js';
import { WalError } from './errors.js';
import { FencedDriver, fencedError } from './fenced_driver.js';
import type { MemberAnswer } from './members.js';
import type { Endpoint } from './options.js';
import { commitPolicy, degradeAfter, isRemote, type ResolvedPolicy } from './policy_options.js';
import { policyStatus, waitingFor } from './policy_status.js';
import { nothingSeen, type RefereeNow } from './referee_status.js';
import { StandbyBook } from './standby_book.js';
import { type PolicyStatus, unknownTail } from './status.js';

/** How often waits for standbys are looked at. */
const TICK_MS = 50;

/** A primary: appends are taken; its own disk and the standbys of its hub meet the commits. */
export class PrimaryDriver implements Driver {
  readonly role = 'primary';
  readonly commits: Commits;
  /** A call is on its way to give it another role. */
  isBusy = false;
  readonly #core: LogCore;
  readonly #hub: PrimaryHub;
  readonly #waiters: CommitWaiters;
  readonly #told: ReplicateChannel;
  readonly #book = new StandbyBook();
  readonly #times: ClosedTimes;
  readonly #group: HeldGroup | undefined;
  #policy: ResolvedPolicy;
  #ticker: Timer | undefined;
  #flushSeen = 0;
  #repairs = false;
  #hasTls = false;
  #renewed: TlsOptions | undefined;
  #degraded: PolicyStatus['degraded'] = null;
  #undercut: Promise<void> | undefined;
  #isUndercut = false;
  /** A newer primary was heard of: until that is stored. */
  #fencing: Promise<void> = Promise.resolve();
  /** Why it goes on alone as soon as that is recorded. */
  #reason = '';
  /** Why it takes no appends for now. */
  #pause: WalError | undefined;
  #isGiven = false;

  /**
   * `group`: as a referee has granted it; its epoch is that of the term. `witnesses`: as in
   * `WonEpoch`.
   */
  constructor(
    core: LogCore,
    term: Term,
    policy: ResolvedPolicy,
    {
      group,
      witnesses,
    }: {
      readonly group: HeldGroup | undefined;
      readonly witnesses?: readonly string[];
    },
  ) {
    this.#core = core;
    this.#policy = policy;
    this.#group = group;
    const { closed } = this;
    const { environment } = core;
    this.#times = new ClosedTimes(closed.position, closed.lsn, environment.now());
    this.#told = new ReplicateChannel(core.identity);
    const { info, options } = core;
    this.#hub = new PrimaryHub({
      native: core.native,
      environment,
      identity: { ...info, name: options.name },
      ...{ term: () => term, witnesses, policy: commitPolicy(policy) },
      degradeAfter: degradeAfter(policy),
      mayAcknowledge: group && (() => group.holds()),
      recordRule: group && ((rule) => group.recordRule(rule)),
      isRingWanted: () => core.drains.wanted,
      door: core.door,
      desk: core.desk,
      slots: core.retention.slots,
      seeds: core.snapshots?.seeds,
      events: {
        onCommitMoved: () => this.#acknowledged(),
        onStandby: (change) => this.#standbyChanged(change),
        onRefused: (peer) => core.events.emit('refused', peer),
        // Damage is looked at, and repaired from a standby that has what this one needs.
        onUnreadable: (error) => void core.explain(error),
        onRule: () => this.#ruleChanged(),
        onHigherTerm: (higher) => this.#fence(higher),
        onStop: (error) => {
          if (error.code === 'WAL_SPLIT') this.#fence(term);
          else core.fail(error);
        },
      },
    });
    this.#waiters = new CommitWaiters(this.#hub, { missing: () => this.#missing() });
    this.commits = new Commits({
      appender: core.appender,
      keepAlive: core.keepAlive,
      log: core.identity,
      tally: core.commits,
      now: () => environment.now(),
      waiters: this.#waiters,
      policy: () => this.#policy,
      admit: (level) => this.#admit(level),
      refresh: () => this.#refresh(),
      mayShare: () => !core.unheard.any,
    });
    core.retention.slots.onNews = () => this.#hub.tellSlots(core.retention.slots.toTell);
    this.#applyPolicy();
    group?.serve({
      opening: { number: 1, rule: openingRule(commitPolicy(policy)) },
      progress: () => (waitsForStandbys(this.#hub.rule) ? undefined : this.commit.lsn),
      onState: (state, cause) => this.#leaseChanged(state, cause),
      onLost: (leader) => this.#lost(leader),
    });
  }

  get commit(): Place {
    return this.#hub.commit;
  }

  /** The end of the closed batches. */
  get closed(): Place {
    const { state } = this.#core.native;
    return { position: state[State.CLOSED_POSITION] ?? 0, lsn: state[State.CLOSED_LSN] ?? 0 };
  }

  get policy(): ResolvedPolicy {
    return this.#policy;
  }

  /** Whether the rule that the policy asks for is recorded, and counts alone. */
  get isPolicyInForce(): boolean {
    return this.#hub.isPolicyInForce;
  }

  /** The standbys that are connected. */
  get standbys(): readonly HubStandby[] {
    return this.#hub.status().standbys;
  }

  /** Takes no appends until `resume`, and closes the open batch: `why` is what they throw. */
  pause(why: WalError): void {
    this.#pause = why;
    this.#core.appender.pause();
  }

  resume(): void {
    const core = this.#core;
    this.#pause = undefined;
    if (core.driver !== this || core.state !== 'open' || core.failure !== undefined) return;
    core.appender.start();
    core.drains.waits.settle();
  }

  /** What is met by now is told; nothing is acknowledged any more, whatever comes. */
  endCommits(): void {
    this.#refresh();
    this.progressed();
    this.#hub.stop();
  }

  /** Whether the group, which it gives up, is kept for that node; true without a referee. */
  async giveGroup(successor: string | undefined): Promise<boolean> {
    const group = this.#group;
    this.#isGiven = true;
    return group === undefined || (await group.release(successor));
  }

  /** Another policy, from now on; `isPolicyInForce` says when it counts alone. */
  setPolicy(policy: ResolvedPolicy): void {
    this.#policy = policy;
    this.#applyPolicy();
    this.#hub.setPolicy(commitPolicy(policy), degradeAfter(policy));
    this.#core.commitMoved();
  }

  refusal(): Error {
    return this.#pause ?? new Error('a primary takes appends');
  }

  /** Where the door of this node is, which is open. */
  async listen(endpoint: Endpoint): Promise<void> {
    // What is damaged here is taken from a standby that has it, and verified before it is used.
    const { ranges } = this.#hub;
    this.#core.scrub.repairFrom('a standby', ranges.fetch.bind(ranges), true);
    this.#repairs = true;
    await this.#hub.listen(endpoint);
    this.#hasTls = endpoint.tls !== undefined;
    if (this.#renewed !== undefined) this.reloadTls(this.#renewed);
  }

  /** Before it listens: from when it does. */
  reloadTls(tls: TlsOptions): void {
    if (this.#hasTls) this.#hub.reloadTls(tls);
    this.#renewed = tls;
  }

  batchClosed(): void {
    const { state } = this.#core.native;
    const position = state[State.CLOSED_POSITION] ?? 0;
    this.#times.closed(position, state[State.CLOSED_LSN] ?? 0, this.#core.environment.now());
    this.#hub.closedAdvanced();
    this.commits.batchClosed();
  }

  ringWanted(): void {
    this.#hub.ringWanted();
  }

  setRef(holds: boolean): void {
    this.#hub.setRef(holds);
  }

  progressed(): void {
    this.#flushSeen = this.#core.native.state[State.FLUSH_POSITION] ?? 0;
    this.#hub.flushAdvanced();
    this.#waiters.settle();
    this.#core.appender.progressed();
  }

  get admitting(): Promise<void> | undefined {
    return this.#isUndercut ? undefined : this.#undercut;
  }

  applied(): void {}

  rejectWaits(error: unknown): void {
    this.commits.forget();
    this.#waiters.rejectAll(error);
  }

  status(): DriverStatus & { readonly policy: PolicyStatus } {
    const hub = this.#hub.status();
    return {
      standbys: this.#book.status(hub.standbys, {
        closed: this.closed,
        times: this.#times,
        nowMs: this.#core.environment.now(),
        wallMs: this.#core.environment.wallClock(),
      }),
      policy: policyStatus(this.#policy, {
        standbys: hub.standbys,
        waited: this.#hub.waited,
        wallMs: this.#core.environment.wallClock(),
        commits: this.commits.waiting,
        degraded: this.#degraded,
        inForce: this.#hub.isPolicyInForce,
        isGranted: this.#group?.holds() ?? true,
      }),
      upstream: null,
      listening: hub.listening,
    };
  }

  referee(): RefereeNow {
    return this.#group?.now() ?? nothingSeen;
  }

  upstream(): UpstreamLink {
    return { told: this.commit, primary: '', address: '', connected: false, isCandidate: false };
  }

  /**
   * It acknowledges nothing any more once it hears of a higher epoch, or that another node opened
   * its own (SAFETY.md 2.1, 2.6).
   */
  surveyed(answers: readonly MemberAnswer[]): void {
    const standings = answers.map(({ standing }) => standing);
    const own = this.#core.native.info().term;
    const higher = standings.filter(({ term }) => term.epoch > own.epoch);
    const [first] = higher;
    if (first === undefined) {
      if (standings.some(({ term }) => compareTerms(term, own) === 'split')) this.#fence(own);
      return;
    }
    const newest = higher.reduce((a, b) => (b.term.epoch > a.term.epoch ? b : a), first);
    this.#fence(newest.term, newest.role === 'primary' ? newest.name : newest.primary);
  }

  async fence(term: Term, candidate: string): Promise<void> {
    const core = this.#core;
    this.#fence(term, candidate);
    const { native } = core;
    const closed = native.state[State.CLOSED_POSITION] ?? 0;
    await this.#fencing;
    await core.flushes.until(() => {
      if (core.failure !== undefined) throw core.failure;
      return (native.state[State.FLUSH_POSITION] ?? 0) >= closed;
    });
  }

  async close(): Promise<void> {
    this.#core.environment.clearTimer(this.#ticker);
    if (this.#repairs) this.#core.scrub.repairFrom('', undefined);
    this.#repairs = false;
    await this.#hub.close();
    if (!this.#isGiven) await this.#group?.release();
  }

  /** Commits wait while the lease has ended, and are met when it is back. */
  #leaseChanged(state: LeaseState, cause: Error | undefined): void {
    const core = this.#core;
    if (core.driver !== this) return;
    core.events.emit('lease', { state, reason: cause?.message ?? null });
    if (state === 'held' && core.state !== 'closed') this.progressed();
  }

  /** Whom the group was granted to may not have opened that epoch, and may never: a fence. */
  #lost({ epoch, nodeId }: LeaderRecord): void {
    // A copy of this directory, say: whatever it has done, it did as this node.
    const isOwn = nodeId === this.#core.info.nodeId;
    this.#fence(isOwn ? { epoch, opener: nodeId, incarnation: 1 } : fenceTerm(epoch, nodeId));
  }

  /** Acknowledgements or the commit place moved. */
  #acknowledged(): void {
    this.#waiters.settle();
    this.#core.commitMoved();
    this.#core.appender.progressed();
    if (channels.replicate.hasSubscribers) this.#told.tell(this.#hub.status().standbys);
  }

  #standbyChanged({ name, nodeId, connected, reason, last }: StandbyChange): void {
    if (connected) this.#book.came({ name, nodeId });
    else this.#book.left(last, reason, this.#core.environment.wallClock());
    this.#core.events.emit('standby', { name, nodeId, connected, reason });
  }

  /** Stored once a term: with `local`, say, where the policy waits for standbys. */
  #admit(level: CommitLevel): Promise<void> | undefined {
    // Until a policy is recorded, the log is judged by the one before.
    const isBelow = commitLevels.indexOf(level) < commitLevels.indexOf(this.#hub.highestLevel);
    // `off` promises nothing that a crash could not take.
    if (!isBelow || level === 'off' || this.#isUndercut) return undefined;
    this.#undercut ??= this.#core.native.storeUndercut().then(() => {
      this.#isUndercut = true;
    });
    return this.#undercut;
  }

  #refresh(): void {
    const core = this.#core;
    core.appender.noteClosed();
    if (core.native.state[State.FLUSH_POSITION] !== this.#flushSeen) this.progressed();
    // What waits from here on would wait for ever.
    if (core.failure !== undefined) throw core.failure;
    if (core.driver !== this) throw core.driver.refusal();
  }

  /**
   * With `degrade` a wait that named its level still ends; the others are met in time, but where
   * standbys flush and do not apply: going on alone is for those that do not flush.
   */
  #applyPolicy(): void {
    const { standbys, whenMissing, syncTimeout } = this.#policy;
    const named = whenMissing === 'block' ? undefined : syncTimeout;
    this.#waiters.limitWaits(named, ownTimeout(this.#policy));
    if (standbys === undefined || this.#ticker !== undefined) return;
    const { environment } = this.#core;
    this.#ticker = environment.setInterval(() => this.#tick(environment.now()), TICK_MS);
    this.#ticker.unref();
  }

  #tick(nowMs: number): void {
    if (this.#policy.whenMissing !== 'block') this.commits.tick(nowMs);
    if (this.#hub.watch(nowMs) !== 'alone') return;
    this.#reason = `no answer within ${this.#policy.syncTimeout} ms; missing: ${this.#missing()}`;
  }

  /** What a commit that has waited for long lacks. */
  #missing(): string | null {
    const { standbys } = this.#hub.status();
    return waitingFor(this.#policy, standbys, Number.POSITIVE_INFINITY);
  }

  #ruleChanged(): void {
    const { degraded } = this.#hub.rule;
    const { events } = this.#core;
    if (degraded && this.#degraded === null) {
      this.#degraded = { since: this.#core.timestamp(), reason: this.#reason };
      events.emit('degraded', { reason: this.#reason });
    } else if (!degraded && this.#degraded !== null) {
      const { since } = this.#degraded;
      this.#degraded = null;
      // Another policy may wait for nobody.
      if (waitsForStandbys(this.#hub.rule)) events.emit('restored', { degradedSince: since });
    }
    if (this.#policy.standbys === undefined && this.#hub.isPolicyInForce) {
      this.#waiters.rejectRemote(policyChanged());
    }
  }

  /**
   * A newer primary exists, or another one of this epoch. Nothing is acknowledged from this moment
   * on; the role is shown to the outside when it is stored, so that no crash takes it back.
   */
  #fence(higher: Term, candidate = ''): void {
    const core = this.#core;
    if (core.driver !== this) return;
    const error = fencedError(higher, 'unknown', core.info.nodeId);
    const isSplit = error.code === 'WAL_SPLIT';
    this.#hub.stop();
    void this.#group?.stop();
    // The hub is in the middle of telling us: it is closed after that.
    const closed = Promise.resolve().then(() => this.close());
    closed.catch(() => undefined);
    const fenced = new FencedDriver(core, this.commit, higher, candidate, closed);
    core.driver = fenced;
    fenced.open();
    if (isSplit) core.rejoin = { ...unknownTail, state: 'split' };
    core.appender.stop();
    const { rule } = this.#hub;
    const kept = waitsForStandbys(rule) && !rule.degraded ? this.commit.lsn : 0;
    core.unheard.leave(core.appender.lsn, Math.max(this.commits.asked, kept));
    this.rejectWaits(error);
    core.drains.waits.rejectAll(error);
    const stored = core.native.storeRole('fenced', higher, candidate, '');
    this.#fencing = core.keepAlive.during(stored).then(
      () => {
        fenced.role = 'fenced';
        core.roleChanged('fenced', higher, 'fenced');
      },
      (failure) => core.fail(failure),
    );
    fenced.stored = this.#fencing;
    core.roleChange = this.#fencing;
    // Of two that opened one epoch an operator chooses.
    if (isSplit) return;
    void this.#fencing.then(() => core.followAgain?.()).catch((failure) => core.fail(failure));
  }
}

/** Milliseconds after which a commit of the log's own level rejects; undefined: never. */
function ownTimeout({ level, whenMissing, syncTimeout }: ResolvedPolicy): number | undefined {
  if (whenMissing === 'fail' && isRemote(level)) return syncTimeout;
  if (whenMissing === 'degrade' && level === 'remote_apply') return 2 * syncTimeout;
  return undefined;
}

function policyChanged(): WalError {
  const text = 'the policy was changed while this waited, and names no standbys any more';
  return new WalError('WAL_NO_STANDBYS', text, { outcome: 'unknown' });
}
