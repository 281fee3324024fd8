import type { Appender } from './appender.js';
import { type RecordData, recordBytes, recordSize, tooLarge } from './record.js';
import { canEverFit, type Layout, ringSpace } from './ring_space.js';
import { shown } from './validate.js';

/** First and last LSN of the records of one `appendMany`. Of none: `last` is `first - 1`. */
export interface AppendedRange {
  readonly first: number;
  readonly last: number;
}

/**
 * Appends all of the records or none: everything that could refuse one of them is looked at before
 * the first is taken. They may span batches and segments, which are ready by then.
 */
export function appendMany(appender: Appender, items: Iterable<RecordData>): AppendedRange {
  const group = measured(items, appender.maxRecord);
  if (group.records.length > 0) appender.refuseUnlessAccepting();
  const first = appender.lsn + 1;
  if (group.records.length === 0) return { first, last: first - 1 };
  if (appender.isShared) return appender.appendShared(group);
  if (!appender.hasRoom(group.payload)) requireRoom(appender, group);
  try {
    appender.appendGroup(group.records);
  } catch (error) {
    // Refused by a log that fails in between: some of them may be on the disk already.
    throw appender.lsn < first ? error : appender.broken(error);
  }
  return { first, last: appender.lsn };
}

/** The records of an `appendMany`, looked at and counted. */
export interface Measured {
  readonly records: readonly (Uint8Array | string)[];
  /** Payload bytes of each. */
  readonly sizes: readonly number[];
  readonly payload: number;
  readonly largest: number;
}

export function measured(items: Iterable<RecordData>, maxRecord: number): Measured {
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

export function requireFits(layout: Layout, { payload, largest, records }: Measured): void {
  if (canEverFit(layout, { payload, largest, count: records.length })) return;
  throw new RangeError(
    `appendMany got ${payload} bytes of records; a log memory (ringBytes) of ` +
      `${layout.ringBytes} bytes cannot take so many at once`,
  );
}

function requireRoom(appender: Appender, group: Measured): void {
  const { payload, sizes } = group;
  const { layout } = appender.room;
  requireFits(layout, group);
  // Closed first: where the next batch starts is exact then.
  appender.close();
  appender.refuseUnlessAccepting();
  if (appender.hasRoom(payload)) return;
  const space = ringSpace(layout, appender.room.closed, sizes, appender.reserved);
  let isReady: boolean;
  try {
    isReady = appender.room.hold(space);
  } catch (error) {
    throw appender.refusedBy(error);
  }
  if (!isReady) throw appender.full(space, sizes);
}
