import { FieldReader, FieldWriter, getU64, invalid, putU32, putU64 } from './bytes.js';
import { lengthBytes, MessageType, prefixBytes } from './message_type.js';

/**
 * A range of the log, for whoever repairs a copy of it. The whole exchange of one connection:
 *
 *   repairer                               peer
 *      | -- FETCH -----------------------> |   protocol versions, which log, from where
 *      | <------------- RANGE or REFUSAL -- |   whole batches from there on, in one or more pieces
 *
 *   RANGE   offset 0        4    5     6    8
 *                 +--------+----+-----+----+-----------------+
 *               0 | length |type|flags| 0  |    position     | 16 log bytes ...
 *                 +--------+----+-----+----+-----------------+
 *
 * `flags` bit 0: the last piece. The bytes of a filler come with the zeros after it and the header
 * of the next segment, as in DATA. The repairer verifies them; the peer has, too.
 */
export interface Fetch {
  readonly minVersion: number;
  readonly maxVersion: number;
  readonly logId: string;
  readonly salt: string;
  /** Where a batch begins. */
  readonly from: number;
}

const magic = 0x46524d57; // "WMRF"

export const fetchBytes = prefixBytes + 4 + 2 + 2 + 16 + 8 + 8;
export const rangeHeaderBytes = 16;
/** Log bytes in one RANGE message. */
export const maxRangeBytes = 128 * 1024;

export function encodeFetch(fetch: Fetch): Uint8Array {
  const fields = new FieldWriter(fetchBytes).u32(0).u8(MessageType.FETCH).u32(magic);
  fields.u16(fetch.minVersion).u16(fetch.maxVersion);
  fields.hex(fetch.logId, 32).hex(fetch.salt, 16).u64(fetch.from);
  const bytes = fields.finish();
  putU32(bytes, 0, bytes.length - lengthBytes);
  return bytes;
}

export function decodeFetch(bytes: Uint8Array, start: number, end: number): Fetch {
  const fields = new FieldReader(bytes, start + prefixBytes, end);
  if (fields.u32() !== magic) throw invalid('the peer does not speak this protocol');
  const fetch = {
    minVersion: fields.u16(),
    maxVersion: fields.u16(),
    logId: fields.hex(32),
    salt: fields.hex(16),
    from: fields.u64(),
  };
  fields.end();
  if (fetch.minVersion > fetch.maxVersion) throw invalid('a version range is empty');
  return fetch;
}

/** Writes the envelope of `rangeBytes` log bytes into the first 16 bytes. */
export function putRangeHeader(
  bytes: Uint8Array,
  position: number,
  rangeBytes: number,
  isLast: boolean,
): void {
  putU32(bytes, 0, rangeHeaderBytes + rangeBytes - lengthBytes);
  bytes[4] = MessageType.RANGE;
  bytes[5] = isLast ? 1 : 0;
  bytes[6] = 0;
  bytes[7] = 0;
  putU64(bytes, 8, position);
}

export interface RangePiece {
  readonly position: number;
  readonly isLast: boolean;
}

export function decodeRangeHeader(bytes: Uint8Array, at: number): RangePiece {
  if (bytes[at + 5]! > 1 || bytes[at + 6] !== 0 || bytes[at + 7] !== 0) {
    throw invalid('unknown flags');
  }
  return { position: getU64(bytes, at + 8), isLast: bytes[at + 5] === 1 };
}
