import { createHash } from 'node:crypto';
import type { HistoryEntry, Place, Term } from '../native/native_log.js';
import { type FieldReader, getU64, invalid, putU32, putU64 } from './bytes.js';
import {
  begin,
  finish,
  getHistory,
  getName,
  getPlace,
  getTerm,
  open,
  putHistory,
  putPlace,
  putTerm,
} from './fields.js';
import {
  lengthBytes,
  MessageType,
  maxHelloBytes,
  maxMessageBytes,
  prefixBytes,
} from './message_type.js';

/**
 * What a standby begins with, of whose place in the log too little is left: a snapshot of the
 * application's state, and where the log goes on from it. The whole exchange of one connection:
 *
 *   standby                                primary
 *      | -- SEED_ASK --------------------> |   which log, what it has of a snapshot already
 *      | <--------- SEED_OFFER or REFUSAL -- |   which snapshot, and where the log is to begin
 *      | <------------------- SEED_PIECEs -- |   the snapshot's file, from what it has on
 *
 *   SEED_OFFER  ends with 8 bytes of the SHA-256 of its fields
 *   SEED_PIECE  0 length, type, flags u8, 0 u16 | 8 offset in the file u64 | 16 bytes ...
 *
 * `flags` bit 0: the last piece. From version 6 of the protocol on. What comes is verified as the
 * file itself says (docs/format.md), and the log by what follows on it.
 */
export interface SeedAsk {
  readonly minVersion: number;
  readonly maxVersion: number;
  readonly logId: string;
  readonly salt: string;
  readonly nodeId: string;
  readonly name: string;
  /** Where its log ends. */
  readonly end: Place;
  /** The snapshot of which it has the first bytes; undefined: none. */
  readonly have: (SnapshotId & { readonly bytes: number }) | undefined;
}

/** Tells a snapshot of a log from all others of it. */
export interface SnapshotId {
  readonly lsn: number;
  readonly term: Term;
  /** Milliseconds since 1970. */
  readonly takenAt: number;
}

export interface SeedOffer {
  /** Of the peer: one that is older than what the standby knows has been replaced. */
  readonly term: Term;
  /** The first batch of a segment: where the log is to begin, and the last LSN before it. */
  readonly start: Place;
  /** crc of the batch that ends there. */
  readonly crc: number;
  /** The terms before `start`. */
  readonly history: readonly HistoryEntry[];
  readonly snapshot: SnapshotId;
  /** Of the snapshot's file, in bytes. */
  readonly fileBytes: number;
  /** Where in the file the pieces begin: what the standby has before that stays. */
  readonly from: number;
}

const magic = 0x53524d57; // "WMRS"

/** Of SHA-256, over all fields of an offer. */
const checksumBytes = 8;

export const seedPieceHeaderBytes = 16;
/** File bytes in one SEED_PIECE. */
export const maxSeedPieceBytes = 256 * 1024;

export function encodeSeedAsk(ask: SeedAsk): Uint8Array {
  const fields = begin(MessageType.SEED_ASK, maxHelloBytes).u32(magic);
  fields.u16(ask.minVersion).u16(ask.maxVersion);
  fields.hex(ask.logId, 32).hex(ask.salt, 16).hex(ask.nodeId, 32);
  putPlace(fields, ask.end);
  fields.u8(ask.have === undefined ? 0 : 1);
  if (ask.have !== undefined) {
    putSnapshotId(fields, ask.have);
    fields.u64(ask.have.bytes);
  }
  return finish(fields.text(ask.name));
}

export function decodeSeedAsk(bytes: Uint8Array, start: number, end: number): SeedAsk {
  const fields = open(bytes, start, end);
  if (fields.u32() !== magic) throw invalid('the peer does not speak this protocol');
  const minVersion = fields.u16();
  const maxVersion = fields.u16();
  if (minVersion > maxVersion) throw invalid('a version range is empty');
  const who = { logId: fields.hex(32), salt: fields.hex(16), nodeId: fields.hex(32) };
  const place = getPlace(fields);
  const flags = fields.u8();
  if (flags > 1) throw invalid('unknown flags');
  const have = flags === 0 ? undefined : { ...getSnapshotId(fields), bytes: fields.u64() };
  const name = getName(fields);
  fields.end();
  return { minVersion, maxVersion, ...who, end: place, have, name };
}

export function encodeSeedOffer(offer: SeedOffer): Uint8Array {
  const fields = begin(MessageType.SEED_OFFER, maxMessageBytes);
  putTerm(fields, offer.term);
  putPlace(fields, offer.start);
  fields.u32(offer.crc);
  putHistory(fields, offer.history);
  putSnapshotId(fields, offer.snapshot);
  const said = fields.u64(offer.fileBytes).u64(offer.from).finish();
  const bytes = Buffer.concat([said, checksumOf(said, prefixBytes, said.length)]);
  putU32(bytes, 0, bytes.length - lengthBytes);
  return bytes;
}

export function decodeSeedOffer(bytes: Uint8Array, start: number, end: number): SeedOffer {
  const stop = end - checksumBytes;
  if (stop < start + prefixBytes) throw invalid('a message is too short');
  // What the log begins with is stored before anything that follows on it has come.
  if (!checksumOf(bytes, start + prefixBytes, stop).equals(bytes.subarray(stop, end))) {
    throw invalid('the bytes of an offer differ');
  }
  const fields = open(bytes, start, stop);
  const offer = {
    term: getTerm(fields),
    start: getPlace(fields),
    crc: fields.u32(),
    history: getHistory(fields),
    snapshot: getSnapshotId(fields),
    fileBytes: fields.u64(),
    from: fields.u64(),
  };
  fields.end();
  if (offer.from > offer.fileBytes) throw invalid('a snapshot that begins past its end');
  return offer;
}

/** Writes the header of `pieceBytes` file bytes into the first 16 bytes. */
export function putSeedPiece(
  bytes: Uint8Array,
  offset: number,
  pieceBytes: number,
  isLast: boolean,
): void {
  putU32(bytes, 0, seedPieceHeaderBytes + pieceBytes - lengthBytes);
  bytes[4] = MessageType.SEED_PIECE;
  bytes[5] = isLast ? 1 : 0;
  bytes[6] = 0;
  bytes[7] = 0;
  putU64(bytes, 8, offset);
}

export interface SeedPiece {
  readonly offset: number;
  readonly isLast: boolean;
}

export function decodeSeedPiece(bytes: Uint8Array, at: number): SeedPiece {
  if (bytes[at + 5]! > 1 || bytes[at + 6] !== 0 || bytes[at + 7] !== 0) {
    throw invalid('unknown flags');
  }
  return { offset: getU64(bytes, at + 8), isLast: bytes[at + 5] === 1 };
}

export function isSameSnapshot(a: SnapshotId, b: SnapshotId): boolean {
  return (
    a.lsn === b.lsn &&
    a.takenAt === b.takenAt &&
    a.term.epoch === b.term.epoch &&
    a.term.opener === b.term.opener &&
    a.term.incarnation === b.term.incarnation
  );
}

function checksumOf(bytes: Uint8Array, from: number, to: number): Buffer {
  const digest = createHash('sha256').update(bytes.subarray(from, to)).digest();
  return digest.subarray(0, checksumBytes);
}

function putSnapshotId(fields: ReturnType<typeof begin>, id: SnapshotId): void {
  fields.u64(id.lsn);
  putTerm(fields, id.term);
  fields.u64(id.takenAt);
}

function getSnapshotId(fields: FieldReader): SnapshotId {
  return { lsn: fields.u64(), term: getTerm(fields), takenAt: fields.u64() };
}
