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
 * Blocks that are made at once. A process whose event loop is busy gets to its files a few times a
 * second: then the archive is as fast as what is done in one turn is large.
 */
const blocksAtOnce = 4;

/**
 * An archived segment, made of its bytes as they come: a piece is asked for when what was made of
 * the ones before is taken. A piece, of what comes and of what is given, is to be used before the
 * next one is asked for: its memory is used again. Holds a few blocks, and what is made of them.
 * Throws where the bytes are not those that `facts` describes: what was given until then is no
 * whole object, and is not to be kept.
 */
export async function* writeObject(
  facts: SegmentFacts,
  raw: AsyncIterable<Buffer>,
  crc32c: Crc32c,
  blockBytes: number = objectFormat.blockBytes,
): AsyncGenerator<Buffer, void, undefined> {
  const hash = createHash('sha256');
  const walk = new BatchWalk(facts, facts.start);
  const blocks = Math.min(blocksAtOnce, Math.ceil((facts.end - facts.start) / blockBytes));
  const held = Buffer.allocUnsafeSlow(blocks * blockBytes);
  const made = Buffer.allocUnsafeSlow(blocks * (blockHeaderBytes + blockBytes));
  const header = encodeObjectHeader({ ...facts, blockBytes }, crc32c);
  let storedBytes = header.length;
  let filled = 0;
  yield header;
  for await (const piece of raw) {
    walk.push(piece);
    for (let at = 0; at < piece.length; ) {
      const copied = piece.copy(held, filled, at);
      filled += copied;
      at += copied;
      if (filled === held.length) yield await makeBlocks();
    }
  }
  if (filled > 0) yield await makeBlocks();
  requireFacts(walk, facts);
  yield encodeObjectTrailer({ storedBytes, sha256: hash.digest() }, crc32c);

  /** What does not shrink is stored as it is. */
  async function makeBlocks(): Promise<Buffer> {
    const each: Buffer[] = [];
    for (let at = 0; at < filled; at += blockBytes) {
      each.push(held.subarray(at, Math.min(at + blockBytes, filled)));
    }
    const packing = Promise.all(each.map(compressBlock));
    hash.update(held.subarray(0, filled));
    let length = 0;
    for (const [i, compressed] of (await packing).entries()) {
      const bytes = each[i]!;
      const stored = compressed.length < bytes.length ? compressed : bytes;
      length += encodeBlockHeader(bytes.length, stored, crc32c).copy(made, length);
      length += stored.copy(made, length);
    }
    storedBytes += length;
    filled = 0;
    return made.subarray(0, length);
  }
}
