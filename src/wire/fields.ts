import type { HistoryEntry, Place, Term } from '../native/native_log.js';
import { FieldReader, FieldWriter, invalid, putU32 } from './bytes.js';
import { lengthBytes, prefixBytes } from './message_type.js';

/** The fields that several messages have, and the two ends of a message. */

const maxNameBytes = 64;
const maxHistory = 256;
export const noId = '0'.repeat(32);
export const noSalt = '0'.repeat(16);
export const noTerm: Term = { epoch: 0, opener: noId, incarnation: 0 };

export function begin(type: number, maxBytes: number): FieldWriter {
  return new FieldWriter(maxBytes).u32(0).u8(type);
}

export function finish(fields: FieldWriter): Uint8Array {
  const bytes = fields.finish();
  putU32(bytes, 0, bytes.length - lengthBytes);
  return bytes;
}

/** The fields after the prefix. The frame reader has checked type and length. */
export function open(bytes: Uint8Array, start: number, end: number): FieldReader {
  return new FieldReader(bytes, start + prefixBytes, end);
}

export function putTerm(fields: FieldWriter, term: Term): void {
  fields.u64(term.epoch).hex(term.opener, 32).u32(term.incarnation);
}

export function getTerm(fields: FieldReader): Term {
  return { epoch: fields.u64(), opener: fields.hex(32), incarnation: fields.u32() };
}

export function putPlace(fields: FieldWriter, place: Place): void {
  fields.u64(place.position).u64(place.lsn);
}

export function getPlace(fields: FieldReader): Place {
  return { position: fields.u64(), lsn: fields.u64() };
}

export function putHistory(fields: FieldWriter, history: readonly HistoryEntry[]): void {
  fields.u32(history.length);
  for (const entry of history) {
    putTerm(fields, entry);
    fields.u32(0);
    putPlace(fields, entry);
  }
}

export function getHistory(fields: FieldReader): HistoryEntry[] {
  const count = fields.u32();
  if (count > maxHistory) throw invalid('a history is too long');
  const history: HistoryEntry[] = [];
  for (let i = 0; i < count; i += 1) {
    const term = getTerm(fields);
    if (fields.u32() !== 0) throw invalid('a reserved field is not zero');
    history.push({ ...term, ...getPlace(fields) });
  }
  return history;
}

export function getName(fields: FieldReader): string {
  const name = fields.text(maxNameBytes);
  if (/\p{Cc}/u.test(name)) throw invalid('a name has control characters');
  return name;
}
