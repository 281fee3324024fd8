import type { LogStatus } from './status.js';

/** Commits that wait for one promise. */
export interface Tally {
  commits: number;
  /** Monotone milliseconds. */
  readonly since: number;
}

/** Counts the commits of a log, through the changes of its role. */
export class CommitTally {
  /** In the order in which they began: the first one is the oldest. */
  readonly #open = new Set<Tally>();
  #waiting = 0;
  #acknowledged = 0;
  #rejected = 0;

  begin(since: number): Tally {
    const tally = { commits: 1, since };
    this.#open.add(tally);
    this.#waiting += 1;
    return tally;
  }

  /** One more commit takes the same promise. */
  join(tally: Tally): void {
    tally.commits += 1;
    this.#waiting += 1;
  }

  end(tally: Tally, acknowledged: boolean): void {
    this.#open.delete(tally);
    this.#waiting -= tally.commits;
    if (acknowledged) this.#acknowledged += tally.commits;
    else this.#rejected += tally.commits;
  }

  /** How many have not settled yet. */
  get waiting(): number {
    return this.#waiting;
  }

  status(nowMs: number): LogStatus['commits'] {
    const [oldest] = this.#open;
    return {
      waiting: this.#waiting,
      oldestWaitMs: oldest === undefined ? null : Math.max(0, nowMs - oldest.since),
      acknowledged: this.#acknowledged,
      rejected: this.#rejected,
    };
  }
}
