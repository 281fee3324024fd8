import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { State } from '../../src/native/native_log.js';
import { type ReadLog, readLog } from '../format/read_log.js';
import { freshDir } from '../helpers/temp.js';
import { binding, payload, randomFrom, TestLog } from './native.js';

/** What must hold of every log that the engine wrote, whatever was done to it. */
function expectSound(log: ReadLog): void {
  expect(log.damage).toBeUndefined();
  expect(log.dirtySeals).toEqual([]);
  expect(log.controlFile.copies.map((copy) => copy.ok)).toEqual([true, true]);
  expect(log.control.watermark.position).toBeLessThanOrEqual(log.end.position);
  let clock = 0;
  for (const batch of log.batches) {
    expect(batch.wallClock).toBeGreaterThanOrEqual(clock);
    expect(batch.watermark).toBeLessThanOrEqual(batch.position);
    expect(batch.framer).toBe(log.control.nodeId.slice(0, 16));
    expect(batch.flags).toBe(log.control.align === 4096 ? 2 : 0);
    clock = batch.wallClock;
  }
  // Each term begins with the batch that its entry of the history names, and no other does.
  const begins = log.batches.filter(({ epoch, incarnation }, i) => {
    const before = log.batches[i - 1];
    return epoch !== before?.epoch || incarnation !== before.incarnation;
  });
  expect(log.history.map(({ position }) => position)).toEqual(
    begins.map(({ position }) => position),
  );
}

describe.each([
  { mode: 'the shared ring', sharedRing: true, padded: false },
  { mode: 'the shared ring, padded', sharedRing: true, padded: true },
  { mode: 'put', sharedRing: false, padded: false },
  { mode: 'put, padded', sharedRing: false, padded: true },
])('a log written through $mode', ({ sharedRing, padded }) => {
  it('is on disk what was appended, across rolls, openings and the ring', async () => {
    const dir = freshDir();
    const random = randomFrom(7);
    const expected: string[] = [];
    for (let life = 0; life < 3; life++) {
      const log = await TestLog.openPrimary({ dir, sharedRing, padded });
      expect(log.native.ring === undefined).toBe(!sharedRing);
      expect(log.closed.lsn).toBe(expected.length);
      for (let batch = 0; batch < 60; batch++) {
        for (let n = random(12); n >= 0; n--) {
          const data = payload(expected.length, random(20) === 0 ? random(4097) : random(300));
          expected.push(data.toString('latin1'));
          expect(await log.appendWhenItFits(data)).toBe(expected.length);
        }
        log.closeBatch();
        if (random(3) === 0) await log.settled();
      }
      const end = log.closed;
      const crc = log.crc;
      await log.close();
      const read = readLog(dir);
      expectSound(read);
      expect(read.end).toMatchObject({ ...end, crc });
      expect(read.control).toMatchObject({ clean: true, watermark: { ...end, crc } });
      expect(read.records.map((record) => Buffer.from(record).toString('latin1'))).toEqual(
        expected,
      );
      expect(read.term).toMatchObject({ epoch: 1, incarnation: life + 1 });
      expect(read.control.history).toEqual(read.history);
    }
    const names = readdirSync(dir).filter((name) => name.endsWith('.wal'));
    expect(names.length).toBeGreaterThan(2);
  });
});

describe('a batch', () => {
  it('holds records of nothing, and of the most that a record may have', async () => {
    const dir = freshDir();
    const log = await TestLog.openPrimary({ dir });
    await log.batch('', payload(1, 4096), '');
    await log.batch('');
    await log.close();
    const { records, batches } = readLog(dir);
    expect(records.map((record) => record.length)).toEqual([0, 4096, 0, 0]);
    expect(batches.map((batch) => batch.count)).toEqual([0, 3, 1]);
  });

  it('of no records is none', async () => {
    const dir = freshDir();
    const log = await TestLog.openPrimary({ dir });
    const before = log.closed;
    log.native.closeBatch(0, 0);
    expect(log.closed).toEqual(before);
    await log.close();
  });

  it('whose lengths do not add up is refused, and taken once they do', async () => {
    const dir = freshDir();
    const log = await TestLog.openPrimary({ dir });
    expect(log.native.reserve(0, 0, 100)).toBe(0);
    const cursor = log.native.state[State.CURSOR] ?? 0;
    const bytes = Buffer.from(log.native.ring ?? new ArrayBuffer(0), cursor, 64);
    bytes.fill(0).writeUInt32LE(10, 0);
    const before = log.closed;
    for (const [size, count] of [
      [12, 1],
      [20, 1],
      [16, 2],
      [15, 1],
      [0, 1],
      [16, 0xffffffff],
      [1 << 30, 1],
    ] as const) {
      expect(() => log.native.closeBatch(size, count), `${size} ${count}`).toThrow();
    }
    bytes.writeUInt32LE(0xffffffff, 0);
    expect(() => log.native.closeBatch(16, 1)).toThrow();
    expect(log.closed).toEqual(before);
    bytes.writeUInt32LE(10, 0);
    log.native.closeBatch(16, 1);
    expect(log.closed.lsn).toBe(1);
    await log.close();
    expect(readLog(dir).records.map(Buffer.from).map(String)).toEqual(['\0'.repeat(10)]);
  });

  it.each([-1, 1.5, Number.NaN, 2 ** 53, 2 ** 64])('of %d bytes is refused', async (size) => {
    const log = await TestLog.openPrimary({ dir: freshDir() });
    expect(() => log.native.reserve(0, 0, size)).toThrow();
    expect(() => log.native.closeBatch(size, 1)).toThrow();
    expect(() => log.native.put(size, new Uint8Array(1))).toThrow();
    expect(log.closed.lsn).toBe(0);
    await log.close();
  });

  it('that is open is not on disk, not even the beginning that shares a block', async () => {
    const dir = freshDir();
    const log = await TestLog.openPrimary({ dir });
    await log.batch('closed');
    log.append(payload(1, 2000));
    await log.settled();
    const { end, files } = readLog(dir);
    expect(end).toMatchObject({ lsn: 1, reason: 'zeros' });
    const rest = files[0]?.bytes.subarray(end.position) ?? Buffer.alloc(0);
    expect(rest.equals(Buffer.alloc(rest.length))).toBe(true);
    await log.close();
  });

  it('has its time clamped never to fall, over openings too', async () => {
    const dir = freshDir();
    for (let life = 0; life < 3; life++) {
      const log = await TestLog.openPrimary({ dir });
      for (let i = 0; i < 20; i++) await log.batch('x');
      await log.close();
    }
    expectSound(readLog(dir));
  });
});

describe('the ring', () => {
  it('when full takes nothing, and takes again what was refused once flushed', async () => {
    const dir = freshDir();
    // A segment that outlasts the ring: what is refused is not refused for want of the next one.
    const log = await TestLog.openPrimary({ dir, segmentBytes: 1 << 20 });
    const pin = log.native.pin(log.closed.position);
    const sent: Buffer[] = [];
    for (;;) {
      const data = payload(sent.length, 1000);
      if (log.append(data) !== undefined) sent.push(data);
      else if (log.native.state[State.RING_FREE]! < 131072 / 4) break;
      else await log.progress(); // the next segment is not ready yet
    }
    // Pinned, it stays full however much is flushed.
    await log.settled();
    expect(log.append(payload(1, 1000))).toBeUndefined();
    expect(sent.length * 1000).toBeGreaterThan(131072 / 2);
    expect(log.native.state[State.RING_FREE]).toBeLessThan(131072 / 2);
    log.native.unpin(pin);
    const lsn = await log.appendWhenItFits(payload(sent.length, 1000));
    expect(lsn).toBe(sent.length + 1);
    log.closeBatch();
    await log.close();
    expect(readLog(dir).records.length).toBe(sent.length + 1);
  });

  it('has 64 pins and says so of the next', async () => {
    const log = await TestLog.openPrimary({ dir: freshDir() });
    const pins = Array.from({ length: 64 }, () => log.native.pin(log.closed.position));
    expect(() => log.native.pin(log.closed.position)).toThrow();
    for (const pin of pins) log.native.unpin(pin);
    log.native.unpin(log.native.pin(log.closed.position));
    await log.close();
  });
});

describe('after the close', () => {
  it('every call says that the log is closed, and none crashes', async () => {
    const log = await TestLog.openPrimary({ dir: freshDir() });
    await log.batch('x');
    const { native } = log;
    await native.close();
    const closed = expect.objectContaining({ code: 'WAL_CLOSED' });
    const buffer = binding.allocateAligned(8192);
    expect(() => native.reserve(0, 0, 8)).toThrow(closed);
    expect(() => native.closeBatch(8, 1)).toThrow(closed);
    expect(() => native.put(0, buffer.subarray(0, 1))).toThrow(closed);
    expect(() => native.ingest(buffer, 0, 1)).toThrow(closed);
    await expect(async () => native.readInto(buffer, 4096, 8192)).rejects.toThrow(closed);
    await expect(async () => native.locate(1)).rejects.toThrow(closed);
    await expect(async () => native.trim(0)).rejects.toThrow(closed);
    await expect(async () => native.truncate(4096, 'x.diverged')).rejects.toThrow(closed);
    // Whether a second close says so or does nothing is Log's to hide.
    await (async () => native.close())().catch(() => undefined);
  });
});
