import type { Term } from '../native/native_log.js';

/** What an archived segment says of itself: docs/format.md. Times in microseconds since 1970. */
export interface SegmentFacts {
  readonly logId: string;
  /** 16 hexadecimal digits, as the engine gives it. */
  readonly salt: string;
  readonly segmentBytes: number;
  readonly maxRecordBytes: number;
  readonly align: number;
  /** Of the last batch. */
  readonly term: Term;
  /** Of the first batch, and where the next segment's begins. */
  readonly start: number;
  readonly end: number;
  /** Records firstLsn to lastLsn; none where lastLsn is firstLsn - 1. */
  readonly firstLsn: number;
  readonly lastLsn: number;
  /** Of the first and the last batch. */
  readonly firstTime: number;
  readonly lastTime: number;
  /** Of the batch before the first one, and of the last one. */
  readonly previousCrc: number;
  readonly lastCrc: number;
}

export interface ObjectHeader extends SegmentFacts {
  /** Raw bytes of each block but the last. */
  readonly blockBytes: number;
}

export interface ObjectTrailer {
  /** Of the object, before the trailer. */
  readonly storedBytes: number;
  readonly sha256: Buffer;
}

export const objectFormat = {
  headerBytes: 192,
  trailerBytes: 64,
  blockHeaderBytes: 12,
  /** What is written; a reader takes any from the least to the most. */
  blockBytes: 1024 * 1024,
  leastBlockBytes: 4096,
  mostBlockBytes: 1024 * 1024,
} as const;

export type Crc32c = (data: Uint8Array, seed?: number) => number;

const { headerBytes, trailerBytes, leastBlockBytes, mostBlockBytes } = objectFormat;
const magic = Buffer.from('WALMARCH');
const endMagic = Buffer.from('WALMAEND');
const version = 1;
const headerCrcAt = headerBytes - 4;
const trailerCrcAt = trailerBytes - 4;
const shaAt = 24;
const mostSegmentBytes = 4096 * 1024 * 1024;
const mostRecordBytes = 16 * 1024 * 1024;
const segmentHeaderBytes = 4096;

export function encodeObjectHeader(header: ObjectHeader, crc32c: Crc32c): Buffer {
  const bytes = Buffer.alloc(headerBytes);
  magic.copy(bytes);
  bytes.writeUInt32LE(version, 8);
  bytes.writeUInt32LE(headerBytes, 12);
  bytes.write(header.logId, 16, 'hex');
  bytes.writeBigUInt64LE(BigInt(`0x${header.salt}`), 32);
  putU64(bytes, header.segmentBytes, 40);
  putU64(bytes, header.maxRecordBytes, 48);
  bytes.writeUInt32LE(header.align, 56);
  bytes.writeUInt32LE(header.blockBytes, 60);
  putU64(bytes, header.term.epoch, 64);
  bytes.write(header.term.opener, 72, 'hex');
  bytes.writeUInt32LE(header.term.incarnation, 88);
  bytes.writeUInt32LE(header.previousCrc, 92);
  putU64(bytes, header.start, 96);
  putU64(bytes, header.end, 104);
  putU64(bytes, header.firstLsn, 112);
  putU64(bytes, header.lastLsn, 120);
  putU64(bytes, header.firstTime, 128);
  putU64(bytes, header.lastTime, 136);
  putU64(bytes, header.end - header.start, 144);
  bytes.writeUInt32LE(header.lastCrc, 152);
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, headerCrcAt)), headerCrcAt);
  return bytes;
}

/** Throws an Error that says what is wrong: nothing of it is believed before it is checked. */
export function decodeObjectHeader(bytes: Buffer, crc32c: Crc32c): ObjectHeader {
  if (!bytes.subarray(0, 8).equals(magic)) throw new Error('it is no archived segment');
  if (bytes.readUInt32LE(8) !== version) {
    throw new Error(`its format is version ${bytes.readUInt32LE(8)}, not ${version}`);
  }
  if (bytes.readUInt32LE(headerCrcAt) !== crc32c(bytes.subarray(0, headerCrcAt))) {
    throw new Error('the checksum of its header differs');
  }
  const header: ObjectHeader = {
    logId: bytes.toString('hex', 16, 32),
    salt: bytes.readBigUInt64LE(32).toString(16).padStart(16, '0'),
    segmentBytes: getU64(bytes, 40),
    maxRecordBytes: getU64(bytes, 48),
    align: bytes.readUInt32LE(56),
    blockBytes: bytes.readUInt32LE(60),
    term: {
      epoch: getU64(bytes, 64),
      opener: bytes.toString('hex', 72, 88),
      incarnation: bytes.readUInt32LE(88),
    },
    previousCrc: bytes.readUInt32LE(92),
    start: getU64(bytes, 96),
    end: getU64(bytes, 104),
    firstLsn: getU64(bytes, 112),
    lastLsn: getU64(bytes, 120),
    firstTime: getU64(bytes, 128),
    lastTime: getU64(bytes, 136),
    lastCrc: bytes.readUInt32LE(152),
  };
  const isRight =
    bytes.readUInt32LE(12) === headerBytes &&
    bytes.subarray(156, headerCrcAt).every((byte) => byte === 0) &&
    getU64(bytes, 144) === header.end - header.start &&
    hasLimits(header);
  if (!isRight) throw new Error('its header says what cannot be');
  return header;
}

function hasLimits(header: ObjectHeader): boolean {
  const { segmentBytes, maxRecordBytes, align, blockBytes, start, end } = header;
  return (
    segmentBytes <= mostSegmentBytes &&
    segmentBytes > 0 &&
    segmentBytes % 4096 === 0 &&
    maxRecordBytes > 0 &&
    maxRecordBytes <= Math.min(mostRecordBytes, segmentBytes) &&
    (align === 8 || align === 4096) &&
    blockBytes >= leastBlockBytes &&
    blockBytes <= mostBlockBytes &&
    start % segmentBytes === segmentHeaderBytes &&
    end - start === segmentBytes &&
    header.firstLsn >= 1 &&
    header.lastLsn >= header.firstLsn - 1 &&
    header.lastTime >= header.firstTime
  );
}

export function encodeObjectTrailer({ storedBytes, sha256 }: ObjectTrailer, crc32c: Crc32c) {
  const bytes = Buffer.alloc(trailerBytes);
  endMagic.copy(bytes);
  putU64(bytes, storedBytes, 8);
  sha256.copy(bytes, shaAt);
  bytes.writeUInt32LE(crc32c(bytes.subarray(0, trailerCrcAt)), trailerCrcAt);
  return bytes;
}

export function decodeObjectTrailer(bytes: Buffer, crc32c: Crc32c): ObjectTrailer {
  if (!bytes.subarray(0, 8).equals(endMagic)) throw new Error('it has no end');
  if (bytes.readUInt32LE(trailerCrcAt) !== crc32c(bytes.subarray(0, trailerCrcAt))) {
    throw new Error('the checksum of its end differs');
  }
  const sha256 = Buffer.from(bytes.subarray(shaAt, shaAt + 32));
  return { storedBytes: getU64(bytes, 8), sha256 };
}

/** The head of a block, for bytes that are stored as they are given. */
export function encodeBlockHeader(rawBytes: number, stored: Uint8Array, crc32c: Crc32c): Buffer {
  const bytes = Buffer.alloc(objectFormat.blockHeaderBytes);
  bytes.writeUInt32LE(rawBytes, 0);
  bytes.writeUInt32LE(stored.length, 4);
  bytes.writeUInt32LE(crc32c(stored, crc32c(bytes.subarray(0, 8))), 8);
  return bytes;
}

/** Little-endian u64 of a safe integer. */
export function putU64(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32LE(value % 2 ** 32, at);
  bytes.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}

export function getU64(bytes: Buffer, at: number): number {
  const value = bytes.readUInt32LE(at + 4) * 2 ** 32 + bytes.readUInt32LE(at);
  if (!Number.isSafeInteger(value)) throw new Error('a number in it is too large');
  return value;
}
