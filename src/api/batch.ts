import type { Term } from '../native/native_log.js';

/** One record as it was appended. `data` belongs to the receiver, unless it was borrowed. */
export interface LogRecord {
  readonly lsn: number;
  readonly data: Buffer;
}

/** Offsets in a batch header (docs/format.md). */
export const BatchField = {
  LENGTH: 8,
  KIND: 13,
  POSITION: 40,
  FIRST_LSN: 56,
  EPOCH: 48,
  OPENER: 64,
  INCARNATION: 80,
  COUNT: 84,
  CLOCK: 96,
  PAYLOAD: 128,
} as const;

export const KIND_DATA = 0;
export const KIND_FILLER = 5;

/** A u64 that the engine has checked to be a safe integer. */
export function readU64(bytes: Buffer, at: number): number {
  return bytes.readUInt32LE(at) + bytes.readUInt32LE(at + 4) * 2 ** 32;
}

/**
 * Records that were flushed and acknowledged as a whole, in LSN order; iterate it for the records,
 * as often as you like. The bytes are a copy that belongs to the receiver.
 */
export class Batch implements Iterable<LogRecord> {
  /** LSN of the first and of the last record here. */
  readonly firstLsn: number;
  readonly lastLsn: number;
  /** When the batch was closed, in milliseconds since 1970, to the microsecond; never falls. */
  readonly timestamp: number;
  /** Who was primary then. */
  readonly term: Term;
  readonly #bytes: Buffer;
  readonly #start: number;
  #expired = false;

  /**
   * @internal `bytes` is the whole batch, already verified; records below `from` and past `to` are
   * left out.
   */
  constructor(bytes: Buffer, from: number, to: number) {
    const first = readU64(bytes, BatchField.FIRST_LSN);
    const last = first + bytes.readUInt32LE(BatchField.COUNT) - 1;
    this.firstLsn = Math.max(first, from);
    this.lastLsn = Math.min(last, to);
    this.timestamp = readU64(bytes, BatchField.CLOCK) / 1000;
    this.term = {
      epoch: readU64(bytes, BatchField.EPOCH),
      opener: bytes.toString('hex', BatchField.OPENER, BatchField.OPENER + 16),
      incarnation: bytes.readUInt32LE(BatchField.INCARNATION),
    };
    this.#bytes = bytes;
    let at: number = BatchField.PAYLOAD;
    for (let lsn = first; lsn < this.firstLsn; lsn++) at = nextRecord(bytes, at);
    this.#start = at;
  }

  /** @internal All of it, as it is in the log. */
  get bytes(): Buffer {
    return this.#bytes;
  }

  /** @internal Its bytes were lent, and are taken back. */
  expire(): void {
    this.#expired = true;
  }

  /** Number of records. */
  get count(): number {
    return this.lastLsn - this.firstLsn + 1;
  }

  [Symbol.iterator](): IterableIterator<LogRecord> {
    if (this.#expired) throw expired();
    return new RecordIterator(this.#bytes, this.#start, this.firstLsn, this.lastLsn);
  }
}

function expired(): TypeError {
  return new TypeError(
    'the batch was borrowed, and the reading has gone on: copy what is kept, or leave out borrow',
  );
}

function nextRecord(bytes: Buffer, at: number): number {
  return at + 4 + ((bytes.readUInt32LE(at) + 3) & -4);
}

/** A plain iterator: a generator costs twice as much a record. */
class RecordIterator implements IterableIterator<LogRecord> {
  readonly #bytes: Buffer;
  readonly #last: number;
  #at: number;
  #lsn: number;

  constructor(bytes: Buffer, at: number, first: number, last: number) {
    this.#bytes = bytes;
    this.#at = at;
    this.#lsn = first;
    this.#last = last;
  }

  next(): IteratorResult<LogRecord, undefined> {
    const lsn = this.#lsn;
    if (lsn > this.#last) return { done: true, value: undefined };
    const start = this.#at + 4;
    const length = this.#bytes.readUInt32LE(this.#at);
    this.#at = start + ((length + 3) & -4);
    this.#lsn = lsn + 1;
    return { done: false, value: { lsn, data: this.#bytes.subarray(start, start + length) } };
  }

  [Symbol.iterator](): this {
    return this;
  }
}
