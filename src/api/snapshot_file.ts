import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { Readable } from 'node:stream';
import { WalError } from './errors.js';
import type { SnapshotDisk, SnapshotFile } from './snapshot_disk.js';
import {
  CHECKSUM_AT,
  decodeHeader,
  decodeTrailer,
  encodeHeader,
  encodeTrailer,
  type SnapshotHeader,
  type SnapshotTrailer,
  snapshotFormat,
  snapshotName,
} from './snapshot_format.js';
import { unlessAborted } from './unless_aborted.js';
import { shown } from './validate.js';

/** So much of a snapshot is in memory at once. */
const CHUNK_BYTES = 256 * 1024;
const { headerBytes, trailerBytes } = snapshotFormat;

/** What the application's `save` gives: bytes, or text, piece by piece. */
export type SnapshotSource = AsyncIterable<Uint8Array | string>;

/** The same, of which the first piece was asked for. */
export interface SnapshotPieces {
  readonly first: Promise<unknown>;
  next(): Promise<IteratorResult<unknown>>;
  /** Whoever makes it may have something to let go of. One that hangs is not waited for. */
  letGo(): void;
}

/**
 * Asks for the first piece at once: a generator runs up to there now, when the state is still that
 * of the LSN, and not when there is a file for it.
 */
export function beginPieces(source: SnapshotSource): SnapshotPieces {
  const pieces = source[Symbol.asyncIterator]();
  const first = Promise.resolve(pieces.next());
  first.catch(() => undefined);
  let isFirst = true;
  return {
    first,
    // What is thrown at once is a rejection too.
    next: async () => {
      const piece = isFirst ? first : pieces.next();
      isFirst = false;
      return piece;
    },
    letGo: () => {
      const end = async (): Promise<unknown> => pieces.return?.();
      end().catch(() => undefined);
    },
  };
}

/** A snapshot file that was looked at. */
export interface SnapshotContent {
  readonly header: SnapshotHeader;
  readonly trailer: SnapshotTrailer;
}

/**
 * Writes a snapshot and flushes it. It is asked for more when what was given before is written.
 * `beforeEnd`: what the end of the file waits for; it tells where the log is read on.
 */
export async function writeSnapshot(
  disk: SnapshotDisk,
  path: string,
  header: SnapshotHeader,
  pieces: SnapshotPieces,
  beforeEnd: () => Promise<number>,
  signal: AbortSignal,
): Promise<SnapshotTrailer> {
  const file = await disk.create(path);
  try {
    const hash = createHash('sha256');
    let at = 0;
    const put = async (bytes: Buffer): Promise<void> => {
      hash.update(bytes);
      await file.write(bytes, at);
      at += bytes.length;
    };
    await put(encodeHeader(header));
    await writeBody(put, pieces, signal);
    const bytes = at - headerBytes;
    const position = await beforeEnd();
    const trailer = encodeTrailer({ bytes, position });
    hash.update(trailer.subarray(0, CHECKSUM_AT));
    const sha256 = hash.digest();
    sha256.copy(trailer, CHECKSUM_AT);
    await file.write(trailer, at);
    await file.sync();
    return { bytes, position, sha256 };
  } finally {
    await file.close();
  }
}

async function writeBody(
  put: (bytes: Buffer) => Promise<void>,
  pieces: SnapshotPieces,
  signal: AbortSignal,
): Promise<void> {
  const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  let filled = 0;
  for (;;) {
    signal.throwIfAborted();
    const { done, value } = await unlessAborted(ofSave(pieces.next()), signal);
    if (done === true) break;
    const bytes = bytesOf(value);
    for (let from = 0; from < bytes.length; ) {
      signal.throwIfAborted();
      const copied = bytes.copy(buffer, filled, from, from + CHUNK_BYTES - filled);
      from += copied;
      filled += copied;
      if (filled < CHUNK_BYTES) continue;
      await put(buffer);
      filled = 0;
    }
  }
  if (filled > 0) await put(buffer.subarray(0, filled));
}

/** What the application's `save` has thrown, or done wrong: its callers get `cause` as it is. */
export class SaveFailed extends Error {
  constructor(cause: unknown) {
    super('snapshot.save failed', { cause });
  }
}

function ofSave<T>(work: Promise<T>): Promise<T> {
  return work.catch((error: unknown) => {
    throw new SaveFailed(error);
  });
}

function bytesOf(value: unknown): Buffer {
  if (typeof value === 'string') {
    if (isWhole(value)) return Buffer.from(value);
    const text = 'snapshot.save gives text that is cut in the middle of a character';
    throw new SaveFailed(new TypeError(text));
  }
  if (value instanceof Uint8Array) {
    return Buffer.from(value.buffer, value.byteOffset, value.byteLength);
  }
  const text = `snapshot.save gives pieces of bytes or text, got ${shown(value)}`;
  throw new SaveFailed(new TypeError(text));
}

/** Half of a pair of code units would be stored as another character. */
function isWhole(text: string): boolean {
  return (text as string & { isWellFormed(): boolean }).isWellFormed();
}

/** Reads all of it and verifies it. Throws WAL_CORRUPT that says what is wrong with the file. */
export async function verifySnapshot(
  disk: SnapshotDisk,
  path: string,
  signal: AbortSignal,
): Promise<SnapshotContent> {
  const file = await disk.open(path);
  try {
    const content = await look(file, path);
    const hash = createHash('sha256');
    const buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
    const end = headerBytes + content.trailer.bytes + CHECKSUM_AT;
    for (let at = 0; at < end; at += buffer.length) {
      signal.throwIfAborted();
      const piece = buffer.subarray(0, Math.min(buffer.length, end - at));
      if ((await file.read(piece, at)) < piece.length) throw damaged(path, 'it ends early');
      hash.update(piece);
    }
    if (!hash.digest().equals(content.trailer.sha256)) throw damaged(path, 'its bytes differ');
    return content;
  } finally {
    await file.close();
  }
}

/** Header and trailer alone. */
export async function lookAtSnapshot(disk: SnapshotDisk, path: string): Promise<SnapshotContent> {
  const file = await disk.open(path);
  try {
    return await look(file, path);
  } finally {
    await file.close();
  }
}

async function look(file: SnapshotFile, path: string): Promise<SnapshotContent> {
  const size = await file.size();
  const rest = size - headerBytes - trailerBytes;
  if (rest < 0) throw damaged(path, `it has ${size} bytes`);
  const first = Buffer.alloc(headerBytes);
  const last = Buffer.alloc(trailerBytes);
  const read = (await file.read(first, 0)) + (await file.read(last, headerBytes + rest));
  if (read < headerBytes + trailerBytes) throw damaged(path, 'it ends early');
  try {
    const header = decodeHeader(first);
    const trailer = decodeTrailer(last);
    if (trailer.bytes !== rest) throw new Error('its length is another one');
    if (snapshotName(header) !== nameOf(path)) throw new Error('its name is of another one');
    return { header, trailer };
  } catch (error) {
    throw damaged(path, (error as Error).message);
  }
}

/** The header alone, of a file that need not be whole, and how many bytes there are. */
export async function readHeader(
  disk: SnapshotDisk,
  path: string,
): Promise<{ readonly header: SnapshotHeader; readonly bytes: number }> {
  const file = await disk.open(path);
  try {
    const first = Buffer.alloc(headerBytes);
    if ((await file.read(first, 0)) < headerBytes) throw damaged(path, 'it ends early');
    return { header: decodeHeader(first), bytes: await file.size() };
  } finally {
    await file.close();
  }
}

function nameOf(path: string): string {
  return basename(path).replace(/\.(part|seed)$/, '');
}

/** What the application wrote, as a stream. */
export interface SnapshotBody {
  /** Ends with WAL_CORRUPT where the file is not any more what it was. */
  readonly stream: Readable;
  /**
   * What was found wrong with the file while it was read. The stream alone does not tell: who reads
   * it may destroy it with an error of its own, as `pipeline` does.
   */
  fault(): unknown;
}

export function readSnapshot(
  disk: SnapshotDisk,
  path: string,
  { trailer }: SnapshotContent,
): SnapshotBody {
  let fault: unknown;
  const ofFile = async <T>(work: Promise<T>): Promise<T> => {
    try {
      return await work;
    } catch (error) {
      fault = error;
      throw error;
    }
  };
  const stream = Readable.from(bodyOf(disk, path, trailer, ofFile), { objectMode: false });
  return { stream, fault: () => fault };
}

async function* bodyOf(
  disk: SnapshotDisk,
  path: string,
  { bytes, sha256 }: SnapshotTrailer,
  ofFile: <T>(work: Promise<T>) => Promise<T>,
) {
  const file = await ofFile(disk.open(path));
  try {
    const hash = createHash('sha256');
    const read = async (piece: Buffer, position: number): Promise<Buffer> => {
      if ((await file.read(piece, position)) < piece.length) throw damaged(path, 'it ends early');
      hash.update(piece);
      return piece;
    };
    await ofFile(read(Buffer.alloc(headerBytes), 0));
    for (let at = 0; at < bytes; at += CHUNK_BYTES) {
      // Each piece is the application's.
      const piece = Buffer.allocUnsafeSlow(Math.min(CHUNK_BYTES, bytes - at));
      yield await ofFile(read(piece, headerBytes + at));
    }
    const verify = async (): Promise<void> => {
      await read(Buffer.alloc(CHECKSUM_AT), headerBytes + bytes);
      if (!hash.digest().equals(sha256)) throw damaged(path, 'its bytes differ');
    };
    await ofFile(verify());
  } finally {
    await file.close();
  }
}

function damaged(file: string, reason: string): WalError {
  return new WalError('WAL_CORRUPT', `the snapshot ${file} is damaged: ${reason}`, {
    file,
    hint: 'The one before it is loaded; take another one with `log.snapshot()`.',
  });
}
