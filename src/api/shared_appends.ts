import type { NativeAppends } from '../native/native_log.js';
import type { Measured } from './append_many.js';
import { type RecordData, recordBytes, recordSize, tooLarge } from './record.js';

/** Text up to here is encoded into memory that is kept for it. */
const SCRATCH_BYTES = 64 * 1024;

/**
 * Appends to a log that several threads append to: one call of the engine each, which takes the
 * record whole or not at all. For the owner of the log, and for those who attached.
 */
export class SharedAppends {
  readonly #native: NativeAppends;
  readonly #maxRecord: number;
  #scratch: Buffer | undefined;

  constructor(native: NativeAppends, maxRecord: number) {
    this.#native = native;
    this.#maxRecord = maxRecord;
  }

  /** Returns the LSN; 0: there is no room. */
  append(data: RecordData): number {
    if (typeof data === 'string') return this.#appendText(data);
    const bytes = recordBytes(data, 'append');
    if (bytes.byteLength > this.#maxRecord) {
      throw tooLarge(bytes.byteLength, this.#maxRecord, 'append');
    }
    return this.#native.append(bytes, bytes.byteLength);
  }

  /** All or none. Returns the first LSN; 0: there is no room. */
  appendGroup({ records, sizes, payload }: Measured): number {
    const framed = Buffer.alloc(payload);
    let at = 0;
    for (const [i, record] of records.entries()) {
      if (typeof record !== 'string') framed.set(record, at + 4);
      const length =
        typeof record === 'string' ? framed.write(record, at + 4, 'utf8') : record.byteLength;
      framed.writeUInt32LE(length, at);
      at += sizes[i] as number;
    }
    return this.#native.appendGroup(framed, payload, records.length);
  }

  #appendText(text: string): number {
    const length = Buffer.byteLength(text);
    if (length > this.#maxRecord) throw tooLarge(length, this.#maxRecord, 'append');
    if (length > SCRATCH_BYTES) return this.#native.append(Buffer.from(text), length);
    this.#scratch ??= Buffer.allocUnsafeSlow(SCRATCH_BYTES);
    return this.#native.append(this.#scratch, this.#scratch.write(text, 0, 'utf8'));
  }
}

/** Bytes that a record takes whose text or bytes these are. */
export function spaceOf(data: RecordData): number {
  return recordSize(typeof data === 'string' ? Buffer.byteLength(data) : data.byteLength);
}
