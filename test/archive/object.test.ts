import { createHash, randomBytes } from 'node:crypto';
import { beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { uncompressBlock } from '../../src/archive/lz4.js';
import { objectFormat } from '../../src/archive/object_format.js';
import { ObjectReader } from '../../src/archive/object_reader.js';
import { writeObject } from '../../src/archive/object_writer.js';
import { codeOf, walError } from '../api/helpers.js';
import {
  crc32c,
  Forged,
  gathered,
  inPieces,
  objectOf,
  packed,
  readObject,
  type Segment,
  someSegments,
} from './objects.js';

let first: Segment;
let second: Segment;
let object: Buffer;

beforeAll(async () => {
  [first, second] = (await someSegments(2)) as [Segment, Segment];
  object = await objectOf(first);
});

describe('an archived segment', () => {
  it('describes the segment, and the next one continues it', async () => {
    const { facts } = first;
    expect(facts).toMatchObject({ start: 4096, end: 4096 + 64 * 1024, firstLsn: 1 });
    expect(facts.previousCrc).toBe(0);
    expect(second.facts.start).toBe(facts.end);
    expect(second.facts.firstLsn).toBe(facts.lastLsn + 1);
    expect(second.facts.previousCrc).toBe(facts.lastCrc);
    expect(second.facts.firstTime).toBeGreaterThanOrEqual(facts.lastTime);
  });

  it('gives the bytes of the log back, in whatever pieces it comes', async () => {
    for (const size of [1, 7, 191, 4096, object.length]) {
      expect((await readObject(object, size)).equals(first.raw)).toBe(true);
    }
  });

  it('says what it is before its content is read, and its SHA-256 after', async () => {
    const reader = await ObjectReader.open('it', inPieces(object), crc32c);
    expect(reader.header).toEqual({ ...first.facts, blockBytes: objectFormat.blockBytes });
    expect(() => reader.sha256).toThrow('not read to its end');
    await gathered(reader.raw());
    expect(reader.sha256.equals(createHash('sha256').update(first.raw).digest())).toBe(true);
  });

  it('is smaller than the segment, or hardly larger where nothing shrinks', async () => {
    expect(object.length).toBeLessThan(first.raw.length / 4);
    const [noise] = await someSegments(1, () => randomBytes(1000));
    const stored = await objectOf(noise!, 4096);
    expect((await readObject(stored)).equals(noise!.raw)).toBe(true);
    const overhead = stored.length - noise!.raw.length;
    // 16 blocks, each stored as it is: nothing but their heads, the header and the trailer.
    expect(overhead).toBeLessThanOrEqual(192 + 64 + 16 * 12);
  });

  it('has blocks of any size from 4 KiB to 1 MiB', async () => {
    for (const size of [4096, 5000, 65_536, 1024 * 1024]) {
      expect((await readObject(await objectOf(first, size))).equals(first.raw)).toBe(true);
    }
  });

  it('is not made of bytes that are not the segment', async () => {
    const write = (raw: Buffer) => gathered(writeObject(first.facts, inPieces(raw), crc32c));
    await expect(write(first.raw.subarray(0, -1))).rejects.toThrow('not those');
    await expect(write(Buffer.concat([first.raw, Buffer.alloc(1)]))).rejects.toThrow('follow');
    await expect(write(second.raw)).rejects.toThrow('lies elsewhere');
    await expect(
      gathered(writeObject(first.facts, inPieces(second.raw), crc32c)),
    ).rejects.toThrow();
    const other = { ...first.facts, lastLsn: first.facts.lastLsn + 1 };
    await expect(gathered(writeObject(other, inPieces(first.raw), crc32c))).rejects.toThrow(
      'not th',
    );
  });
});

describe('the reader', () => {
  it('finds every single bit that flips', async () => {
    const small = await objectOf(first);
    const missed: string[] = [];
    for (let at = 0; at < small.length; at += 1) {
      for (let bit = 0; bit < 8; bit += 1) {
        small[at]! ^= 1 << bit;
        const code = await readObject(small).then(
          () => 'nothing',
          (error: { code?: string }) => error.code ?? String(error),
        );
        if (code !== 'WAL_CORRUPT') missed.push(`byte ${at}, bit ${bit}: ${code}`);
        small[at]! ^= 1 << bit;
      }
    }
    expect(missed).toEqual([]);
    expect((await readObject(small)).equals(first.raw)).toBe(true);
  });

  it('finds that it ends early, after any byte', async () => {
    for (let length = 0; length < object.length; length += 1) {
      expect(await codeOf(() => readObject(object.subarray(0, length)))).toBe('WAL_CORRUPT');
    }
  });

  it('finds a byte that follows', async () => {
    const error = await walError(() => readObject(Buffer.concat([object, Buffer.alloc(1)])));
    expect(error.code).toBe('WAL_CORRUPT');
    expect(error.message).toContain('bytes follow its end');
    expect(error.file).toBe('it');
  });

  it('takes an error of the store for what it is', async () => {
    const broken = async function* () {
      yield object.subarray(0, 300);
      throw new Error('the line is down');
    };
    const reader = await ObjectReader.open('it', broken(), crc32c);
    await expect(gathered(reader.raw())).rejects.toThrow('the line is down');
  });

  it('lets go of what the store holds, however it ends', async () => {
    let open = 0;
    const held = async function* (bytes: Buffer) {
      open += 1;
      try {
        yield* inPieces(bytes, 50);
      } finally {
        open -= 1;
      }
    };
    await gathered((await ObjectReader.open('it', held(object), crc32c)).raw());
    await (await ObjectReader.open('it', held(object), crc32c)).close();
    for await (const _ of (await ObjectReader.open('it', held(object), crc32c)).raw()) break;
    await codeOf(() => ObjectReader.open('it', held(Buffer.alloc(300)), crc32c));
    expect(open).toBe(0);
  });
});

describe('a forged one, whose checksums are right, is refused', () => {
  const refused = async (change: (forged: Forged) => void | Promise<void>): Promise<string> => {
    const forged = await Forged.of(first);
    await change(forged);
    const error = await walError(() => readObject(forged.bytes));
    expect(error.code).toBe('WAL_CORRUPT');
    return error.message;
  };

  it('and is none where nothing is changed', async () => {
    expect((await readObject((await Forged.of(first)).bytes)).equals(first.raw)).toBe(true);
  });

  it('where a block claims to take more than it may, before memory is taken for it', async () => {
    const taken = vi.spyOn(Buffer, 'allocUnsafeSlow');
    onTestFinished(() => taken.mockRestore());
    for (const storedBytes of [2 ** 32 - 1, 2 ** 31, first.raw.length + 1]) {
      const text = await refused((forged) => {
        forged.blocks = [{ ...forged.blocks[0]!, storedBytes }];
      });
      expect(text).toContain('takes more than it holds');
    }
    expect(taken).toHaveBeenCalled();
    expect(Math.max(...taken.mock.calls.map(([bytes]) => bytes))).toBeLessThan(4096);
  });

  it('where a block has another length than it has to have', async () => {
    for (const rawBytes of [0, 1, first.raw.length - 1, first.raw.length + 1, 2 ** 32 - 1]) {
      const text = await refused((forged) => {
        forged.blocks = [{ ...forged.blocks[0]!, rawBytes }];
      });
      expect(text).toContain('a block has another length');
    }
  });

  it('where there are no blocks, empty ones, or too many', async () => {
    await refused((forged) => {
      forged.blocks = [];
    });
    await refused((forged) => {
      forged.blocks = [{ rawBytes: first.raw.length, stored: Buffer.alloc(0) }];
    });
    await refused((forged) => {
      forged.blocks.push({ rawBytes: 0, stored: Buffer.alloc(0) });
    });
    await refused((forged) => {
      forged.blocks.push(forged.blocks[0]!);
    });
  });

  it('where a block gives more, or fewer, bytes than it says', async () => {
    const { length } = first.raw;
    for (const raw of [first.raw.subarray(0, length - 1), Buffer.alloc(length * 16)]) {
      const stored = await packed(raw);
      await refused((forged) => {
        forged.blocks = [{ rawBytes: length, stored }];
      });
    }
    await refused((forged) => {
      forged.blocks = [{ rawBytes: length, stored: Buffer.alloc(100, 0xff) }];
    });
  });

  it('where the content is another one', async () => {
    const changed = Buffer.from(first.raw);
    changed[1000]! ^= 1;
    const stored = await packed(changed);
    const text = await refused((forged) => {
      forged.blocks = [{ rawBytes: changed.length, stored }];
    });
    expect(text).toContain('SHA-256');
  });

  it('where the batches are not those that it tells of', async () => {
    for (const at of ['position', 'previous crc', 'first LSN', 'log id', 'length'] as const) {
      const offset = {
        position: 40,
        'previous crc': 112,
        'first LSN': 56,
        'log id': 16,
        length: 8,
      };
      const changed = Buffer.from(first.raw);
      // Of the second batch.
      const second = changed.readUInt32LE(8);
      changed[second + offset[at]]! ^= 1;
      const stored = await packed(changed);
      const sha256 = createHash('sha256').update(changed).digest();
      const text = await refused((forged) => {
        forged.blocks = [{ rawBytes: changed.length, stored }];
        forged.sha256 = sha256;
      });
      expect(text).toContain('the batch at position');
    }
  });

  it('where the header tells something else than the batches', async () => {
    const { facts } = first;
    const { term } = facts;
    const others = [
      ...[{ firstLsn: 2 }, { lastLsn: facts.lastLsn + 1 }, { lastLsn: facts.lastLsn - 1 }],
      ...[{ firstTime: facts.firstTime - 1 }, { lastTime: facts.lastTime + 1 }],
      ...[{ previousCrc: 1 }, { lastCrc: (facts.lastCrc ^ 1) >>> 0 }],
      ...[{ term: { ...term, epoch: 2 } }, { term: { ...term, incarnation: 2 } }],
      ...[{ term: { ...term, opener: '00'.repeat(16) } }],
      ...[{ logId: '11'.repeat(16) }, { salt: '22'.repeat(8) }],
      ...[{ start: facts.start + 65_536, end: facts.end + 65_536 }],
    ];
    for (const other of others) {
      await refused((forged) => {
        forged.facts = { ...facts, ...other };
      });
    }
  });

  it('where the header tells what no segment has', async () => {
    const { facts } = first;
    const wrong = [
      ...[{ segmentBytes: 0 }, { segmentBytes: 2 ** 40 }, { segmentBytes: 65_537 }],
      ...[{ align: 0 }, { align: 16 }, { maxRecordBytes: 0 }, { maxRecordBytes: 2 ** 40 }],
      ...[{ start: 0, end: 65_536 }, { end: facts.end + 1 }, { end: facts.start }],
      ...[
        { firstLsn: 0, lastLsn: 10 },
        { lastLsn: 0, firstLsn: 2 },
      ],
      ...[{ firstTime: facts.lastTime + 1 }],
    ];
    for (const other of wrong) {
      const text = await refused((forged) => {
        forged.facts = { ...facts, ...other };
      });
      expect(text).toContain('what cannot be');
    }
    for (const blockBytes of [0, 1, 4095, 1024 * 1024 + 1, 2 ** 32 - 1]) {
      const text = await refused((forged) => {
        forged.blockBytes = blockBytes;
      });
      expect(text).toContain('what cannot be');
    }
  });

  it('where numbers are past those that are exact', async () => {
    const forged = await Forged.of(first);
    const { bytes } = forged;
    for (const at of [40, 48, 64, 96, 104, 112, 120, 128, 136, 144]) {
      const changed = Buffer.from(bytes);
      changed.fill(0xff, at, at + 8);
      changed.writeUInt32LE(crc32c(changed.subarray(0, 188)), 188);
      expect(await codeOf(() => readObject(changed))).toBe('WAL_CORRUPT');
    }
  });

  it('where its end tells of another length', async () => {
    const text = await refused((forged) => {
      forged.storedBytes = 1;
    });
    expect(text).toContain('its length is another one');
  });
});

describe('a block', () => {
  it('that says nothing of its length is given none but the one that is known', async () => {
    const raw = Buffer.alloc(5000, 'x');
    const framed = Buffer.concat([Buffer.alloc(4, 0xff), await packed(raw)]);
    expect((await uncompressBlock(framed, 5000)).equals(raw)).toBe(true);
    for (const bytes of [4999, 5001, 1]) {
      await expect(uncompressBlock(framed, bytes)).rejects.toThrow();
    }
  });
});
