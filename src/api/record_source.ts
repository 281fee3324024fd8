import type { Batch, LogRecord } from './batch.js';

/** What the chunks of a stream of records are. */
export type StreamMode = 'object' | 'bytes';

/** Batches one after the other. `return()` lets the segments go, and ends a pending `next()`. */
export interface Reading {
  next(): Promise<IteratorResult<Batch, undefined>>;
  return(): Promise<unknown>;
  /** What was sent ahead to another thread has been handed out, up to here. */
  readonly sentLsn?: number;
}

/**
 * A reading record by record, or in blocks of their bytes, for whoever takes as much as he has room
 * for and no more. Of the log itself it holds one batch.
 */
export class RecordSource {
  readonly #reader: Reading;
  #records: Iterator<LogRecord, undefined> | undefined;
  #lastLsn: number;
  #closed = false;

  constructor(reader: Reading, from: number) {
    this.#reader = reader;
    this.#lastLsn = from - 1;
  }

  /** LSN of the last record that was taken. */
  get lastLsn(): number {
    return this.#lastLsn;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** The next record of the batch that is here, if there is one left. */
  take(): LogRecord | undefined {
    const record = this.#records?.next().value;
    if (record !== undefined) this.#lastLsn = record.lsn;
    return record;
  }

  /**
   * The bytes of the next records of this batch, one after the other: as many as make up
   * `wanted` bytes. undefined: there are none left.
   */
  takeBytes(wanted: number): Buffer | undefined {
    const parts: Buffer[] = [];
    let size = 0;
    while (size === 0 || size < wanted) {
      const record = this.take();
      if (record === undefined) break;
      if (record.data.length === 0) continue;
      parts.push(record.data);
      size += record.data.length;
    }
    if (parts.length < 2) return parts[0];
    return Buffer.concat(parts, size);
  }

  /** Reads the next batch, and waits for it if need be. False: that was all. */
  async pull(): Promise<boolean> {
    const { done, value } = await this.#reader.next();
    this.#records = done ? undefined : value[Symbol.iterator]();
    return !done;
  }

  /** Lets the segments go at once, and ends a pending `pull`. */
  close(): void {
    this.#closed = true;
    this.#records = undefined;
    void this.#reader.return();
  }
}
