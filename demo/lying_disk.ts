/**
 * A disk that says "flushed" and is not, for the planted run. To the standby on it, and to the
 * primary, the end of the log was flushed and acknowledged; then the power goes, and the end of the
 * log is zeros. This is a harness around closed files: the engine knows nothing of it.
 */
import { open, readdir } from 'node:fs/promises';
import path from 'node:path';

// docs/format.md
const BATCH_MAGIC = 0x54424d57;
const SEGMENT_MAGIC = 0x47534d57;
const HEADER_BYTES = 4096;
const BATCH_LENGTH_OFFSET = 8;
const START_POSITION_OFFSET = 40;
const CONTROL_COPIES = [0, 16_384] as const;
const CONTROL_SEQUENCE_OFFSET = 16;
const CONTROL_WATERMARK_OFFSET = 120;
const CONTROL_COPY_BYTES = 512;

export interface Tail {
  readonly bytes: number;
  readonly batches: number;
}

/** Fewer could all be records that were under way, and not acknowledged yet. */
const LEAST_BATCHES = 8;

/**
 * Zeroes the last `share` (0 to 1) of what lies behind the directory's own watermark, the place up
 * to which even such a disk had time.
 */
export async function loseTail(directory: string, share: number): Promise<Tail> {
  const watermark = await readWatermark(path.join(directory, 'control'));
  const segment = await lastSegment(directory);
  const file = await open(segment.path, 'r+');
  try {
    const bytes = await file.readFile();
    const batches = batchOffsets(bytes);
    const start = segment.startPosition;
    const unsafe = batches.filter((offset) => start + offset >= watermark);
    const count = Math.max(LEAST_BATCHES, Math.ceil(unsafe.length * share));
    const from = unsafe[Math.max(0, unsafe.length - count)];
    if (from === undefined) return { bytes: 0, batches: 0 };
    const end = endOf(bytes, batches);
    await file.write(Buffer.alloc(end - from), 0, end - from, from);
    await file.sync();
    return { bytes: end - from, batches: Math.min(count, unsafe.length) };
  } finally {
    await file.close();
  }
}

async function readWatermark(file: string): Promise<number> {
  const handle = await open(file, 'r');
  try {
    let newest = { sequence: -1n, watermark: 0n };
    for (const offset of CONTROL_COPIES) {
      const { buffer } = await handle.read(Buffer.alloc(CONTROL_COPY_BYTES), 0, undefined, offset);
      const sequence = buffer.readBigUInt64LE(CONTROL_SEQUENCE_OFFSET);
      const watermark = buffer.readBigUInt64LE(CONTROL_WATERMARK_OFFSET);
      if (sequence > newest.sequence) newest = { sequence, watermark };
    }
    return Number(newest.watermark);
  } finally {
    await handle.close();
  }
}

interface Segment {
  readonly path: string;
  readonly startPosition: number;
}

async function lastSegment(directory: string): Promise<Segment> {
  let last: Segment | undefined;
  for (const name of await readdir(directory)) {
    if (!name.endsWith('.wal')) continue;
    const file = path.join(directory, name);
    const handle = await open(file, 'r');
    const { buffer } = await handle.read(Buffer.alloc(HEADER_BYTES), 0, HEADER_BYTES, 0);
    await handle.close();
    if (buffer.readUInt32LE(0) !== SEGMENT_MAGIC) continue;
    const startPosition = Number(buffer.readBigUInt64LE(START_POSITION_OFFSET));
    if (last === undefined || startPosition > last.startPosition) {
      last = { path: file, startPosition };
    }
  }
  if (last === undefined) throw new Error(`${directory} holds no segment`);
  return last;
}

/** Where batches start in a segment, up to the first place without one. */
function batchOffsets(segment: Buffer): number[] {
  const offsets: number[] = [];
  let offset = HEADER_BYTES;
  while (offset + 128 <= segment.length && segment.readUInt32LE(offset) === BATCH_MAGIC) {
    offsets.push(offset);
    offset += segment.readUInt32LE(offset + BATCH_LENGTH_OFFSET);
  }
  return offsets;
}

function endOf(segment: Buffer, batches: readonly number[]): number {
  const last = batches.at(-1);
  return last === undefined
    ? HEADER_BYTES
    : last + segment.readUInt32LE(last + BATCH_LENGTH_OFFSET);
}
