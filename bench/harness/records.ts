import { createHash, type Hash } from 'node:crypto';

/**
 * Records whose content follows from their number (the LSN), so that what a log holds can be
 * checked without keeping what was written: noise of a fixed size that starts with the number.
 */
export class RecordSource {
  readonly size: number;
  readonly #bytes: Uint8Array;
  readonly #words: Uint32Array;

  constructor(size: number) {
    if (size < 8) throw new RangeError('a record starts with its number: at least 8 bytes');
    this.size = size;
    const memory = new ArrayBuffer(Math.ceil(size / 4) * 4);
    this.#words = new Uint32Array(memory);
    this.#bytes = new Uint8Array(memory, 0, size);
    let state = 0x2545f491;
    for (let i = 0; i < this.#words.length; i++) {
      state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9;
      this.#words[i] = state;
    }
  }

  /** The record of that number. The same memory every time: use it before the next call. */
  at(number: number): Uint8Array {
    this.#words[0] = number;
    this.#words[1] = number / 2 ** 32;
    return this.#bytes;
  }

  /** What `RecordHash` gives after the records `from` to `to`, both included. */
  hash(from: number, to: number): string {
    const hash = new RecordHash();
    for (let number = from; number <= to; number++) hash.add(this.at(number));
    return hash.digest();
  }
}

/**
 * SHA-256 over records, their lengths included: a byte that moved to the next record is noticed.
 */
export class RecordHash {
  readonly #hash: Hash = createHash('sha256');
  readonly #length = new Uint32Array(1);
  count = 0;

  add(record: Uint8Array): void {
    this.#length[0] = record.byteLength;
    this.#hash.update(this.#length).update(record);
    this.count++;
  }

  digest(): string {
    return this.#hash.digest('hex');
  }
}
