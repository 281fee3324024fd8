import { FieldReader, FieldWriter, getU32, getU64, invalid, putU32, putU64 } from './bytes.js';
import { cutText, printable } from './handshake_messages.js';
import { lengthBytes, MessageType } from './message_type.js';
import { putHeader, type SessionTag, sessionHeaderBytes } from './stream_messages.js';

/**
 * A range of the log that a primary wants of a standby, to repair its own copy, over their session:
 *
 *   primary                                standby
 *      | -- WANT ------------------------> |   whole batches from a place on; one request at a time
 *      | <------------ PIECEs or CANNOT -- |   between its acknowledgements
 *
 * From version 2 of the protocol on. Each begins as every message of a session does
 * (stream_messages.ts), with flags 0:
 *
 *   WANT   | 24 position        | 32 number u32, most u32 |
 *   PIECE  | 24 position        | 32 number u32, 0 u32    | 40 log bytes ...
 *   CANNOT | 24 number, need u32 | 32 code, message: u16 bytes and UTF-8 each
 *
 * `number` tells this request from those before it. `most`: log bytes in the answer, which is whole
 * batches; of a filler also the zeros after it and the header of the next segment, as in DATA. Each
 * PIECE but the last is full, and the last has bit 0 of `flags`. `need` in CANNOT: the first batch
 * does not fit into `most`, but into this; 0: there is another reason.
 */
export interface Want {
  readonly number: number;
  /** Where a batch begins. */
  readonly from: number;
  readonly most: number;
}

export const wantBytes = sessionHeaderBytes + 16;
export const pieceHeaderBytes = sessionHeaderBytes + 16;
/** Log bytes in one PIECE: an acknowledgement never waits for more than one to be taken. */
export const maxPieceBytes = 32 * 1024;
/** What may be wanted at once. The largest batch and the longest end of a segment fit. */
export const minWanted = 8 * 1024;
export const maxWanted = 40 * 1024 * 1024;

const maxCodeBytes = 64;
const maxReasonBytes = 600;
export const minCannotBytes = sessionHeaderBytes + 12;
export const maxCannotBytes = minCannotBytes + maxCodeBytes + maxReasonBytes;

export function encodeWant(tag: SessionTag, want: Want): Uint8Array {
  const bytes = new Uint8Array(wantBytes);
  putHeader(bytes, wantBytes, MessageType.WANT, 0, tag);
  putU64(bytes, 24, want.from);
  putU32(bytes, 32, want.number);
  putU32(bytes, 36, want.most);
  return bytes;
}

/** The header is checked by whoever knows the session; here too. */
export function decodeWant(bytes: Uint8Array, at: number): Want {
  if (bytes[at + 5] !== 0) throw invalid('unknown flags');
  const want = {
    number: getU32(bytes, at + 32),
    from: getU64(bytes, at + 24),
    most: getU32(bytes, at + 36),
  };
  if (want.most < minWanted || want.most > maxWanted) {
    throw invalid(`an answer of ${want.most} bytes cannot be wanted`);
  }
  return want;
}

export interface Piece {
  readonly number: number;
  readonly position: number;
  readonly isLast: boolean;
}

/** Writes the envelope of `pieceBytes` log bytes into the first 40 bytes. */
export function putPiece(
  bytes: Uint8Array,
  tag: SessionTag,
  piece: Piece,
  pieceBytes: number,
): void {
  const length = pieceHeaderBytes + pieceBytes;
  putHeader(bytes, length, MessageType.PIECE, piece.isLast ? 1 : 0, tag);
  putU64(bytes, 24, piece.position);
  putU32(bytes, 32, piece.number);
  putU32(bytes, 36, 0);
}

export function decodePiece(bytes: Uint8Array, at: number): Piece {
  if (getU32(bytes, at + 36) !== 0) throw invalid('a reserved field is not zero');
  return {
    number: getU32(bytes, at + 32),
    position: getU64(bytes, at + 24),
    isLast: bytes[at + 5] === 1,
  };
}

/** Why a standby does not give what was wanted. */
export interface Cannot {
  readonly number: number;
  readonly need: number;
  /** A key of the error table. */
  readonly code: string;
  readonly message: string;
}

export function encodeCannot(tag: SessionTag, cannot: Cannot): Uint8Array {
  const fields = new FieldWriter(maxCannotBytes).u32(0).u8(MessageType.CANNOT).u8(0).u16(0);
  fields.u32(tag.session).u32(tag.incarnation).u64(tag.epoch);
  fields.u32(cannot.number).u32(cannot.need);
  fields.text(cutText(cannot.code, maxCodeBytes));
  fields.text(cutText(cannot.message, maxReasonBytes));
  const bytes = fields.finish();
  putU32(bytes, 0, bytes.length - lengthBytes);
  return bytes;
}

export function decodeCannot(bytes: Uint8Array, start: number, end: number): Cannot {
  if (bytes[start + 5] !== 0) throw invalid('unknown flags');
  const fields = new FieldReader(bytes, start + sessionHeaderBytes, end);
  const cannot = {
    number: fields.u32(),
    need: fields.u32(),
    code: printable(fields.text(maxCodeBytes)),
    message: printable(fields.text(maxReasonBytes)),
  };
  fields.end();
  return cannot;
}
