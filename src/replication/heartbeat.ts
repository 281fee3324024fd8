/** How often a side speaks at least, and after how long a silence it gives the other up. */
export interface HeartbeatTiming {
  readonly intervalMs: number;
  readonly deadMs: number;
}

export type HeartbeatVerdict = 'quiet' | 'speak' | 'dead';

/**
 * One side's view of a link: when to send a heartbeat, when the peer is dead. A half-open
 * connection shows no other sign. Time that this process itself did not run (a blocked event
 * loop, SIGSTOP) is not held against the peer, whose bytes may be waiting unread.
 */
export class Heartbeat {
  readonly #timing: HeartbeatTiming;
  #heardAt: number;
  #spokeAt: number;
  #tickedAt: number;

  constructor(timing: HeartbeatTiming, nowMs: number) {
    this.#timing = timing;
    this.#heardAt = nowMs;
    this.#spokeAt = nowMs;
    this.#tickedAt = nowMs;
  }

  heard(nowMs: number): void {
    if (nowMs > this.#heardAt) this.#heardAt = nowMs;
  }

  spoke(nowMs: number): void {
    this.#spokeAt = nowMs;
  }

  /** Milliseconds since the peer was last heard. */
  silence(nowMs: number): number {
    return Math.max(0, nowMs - this.#heardAt);
  }

  /** To be called at least once an interval. */
  tick(nowMs: number): HeartbeatVerdict {
    const overslept = nowMs - this.#tickedAt - this.#timing.intervalMs;
    if (overslept > 0) this.#heardAt = Math.min(nowMs, this.#heardAt + overslept);
    this.#tickedAt = nowMs;
    if (nowMs - this.#heardAt >= this.#timing.deadMs) return 'dead';
    return nowMs - this.#spokeAt >= this.#timing.intervalMs / 2 ? 'speak' : 'quiet';
  }
}
