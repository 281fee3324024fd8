import { Batch, BatchField } from './batch.js';
import type { BatchReader } from './reader.js';
import type { SentBatches } from './thread_calls.js';

/** The next batch, and those that were read with it: at most a reader's chunk. None: the end. */
export async function nextBatches(reader: BatchReader): Promise<Batch[]> {
  const { done, value } = await reader.next();
  if (done === true) return [];
  const batches = [value];
  for (let batch = reader.ready(); batch !== undefined; batch = reader.ready()) batches.push(batch);
  return batches;
}

/** Takes them to another thread, in one piece. */
export function sentBatches(batches: readonly Batch[], cuts: number): SentBatches {
  const bytes = new Uint8Array(batches.reduce((sum, batch) => sum + batch.bytes.length, 0));
  let at = 0;
  for (const batch of batches) {
    bytes.set(batch.bytes, at);
    at += batch.bytes.length;
  }
  return { bytes, cuts };
}

/** The batches of such a piece, for a reading from `from` to `to`. */
export function* receivedBatches(
  { bytes }: SentBatches,
  { from, to }: { readonly from: number; readonly to: number },
): Generator<Batch, undefined> {
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at < all.length; ) {
    const length = all.readUInt32LE(at + BatchField.LENGTH);
    yield new Batch(all.subarray(at, at + length), from, to);
    at += length;
  }
  return undefined;
}
