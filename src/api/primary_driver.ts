import { type Place, State, type Term } from '../native/native_log.js';
import { ClosedTimes } from '../replication/closed_times.js';
import { CommitWaiters } from '../replication/commit_waiters.js';
import { waitsForStandbys } from '../replication/rule.js';
import { PrimaryHub, type StandbyChange } from '../transport/primary_hub.js';
import type { TlsOptions } from '../transport/security.js';
import { Commits } from './commits.js';
import type { LogCore } from './core.js';
import { channels, ReplicateChannel } from './diagnostics.js';
import type { Driver, DriverStatus } from './driver.js';
import { WalError } from './errors.js';
import { FencedDriver, fencedError } from './fenced_driver.js';
import type { Endpoint } from './options.js';
import { commitPolicy, degradeAfter, isRemote, type ResolvedPolicy } from './policy_options.js';
import { policyStatus, waitingFor } from './policy_status.js';
import { StandbyBook } from './standby_book.js';
import type { PolicyStatus } from './status.js';

/** How often waits for standbys are looked at. */
const TICK_MS = 50;

/** A primary: appends are taken; its own disk and the standbys of its hub meet the commits. */
export class PrimaryDriver implements Driver {
  readonly role = 'primary';
  readonly commits: Commits;
  readonly #core: LogCore;
  readonly #hub: PrimaryHub;
  readonly #waiters: CommitWaiters;
  readonly #told: ReplicateChannel;
  readonly #book = new StandbyBook();
  readonly #times: ClosedTimes;
  #policy: ResolvedPolicy;
  #ticker: NodeJS.Timeout | undefined;
  #flushSeen = 0;
  #repairs = false;
  #hasTls = false;
  #renewed: TlsOptions | undefined;
  #degraded: PolicyStatus['degraded'] = null;
  /** Why it goes on alone as soon as that is recorded. */
  #reason = '';

  constructor(core: LogCore, term: Term, policy: ResolvedPolicy) {
    this.#core = core;
    this.#policy = policy;
    const { closed } = this;
    this.#times = new ClosedTimes(closed.position, closed.lsn, performance.now());
    this.#told = new ReplicateChannel(core.identity);
    const { info, options } = core;
    this.#hub = new PrimaryHub({
      native: core.native,
      identity: { ...info, name: options.name },
      term: () => term,
      policy: commitPolicy(policy),
      degradeAfter: degradeAfter(policy),
      isRingWanted: () => core.drains.wanted,
      events: {
        onCommitMoved: () => this.#acknowledged(),
        onStandby: (change) => this.#standbyChanged(change),
        onRefused: (peer) => core.events.emit('refused', peer),
        // Damage is looked at, and repaired from a standby that has what this one needs.
        onUnreadable: (error) => void core.explain(error),
        onRule: () => this.#ruleChanged(),
        onHigherTerm: (higher) => this.#fence(higher),
        onStop: (error) => core.fail(error),
      },
    });
    this.#waiters = new CommitWaiters(this.#hub, { missing: () => this.#missing() });
    this.commits = new Commits({
      appender: core.appender,
      keepAlive: core.keepAlive,
      log: core.identity,
      tally: core.commits,
      waiters: this.#waiters,
      policy: () => this.#policy,
      refresh: () => this.#refresh(),
    });
    this.#applyPolicy();
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

  /** Another policy, from now on; `isPolicyInForce` says when it counts alone. */
  setPolicy(policy: ResolvedPolicy): void {
    this.#policy = policy;
    this.#applyPolicy();
    this.#hub.setPolicy(commitPolicy(policy), degradeAfter(policy));
    this.#core.commitMoved();
  }

  refusal(): Error {
    return new Error('a primary takes appends');
  }

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
    this.#times.closed(position, state[State.CLOSED_LSN] ?? 0, performance.now());
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
        nowMs: performance.now(),
        wallMs: Date.now(),
      }),
      policy: policyStatus(this.#policy, {
        standbys: hub.standbys,
        waited: this.#hub.waited,
        commits: this.commits.waiting,
        degraded: this.#degraded,
        inForce: this.#hub.isPolicyInForce,
      }),
      upstream: null,
      listening: hub.listening,
    };
  }

  async close(): Promise<void> {
    clearInterval(this.#ticker);
    if (this.#repairs) this.#core.scrub.repairFrom('', undefined);
    this.#repairs = false;
    await this.#hub.close();
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
    else this.#book.left(last, reason, Date.now());
    this.#core.events.emit('standby', { name, nodeId, connected, reason });
  }

  #refresh(): void {
    if (this.#core.native.state[State.FLUSH_POSITION] !== this.#flushSeen) this.progressed();
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
    this.#ticker = setInterval(() => this.#tick(performance.now()), TICK_MS);
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
      this.#degraded = { since: new Date().toISOString(), reason: this.#reason };
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
   * A newer primary exists. Nothing is acknowledged from this moment on; the role is shown to the
   * outside when it is stored, so that no crash takes it back.
   */
  #fence(higher: Term): void {
    const core = this.#core;
    if (core.driver !== this) return;
    const error = fencedError(higher, 'unknown');
    // The hub is in the middle of telling us: it is closed after that.
    const closed = Promise.resolve().then(() => this.close());
    closed.catch(() => undefined);
    const fenced = new FencedDriver(this.commit, higher, closed);
    core.driver = fenced;
    core.appender.stop();
    this.rejectWaits(error);
    core.drains.waits.rejectAll(error);
    const stored = core.native.storeRole('fenced', higher, '', '');
    core.roleChange = core.keepAlive.during(stored).then(
      () => {
        fenced.role = 'fenced';
        core.events.emit('role', { role: 'fenced', term: higher });
      },
      (failure) => core.fail(failure),
    );
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
