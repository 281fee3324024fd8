import { type Environment, processEnvironment, type Timer } from '../transport/environment.js';

/**
 * A signal for one call: the first of others, or a time out. It lets go of the others when the call
 * is over, and of those that live long nothing piles up (as it does with `AbortSignal.any`).
 */
export class CallSignal {
  readonly #controller = new AbortController();
  readonly #others: readonly AbortSignal[];
  readonly #environment: Environment;
  readonly #timer: Timer | undefined;

  constructor(
    others: readonly (AbortSignal | undefined)[],
    timeoutMs?: number,
    environment: Environment = processEnvironment,
  ) {
    this.#environment = environment;
    this.#others = others.filter((each) => each !== undefined);
    for (const each of this.#others) {
      if (each.aborted) this.#controller.abort(each.reason);
      else each.addEventListener('abort', this.#follow);
    }
    if (timeoutMs === undefined) return;
    const reason = new Error(`no answer within ${Math.ceil(timeoutMs)} ms`);
    this.#timer = environment.setTimeout(() => this.#controller.abort(reason), timeoutMs);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The call is over. */
  done(): void {
    this.#environment.clearTimer(this.#timer);
    for (const each of this.#others) each.removeEventListener('abort', this.#follow);
  }

  readonly #follow = (event: Event): void => {
    this.#controller.abort((event.target as AbortSignal).reason);
  };
}
