import type { Term } from '../native/native_log.js';
import { latestTime } from '../replication/slot.js';
import { readU64 } from './batch.js';

/**
 * A snapshot file (docs/format.md): header, what the application wrote, trailer. Little-endian. The
 * checksum covers every byte before it, those of the header and of the trailer too.
 */
export const snapshotFormat = { version: 1, headerBytes: 96, trailerBytes: 64 } as const;

const MAGIC = 'WALMSNAP';
const END_MAGIC = 'WALMSEND';
/** In the trailer: what the checksum does not cover is the checksum. */
export const CHECKSUM_AT = 32;

/** What a snapshot is of. */
export interface SnapshotHeader {
  readonly logId: string;
  /** The last record that is in the state, and the term in which it was appended. */
  readonly lsn: number;
  readonly term: Term;
  /** When it was begun, milliseconds since 1970. */
  readonly takenAt: number;
}

export interface SnapshotTrailer {
  /** What the application wrote, in bytes. */
  readonly bytes: number;
  /** Where the batch begins, in the log, from which it is read on. */
  readonly position: number;
  readonly sha256: Buffer;
}

export function encodeHeader({ logId, lsn, term, takenAt }: SnapshotHeader): Buffer {
  const bytes = Buffer.alloc(snapshotFormat.headerBytes);
  bytes.write(MAGIC, 0, 'latin1');
  bytes.writeUInt32LE(snapshotFormat.version, 8);
  bytes.writeUInt32LE(snapshotFormat.headerBytes, 12);
  bytes.write(logId, 16, 16, 'hex');
  bytes.writeBigUInt64LE(BigInt(lsn), 32);
  bytes.writeBigUInt64LE(BigInt(term.epoch), 40);
  bytes.write(term.opener, 48, 16, 'hex');
  bytes.writeUInt32LE(term.incarnation, 64);
  bytes.writeBigUInt64LE(BigInt(takenAt), 72);
  return bytes;
}

/** The trailer but for its checksum, which is to be written at `CHECKSUM_AT`. */
export function encodeTrailer({ bytes: length, position }: Omit<SnapshotTrailer, 'sha256'>) {
  const bytes = Buffer.alloc(snapshotFormat.trailerBytes);
  bytes.writeBigUInt64LE(BigInt(length), 0);
  bytes.writeBigUInt64LE(BigInt(position), 8);
  bytes.write(END_MAGIC, 16, 'latin1');
  return bytes;
}

/** Throws what is wrong with it. */
export function decodeHeader(bytes: Buffer): SnapshotHeader {
  if (bytes.toString('latin1', 0, 8) !== MAGIC) throw new Error('it does not begin as a snapshot');
  const version = bytes.readUInt32LE(8);
  if (version !== snapshotFormat.version) throw new Error(`its version is ${version}`);
  if (bytes.readUInt32LE(12) !== snapshotFormat.headerBytes) throw new Error('its header is off');
  const takenAt = readU64(bytes, 72);
  if (takenAt > latestTime) throw new Error('it was taken at no time');
  return {
    logId: bytes.toString('hex', 16, 32),
    lsn: readU64(bytes, 32),
    term: {
      epoch: readU64(bytes, 40),
      opener: bytes.toString('hex', 48, 64),
      incarnation: bytes.readUInt32LE(64),
    },
    takenAt,
  };
}

export function decodeTrailer(bytes: Buffer): SnapshotTrailer {
  if (bytes.toString('latin1', 16, 24) !== END_MAGIC) throw new Error('its end is missing');
  return {
    bytes: readU64(bytes, 0),
    position: readU64(bytes, 8),
    sha256: Buffer.from(bytes.subarray(CHECKSUM_AT, CHECKSUM_AT + 32)),
  };
}

/** LSN in hexadecimal digits, epoch and incarnation: names sort by LSN. */
export function snapshotName({ lsn, term }: Pick<SnapshotHeader, 'lsn' | 'term'>): string {
  return `${lsn.toString(16).padStart(16, '0')}-${term.epoch}-${term.incarnation}.snapshot`;
}

/** A snapshot that counts. */
export function isSnapshotName(name: string): boolean {
  return /^[0-9a-f]{16}-\d{1,16}-\d{1,10}\.snapshot$/.test(name);
}

/** One that was never finished. */
export function isPartName(name: string): boolean {
  return name.endsWith('.part') && isSnapshotName(name.slice(0, -'.part'.length));
}

export function partName(name: string): string {
  return `${name}.part`;
}

/** One that a standby is being given. */
export function isSeedName(name: string): boolean {
  return name.endsWith('.seed') && isSnapshotName(name.slice(0, -'.seed'.length));
}

export function seedName(name: string): string {
  return `${name}.seed`;
}
