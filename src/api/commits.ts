import type { CommitResult, CommitWaiters } from '../replication/commit_waiters.js';
import type { CommitLevel } from '../replication/level.js';
import type { Appender } from './appender.js';
import type { KeepAlive } from './keep_alive.js';
import { isRemote, noStandbys } from './policy_options.js';

/** What the commits of a primary need of it. */
export interface CommitsHost {
  readonly appender: Appender;
  readonly keepAlive: KeepAlive;
  readonly waiters: CommitWaiters;
  readonly level: CommitLevel;
  readonly hasStandbys: boolean;
  /** Lets the commit place follow flushes that were not reported yet. */
  refresh(): void;
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
  #closing = false;
  #hurry = false;

  constructor(host: CommitsHost) {
    this.#host = host;
  }

  /** The promise for the open batch at the log's own level, if somebody asked already. */
  get shared(): Promise<CommitResult> | undefined {
    return this.#shared;
  }

  /** Throws WAL_NO_STANDBYS where this level could never be met. */
  requireStandbys(level: CommitLevel): void {
    if (isRemote(level) && !this.#host.hasStandbys) throw noStandbys(level);
  }

  commit(
    lsn: number,
    level: CommitLevel | undefined,
    signal: AbortSignal | undefined,
  ): Promise<CommitResult> {
    const { appender, waiters } = this.#host;
    const asked = level ?? this.#host.level;
    this.requireStandbys(asked);
    const open = lsn > appender.closedLsn;
    // Every call of the engine tells how far it has flushed: a commit that is met by that resolves
    // at once, and the record must be visible by then.
    this.#host.refresh();
    const wait =
      signal === undefined ? waiters.wait(asked, lsn) : waiters.waitWithSignal(asked, lsn, signal);
    this.#held(wait);
    if (open) {
      this.#closeSoon(asked);
      if (signal === undefined && asked === this.#host.level) this.#shared = wait;
    }
    return wait;
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
    this.#host.waiters.raise(this.#host.level, last);
  }

  /** Keeps the process alive until the wait ends, however it ends. */
  #held(wait: Promise<CommitResult>): void {
    const { keepAlive } = this.#host;
    const release = (): void => keepAlive.release();
    keepAlive.acquire();
    wait.then(release, release);
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
