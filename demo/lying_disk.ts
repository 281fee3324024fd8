/**
 * A disk that says "flushed" and is not, for the planted run. To the standby on it, and to the
 * primary, the end of the log was flushed and acknowledged; then the power goes, and the end of the
 * log is zeros. This is a harness around closed files: the engine knows nothing of it.
 */
import { open, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';

// docs/format.md
const BATCH_MAGIC = 0x54424d57;
const SEGMENT_MAGIC = 0x47534d57;
const HEADER_BYTES = 4096;
const BATCH_LENGTH_OFFSET = 8;
const BATCH_COUNT_OFFSET = 84;
const START_POSITION_OFFSET = 40;
const CONTROL_COPIES = [0, 16_384] as const;
const CONTROL_SEQUENCE_OFFSET = 16;
const CONTROL_WATERMARK_OFFSET = 120;

/** The control file of a directory at some time: the last that such a disk really kept of it. */
export type KeptControl = Buffer;

export interface Tail {
  readonly bytes: number;
  readonly batches: number;
  readonly records: number;
}

/** Also while a process has the log open: a copy may be half written, but not twice the same. */
export async function readControl(directory: string): Promise<KeptControl> {
  const file = path.join(directory, 'control');
  let found = await readFile(file);
  for (;;) {
    const again = await readFile(file);
    if (again.equals(found)) return found;
    found = again;
  }
}

/**
 * Puts the control file back as it was, so that nothing since its watermark was ever flushed, and
 * zeroes the last `share` (0 to 1) of that; in any case as many batches as hold `least` records.
 */
export async function loseTail(
  directory: string,
  control: KeptControl,
  { share, least }: { readonly share: number; readonly least: number },
): Promise<Tail> {
  const segment = await lastSegment(directory);
  const bytes = await readFile(segment.path);
  const batches = batchOffsets(bytes);
  const watermark = watermarkOf(control);
  const unsafe = batches.filter((offset) => segment.startPosition + offset >= watermark);
  let count = Math.ceil(unsafe.length * share);
  while (count < unsafe.length && recordsIn(bytes, unsafe.slice(-count)) < least) count += 1;
  const lost = unsafe.slice(-count);
  const records = recordsIn(bytes, lost);
  const [from] = lost;
  if (from === undefined || records < least) {
    throw new Error(`only ${records} records came since the watermark; ${least} are to be lost`);
  }
  const end = endOf(bytes, batches);
  const file = await open(segment.path, 'r+');
  try {
    await file.write(Buffer.alloc(end - from), 0, end - from, from);
    await file.sync();
  } finally {
    await file.close();
  }
  await writeFile(path.join(directory, 'control'), control, { flag: 'r+', flush: true });
  return { bytes: end - from, batches: count, records };
}

function watermarkOf(control: KeptControl): number {
  let newest = { sequence: -1n, watermark: 0n };
  for (const offset of CONTROL_COPIES) {
    const sequence = control.readBigUInt64LE(offset + CONTROL_SEQUENCE_OFFSET);
    const watermark = control.readBigUInt64LE(offset + CONTROL_WATERMARK_OFFSET);
    if (sequence > newest.sequence) newest = { sequence, watermark };
  }
  return Number(newest.watermark);
}

function recordsIn(segment: Buffer, batches: readonly number[]): number {
  return batches.reduce((sum, at) => sum + segment.readUInt32LE(at + BATCH_COUNT_OFFSET), 0);
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
