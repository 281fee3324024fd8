import { renameSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { compareLogs } from '../../src/cli/compare.js';
import { tempDir } from '../global/temp.js';

const SEGMENT = 64 * 1024;

/** Segments with a header that places them and a body that tells them apart. */
function segmentBytes(index: number): Buffer {
  const bytes = Buffer.alloc(SEGMENT, index + 1);
  bytes.writeUInt32LE(0x47534d57, 0);
  bytes.writeBigUInt64LE(BigInt(index * SEGMENT), 40);
  bytes.writeBigUInt64LE(BigInt(SEGMENT), 56);
  return bytes;
}

function directory(indices: readonly number[], change?: (bytes: Buffer, index: number) => void) {
  const dir = tempDir('compare');
  for (const index of indices) {
    const bytes = segmentBytes(index);
    change?.(bytes, index);
    writeFileSync(join(dir, `${index}.wal`), bytes);
  }
  return dir;
}

describe('comparing two logs', () => {
  it('finds no difference between equal ones', () => {
    const [a, b] = [directory([0, 1, 2]), directory([0, 1, 2])];
    expect(compareLogs(a, b, 3 * SEGMENT)).toEqual({ from: 0, to: 3 * SEGMENT });
  });

  it('finds the first byte that differs', () => {
    const a = directory([0, 1, 2]);
    const b = directory([0, 1, 2], (bytes, index) => {
      if (index > 0) bytes[5000] = 99;
    });
    expect(compareLogs(a, b, 3 * SEGMENT)).toEqual({
      from: 0,
      to: SEGMENT + 5000,
      difference: {
        position: SEGMENT + 5000,
        offset: 5000,
        file: join(a, '1.wal'),
        otherFile: join(b, '1.wal'),
      },
    });
  });

  it('does not look past the end of the shorter log', () => {
    const b = directory([0, 1], (bytes, index) => {
      if (index === 1) bytes[5000] = 99;
    });
    const a = directory([0, 1, 2]);
    expect(compareLogs(a, b, SEGMENT + 5000)).toEqual({ from: 0, to: SEGMENT + 5000 });
    expect(compareLogs(a, b, SEGMENT + 5001).difference?.offset).toBe(5000);
  });

  it('begins where both begin when one was trimmed', () => {
    const [a, b] = [directory([2, 3]), directory([1, 2, 3])];
    expect(compareLogs(a, b, 4 * SEGMENT)).toEqual({ from: 2 * SEGMENT, to: 4 * SEGMENT });
  });

  it('places segments by their headers, not their names', () => {
    const [a, b] = [directory([0, 1]), directory([0, 1])];
    renameSync(join(b, '0.wal'), join(b, 'x.wal'));
    renameSync(join(b, '1.wal'), join(b, '0.wal'));
    expect(compareLogs(a, b, 2 * SEGMENT)).toEqual({ from: 0, to: 2 * SEGMENT });
  });

  it('takes a file that is cut short as a difference', () => {
    const [a, b] = [directory([0]), directory([0])];
    truncateSync(join(b, '0.wal'), 6000);
    expect(compareLogs(a, b, SEGMENT).difference).toMatchObject({ offset: 6000 });
  });

  it('refuses logs with a segment missing in the middle', () => {
    const [a, b] = [directory([0, 1, 2]), directory([0, 2])];
    expect(() => compareLogs(a, b, 3 * SEGMENT)).toThrow(/same places/);
  });
});
