/** What the log's layout costs in ring memory, as far as back-pressure has to know it. */
export interface Layout {
  readonly segmentBytes: number;
  readonly ringBytes: number;
  readonly maxBatchBytes: number;
  readonly align: number;
}

const BATCH_HEADER = 128;
const SEGMENT_HEADER = 4096;

/**
 * An upper bound of the ring bytes that records of `payload` bytes in all (their length words and
 * padding included), the largest of them `largest`, can take from here on.
 *
 * Two batches in a row hold more than one full batch together, which bounds their number. A segment
 * that ends in between wastes the room that the next record did not fit in, a filler, and a header.
 */
export function ringSpace(layout: Layout, payload: number, largest: number): number {
  const { segmentBytes, maxBatchBytes, align } = layout;
  const perBatch = BATCH_HEADER + align;
  const perRoll = largest + perBatch + Math.max(BATCH_HEADER, align) + SEGMENT_HEADER;
  const usable = Math.max(4096, segmentBytes - perRoll);
  let batches = Math.ceil((2 * payload) / maxBatchBytes) + 1;
  const rolls = Math.ceil((payload + batches * perBatch) / usable);
  batches += rolls;
  return payload + batches * perBatch + rolls * perRoll;
}
