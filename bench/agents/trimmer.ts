import type { Log } from 'walmirror';

const EVERY_MS = 20;

/** Lets go of what is committed, all the time, so that the log runs on recycled segments. */
export class Trimmer {
  readonly #log: Log;
  readonly #timer: NodeJS.Timeout;
  #running: Promise<void> | undefined;

  constructor(log: Log) {
    this.#log = log;
    this.#timer = setInterval(() => {
      this.#running ??= this.#trim();
    }, EVERY_MS);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#running;
  }

  async #trim(): Promise<void> {
    const { commitLsn } = this.#log.status();
    if (commitLsn > 0) await this.#log.trim(commitLsn);
    this.#running = undefined;
  }
}
