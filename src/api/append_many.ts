import { type NativeLog, State } from '../native/native_log.js';
import type { Appender } from './appender.js';
import { WalError } from './errors.js';
import { type RecordData, recordBytes, recordSize, tooLarge } from './record.js';
import { canEverFit, type Layout, ringSpace } from './ring_space.js';
import { shown } from './validate.js';

/** First and last LSN of the records of one `appendMany`. Of none: `last` is `first - 1`. */
export interface AppendedRange {
  readonly first: number;
  readonly last: number;
}

/** Another segment takes the engine milliseconds to prepare; this is for a disk that hangs. */
const MOST_PAUSES = 10_000;

/**
 * Appends all of the records or none: everything that could refuse one of them is looked at before
 * the first is taken. They may span batches.
 */
export function appendMany(
  appender: Appender,
  native: NativeLog,
  layout: Layout,
  items: Iterable<RecordData>,
): AppendedRange {
  const group = measured(items, appender.maxRecord);
  const first = appender.lsn + 1;
  if (group.records.length === 0) return { first, last: first - 1 };
  appender.refuseUnlessAccepting();
  if (!appender.hasRoom(group.payload)) requireSpace(appender, native, layout, group);
  for (const record of group.records) appendTaken(appender, record);
  return { first, last: appender.lsn };
}

interface Group {
  readonly records: readonly (Uint8Array | string)[];
  /** Payload bytes of each. */
  readonly sizes: readonly number[];
  readonly payload: number;
  readonly largest: number;
}

function measured(items: Iterable<RecordData>, maxRecord: number): Group {
  if (typeof items === 'string' || ArrayBuffer.isView(items) || !isIterable(items)) {
    throw new TypeError(`appendMany takes an array of records, got ${shown(items)}`);
  }
  const records: (Uint8Array | string)[] = [];
  const sizes: number[] = [];
  let payload = 0;
  let largest = 0;
  // Copied first: an iterator is the caller's code, and could change an earlier item's length.
  for (const item of [...items]) {
    const record =
      typeof item === 'string' ? item : recordBytes(item, `appendMany, at [${records.length}],`);
    const bytes = typeof record === 'string' ? Buffer.byteLength(record) : record.byteLength;
    if (bytes > maxRecord) throw tooLarge(bytes, maxRecord, 'appendMany');
    const size = recordSize(bytes);
    records.push(record);
    sizes.push(size);
    payload += size;
    if (size > largest) largest = size;
  }
  return { records, sizes, payload, largest };
}

function isIterable(value: unknown): boolean {
  return (
    typeof value === 'object' &&
    value !== null &&
    typeof (value as Partial<Iterable<unknown>>)[Symbol.iterator] === 'function'
  );
}

function requireSpace(appender: Appender, native: NativeLog, layout: Layout, group: Group): void {
  // Closed first: where the next batch starts, and what is free, is exact then.
  appender.close();
  appender.refuseUnlessAccepting();
  const { state } = native;
  const space = ringSpace(layout, state[State.CLOSED_POSITION] ?? 0, group.sizes);
  if (space <= (state[State.RING_FREE] ?? 0)) return;
  if (!canEverFit(layout, group.sizes, group.largest)) {
    throw new RangeError(
      `appendMany got ${group.payload} bytes of records; a log memory (ringBytes) of ` +
        `${layout.ringBytes} bytes cannot take so many at once`,
    );
  }
  throw appender.full(space);
}

/** One record of a group that is known to fit, if only the engine has the next segment ready. */
function appendTaken(appender: Appender, record: Uint8Array | string): void {
  for (let pauses = 0; ; pauses++) {
    try {
      appender.append(record);
      return;
    } catch (error) {
      // Its own threads prepare the segment: nothing of this thread is needed for it.
      if (!isFull(error) || pauses >= MOST_PAUSES) throw error;
      pause();
    }
  }
}

function isFull(error: unknown): boolean {
  return error instanceof WalError && error.code === 'WAL_RING_FULL';
}

function pause(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
}
