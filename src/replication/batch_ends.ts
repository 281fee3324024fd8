import type { Place } from '../native/native_log.js';
import { assert } from './assert.js';

/**
 * Where the latest batches end, and the LSNs there: so that a sender whose budget does not take all
 * that is closed can stop at the end of a batch. Remembers a bounded number; the oldest are
 * forgotten.
 */
export class BatchEnds {
  readonly #ends: Float64Array;
  readonly #lsns: Float64Array;
  #count = 0;

  constructor(capacity = 1024) {
    this.#ends = new Float64Array(capacity);
    this.#lsns = new Float64Array(capacity);
  }

  /** A batch was closed. Positions rise. */
  push(end: number, lsn: number): void {
    const last = this.#count === 0 ? -1 : this.#at(this.#count - 1);
    assert(end >= last, 'batches end one after the other');
    if (end === last) return;
    this.#ends[this.#count % this.#ends.length] = end;
    this.#lsns[this.#count % this.#ends.length] = lsn;
    this.#count += 1;
  }

  /** The log ends here. Where it was cut, nothing is remembered. */
  cut(end: number): void {
    if (this.#count > 0 && this.#at(this.#count - 1) > end) this.#count = 0;
  }

  /** The last known end in (from, upTo]; undefined if there is none. */
  lastWithin(from: number, upTo: number): Place | undefined {
    let low = Math.max(0, this.#count - this.#ends.length);
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#at(middle) <= upTo) low = middle + 1;
      else high = middle;
    }
    if (low === 0 || low <= this.#count - this.#ends.length) return undefined;
    const position = this.#at(low - 1);
    if (position <= from) return undefined;
    return { position, lsn: this.#lsns[(low - 1) % this.#ends.length]! };
  }

  #at(index: number): number {
    return this.#ends[index % this.#ends.length]!;
  }
}
