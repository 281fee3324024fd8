export interface BackoffTiming {
  readonly firstMs: number;
  readonly mostMs: number;
}

/**
 * Delays between attempts: doubled each time, with jitter, so that standbys do not return all at
 * once.
 */
export class Backoff {
  readonly #timing: BackoffTiming;
  readonly #random: () => number;
  #failures = 0;

  /** `random`: numbers in [0, 1). */
  constructor(timing: BackoffTiming, random: () => number) {
    this.#timing = timing;
    this.#random = random;
  }

  /** The link was up: the next failure starts from the first delay. */
  reset(): void {
    this.#failures = 0;
  }

  /** How long to wait after one more failure: between half of the delay and all of it. */
  next(): number {
    const { firstMs, mostMs } = this.#timing;
    const delay = Math.min(mostMs, firstMs * 2 ** Math.min(this.#failures, 30));
    this.#failures += 1;
    return delay * (0.5 + this.#random() / 2);
  }
}
