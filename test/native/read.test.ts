import { beforeAll, describe, expect, it } from 'vitest';
import { type ReadLog, readLog } from '../format/read_log.js';
import { makeTempDir } from '../global/temp.js';
import { Damage, spotOf } from '../helpers/damage.js';
import { freshDir } from '../helpers/temp.js';
import { binding, payload, randomFrom, readBytes, TestLog } from './native.js';

/** A log of several segments and openings, with records of many sizes. */
async function write(dir: string, options = {}): Promise<void> {
  const random = randomFrom(3);
  let lsn = 0;
  for (let life = 0; life < 2; life++) {
    const log = await TestLog.openPrimary({ dir, ...options });
    for (let i = 0; i < 70; i++) {
      for (let n = random(8); n >= 0; n--) {
        lsn = await log.appendWhenItFits(payload(lsn + 1, random(10) === 0 ? 4096 : random(400)));
      }
      log.closeBatch();
    }
    await log.close();
  }
}

describe.each([false, true])('reading a log, padded %s', (padded) => {
  let files: ReadLog;
  let dir: string;

  beforeAll(async () => {
    dir = makeTempDir('read');
    await write(dir, { padded });
    files = readLog(dir);
    return () => new Damage(dir).removed();
  });

  /** The log's bytes as the files have them: sealed segments whole, the last up to the end. */
  function string(): Buffer {
    const sorted = [...files.files].filter((file) => file.header.ok);
    sorted.sort((a, b) => start(a) - start(b));
    return Buffer.concat(sorted.map((file) => file.bytes)).subarray(0, files.end.position);
  }

  function start(file: (typeof files.files)[number]): number {
    return file.header.ok ? file.header.value.start : 0;
  }

  it('gives the string of bytes that the files hold', async () => {
    const log = await TestLog.open({ dir });
    const bytes = await readBytes(log, 4096, files.end.position);
    expect(bytes.equals(string().subarray(4096))).toBe(true);
    await log.close();
  });

  it('from any batch gives whole batches up to where it is told, and no more', async () => {
    const log = await TestLog.open({ dir });
    const { native } = log;
    const whole = string();
    const ends = files.batches.map((batch) => batch.end);
    const random = randomFrom(5);
    for (const batch of files.batches) {
      const upTo = ends[random(ends.length)] ?? 0;
      const buffer = binding.allocateAligned(8192 * (1 + random(12)));
      const from = batch.position;
      const result = await native.readInto(buffer, from, upTo);
      const { offset, length, next, need } = result;
      if (upTo <= from) expect({ length, need }).toEqual({ length: 0, need: 0 });
      if (length === 0) {
        if (upTo > from) expect(need).toBeGreaterThan(buffer.length - 4096);
        continue;
      }
      expect(offset).toBe(from % 4096);
      expect(next).toBe(from + length);
      expect(ends).toContain(next);
      expect(next).toBeLessThanOrEqual(upTo);
      const got = buffer.subarray(offset, offset + length);
      expect(got.equals(whole.subarray(from, next))).toBe(true);
      const last = files.batches.find(({ end }) => end === next);
      expect(result.lsn).toBe(last?.lastLsn);
    }
    await log.close();
  });

  it('finds the batch of every record, and the place of the next', async () => {
    const log = await TestLog.open({ dir });
    for (const batch of files.batches) {
      for (let lsn = batch.firstLsn; lsn <= batch.lastLsn; lsn += 3) {
        expect(await log.native.locate(lsn)).toBe(batch.position);
      }
    }
    expect(await log.native.locate(files.end.lsn + 1)).toBe(files.end.position);
    await expect(log.native.locate(0)).rejects.toMatchObject({ code: 'WAL_LSN_GONE' });
    await log.close();
  });

  it('knows the checksum at every batch end, and that there is none elsewhere', async () => {
    const log = await TestLog.open({ dir });
    for (const batch of files.batches) {
      expect(await log.native.checksumAt(batch.end)).toBe(batch.crc);
    }
    expect(await log.native.checksumAt(4096)).toBe(0);
    for (const wrong of [8, 4096 + 8, files.end.position - 8, files.end.position + 8]) {
      await expect(log.native.checksumAt(wrong), `${wrong}`).rejects.toThrow();
    }
    await log.close();
  });

  it('through a reader is the same, beside a log that is open', async () => {
    const log = await TestLog.open({ dir });
    const reader = await binding.openReader(dir);
    expect(await reader.refresh()).toEqual({ position: files.end.position, lsn: files.end.lsn });
    const records = files.records.length;
    const batches = files.batches.length;
    const verified = await reader.verify();
    expect(verified).toMatchObject({ batches, records, start: files.start });
    expect(verified.end).toEqual({ position: files.end.position, lsn: files.end.lsn });
    expect(verified.term).toEqual(files.term);
    expect(verified.damage).toBeUndefined();
    const buffer = binding.allocateAligned(65536 + 8192);
    const whole = string();
    for (let at = files.start.position; at < files.end.position; ) {
      const { offset, length, next } = await reader.readInto(buffer, at, files.end.position);
      const got = buffer.subarray(offset, offset + length);
      expect(got.equals(whole.subarray(at, next))).toBe(true);
      at = next;
    }
    for (const batch of files.batches.filter(({ count }) => count > 0)) {
      expect(await reader.locate(batch.lastLsn)).toBe(batch.position);
    }
    reader.close();
    await log.close();
  });

  it('names file, offset and LSN of what does not verify', async () => {
    const random = randomFrom(9);
    for (let round = 0; round < 6; round++) {
      const damage = Damage.copyOf(dir, freshDir());
      const data = files.batches.filter(({ count }) => count > 0);
      // Not in the last segment, which is read when the log is opened.
      const early = data.filter(({ position }) => position < files.end.position - 65536);
      const batch = early[random(early.length)];
      if (batch === undefined) throw new Error('no batch');
      const spot = spotOf(files, batch.position);
      damage.flippedBit({ ...spot, offset: spot.offset + 8 + random(batch.length - 8) }, random(8));
      const reader = await binding.openReader(damage.dir);
      const found = { file: expect.stringContaining(spot.file), offset: spot.offset };
      const { damage: seen } = await reader.verify();
      expect(seen).toMatchObject({ ...found, lsn: batch.firstLsn });
      reader.close();
      const log = await TestLog.open({ dir: damage.dir });
      const read = readBytes(log, 4096, files.end.position);
      await expect(read).rejects.toMatchObject({ code: 'WAL_CORRUPT', ...found });
      await log.close();
    }
  });
});

describe('reading the ring', () => {
  it('gives the same bytes as the files, as soon as a batch is closed', async () => {
    const dir = freshDir();
    const log = await TestLog.openPrimary({ dir });
    const seen: Buffer[] = [];
    let at = 4096;
    const buffer = Buffer.alloc(65536 + 8192);
    const random = randomFrom(4);
    for (let i = 0; i < 150; i++) {
      await log.batch(payload(i, random(3000)), payload(i + 1000, random(3000)));
      while (at < log.closed.position) {
        const result = log.native.readRing(buffer, at, log.closed.position);
        if (result === undefined) throw new Error(`position ${at} has left the ring`);
        const { offset, length, next } = result;
        seen.push(Buffer.from(buffer.subarray(offset, offset + length)));
        expect(next).toBe(at + length);
        at = next;
      }
    }
    const end = log.closed.position;
    await log.settled();
    const bytes = await readBytes(log, 4096, end);
    expect(Buffer.concat(seen).equals(bytes)).toBe(true);
    // What left the ring long ago is told from what is in it.
    expect(log.native.readRing(buffer, 4096, end)).toBeUndefined();
    const last = readLog(dir).batches.at(-1)?.position ?? 0;
    const tight = log.native.readRing(Buffer.alloc(8), last, end);
    expect(tight).toMatchObject({ length: 0, next: last, need: end - last });
    // Where no batch starts is an error like any other: a peer may name such a place.
    expect(() => log.native.readRing(buffer, last + 8, end)).toThrow();
    await log.close();
  });
});

describe('trimming', () => {
  it('lets whole segments go as far as commit, claims and flush allow; reuses them', async () => {
    const dir = freshDir();
    const log = await TestLog.openPrimary({ dir });
    for (let i = 0; i < 100; i++) await log.batch(payload(i, 3000));
    const { position, lsn } = await log.settled();
    await log.native.trim(position);
    expect(log.native.info().start).toEqual({ position: 4096, lsn: 0 });
    const claim = log.native.retain(65536 * 2 + 5000);
    log.native.setCommit(position, lsn);
    await log.native.trim(position);
    expect(log.native.info().start.position).toBe(65536 * 2 + 4096);
    expect(readLog(dir).start).toEqual(log.native.info().start);
    log.native.moveRetain(claim, 65536 * 3 + 5000);
    await log.native.trim(position);
    expect(log.native.info().start.position).toBe(65536 * 3 + 4096);
    log.native.release(claim);
    await log.native.trim(65536 * 4 + 100);
    const { start, spareSegments } = log.native.info();
    expect(start.position).toBe(65536 * 4 + 4096);
    expect(spareSegments).toBeGreaterThan(0);
    await expect(log.native.locate(start.lsn)).rejects.toMatchObject({ code: 'WAL_LSN_GONE' });
    expect(await log.native.locate(start.lsn + 1)).toBeGreaterThanOrEqual(start.position);
    const buffer = binding.allocateAligned(65536);
    const gone = log.native.readInto(buffer, 4096, position);
    await expect(gone).rejects.toMatchObject({ code: 'WAL_LSN_GONE' });
    for (let i = 0; i < 100; i++) await log.batch(payload(i, 3000));
    await log.close();
    const read = readLog(dir);
    expect(read.damage).toBeUndefined();
    expect(read.dirtySeals).toEqual([]);
    expect(read.end.lsn).toBe(200);
    expect(read.start).toEqual(start);
    // Recycled files, not ever more of them.
    expect(read.files.length).toBeLessThan(16);
  });
});
