import { Transform, type TransformCallback } from 'node:stream';
import { WalError } from './errors.js';
import { type RecordData, recordBytes, recordOf } from './record.js';
import * as check from './validate.js';

/**
 * Frames: the length of a record as u32 little-endian, then its bytes; `--format frames` of the
 * command line.
 */
const LENGTH_BYTES = 4;
const EMPTY = Buffer.alloc(0);
/** Below this a frame is copied together: two chunks cost more. */
const COPIED_BYTES = 4096;
const DEFAULT_MAX_BYTES = 16 * 1024 * 1024;
const LARGEST_FRAME = 1024 * 1024 * 1024;

/** What stands before a record of so many bytes. */
export function frameHeader(bytes: number): Buffer {
  const header = Buffer.allocUnsafe(LENGTH_BYTES);
  header.writeUInt32LE(bytes);
  return header;
}

/**
 * Cuts chunks into the records of their frames: `feed` a chunk, then `next` until there is none. A
 * record lies in its chunk where it can. Throws WAL_BAD_FRAME, with the offset of the frame.
 */
export class FrameSplitter {
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
  /** Bytes of all frames that are done. */
  #offset = 0;

  constructor(maxBytes: number) {
    this.#max = maxBytes;
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
        return this.#done(this.#chunk.subarray(start, end));
      }
    }
    return this.#resume();
  }

  /** After the last chunk: throws if it ended inside a frame. */
  end(): undefined {
    if (this.#partial === undefined && this.#lengthBytes === 0) return undefined;
    throw this.#bad(`the input ends inside frame ${this.#frames + 1}`);
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
    return this.#done(record);
  }

  #done(record: Buffer): Buffer {
    this.#frames += 1;
    this.#offset += LENGTH_BYTES + record.length;
    return record;
  }

  #checked(length: number): number {
    if (length <= this.#max) return length;
    throw this.#bad(
      `frame ${this.#frames + 1} says ${length} bytes, and a record has at most ${this.#max}`,
    );
  }

  #bad(message: string): WalError {
    const offset = this.#offset;
    return new WalError('WAL_BAD_FRAME', `${message} (offset ${offset})`, { offset });
  }
}

/**
 * A Transform from records, as `append` takes them or `{ data }`, to the bytes of their frames:
 * between `createReadStream` and a file or socket.
 */
export function frameEncoder(): Transform {
  return new Transform({
    writableObjectMode: true,
    transform(chunk: RecordData | { readonly data: RecordData }, _encoding, done) {
      try {
        const record = recordOf(chunk);
        const data =
          typeof record === 'string' ? Buffer.from(record) : recordBytes(record, 'frameEncoder');
        const header = frameHeader(data.byteLength);
        if (data.byteLength <= COPIED_BYTES) {
          done(null, Buffer.concat([header, data]));
        } else {
          this.push(header);
          done(null, data);
        }
      } catch (error) {
        done(error as Error);
      }
    },
  });
}

export interface FrameDecoderOptions {
  /** Longest record, in bytes; a log's own is `maxRecordBytes`. Default 16 MiB, at most 1 GiB. */
  readonly maxBytes?: number;
}

/**
 * A Transform from bytes to the records of their frames, a Buffer each: between a file or socket
 * and `createWriteStream`. The records of one chunk share its memory. A frame that is longer than
 * `maxBytes`, and an end inside a frame, destroy it with WAL_BAD_FRAME and the offset of the frame.
 */
export function frameDecoder(options?: FrameDecoderOptions): Transform {
  const raw = check.optionsObject(options, 'frameDecoder', ['maxBytes']);
  const maxBytes =
    raw.maxBytes === undefined
      ? DEFAULT_MAX_BYTES
      : check.integer(raw.maxBytes, 'maxBytes', 0, LARGEST_FRAME);
  return new FrameDecoder(maxBytes);
}

/** One chunk may hold thousands of records: no more of them than are wanted are put in. */
class FrameDecoder extends Transform {
  readonly #splitter: FrameSplitter;
  /** The chunk that is not used up, while its records are not wanted. */
  #waiting: TransformCallback | undefined;

  constructor(maxBytes: number) {
    super({ readableObjectMode: true });
    this.#splitter = new FrameSplitter(maxBytes);
  }

  override _transform(chunk: Buffer, _encoding: string, done: TransformCallback): void {
    this.#splitter.feed(chunk);
    this.#cut(done);
  }

  override _flush(done: TransformCallback): void {
    try {
      this.#splitter.end();
      done();
    } catch (error) {
      done(error as Error);
    }
  }

  override _read(size: number): void {
    const done = this.#waiting;
    if (done === undefined) {
      super._read(size);
      return;
    }
    this.#waiting = undefined;
    this.#cut(done);
  }

  #cut(done: TransformCallback): void {
    try {
      for (;;) {
        const record = this.#splitter.next();
        if (record === undefined) break;
        if (this.push(record)) continue;
        this.#waiting = done;
        return;
      }
    } catch (error) {
      done(error as Error);
      return;
    }
    done();
  }
}
