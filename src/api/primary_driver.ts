import { type Place, State, type Term } from '../native/native_log.js';
import { CommitWaiters } from '../replication/commit_waiters.js';
import { formatStandbys, type SyncStandbys } from '../replication/policy.js';
import { type StandbyStatus as HubStandby, PrimaryHub } from '../transport/primary_hub.js';
import { Commits } from './commits.js';
import type { LogCore } from './core.js';
import type { Driver } from './driver.js';
import { FencedDriver, fencedError } from './fenced_driver.js';
import type { Endpoint } from './options.js';
import { commitPolicy, type ResolvedPolicy } from './policy_options.js';
import type { LogStatus, StandbyStatus } from './status.js';

/** How often waits that may time out are looked at. */
const TICK_MS = 50;

/** A primary: appends are taken; its own disk and the standbys of its hub meet the commits. */
export class PrimaryDriver implements Driver {
  readonly role = 'primary';
  readonly commits: Commits;
  readonly #core: LogCore;
  readonly #hub: PrimaryHub;
  readonly #waiters: CommitWaiters;
  readonly #policy: ResolvedPolicy;
  #ticker: NodeJS.Timeout | undefined;
  #flushSeen = 0;

  constructor(core: LogCore, term: Term, policy: ResolvedPolicy) {
    this.#core = core;
    this.#policy = policy;
    const { info, options } = core;
    this.#hub = new PrimaryHub({
      native: core.native,
      identity: { ...info, name: options.name },
      term: () => term,
      policy: commitPolicy(policy),
      isRingWanted: () => core.drains.wanted,
      events: {
        onCommitMoved: () => this.#acknowledged(),
        onStandby: (change) => core.events.emit('standby', change),
        onHigherTerm: (higher) => this.#fence(higher),
        onStop: (error) => core.fail(error),
      },
    });
    const timeoutMs = policy.whenMissing === 'fail' ? policy.syncTimeout : undefined;
    this.#waiters = new CommitWaiters(this.#hub, { timeoutMs });
    this.commits = new Commits({
      appender: core.appender,
      keepAlive: core.keepAlive,
      waiters: this.#waiters,
      level: policy.level,
      hasStandbys: policy.standbys !== undefined,
      refresh: () => this.#refresh(),
    });
    if (timeoutMs !== undefined) this.#startTicker();
  }

  get commit(): Place {
    return this.#hub.commit;
  }

  refusal(): Error {
    return new Error('a primary takes appends');
  }

  async listen(endpoint: Endpoint): Promise<void> {
    await this.#hub.listen(endpoint);
  }

  batchClosed(): void {
    this.#hub.closedAdvanced();
    this.commits.batchClosed();
  }

  ringWanted(): void {
    this.#hub.ringWanted();
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

  status(): Pick<LogStatus, 'standbys' | 'policy' | 'upstream' | 'listening'> {
    const { level, standbys, whenMissing, syncTimeout } = this.#policy;
    const hub = this.#hub.status();
    return {
      standbys: hub.standbys.map(standbyStatus),
      policy: {
        synchronousCommit: level,
        synchronousStandbys: standbys === undefined ? null : formatStandbys(standbys),
        whenMissing,
        syncTimeout,
        waitingFor: standbys === undefined ? null : waitingFor(standbys, hub.standbys),
      },
      upstream: null,
      listening: hub.listening,
    };
  }

  async close(): Promise<void> {
    clearInterval(this.#ticker);
    await this.#hub.close();
  }

  /** Acknowledgements or the commit place moved. */
  #acknowledged(): void {
    this.#waiters.settle();
    this.#core.commitMoved();
    this.#core.appender.progressed();
  }

  #refresh(): void {
    if (this.#core.native.state[State.FLUSH_POSITION] !== this.#flushSeen) this.progressed();
  }

  #startTicker(): void {
    this.#ticker = setInterval(() => this.commits.tick(performance.now()), TICK_MS);
    this.#ticker.unref();
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

function standbyStatus(standby: HubStandby): StandbyStatus {
  return {
    name: standby.name,
    nodeId: standby.nodeId,
    address: standby.address,
    state: standby.state,
    synchronous: standby.counts,
    writeLsn: standby.write.lsn,
    flushLsn: standby.flush.lsn,
    applyLsn: standby.applyLsn,
    lagBytes: standby.lagBytes,
    lastContactMs: standby.silence,
  };
}

/** What a synchronous commit lacks now, in words; null if all that it needs are there. */
function waitingFor(asked: SyncStandbys, connected: readonly HubStandby[]): string | null {
  const counted = connected.filter((each) => each.counts);
  const missing = asked.count - counted.length;
  if (missing > 0) {
    const noun = missing === 1 ? 'standby' : 'standbys';
    return `${missing} more ${noun} to connect, for ${formatStandbys(asked)}`;
  }
  const behind = counted.filter((each) => each.state !== 'live').map((each) => each.name);
  if (counted.length - behind.length >= asked.count) return null;
  return `${behind.join(', ')} to catch up, for ${formatStandbys(asked)}`;
}
