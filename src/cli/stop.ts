/** SIGTERM and SIGINT as an AbortSignal; a second one ends the process as it would without us. */
export class StopSignals {
  readonly #controller = new AbortController();
  readonly #handler = (): void => {
    this.dispose();
    this.#controller.abort();
  };

  constructor() {
    process.on('SIGTERM', this.#handler);
    process.on('SIGINT', this.#handler);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  dispose(): void {
    process.removeListener('SIGTERM', this.#handler);
    process.removeListener('SIGINT', this.#handler);
  }
}

/**
 * Resolves when the signal fires. Keeps the process alive meanwhile, which a local log does not.
 */
export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  const alive = setInterval(() => {}, 2 ** 30);
  return new Promise((resolve) => {
    signal.addEventListener(
      'abort',
      () => {
        clearInterval(alive);
        resolve();
      },
      { once: true },
    );
  });
}
