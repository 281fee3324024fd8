import { Writable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Batch } from '../../src/api/batch.js';
import { microsecondTime, recordWriters } from '../../src/cli/formats.js';
import { Output } from '../../src/cli/output.js';

class Sink extends Writable {
  readonly chunks: Buffer[] = [];
  hold = false;

  override _write(chunk: Buffer, _: BufferEncoding, done: (error?: Error) => void): void {
    this.chunks.push(chunk);
    if (!this.hold) done();
  }

  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }
}

/** One data batch as the engine writes it; checksums are not looked at here. */
function batchOf(records: readonly Buffer[]): Batch {
  const head = Buffer.alloc(128);
  head.writeBigUInt64LE(3n, 48);
  head.writeBigUInt64LE(7n, 56);
  head.fill(0xab, 64, 80);
  head.writeUInt32LE(2, 80);
  head.writeUInt32LE(records.length, 84);
  head.writeBigUInt64LE(1_700_000_000_123_456n, 96);
  const payload = records.map((data) => {
    const padded = Buffer.alloc(4 + Math.ceil(data.length / 4) * 4);
    padded.writeUInt32LE(data.length);
    data.copy(padded, 4);
    return padded;
  });
  return new Batch(Buffer.concat([head, ...payload]), 1, Number.MAX_SAFE_INTEGER);
}

async function printed(format: keyof typeof recordWriters, batch: Batch): Promise<Buffer> {
  const sink = new Sink();
  const output = new Output(sink, true);
  for (const record of batch) recordWriters[format](output, record, batch);
  await output.close();
  return sink.bytes;
}

describe('formats', () => {
  const records = [Buffer.from('ä'), Buffer.alloc(0), Buffer.from([0xff, 10])];

  it('prints a record a line', async () => {
    expect(await printed('lines', batchOf(records))).toEqual(
      Buffer.concat([Buffer.from('ä\n\n'), Buffer.from([0xff, 10, 10])]),
    );
  });

  it('prints frames', async () => {
    expect([...(await printed('frames', batchOf(records)))]).toEqual(
      [
        [2, 0, 0, 0, 0xc3, 0xa4],
        [0, 0, 0, 0],
        [2, 0, 0, 0, 0xff, 10],
      ].flat(),
    );
  });

  it('prints JSON, and bytes that are no text as base64', async () => {
    const rows = String(await printed('json', batchOf(records)))
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as unknown);
    const common = {
      term: { epoch: 3, opener: 'ab'.repeat(16), incarnation: 2 },
      timestamp: '2023-11-14T22:13:20.123456Z',
    };
    expect(rows).toEqual([
      { lsn: 7, ...common, encoding: 'utf8', data: 'ä' },
      { lsn: 8, ...common, encoding: 'utf8', data: '' },
      { lsn: 9, ...common, encoding: 'base64', data: '/wo=' },
    ]);
  });

  it('shows times to the microsecond', () => {
    expect(microsecondTime(0)).toBe('1970-01-01T00:00:00.000000Z');
    expect(microsecondTime(1_700_000_000_000.001)).toBe('2023-11-14T22:13:20.000001Z');
  });
});

describe('an output', () => {
  it('keeps the order of small and large pieces, and copies them', async () => {
    const sink = new Sink();
    const output = new Output(sink, true);
    const expected: Buffer[] = [];
    for (const bytes of [1, 300_000, 5, 262_144, 0, 262_145, 70_000, 200_000]) {
      const piece = Buffer.alloc(bytes, bytes % 251);
      expected.push(Buffer.from(piece));
      output.write(piece);
      piece.fill(255);
    }
    output.writeText('é'.repeat(200_000));
    expected.push(Buffer.from('é'.repeat(200_000)));
    await output.close();
    expect(sink.bytes.equals(Buffer.concat(expected))).toBe(true);
  });

  it('says when it is full, and waits for the stream', async () => {
    const sink = new Sink();
    sink.hold = true;
    const output = new Output(sink, true);
    while (!output.full) output.write(Buffer.alloc(1000));
    let flushed = false;
    void output.flush().then(() => {
      flushed = true;
    });
    await sleep(20);
    expect(flushed).toBe(false);
  });

  it('rejects with the error of the stream', async () => {
    const output = new Output(
      new Writable({ write: (_chunk, _encoding, done) => done(new Error('broken')) }),
      true,
    );
    output.write(Buffer.from('a'));
    await expect(output.flush()).rejects.toThrow('broken');
    output.write(Buffer.from('b'));
    await expect(output.close()).rejects.toThrow('broken');
  });

  it('rejects the first flush to a file that takes nothing', async () => {
    const output = Output.open('/dev/full', 'append');
    output.write(Buffer.from('a'));
    await expect(output.flush()).rejects.toMatchObject({ code: 'ENOSPC' });
  });
});
