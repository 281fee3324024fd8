import { WalError } from '../api/errors.js';
import type { Log } from '../api/log.js';
import { isStandby } from './roles.js';

/** Appended bytes that may wait for their commit before reading the input pauses. */
const WINDOW_BYTES = 64 * 1024 * 1024;
const SAY_WAITING_MS = 1_000;

export interface CommitterOptions {
  readonly signal: AbortSignal;
  /** What is in the log of one that is a standby meanwhile is committed by another. */
  readonly stays?: boolean;
  /** A commit has been waiting for standbys for a second. */
  readonly onWaiting: () => void;
}

/**
 * Commits what is appended, as it comes, one wait at a time: a commit covers all records before it,
 * so the next one is asked for when the last one is met.
 */
export class Committer {
  readonly #log: Log;
  readonly #options: CommitterOptions;
  #wantedLsn = 0;
  #wantedBytes = 0;
  #doneLsn = 0;
  #doneBytes = 0;
  #failed = false;
  #error: unknown;
  #running: Promise<void> | undefined;
  /** Settles the wait of `belowWindow`. */
  #moved: (() => void) | undefined;

  constructor(log: Log, options: CommitterOptions) {
    this.#log = log;
    this.#options = options;
  }

  /** All up to `lsn`; `bytes` is what was appended so far. */
  want(lsn: number, bytes: number): void {
    this.#wantedLsn = lsn;
    this.#wantedBytes = bytes;
    // Only where there is something to wait for: `#run` then ends after this line, not before it.
    if (this.#failed || lsn <= this.#doneLsn) return;
    this.#running ??= this.#run();
  }

  /** Resolves when little enough waits; rejects with the failure of a commit. */
  async belowWindow(): Promise<void> {
    while (!this.#failed && this.#wantedBytes - this.#doneBytes > WINDOW_BYTES) {
      await new Promise<void>((resolve) => {
        this.#moved = resolve;
      });
    }
    if (this.#failed) throw this.#error;
  }

  /** Resolves when all that was wanted is committed. */
  async finish(): Promise<void> {
    await this.#running;
    if (this.#failed) throw this.#error;
  }

  async #run(): Promise<void> {
    try {
      while (this.#doneLsn < this.#wantedLsn) {
        const lsn = this.#wantedLsn;
        const bytes = this.#wantedBytes;
        await this.#commit(lsn);
        this.#doneLsn = lsn;
        this.#doneBytes = bytes;
        this.#moved?.();
      }
    } catch (error) {
      this.#failed = true;
      this.#error = error;
      this.#moved?.();
    } finally {
      this.#running = undefined;
    }
  }

  async #commit(lsn: number): Promise<void> {
    const timer = setTimeout(() => {
      if (this.#log.status().flushLsn >= lsn) this.#options.onWaiting();
    }, SAY_WAITING_MS).unref();
    try {
      await this.#log.commit(lsn, { signal: this.#options.signal });
    } catch (error) {
      const isHandedOver =
        isStandby(error) || (error instanceof WalError && error.code === 'WAL_SWITCHING');
      if (this.#options.stays !== true || !isHandedOver) throw error;
      await this.#log.waitFor(lsn, { signal: this.#options.signal });
    } finally {
      clearTimeout(timer);
    }
  }
}
