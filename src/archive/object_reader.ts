import { createHash } from 'node:crypto';
import { WalError } from '../api/errors.js';
import { BatchWalk, requireFacts } from './batch_walk.js';
import { lengthBytes, uncompressBlock } from './lz4.js';
import {
  type Crc32c,
  decodeObjectHeader,
  decodeObjectTrailer,
  type ObjectHeader,
  objectFormat,
} from './object_format.js';

const { headerBytes, trailerBytes, blockHeaderBytes } = objectFormat;

/**
 * Reads an archived segment and verifies it as it goes. Whoever wrote it may be an enemy: a length
 * is compared with what is left and with the limits of the format before anything is allocated by
 * it. Holds one block as it is stored, one as it was, and a piece of the store's. What is wrong is
 * WAL_CORRUPT that says what; an error of the store passes through.
 *
 *   const reader = await ObjectReader.open(name, content, crc32c)
 *   for await (const raw of reader.raw()) ...   // only behind the last one it is known to be good
 *   reader.sha256
 */
export class ObjectReader {
  readonly name: string;
  readonly header: ObjectHeader;
  readonly #input: Input;
  readonly #crc32c: Crc32c;
  #sha256: Buffer | undefined;

  static async open(
    name: string,
    content: AsyncIterable<Uint8Array>,
    crc32c: Crc32c,
  ): Promise<ObjectReader> {
    const input = new Input(content);
    try {
      const header = decodeObjectHeader(await input.take(headerBytes), crc32c);
      return new ObjectReader(name, header, input, crc32c);
    } catch (error) {
      await input.end();
      throw damaged(name, error, input);
    }
  }

  private constructor(name: string, header: ObjectHeader, input: Input, crc32c: Crc32c) {
    this.name = name;
    this.header = header;
    this.#input = input;
    this.#crc32c = crc32c;
  }

  /** Of the raw bytes, once all of them were read. */
  get sha256(): Buffer {
    if (this.#sha256 === undefined) throw new Error(`${this.name} was not read to its end`);
    return this.#sha256;
  }

  /** Reads no further. */
  async close(): Promise<void> {
    await this.#input.end();
  }

  /**
   * The bytes of the log, block by block; once. Each is the caller's. Where it throws, none of them
   * is to be used.
   */
  async *raw(): AsyncGenerator<Buffer, void, undefined> {
    const input = this.#input;
    try {
      yield* this.#verified();
    } catch (error) {
      throw damaged(this.name, error, input);
    } finally {
      await input.end();
    }
  }

  async *#verified(): AsyncGenerator<Buffer, void, undefined> {
    const { header } = this;
    const input = this.#input;
    const walk = new BatchWalk(header, header.start);
    const hash = createHash('sha256');
    for (let left = header.end - header.start; left > 0; ) {
      const raw = await this.#block(Math.min(left, header.blockBytes));
      hash.update(raw);
      walk.push(raw);
      left -= raw.length;
      yield raw;
    }
    const storedBytes = input.taken;
    const trailer = decodeObjectTrailer(await input.take(trailerBytes), this.#crc32c);
    if (trailer.storedBytes !== storedBytes) throw new Error('its length is another one');
    await input.requireEnd();
    const sha256 = hash.digest();
    if (!sha256.equals(trailer.sha256)) throw new Error('its SHA-256 differs');
    requireFacts(walk, header);
    this.#sha256 = sha256;
  }

  /** How long the next block is follows from the header: it can say nothing else. */
  async #block(rawBytes: number): Promise<Buffer> {
    const head = Buffer.from(await this.#input.take(blockHeaderBytes));
    const storedBytes = head.readUInt32LE(4);
    if (head.readUInt32LE(0) !== rawBytes) throw new Error('a block has another length');
    if (storedBytes === 0 || storedBytes > rawBytes) {
      throw new Error('a block says that it takes more than it holds');
    }
    const framed = await this.#input.take(storedBytes, lengthBytes);
    const stored = framed.subarray(lengthBytes);
    const crc = this.#crc32c(stored, this.#crc32c(head.subarray(0, 8)));
    if (crc !== head.readUInt32LE(8)) throw new Error('the checksum of a block differs');
    return storedBytes === rawBytes ? stored : uncompressBlock(framed, rawBytes);
  }
}

/** What a store gives, in the pieces that are asked for. */
class Input {
  readonly #pieces: AsyncIterator<Uint8Array>;
  #piece: Uint8Array = Buffer.alloc(0);
  #at = 0;
  #taken = 0;
  /** What the store has failed with: that is no damage. */
  failure: { readonly error: unknown } | undefined;

  constructor(content: AsyncIterable<Uint8Array>) {
    this.#pieces = content[Symbol.asyncIterator]();
  }

  get taken(): number {
    return this.#taken;
  }

  /** So many bytes, in memory of their own, with so much room before them. */
  async take(bytes: number, room = 0): Promise<Buffer> {
    const found = Buffer.allocUnsafeSlow(room + bytes);
    for (let filled = 0; filled < bytes; ) {
      if (this.#at === this.#piece.length && !(await this.#next())) {
        throw new Error('it ends early');
      }
      const step = Math.min(bytes - filled, this.#piece.length - this.#at);
      found.set(this.#piece.subarray(this.#at, this.#at + step), room + filled);
      this.#at += step;
      filled += step;
    }
    this.#taken += bytes;
    return found;
  }

  async requireEnd(): Promise<void> {
    while (this.#at === this.#piece.length) if (!(await this.#next())) return;
    throw new Error('bytes follow its end');
  }

  /** The store may let go of what it holds. */
  async end(): Promise<void> {
    await Promise.resolve(this.#pieces.return?.()).catch(() => undefined);
  }

  async #next(): Promise<boolean> {
    try {
      const { done, value } = await this.#pieces.next();
      if (done === true) return false;
      this.#piece = value;
      this.#at = 0;
      return true;
    } catch (error) {
      this.failure = { error };
      throw error;
    }
  }
}

function damaged(name: string, error: unknown, { failure }: Input): unknown {
  if (failure?.error === error && failure !== undefined) return error;
  const reason = error instanceof Error ? error.message : String(error);
  return new WalError('WAL_CORRUPT', `the archived segment ${name} is damaged: ${reason}`, {
    file: name,
    hint: 'Take it out of the archive and keep it aside; another node may archive it again.',
    cause: error,
  });
}
