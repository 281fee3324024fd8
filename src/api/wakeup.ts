/**
 * Callers that wait until something moves, each with its own condition. `settle` is called whenever
 * it may have moved; whoever is not content waits on.
 */
export class Wakeups {
  readonly #waits = new Set<Wait>();

  get waiting(): boolean {
    return this.#waits.size > 0;
  }

  /**
   * Resolves as soon as `met()` holds; it is asked now and at every `settle`. Rejects with what
   * `met` throws, with the signal's reason, or with what `rejectAll` gives.
   */
  until(met: () => boolean, signal?: AbortSignal): Promise<void> {
    try {
      signal?.throwIfAborted();
      if (met()) return Promise.resolve();
    } catch (error) {
      return Promise.reject(error);
    }
    return new Promise((resolve, reject) => {
      const end = (): void => {
        this.#waits.delete(wait);
        signal?.removeEventListener('abort', onAbort);
      };
      const onAbort = (): void => wait.reject(signal?.reason);
      const wait: Wait = {
        met,
        resolve: () => {
          end();
          resolve();
        },
        reject: (error) => {
          end();
          reject(error);
        },
      };
      this.#waits.add(wait);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  settle(): void {
    if (this.#waits.size === 0) return;
    for (const wait of [...this.#waits]) {
      try {
        if (wait.met()) wait.resolve();
      } catch (error) {
        wait.reject(error);
      }
    }
  }

  rejectAll(error: unknown): void {
    for (const wait of [...this.#waits]) wait.reject(error);
  }
}

interface Wait {
  readonly met: () => boolean;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}
