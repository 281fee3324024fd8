interface Wait {
  resolve(): void;
  reject(error: unknown): void;
}

/** Callers that wait for one event, each with a signal of its own. */
export class Waits {
  readonly #waits = new Set<Wait>();

  wait(signal: AbortSignal | undefined): Promise<void> {
    if (signal?.aborted === true) return Promise.reject(signal.reason);
    return new Promise((resolve, reject) => {
      const end = (): void => {
        this.#waits.delete(wait);
        signal?.removeEventListener('abort', onAbort);
      };
      const wait: Wait = {
        resolve: () => {
          end();
          resolve();
        },
        reject: (error) => {
          end();
          reject(error);
        },
      };
      const onAbort = (): void => wait.reject(signal!.reason);
      signal?.addEventListener('abort', onAbort, { once: true });
      this.#waits.add(wait);
    });
  }

  resolveAll(): void {
    for (const wait of [...this.#waits]) wait.resolve();
  }

  rejectAll(error: unknown): void {
    for (const wait of [...this.#waits]) wait.reject(error);
  }
}
