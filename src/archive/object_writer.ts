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

const { blockHeaderBytes } = objectFormat;

/**
 * An archived segment, made of its bytes as they come: a piece is asked for when what was made of
 * the ones before is taken. A piece, of what comes and of what is given, is to be used before the
 * next one is asked for: its memory is used again. Holds one block, and what is made of it. Throws
 * where the bytes are not those that `facts` describes: what was given until then is no whole
 * object, and is not to be kept.
 */
export async function* writeObject(
  facts: SegmentFacts,
  raw: AsyncIterable<Buffer>,
  crc32c: Crc32c,
  blockBytes: number = objectFormat.blockBytes,
): AsyncGenerator<Buffer, void, undefined> {
  const hash = createHash('sha256');
  const walk = new BatchWalk(facts, facts.start);
  const block = Buffer.allocUnsafeSlow(blockBytes);
  const made = Buffer.allocUnsafeSlow(blockHeaderBytes + blockBytes);
  const header = encodeObjectHeader({ ...facts, blockBytes }, crc32c);
  let storedBytes = header.length;
  let filled = 0;
  yield header;
  for await (const piece of raw) {
    walk.push(piece);
    for (let at = 0; at < piece.length; ) {
      const copied = piece.copy(block, filled, at);
      filled += copied;
      at += copied;
      if (filled === blockBytes) yield await blockOf();
    }
  }
  if (filled > 0) yield await blockOf();
  requireFacts(walk, facts);
  yield encodeObjectTrailer({ storedBytes, sha256: hash.digest() }, crc32c);

  /** What does not shrink is stored as it is. */
  async function blockOf(): Promise<Buffer> {
    const bytes = block.subarray(0, filled);
    hash.update(bytes);
    const compressed = await compressBlock(bytes);
    const stored = compressed.length < bytes.length ? compressed : bytes;
    encodeBlockHeader(bytes.length, stored, crc32c).copy(made);
    stored.copy(made, blockHeaderBytes);
    const length = blockHeaderBytes + stored.length;
    storedBytes += length;
    filled = 0;
    return made.subarray(0, length);
  }
}
