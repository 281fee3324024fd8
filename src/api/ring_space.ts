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
 * Ring bytes that records of these sizes (length words and padding included) take when they are
 * appended from `position` on: batch headers, and what the ends of segments waste. The engine's
 * own rules (docs/format.md), followed without writing anything.
 */
export function ringSpace(layout: Layout, position: number, sizes: Iterable<number>): number {
  let at = position;
  let payload = 0;
  let capacity = Math.min(layout.maxBatchBytes, room(layout, at));
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

/**
 * Whether records of these sizes, the largest of them `largest`, can fit an empty ring wherever
 * it stands.
 */
export function canEverFit(layout: Layout, sizes: Iterable<number>, largest: number): boolean {
  // From another position in the segment one more roll may come, and waste what the largest did
  // not fit in.
  const roll = batchBytes(layout, largest) + filler(layout) + SEGMENT_HEADER;
  return ringSpace(layout, SEGMENT_HEADER, sizes) + roll + HELD <= layout.ringBytes;
}

function batchBytes(layout: Layout, payload: number): number {
  return Math.ceil((BATCH_HEADER + payload) / layout.align) * layout.align;
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
