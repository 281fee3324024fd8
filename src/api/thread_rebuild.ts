import { receivedError, type SentError, sentError } from './attached_calls.js';
import type { Rebuild, RebuildHook } from './rebuild.js';

/** In the thread of the log: asks that of the application to rebuild, and waits for its answer. */
export class AskedRebuilds {
  readonly #send: (id: number, rebuild: Rebuild) => void;
  readonly #asked = new Map<number, { resolve(): void; reject(error: Error): void }>();
  #next = 1;

  constructor(send: (id: number, rebuild: Rebuild) => void) {
    this.#send = send;
  }

  readonly ask = (rebuild: Rebuild): Promise<void> => {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      this.#asked.set(id, { resolve, reject });
      this.#send(id, rebuild);
    });
  };

  answered(id: number, error: SentError | undefined): void {
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    if (error === undefined) asked?.resolve();
    else asked?.reject(receivedError(error));
  }
}

/** In the thread of the application: runs what it has to do there. */
export class RebuildRunner {
  readonly #hook: RebuildHook | undefined;
  readonly #answer: (id: number, error: SentError | undefined) => void;
  readonly #closed = new AbortController();

  constructor(
    hook: RebuildHook | undefined,
    answer: (id: number, error: SentError | undefined) => void,
  ) {
    this.#hook = hook;
    this.#answer = answer;
  }

  get hasEnded(): boolean {
    return this.#closed.signal.aborted;
  }

  async run(id: number, rebuild: Rebuild): Promise<void> {
    let failure: SentError | undefined;
    try {
      await this.#hook?.(rebuild, this.#closed.signal);
    } catch (error) {
      failure = sentError(error);
    }
    this.#answer(id, failure);
  }

  /** The log closes, or has ended: nobody waits for what runs. */
  end(): void {
    this.#closed.abort();
  }
}
