import type { RefereeTiming } from './timing.js';

/**
 * Until when a renewal that was sent at `sentMs` lets its holder acknowledge (SAFETY 4.3). The
 * referee cannot have counted from earlier than the sending, so that its lease outlives this by the
 * margin at least. `grantedMs`: the time to live as the referee granted it, which may be longer
 * than what was asked for; that is not counted on.
 */
export function deadlineOf(sentMs: number, grantedMs: number, timing: RefereeTiming): number {
  return sentMs + Math.min(grantedMs, timing.ttlMs) - timing.marginMs;
}

/**
 * What a holder knows of its lease. Times are milliseconds on a clock that counts suspension
 * (CLOCK_BOOTTIME), and come from outside.
 */
export class Lease {
  #deadlineMs: number;
  #isLost = false;

  constructor(deadlineMs: number) {
    this.#deadlineMs = deadlineMs;
  }

  get deadlineMs(): number {
    return this.#deadlineMs;
  }

  get isLost(): boolean {
    return this.#isLost;
  }

  /** Whether acknowledging is allowed now: to be asked right before, each time. */
  holds(nowMs: number): boolean {
    // Written so that a clock that gives no number allows nothing.
    return !this.#isLost && nowMs < this.#deadlineMs;
  }

  /** A renewal was confirmed. Answers may come in another order than they were asked for. */
  renewed(deadlineMs: number): void {
    if (deadlineMs > this.#deadlineMs) this.#deadlineMs = deadlineMs;
  }

  /** The referee says so, before the deadline: nothing is allowed until it is renewed again. */
  ended(): void {
    this.#deadlineMs = Number.NEGATIVE_INFINITY;
  }

  /** Another holds it, or may: for good. */
  lost(): void {
    this.#isLost = true;
  }
}
