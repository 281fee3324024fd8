import { closeSync, openSync, readdirSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { WalError } from '../api/errors.js';

/** A segment file, placed in the log by its header (docs/format.md); its name is for people. */
interface SegmentFile {
  readonly path: string;
  readonly start: number;
  readonly bytes: number;
}

export interface Comparison {
  /** Positions between which was compared: what both directories hold. */
  readonly from: number;
  readonly to: number;
  readonly difference?: {
    readonly position: number;
    readonly file: string;
    readonly otherFile: string;
    readonly offset: number;
  };
}

const SEGMENT_MAGIC = 0x47534d57;
const HEADER_BYTES = 64;
const CHUNK_BYTES = 4 * 1024 * 1024;

/** Compares two directories of one log byte for byte, headers and zeros included, below `end`. */
export function compareLogs(dir: string, other: string, end: number): Comparison {
  const ours = segmentFiles(dir);
  const theirs = segmentFiles(other);
  const buffers = [Buffer.allocUnsafe(CHUNK_BYTES), Buffer.allocUnsafe(CHUNK_BYTES)] as const;
  const shared = [...ours.keys()].filter((start) => theirs.has(start) && start < end);
  shared.sort((a, b) => a - b);
  const from = shared[0] ?? end;
  let to = from;
  for (const start of shared) {
    const mine = ours.get(start);
    const theirsAt = theirs.get(start);
    if (mine === undefined || theirsAt === undefined) continue;
    if (start !== to || mine.bytes !== theirsAt.bytes) {
      const message = `the segments of ${dir} and ${other} do not begin at the same places`;
      throw new WalError('WAL_NOT_A_LOG', message, {
        hint: 'Verify each of them alone: one may lack a file.',
      });
    }
    const length = Math.min(mine.bytes, end - start);
    const offset = firstDifference(mine.path, theirsAt.path, length, buffers);
    if (offset !== undefined) {
      const position = start + offset;
      const files = { file: mine.path, otherFile: theirsAt.path };
      return { from, to: position, difference: { position, offset, ...files } };
    }
    to = start + length;
  }
  return { from, to };
}

function segmentFiles(dir: string): Map<number, SegmentFile> {
  const found = new Map<number, SegmentFile>();
  const header = Buffer.alloc(HEADER_BYTES);
  for (const name of readdirSync(dir)) {
    if (!name.endsWith('.wal')) continue;
    const path = join(dir, name);
    const fd = openSync(path, 'r');
    try {
      if (readSync(fd, header, 0, HEADER_BYTES, 0) < HEADER_BYTES) continue;
      if (header.readUInt32LE(0) !== SEGMENT_MAGIC) continue;
      const start = Number(header.readBigUInt64LE(40));
      const bytes = Number(header.readBigUInt64LE(56));
      found.set(start, { path, start, bytes });
    } finally {
      closeSync(fd);
    }
  }
  return found;
}

function firstDifference(
  path: string,
  otherPath: string,
  length: number,
  [a, b]: readonly [Buffer, Buffer],
): number | undefined {
  const fd = openSync(path, 'r');
  const otherFd = openSync(otherPath, 'r');
  try {
    for (let at = 0; at < length; ) {
      const want = Math.min(CHUNK_BYTES, length - at);
      const got = readFully(fd, a, want, at);
      const otherGot = readFully(otherFd, b, want, at);
      const shorter = Math.min(got, otherGot);
      if (!a.subarray(0, shorter).equals(b.subarray(0, shorter))) {
        let i = 0;
        while (a[i] === b[i]) i += 1;
        return at + i;
      }
      if (shorter < want) return at + shorter;
      at += want;
    }
    return undefined;
  } finally {
    closeSync(fd);
    closeSync(otherFd);
  }
}

/** Reads until there is as much as wanted, or the file ends. */
function readFully(fd: number, buffer: Buffer, want: number, at: number): number {
  let got = 0;
  while (got < want) {
    const n = readSync(fd, buffer, got, want - got, at + got);
    if (n === 0) break;
    got += n;
  }
  return got;
}
