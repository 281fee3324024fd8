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

/** The input is not what its format says; `message` names the line or frame. */
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

const LENGTH_BYTES = 4;

/** Frames: a length as u32 little-endian, then as many bytes. */
export class FrameSplitter implements Splitter {
  readonly #max: number;
  #chunk: Buffer = EMPTY;
  #at = 0;
  readonly #length = Buffer.alloc(LENGTH_BYTES);
  /** Bytes of the length that were seen, of a frame that began in an earlier chunk. */
  #lengthBytes = 0;
  /** Its payload, once the length is known. */
  #partial: Buffer | undefined;
  #partialBytes = 0;
  #frames = 0;

  constructor(maxRecordBytes: number) {
    this.#max = maxRecordBytes;
  }

  feed(chunk: Buffer): void {
    this.#chunk = chunk;
    this.#at = 0;
  }

  next(): Buffer | undefined {
    if (this.#partial !== undefined || this.#lengthBytes > 0) return this.#resume();
    const start = this.#at + LENGTH_BYTES;
    if (start <= this.#chunk.length) {
      const end = start + this.#checked(this.#chunk.readUInt32LE(this.#at));
      if (end <= this.#chunk.length) {
        this.#at = end;
        this.#frames += 1;
        return this.#chunk.subarray(start, end);
      }
    }
    return this.#resume();
  }

  end(): Buffer | undefined {
    if (this.#partial === undefined && this.#lengthBytes === 0) return undefined;
    throw new InputError(`the input ends inside frame ${this.#frames + 1}`);
  }

  /** The way of a frame that spans chunks. */
  #resume(): Buffer | undefined {
    if (this.#partial === undefined) {
      const taken = this.#chunk.copy(this.#length, this.#lengthBytes, this.#at);
      this.#at += taken;
      this.#lengthBytes += taken;
      if (this.#lengthBytes < LENGTH_BYTES) return undefined;
      this.#partial = Buffer.allocUnsafe(this.#checked(this.#length.readUInt32LE(0)));
      this.#partialBytes = 0;
    }
    const taken = this.#chunk.copy(this.#partial, this.#partialBytes, this.#at);
    this.#at += taken;
    this.#partialBytes += taken;
    if (this.#partialBytes < this.#partial.length) return undefined;
    const record = this.#partial;
    this.#partial = undefined;
    this.#lengthBytes = 0;
    this.#frames += 1;
    return record;
  }

  #checked(length: number): number {
    if (length <= this.#max) return length;
    throw new InputError(
      `frame ${this.#frames + 1} says ${length} bytes, and a record has at most ${this.#max}`,
    );
  }
}
