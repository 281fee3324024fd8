import { FrameSplitter } from '../api/frames.js';

/**
 * Cuts a stream of chunks into records: `feed` a chunk, then take records with `next` until there
 * is none. Pulled, not pushed, so that the caller can stop for back-pressure at any record. A
 * record lies in the chunk where it can; what a splitter keeps between chunks is at most one
 * record.
 */
export interface Splitter {
  feed(chunk: Buffer): void;
  next(): Buffer | undefined;
  /** After the last chunk: the record that lacks its end mark, if there is one. */
  end(): Buffer | undefined;
}

export type InputFormat = 'lines' | 'frames';

/** The input is not what its format says; `message` names the line. */
export class InputError extends Error {
  override readonly name = 'InputError';
}

export function createSplitter(format: InputFormat, maxRecordBytes: number): Splitter {
  return format === 'lines' ? new LineSplitter(maxRecordBytes) : new FrameSplitter(maxRecordBytes);
}

const EMPTY = Buffer.alloc(0);
const NEWLINE = 10;

/** Lines end with a newline, which is no part of the record; a carriage return is. */
export class LineSplitter implements Splitter {
  readonly #max: number;
  #chunk: Buffer = EMPTY;
  #at = 0;
  #carry: Buffer[] = [];
  #carryBytes = 0;
  #lines = 0;

  constructor(maxRecordBytes: number) {
    this.#max = maxRecordBytes;
  }

  feed(chunk: Buffer): void {
    this.#chunk = chunk;
    this.#at = 0;
  }

  next(): Buffer | undefined {
    const start = this.#at;
    const end = this.#chunk.indexOf(NEWLINE, start);
    if (end < 0) {
      this.#keep(this.#chunk.subarray(start));
      return undefined;
    }
    this.#at = end + 1;
    const rest = this.#chunk.subarray(start, end);
    if (this.#carryBytes + rest.length > this.#max) throw this.#tooLong();
    this.#lines += 1;
    return this.#carryBytes === 0 ? rest : this.#join(rest);
  }

  end(): Buffer | undefined {
    return this.#carryBytes === 0 ? undefined : this.#join(EMPTY);
  }

  #keep(rest: Buffer): void {
    this.#chunk = EMPTY;
    this.#at = 0;
    if (rest.length === 0) return;
    this.#carryBytes += rest.length;
    if (this.#carryBytes > this.#max) throw this.#tooLong();
    this.#carry.push(rest);
  }

  #join(rest: Buffer): Buffer {
    const record = Buffer.concat([...this.#carry, rest], this.#carryBytes + rest.length);
    this.#carry = [];
    this.#carryBytes = 0;
    return record;
  }

  #tooLong(): InputError {
    this.#carry = [];
    return new InputError(`line ${this.#lines + 1} is longer than ${this.#max} bytes`);
  }
}
