/** What the log's layout costs in ring memory, as far as back-pressure has to know it. */
export interface Layout {
  readonly segmentBytes: number;
  readonly ringBytes: number;
  readonly maxBatchBytes: number;
  readonly align: number;
}

const BATCH_HEADER = 128;
const SEGMENT_HEADER = 4096;
const PAGE = 4096;

/** Ring bytes that cannot be had: the last block that was flushed stays for the next flush. */
const HELD = PAGE;

/**
 * Batches that may come beside those that are full: the open one is closed early, or was opened
 * when there was little room; and what is left of each of them is a batch.
 */
const EARLY = 3;

/**
 * Log bytes that records of these sizes (length words and padding included) take when they are
 * appended from `position` on: batch headers, and what the ends of segments waste. The engine's
 * own rules (docs/format.md), followed without writing anything. `reserved`: payload bytes that the
 * engine has reserved there already.
 */
export function ringSpace(
  layout: Layout,
  position: number,
  sizes: Iterable<number>,
  reserved = 0,
): number {
  let at = position;
  let payload = 0;
  let capacity = reserved;
  for (const size of sizes) {
    if (payload + size > capacity) {
      if (payload > 0) at += batchBytes(layout, payload);
      payload = 0;
      if (size > room(layout, at)) at = segmentEnd(layout, at) + SEGMENT_HEADER;
      capacity = Math.min(Math.max(layout.maxBatchBytes, size), room(layout, at));
    }
    payload += size;
  }
  if (payload > 0) at += batchBytes(layout, payload);
  return at - position;
}

/** The same for one record. */
export function recordSpace(layout: Layout, position: number, size: number): number {
  const bytes = batchBytes(layout, size);
  if (size <= room(layout, position)) return bytes;
  return segmentEnd(layout, position) - position + SEGMENT_HEADER + bytes;
}

/** Records of which not all is known. */
export interface Group {
  /** Payload bytes of all. */
  readonly payload: number;
  /** Of the largest, at most. */
  readonly largest: number;
  /** How many; unknown: any number. */
  readonly count?: number;
}

/**
 * The most log bytes that any records of this description take, wherever they are appended or, with
 * `left`, where so many bytes of the segment are left.
 *
 * With k rolls: each batch costs its header and padding, two that follow each other in a segment
 * hold more than one full batch together, and a roll wastes less than the record that did not fit.
 * It takes the first k that is consistent: what k rolls cost at most ends before the next roll.
 */
export function mostSpace(layout: Layout, group: Group, left = 0): number {
  const { payload, largest, count = Number.POSITIVE_INFINITY } = group;
  const { maxBatchBytes, segmentBytes, align } = layout;
  const batch = BATCH_HEADER + align - 4;
  const roll = rollBytes(layout);
  const full = Math.floor(payload / Math.max(maxBatchBytes / 2, maxBatchBytes - largest));
  for (let rolls = 0; ; rolls++) {
    const batches = Math.min(count, full + rolls + 1) + EARLY;
    const wasted = Math.min(payload, rolls * largest);
    const most = payload + wasted + batches * batch + rolls * roll;
    // What does not fit the ring fits no better with more rolls.
    if (most <= left + rolls * segmentBytes - filler(layout) || most > layout.ringBytes) {
      return most;
    }
  }
}

/** The most that it costs to close a batch before it is full, records up to `largest` to follow. */
export function splitSpace(layout: Layout, largest: number): number {
  return 3 * (BATCH_HEADER + layout.align - 4) + rollBytes(layout) + largest;
}

/** Whether these records can fit an empty ring wherever it stands. */
export function canEverFit(layout: Layout, group: Group): boolean {
  return mostSpace(layout, group) + HELD <= layout.ringBytes;
}

/** Log bytes of a batch with this payload. */
export function batchBytes(layout: Layout, payload: number): number {
  return Math.ceil((BATCH_HEADER + payload) / layout.align) * layout.align;
}

/** Bytes from a position to the end of its segment. */
export function leftInSegment(layout: Layout, position: number): number {
  return segmentEnd(layout, position) - position;
}

/** What a roll costs beside the room that was too small for the next record. */
function rollBytes(layout: Layout): number {
  return BATCH_HEADER + layout.align + filler(layout) + SEGMENT_HEADER;
}

function filler(layout: Layout): number {
  return Math.max(BATCH_HEADER, layout.align);
}

function segmentEnd(layout: Layout, position: number): number {
  return (Math.floor(position / layout.segmentBytes) + 1) * layout.segmentBytes;
}

/** Payload bytes that a batch at `position` can have in its segment. */
function room(layout: Layout, position: number): number {
  const left = segmentEnd(layout, position) - filler(layout) - position;
  const whole = Math.floor(left / layout.align) * layout.align;
  return Math.max(0, whole - BATCH_HEADER);
}
