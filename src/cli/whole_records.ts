import { closeSync, createReadStream, existsSync, openSync, readSync, statSync } from 'node:fs';
import { truncate } from 'node:fs/promises';
import { createSplitter, type InputFormat } from './splitter.js';

const BLOCK_BYTES = 64 * 1024;
const NEWLINE = 10;

/**
 * Cuts off the part of a record that a killed process left at the end of its output, so that the
 * next record does not continue it. Returns how many bytes that was. What is no regular file, or
 * not there, is left alone.
 */
export async function cutTornRecord(
  path: string,
  format: InputFormat,
  maxRecordBytes: number,
): Promise<number> {
  if (path === '-' || !existsSync(path)) return 0;
  const status = statSync(path);
  if (!status.isFile()) return 0;
  const whole =
    format === 'lines'
      ? endOfLastLine(path, status.size)
      : await endOfLastFrame(path, maxRecordBytes);
  if (whole < status.size) await truncate(path, whole);
  return status.size - whole;
}

/** Whether there is a regular file, and not an empty one. */
export function holdsBytes(path: string): boolean {
  if (path === '-' || !existsSync(path)) return false;
  const status = statSync(path);
  return status.isFile() && status.size > 0;
}

/** Looks from the end: a file of many gigabytes is not read for it. */
function endOfLastLine(path: string, size: number): number {
  const fd = openSync(path, 'r');
  try {
    const block = Buffer.allocUnsafe(BLOCK_BYTES);
    for (let end = size; end > 0; ) {
      const start = Math.max(0, end - BLOCK_BYTES);
      const got = readSync(fd, block, 0, end - start, start);
      const at = block.subarray(0, got).lastIndexOf(NEWLINE);
      if (at >= 0) return start + at + 1;
      end = start;
    }
    return 0;
  } finally {
    closeSync(fd);
  }
}

/** Only from the beginning on is it known where a frame starts. */
async function endOfLastFrame(path: string, maxRecordBytes: number): Promise<number> {
  const splitter = createSplitter('frames', maxRecordBytes);
  let end = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: 16 * BLOCK_BYTES })) {
    splitter.feed(chunk as Buffer);
    for (let record = splitter.next(); record !== undefined; record = splitter.next()) {
      end += 4 + record.length;
    }
  }
  return end;
}
