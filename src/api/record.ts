import { isAnyArrayBuffer, isDataView, isUint8Array } from 'node:util/types';
import { shown } from './validate.js';

/** What a record can be made of. A string is stored as UTF-8. */
export type RecordData = Uint8Array | ArrayBuffer | DataView | string;

/** The record of a chunk that is one, or holds one as `data`, as those of a reading do. */
export function recordOf(chunk: RecordData | { readonly data: RecordData }): RecordData {
  if (typeof chunk !== 'object' || chunk === null || isAnyArrayBuffer(chunk)) return chunk;
  return !ArrayBuffer.isView(chunk) && 'data' in chunk ? chunk.data : chunk;
}

/** The bytes that a record takes in a batch: `u32 length`, the bytes, zeros to a multiple of 4. */
export function recordSize(bytes: number): number {
  return 4 + bytes + ((4 - (bytes & 3)) & 3);
}

/** The bytes of anything that is not a string, or a TypeError that says what to pass. */
export function recordBytes(data: unknown, what: string): Uint8Array {
  if (isUint8Array(data)) {
    // A detached buffer looks like an empty one: it would be a silently lost record.
    if (data.byteLength === 0) refuseDetached(data.buffer, what);
    return data;
  }
  if (isAnyArrayBuffer(data)) {
    if (data.byteLength === 0) refuseDetached(data, what);
    return new Uint8Array(data);
  }
  if (isDataView(data)) return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  throw new TypeError(
    `${what} takes a Uint8Array (a Buffer is one), an ArrayBuffer, a DataView or a string; ` +
      `got ${shown(data)}`,
  );
}

function refuseDetached(buffer: ArrayBufferLike, what: string): void {
  try {
    new Uint8Array(buffer);
  } catch {
    throw new TypeError(`${what} got a detached buffer: its bytes were transferred elsewhere`);
  }
}

export function tooLarge(bytes: number, max: number, what: string): RangeError {
  return new RangeError(
    `${what} takes records of at most ${max} bytes (maxRecordBytes, fixed at creation); ` +
      `got ${bytes}`,
  );
}
