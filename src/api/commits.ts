import type { CommitResult, CommitWaiters } from '../replication/commit_waiters.js';
import type { CommitLevel } from '../replication/level.js';
import type { Appender } from './appender.js';
import type { CommitTally, Tally } from './commit_tally.js';
import { channels, type DiagnosticsLog, trace } from './diagnostics.js';
import { WalError } from './errors.js';
import { asUnknown } from './failure.js';
import type { KeepAlive } from './keep_alive.js';
import type { ResolvedPolicy } from './policy_options.js';
import { isRemote, noStandbys } from './policy_options.js';

/** What the commits of a primary need of it. */
export interface CommitsHost {
  readonly appender: Appender;
  readonly keepAlive: KeepAlive;
  readonly waiters: CommitWaiters;
  readonly tally: CommitTally;
  /** Monotone milliseconds. */
  now(): number;
  /** What traces name. */
  readonly log: DiagnosticsLog;
  /** The one that was set last. */
  readonly policy: () => Pick<ResolvedPolicy, 'level' | 'standbys'>;
  /**
   * To be waited for before a commit at this level is acknowledged; undefined: nothing. What was
   * acknowledged below the policy's level has to be known to whom the log is judged by later.
   */
  admit(level: CommitLevel): Promise<void> | undefined;
  /**
   * Lets the commit place follow flushes, and batches that other threads have closed, which were
   * not reported yet. Throws where that turns out to be the end of the log, or of this role.
   */
  refresh(): void;
  /** Whether commits of one turn may share their promise, and ask for nothing else. */
  mayShare(): boolean;
}

/**
 * The commits of a primary. All commits of one turn are met by one batch, which is closed behind
 * the microtasks that are already queued, so that everybody who was woken together is in it; they
 * share one promise.
 */
export class Commits {
  readonly #host: CommitsHost;
  /** What commits of the open batch at the log's own level wait for: the hot path. */
  #shared: Promise<CommitResult> | undefined;
  #sharedTally: Tally | undefined;
  #closing = false;
  #hurry = false;
  #asked = 0;

  constructor(host: CommitsHost) {
    this.#host = host;
  }

  /** The promise for the open batch at the log's own level, if somebody asked already. */
  get shared(): Promise<CommitResult> | undefined {
    return this.#shared;
  }

  /** LSN up to which a commit was asked for: who asked hears of its end. */
  get asked(): number {
    if (this.#shared === undefined) return this.#asked;
    return Math.max(this.#asked, this.#host.appender.lsn);
  }

  /** One more commit took the shared promise. */
  joined(): void {
    this.#host.tally.join(this.#sharedTally!);
  }

  /** How many commits have not settled yet. */
  get waiting(): number {
    return this.#host.tally.waiting;
  }

  /** Throws WAL_NO_STANDBYS where this level could never be met. */
  requireStandbys(level: CommitLevel): void {
    if (isRemote(level) && this.#host.policy().standbys === undefined) throw noStandbys(level);
  }

  /** `sinceMs`: of `performance.now()`, where its time-out counts from a time before this. */
  commit(
    lsn: number,
    level: CommitLevel | undefined,
    signal: AbortSignal | undefined,
    sinceMs?: number,
  ): Promise<CommitResult> {
    const { appender, waiters } = this.#host;
    if (level !== undefined) this.requireStandbys(level);
    if (lsn > this.#asked) this.#asked = lsn;
    // What the log's own policy asks for may change while this waits.
    const asked = level ?? 'own';
    // Every call of the engine tells how far it has flushed: a commit that is met by that resolves
    // at once, and the record must be visible by then.
    this.#host.refresh();
    const start = (): Promise<CommitResult> =>
      signal === undefined
        ? waiters.wait(asked, lsn)
        : waiters.waitWithSignal(asked, lsn, signal, sinceMs);
    const admitted = level === undefined ? undefined : this.#host.admit(level);
    const begin = admitted === undefined ? start : () => this.#admitted(admitted, start);
    const wait = channels.commit.hasSubscribers ? this.#traced(lsn, level, begin) : begin();
    const tally = this.#held(wait);
    // Only now: whoever listens to traces may have closed the batch meanwhile.
    if (lsn > appender.closedLsn) {
      this.#closeSoon(level ?? this.#host.policy().level);
      // Whether a record is in the open batch is not known here where other threads close it too.
      const isPlain = signal === undefined && asked === 'own';
      if (isPlain && !appender.isShared && this.#host.mayShare()) {
        this.#shared = wait;
        this.#sharedTally = tally;
      }
    }
    return wait;
  }

  /** In another role, or failed, by then, it would never end, or be met by what another has. */
  async #admitted(
    admitted: Promise<void>,
    start: () => Promise<CommitResult>,
  ): Promise<CommitResult> {
    try {
      await admitted;
      this.#host.refresh();
    } catch (error) {
      throw error instanceof WalError ? asUnknown(error) : error;
    }
    return start();
  }

  /** Nobody may take the shared promise any more: its waits were ended. */
  forget(): void {
    this.#shared = undefined;
  }

  /** A batch was closed; its commits wait for the place that it ends at. */
  batchClosed(): void {
    this.#endShared(this.#host.appender.closedLsn);
    this.#host.waiters.closed();
  }

  /** Time passes: who asks from now on has a time-out of its own, and so another promise. */
  tick(nowMs: number): void {
    this.#endShared(this.#host.appender.lsn);
    this.#host.waiters.tick(nowMs);
  }

  /** Those who took the shared promise may have asked for any LSN up to `last`. */
  #endShared(last: number): void {
    if (this.#shared === undefined) return;
    this.#shared = undefined;
    this.#asked = Math.max(this.#asked, last);
    this.#host.waiters.raise('own', last);
  }

  #traced(lsn: number, level: CommitLevel | undefined, begin: () => Promise<CommitResult>) {
    const context = { ...this.#host.log, lsn, level: level ?? this.#host.policy().level };
    return trace(channels.commit, context, begin);
  }

  /** Keeps the process alive until the wait ends, however it ends. */
  #held(wait: Promise<CommitResult>): Tally {
    const { keepAlive, tally: counts } = this.#host;
    const tally = counts.begin(this.#host.now());
    const release = (acknowledged: boolean): void => {
      counts.end(tally, acknowledged);
      keepAlive.release();
    };
    keepAlive.acquire();
    wait.then(
      () => release(true),
      () => release(false),
    );
    return tally;
  }

  #closeSoon(level: CommitLevel): void {
    // `off` waits for nothing but the closing itself.
    if (level === 'off') this.#hurry = true;
    if (this.#closing) return;
    this.#closing = true;
    queueMicrotask(() => {
      const hurry = this.#hurry;
      this.#closing = false;
      this.#hurry = false;
      if (hurry) this.#host.appender.close();
      else this.#host.appender.closeWhenIdle();
    });
  }
}
