import { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { frameDecoder, frameEncoder } from '../../src/index.js';
import { openLog, small, texts, walError } from './helpers.js';

function frame(data: Uint8Array): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(data.length);
  return Buffer.concat([length, data]);
}

/** The same bytes, cut into chunks at these places. */
function chunked(bytes: Buffer, cuts: readonly number[]): Buffer[] {
  const places = [...cuts.map((n) => n % (bytes.length + 1)), 0, bytes.length];
  places.sort((a, b) => a - b);
  return places.slice(1).map((end, i) => bytes.subarray(places[i] ?? 0, end));
}

async function decoded(chunks: Iterable<Buffer>, maxBytes = 100): Promise<Buffer[]> {
  const found: Buffer[] = [];
  const source = Readable.from(chunks, { objectMode: false });
  await pipeline(source, frameDecoder({ maxBytes }), async (records) => {
    for await (const record of records) found.push(record as Buffer);
  });
  return found;
}

async function encoded(records: Iterable<unknown>): Promise<Buffer> {
  const found: Buffer[] = [];
  await pipeline(Readable.from(records), frameEncoder(), async (chunks) => {
    for await (const chunk of chunks) found.push(chunk as Buffer);
  });
  return Buffer.concat(found);
}

describe('frameEncoder', () => {
  it('puts the length before the bytes, of whatever append takes', async () => {
    const bytes = new Uint8Array([1, 2]);
    const view = new DataView(bytes.buffer);
    const records = ['é', bytes, bytes.buffer, view, { lsn: 3, data: bytes }];
    const frames = [Buffer.from('é'), bytes, bytes, bytes, bytes].map(frame);
    expect(await encoded(records)).toEqual(Buffer.concat(frames));
  });

  it('of empty records and of long ones', async () => {
    const records = [0, 1, 4096, 4097, 300_000].map((size) => Buffer.alloc(size, size));
    expect((await encoded(records)).equals(Buffer.concat(records.map(frame)))).toBe(true);
  });

  it.each([7, {}, { data: 7 }])('refuses %o', async (wrong) => {
    await expect(encoded(['a', wrong])).rejects.toThrow(/frameEncoder takes/);
  });
});

describe('frameDecoder', () => {
  it('does not care how the bytes are cut into chunks', async () => {
    const records = fc.array(fc.uint8Array({ maxLength: 20 }), { maxLength: 8 });
    await fc.assert(
      fc.asyncProperty(records, fc.array(fc.nat(200)), async (data, cuts) => {
        const chunks = chunked(await encoded(data), cuts);
        const found = await decoded(chunks.filter(({ length }) => length > 0));
        expect(found.map((each) => [...each])).toEqual(data.map((each) => [...each]));
      }),
      { numRuns: 50 },
    );
  });

  it.each([1, 3, 4, 6])('an end after %i bytes of a frame is an error', async (bytes) => {
    const input = Buffer.concat([frame(Buffer.from('ab')), frame(Buffer.from('abc'))]);
    const error = await walError(() => decoded([input.subarray(0, 6 + bytes)]));
    expect(error).toMatchObject({ code: 'WAL_BAD_FRAME', offset: 6 });
    expect(error.message).toBe('the input ends inside frame 2 (offset 6)');
  });

  it.each([1, 2, 100])(
    'a length over the limit is one, before its bytes came: cut at %i',
    async (at) => {
      const bad = Buffer.concat([frame(Buffer.alloc(8)), Buffer.from([9, 0, 0, 0])]);
      const error = await walError(() => decoded(chunked(bad, [at, 12 + at]), 8));
      expect(error).toMatchObject({ code: 'WAL_BAD_FRAME', offset: 12 });
      expect(error.message).toContain('frame 2 says 9 bytes, and a record has at most 8');
    },
  );

  it('takes nothing for no bytes at all', async () => {
    expect(await decoded([])).toEqual([]);
  });

  it('puts in no more records of a chunk than are wanted', async () => {
    const decoder = frameDecoder();
    const count = 10_000;
    decoder.end(Buffer.concat(Array.from({ length: count }, () => frame(Buffer.from('abc')))));
    await sleep(5);
    expect(decoder.readableLength).toBeLessThanOrEqual(decoder.readableHighWaterMark);
    let found = 0;
    for await (const record of decoder) {
      expect(decoder.readableLength).toBeLessThanOrEqual(decoder.readableHighWaterMark);
      found += (record as Buffer).length;
    }
    expect(found).toBe(3 * count);
  });

  it('goes on at the pace of a slow end', async () => {
    const chunks = Array.from({ length: 20 }, (_, i) =>
      Buffer.concat(Array.from({ length: 40 }, (__, j) => frame(Buffer.from(`${i * 40 + j}`)))),
    );
    const found: string[] = [];
    const slow = new Writable({
      objectMode: true,
      highWaterMark: 1,
      write(record: Buffer, _encoding, done) {
        found.push(record.toString());
        setImmediate(done);
      },
    });
    await pipeline(Readable.from(chunks, { objectMode: false }), frameDecoder(), slow);
    expect(found).toEqual(Array.from({ length: 800 }, (_, i) => `${i}`));
  });

  it('destroyed in the middle of a chunk it ends', async () => {
    const decoder = frameDecoder();
    decoder.write(Buffer.concat(Array.from({ length: 100 }, () => frame(Buffer.from('abc')))));
    for await (const record of decoder) {
      expect(record).toEqual(Buffer.from('abc'));
      break;
    }
    expect(decoder.destroyed).toBe(true);
  });

  it.each([
    [{ maxBytes: -1 }, /maxBytes/],
    [{ maxBytes: Number.NaN }, /maxBytes/],
    [{ maxBytes: 2 ** 31 }, /maxBytes/],
    [{ max: 1 }, /maxBytes/],
  ])('refuses %o', (options, message) => {
    expect(() => frameDecoder(options as object)).toThrow(message);
  });
});

describe('a log through frames', () => {
  it('is the same log again', async () => {
    const log = await openLog(small);
    for (const text of ['a', '', 'é'.repeat(10_000), 'd']) log.append(text);
    await log.commit();
    const other = await openLog(small);
    await pipeline(
      log.createReadStream({ live: false }),
      frameEncoder(),
      frameDecoder({ maxBytes: other.maxRecordBytes }),
      other.createWriteStream({ commit: 'end' }),
    );
    expect(await texts(other)).toEqual(await texts(log));
  });
});
