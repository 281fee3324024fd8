import { receivedError, type SentError } from './attached_calls.js';
import type { Batch } from './batch.js';
import { cutShortByClose } from './failure.js';
import type { BatchReader } from './reader.js';
import type { Reading } from './record_source.js';
import { nextBatches } from './sent_batches.js';
import { Wakeups } from './wakeup.js';

/**
 * An applier that runs in another thread. It is sent what was read in one go, and says how far it
 * is; to the log it takes one batch after the other.
 */
export class RemoteApply {
  /** Ends the applier that this is the callback of. */
  onStop: () => void = () => undefined;
  readonly #moved = new Wakeups();
  #lsn = 0;
  #ended: { readonly error: SentError | undefined } | undefined;

  /** Resolves when the batch is applied. */
  until(batch: Batch): Promise<void> {
    return this.#moved.until(() => {
      if (this.#lsn >= batch.lastLsn) return true;
      if (this.#ended === undefined) return false;
      const { error } = this.#ended;
      // Stopped, or closed with its log: an end in order.
      throw error === undefined ? cutShortByClose() : receivedError(error);
    });
  }

  /** Resolves when nothing up to there is being applied any more. */
  through(lsn: number): Promise<void> {
    return this.#moved.until(() => this.#lsn >= lsn || this.#ended !== undefined);
  }

  heard(lsn: number, ended: { readonly error: SentError | undefined } | undefined): void {
    if (lsn > this.#lsn) this.#lsn = lsn;
    this.#ended ??= ended;
    this.#moved.settle();
  }

  /** It takes no further batch; it says itself when the callback that runs has ended. */
  stop(): void {
    this.onStop();
  }
}

/** Sends what it reads as it reads it. What was sent is handed out, applied or not. */
export class SentReading implements Reading {
  readonly #reader: BatchReader;
  readonly #remote: RemoteApply;
  readonly #send: (batches: Batch[]) => void;
  #sent: Batch[] = [];
  #sentLsn = 0;
  #isCut = false;

  constructor(reader: BatchReader, remote: RemoteApply, send: (batches: Batch[]) => void) {
    this.#reader = reader;
    this.#remote = remote;
    this.#send = send;
  }

  get sentLsn(): number {
    return this.#sentLsn;
  }

  /** The other thread hears of it too, and drops what it has not begun to apply. */
  cutAt(lsn: number): void {
    if (this.#sentLsn <= lsn) return;
    this.#sent = [];
    this.#isCut = true;
  }

  async next(): Promise<IteratorResult<Batch, undefined>> {
    if (this.#isCut) {
      await this.#remote.through(this.#sentLsn);
      return this.#reader.next();
    }
    if (this.#sent.length === 0) {
      const batches = await nextBatches(this.#reader);
      this.#sentLsn = batches.at(-1)?.lastLsn ?? this.#sentLsn;
      if (batches.length > 0) this.#send(batches);
      this.#sent = batches.reverse();
    }
    const value = this.#sent.pop();
    return value === undefined ? { done: true, value } : { done: false, value };
  }

  return(): Promise<unknown> {
    return this.#reader.return();
  }
}
