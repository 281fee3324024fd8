import { sharedClock } from './attached_calls.js';

/** The longest time between two ticks, in milliseconds. */
const mostBetweenMs = 1000;

/**
 * Whether the thread that has made it runs: on a timer it notes the time, in memory that another
 * thread looks at.
 */
export class Tick {
  readonly shared = new SharedArrayBuffer(8);
  readonly #last = new BigInt64Array(this.shared);
  readonly #timer: NodeJS.Timeout;

  /** `within`: milliseconds of which one that is late is told from one that hangs. */
  constructor(within: number) {
    this.#note();
    this.#timer = setInterval(() => this.#note(), Math.min(mostBetweenMs, within / 4));
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #note(): void {
    Atomics.store(this.#last, 0, BigInt(Math.trunc(sharedClock())));
  }
}

/** Milliseconds since the other thread has run. */
export function sinceTick(shared: SharedArrayBuffer): number {
  return sharedClock() - Number(Atomics.load(new BigInt64Array(shared), 0));
}
