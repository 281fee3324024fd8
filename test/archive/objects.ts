import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { LogCore } from '../../src/api/core.js';
import { Log } from '../../src/api/log.js';
import { openLog } from '../../src/api/open.js';
import { lengthBytes, compressBlock as packed } from '../../src/archive/lz4.js';
import {
  encodeBlockHeader,
  encodeObjectHeader,
  encodeObjectTrailer,
  objectFormat,
  type SegmentFacts,
} from '../../src/archive/object_format.js';
import { ObjectReader } from '../../src/archive/object_reader.js';
import { writeObject } from '../../src/archive/object_writer.js';
import { SegmentSource } from '../../src/archive/segment_source.js';
import { loadBinding } from '../../src/native/binding.js';
import { makeTempDir } from '../global/temp.js';

export const { crc32c, allocateAligned } = loadBinding();

export interface Segment {
  readonly facts: SegmentFacts;
  /** Its bytes of the log. */
  readonly raw: Buffer;
}

/** Segments as small as they may be. */
export const least = { segmentBytes: 64 * 1024, maxBatchBytes: 4096 } as const;

/** The first full segments of a new log; `record` gives each record. */
export async function someSegments(
  count: number,
  record: (i: number) => Buffer = (i) => Buffer.alloc(1000, `record ${i} `),
): Promise<Segment[]> {
  const dir = makeTempDir('segments');
  const core = await openLog({ dir: join(dir, 'log'), ...least });
  const log = Log.over(core);
  try {
    const end = (count + 1) * least.segmentBytes;
    for (let bytes = 0, i = 0; bytes < end; bytes += record(i).length, i += 1) {
      await log.drain(record(i).length);
      log.append(record(i));
    }
    await log.commit();
    const source = sourceOf(core);
    const found: Segment[] = [];
    for (let i = 0; i < count; i += 1) found.push(await segmentAt(source, i));
    return found;
  } finally {
    await log.close();
    rmSync(dir, { recursive: true });
  }
}

async function segmentAt(source: SegmentSource, number: number): Promise<Segment> {
  const facts = await source.facts(4096 + number * least.segmentBytes);
  return { facts, raw: await gathered(source.bytes(facts.start, facts.end)) };
}

export function sourceOf(core: LogCore): SegmentSource {
  return new SegmentSource({
    ...{ native: core.native, allocateAligned },
    ...{ cuts: () => core.cuts.count, explain: (error) => error },
  });
}

export async function gathered(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const found: Buffer[] = [];
  for await (const piece of pieces) found.push(Buffer.from(piece));
  return Buffer.concat(found);
}

export async function* inPieces(bytes: Buffer, size = bytes.length): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

export function objectOf({ facts, raw }: Segment, blockBytes?: number): Promise<Buffer> {
  return gathered(writeObject(facts, inPieces(raw, 10_000), crc32c, blockBytes));
}

/** What the reader makes of an object: the bytes of the log. */
export async function readObject(object: Buffer, pieceBytes?: number): Promise<Buffer> {
  const reader = await ObjectReader.open('it', inPieces(object, pieceBytes), crc32c);
  return gathered(reader.raw());
}

interface Block {
  readonly rawBytes: number;
  /** What its header says that it takes. */
  readonly storedBytes?: number;
  readonly stored: Buffer;
}

/** An object by somebody who can compute checksums, and writes what he likes. */
export class Forged {
  facts: SegmentFacts;
  blockBytes: number = objectFormat.blockBytes;
  blocks: Block[];
  sha256: Buffer;
  storedBytes: number | undefined;
  trailing = Buffer.alloc(0);

  private constructor(facts: SegmentFacts, blocks: Block[], raw: Buffer) {
    this.facts = facts;
    this.blocks = blocks;
    this.sha256 = createHash('sha256').update(raw).digest();
  }

  static async of({ facts, raw }: Segment): Promise<Forged> {
    return new Forged(facts, [{ rawBytes: raw.length, stored: await packed(raw) }], raw);
  }

  get bytes(): Buffer {
    const { facts, blockBytes } = this;
    const parts = [encodeObjectHeader({ ...facts, blockBytes }, crc32c)];
    for (const { rawBytes, storedBytes, stored } of this.blocks) {
      const head = encodeBlockHeader(rawBytes, stored, crc32c);
      if (storedBytes !== undefined) {
        head.writeUInt32LE(storedBytes, 4);
        head.writeUInt32LE(crc32c(stored, crc32c(head.subarray(0, 8))), 8);
      }
      parts.push(head, stored);
    }
    const storedBytes = this.storedBytes ?? Buffer.concat(parts).length;
    parts.push(encodeObjectTrailer({ storedBytes, sha256: this.sha256 }, crc32c), this.trailing);
    return Buffer.concat(parts);
  }
}

export { lengthBytes, packed };
