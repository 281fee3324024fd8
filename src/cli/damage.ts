import type { DamagedRange } from '../native/native_log.js';
import { count, plural, size } from './terminal.js';

/** One damaged range, for a person: where it lies, and which records it touches. */
export function describeRange({ file, offset, bytes, firstLsn, lastLsn }: DamagedRange): string {
  const what = bytes === 0 ? 'the rest of the file' : plural(bytes, 'byte');
  return `${file}, offset ${offset}, ${what}, ${describeLsns(firstLsn, lastLsn)}`;
}

function describeLsns(first: number, last: number): string {
  if (last < first || last === 0) return 'no record';
  return first === last ? `LSN ${count(first)}` : `LSN ${count(first)} to ${count(last)}`;
}

/** How far a scrub is, with a bar of its own width. */
export function progressBar(done: number, of: number): string {
  const width = 30;
  const part = of === 0 ? 1 : Math.min(1, done / of);
  const filled = Math.round(part * width);
  const bar = '#'.repeat(filled) + '-'.repeat(width - filled);
  return `[${bar}] ${Math.floor(part * 100)} %, ${size(done)} of ${size(of)}`;
}
