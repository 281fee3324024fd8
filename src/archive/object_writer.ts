import { createHash } from 'node:crypto';
import { BatchWalk, requireFacts } from './batch_walk.js';
import { compressBlock } from './lz4.js';
import {
  type Crc32c,
  encodeBlockHeader,
  encodeObjectHeader,
  encodeObjectTrailer,
  objectFormat,
  type SegmentFacts,
} from './object_format.js';

/**
 * An archived segment, made of its bytes as they come: a piece is asked for when what was made of
 * the ones before is taken. The bytes of a piece are read before the next one is asked for. Holds
 * one block, and what is made of it. Throws where the bytes are not those that `facts` describes:
 * what was given until then is no whole object, and is not to be kept.
 */
export async function* writeObject(
  facts: SegmentFacts,
  raw: AsyncIterable<Buffer>,
  crc32c: Crc32c,
  blockBytes: number = objectFormat.blockBytes,
): AsyncGenerator<Buffer, void, undefined> {
  const hash = createHash('sha256');
  const walk = new BatchWalk(facts, facts.start);
  let storedBytes = 0;
  const header = encodeObjectHeader({ ...facts, blockBytes }, crc32c);
  storedBytes += header.length;
  yield header;
  const block = Buffer.allocUnsafeSlow(blockBytes);
  let filled = 0;
  for await (const piece of raw) {
    walk.push(piece);
    for (let at = 0; at < piece.length; ) {
      const copied = piece.copy(block, filled, at);
      filled += copied;
      at += copied;
      if (filled < blockBytes) continue;
      for (const part of await blockOf(block)) yield part;
      filled = 0;
    }
  }
  if (filled > 0) for (const part of await blockOf(block.subarray(0, filled))) yield part;
  requireFacts(walk, facts);
  yield encodeObjectTrailer({ storedBytes, sha256: hash.digest() }, crc32c);

  /** What does not shrink is stored as it is. */
  async function blockOf(bytes: Buffer): Promise<readonly Buffer[]> {
    hash.update(bytes);
    const compressed = await compressBlock(bytes);
    // The block is filled anew while a store may still have what it was given.
    const stored = compressed.length < bytes.length ? compressed : Buffer.from(bytes);
    const head = encodeBlockHeader(bytes.length, stored, crc32c);
    storedBytes += head.length + stored.length;
    return [head, stored];
  }
}
