/** Ticks further apart than this say that nobody looked, not that nobody answered. */
const longestStepMs = 250;

/**
 * How long the commit place has been behind the own flush. No clock: time comes in with the ticks.
 * What was waited while the event loop was blocked does not count: acknowledgements that came
 * meanwhile were not read.
 */
export class MissingStandbys {
  /** What the wait is for; undefined: nothing waits. */
  #mark: number | undefined;
  #waited = 0;
  #tickedAt: number | undefined;
  #commit = 0;
  #commitBefore = 0;

  /** Milliseconds for which what was flushed first has waited; 0: nothing waits. */
  get waited(): number {
    return this.#waited;
  }

  /** The same with the commit place at `commitPosition` by now: what was met waits no more. */
  waitedAt(commitPosition: number): number {
    const isMet = this.#mark === undefined || commitPosition >= this.#mark;
    return isMet ? 0 : this.#waited;
  }

  /** The commit position at the tick before the last one. */
  get commitBefore(): number {
    return this.#commitBefore;
  }

  tick(nowMs: number, commitPosition: number, flushPosition: number): void {
    const step = Math.min(nowMs - (this.#tickedAt ?? nowMs), longestStepMs);
    this.#tickedAt = nowMs;
    this.#commitBefore = this.#commit;
    this.#commit = commitPosition;
    if (this.#mark !== undefined && commitPosition < this.#mark) {
      this.#waited += step;
      return;
    }
    this.#mark = commitPosition < flushPosition ? flushPosition : undefined;
    this.#waited = 0;
  }

  /** The wait begins anew: another rule decides from now on what is waited for. */
  restart(): void {
    this.#mark = undefined;
    this.#waited = 0;
  }

  /** Another rule is in force: what was committed before it says nothing of it. */
  ruleChanged(commitPosition: number): void {
    this.#commit = commitPosition;
    this.#commitBefore = commitPosition;
  }
}
