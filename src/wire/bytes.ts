import { WalError } from '../api/errors.js';

/**
 * Reading and writing of little-endian integers, and nothing else. Offsets are the caller's to
 * check.
 */

const high = 0x1_0000_0000;
const maxSafeHigh = 0x1f_ffff;

/** What a peer sent is not the protocol: the connection is of no use any more. */
export function invalid(message: string): WalError {
  return new WalError('WAL_PEER_INVALID', message);
}

export function getU16(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8);
}

export function getU32(bytes: Uint8Array, at: number): number {
  return (
    (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0
  );
}

/** A u64 that is a safe integer; anything larger is no position, LSN or epoch of ours. */
export function getU64(bytes: Uint8Array, at: number): number {
  const upper = getU32(bytes, at + 4);
  if (upper > maxSafeHigh) throw invalid('a number is out of range');
  return upper * high + getU32(bytes, at);
}

export function putU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
}

export function putU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
}

export function putU64(bytes: Uint8Array, at: number, value: number): void {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`not a u64: ${value}`);
  putU32(bytes, at, value % high);
  putU32(bytes, at + 4, Math.floor(value / high));
}

/** Appends fields to a message of bounded size. */
export class FieldWriter {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(maxBytes: number) {
    this.#bytes = new Uint8Array(maxBytes);
  }

  u8(value: number): this {
    this.#bytes[this.#take(1)] = value;
    return this;
  }

  u16(value: number): this {
    putU16(this.#bytes, this.#take(2), value);
    return this;
  }

  u32(value: number): this {
    putU32(this.#bytes, this.#take(4), value);
    return this;
  }

  u64(value: number): this {
    putU64(this.#bytes, this.#take(8), value);
    return this;
  }

  /** An id: `digits` lower-case hex digits as digits / 2 bytes. */
  hex(value: string, digits: number): this {
    if (value.length !== digits || !/^[0-9a-f]*$/.test(value)) {
      throw new RangeError(`not an id of ${digits} hex digits`);
    }
    for (let i = 0; i < digits; i += 2) this.u8(Number.parseInt(value.slice(i, i + 2), 16));
    return this;
  }

  /** Exactly `count` bytes. */
  bytes(value: Uint8Array, count: number): this {
    if (value.length !== count) throw new RangeError(`not ${count} bytes`);
    this.#bytes.set(value, this.#take(count));
    return this;
  }

  /** u16 byte count, UTF-8. */
  text(value: string): this {
    const encoded = new TextEncoder().encode(value);
    this.u16(encoded.length);
    this.#bytes.set(encoded, this.#take(encoded.length));
    return this;
  }

  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#at);
  }

  #take(count: number): number {
    const at = this.#at;
    if (at + count > this.#bytes.length) throw new RangeError('the message is too long');
    this.#at = at + count;
    return at;
  }
}

/** Takes fields out of a message; every step is checked against its end. */
export class FieldReader {
  readonly #bytes: Uint8Array;
  readonly #end: number;
  #at: number;

  constructor(bytes: Uint8Array, start: number, end: number) {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
  }

  u8(): number {
    return this.#bytes[this.#take(1)]!;
  }

  u16(): number {
    return getU16(this.#bytes, this.#take(2));
  }

  u32(): number {
    return getU32(this.#bytes, this.#take(4));
  }

  u64(): number {
    return getU64(this.#bytes, this.#take(8));
  }

  hex(digits: number): string {
    let text = '';
    for (let i = 0; i < digits; i += 2) text += this.u8().toString(16).padStart(2, '0');
    return text;
  }

  /** A copy. */
  bytes(count: number): Uint8Array {
    const at = this.#take(count);
    return this.#bytes.slice(at, at + count);
  }

  text(maxBytes: number): string {
    const count = this.u16();
    if (count > maxBytes) throw invalid('a text is too long');
    const at = this.#take(count);
    try {
      const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
      return decoder.decode(this.#bytes.subarray(at, at + count));
    } catch {
      throw invalid('a text is not UTF-8');
    }
  }

  /** Nothing may be left over. */
  end(): void {
    if (this.#at !== this.#end) throw invalid('a message is longer than its fields');
  }

  #take(count: number): number {
    const at = this.#at;
    if (at + count > this.#end) throw invalid('a message is shorter than its fields');
    this.#at = at + count;
    return at;
  }
}
