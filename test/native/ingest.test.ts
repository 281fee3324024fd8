import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { LogBuilder } from '../format/build_log.js';
import { decodeBatchHeader } from '../format/decode.js';
import { mendCrc } from '../format/encode.js';
import { readLog } from '../format/read_log.js';
import { freshDir } from '../helpers/temp.js';
import { historyOf, ingestAll, payload, randomFrom, readBytes, TestLog } from './native.js';

/** A primary with a few segments, and all of its bytes from the first batch on. */
async function source(dir: string, options = {}): Promise<{ log: TestLog; bytes: Buffer }> {
  const log = await TestLog.openPrimary({ dir, ...options });
  const random = randomFrom(2);
  for (let i = 0; i < 90; i++) {
    await log.batch(payload(i, random(2500)), '', payload(i + 500, random(500)));
  }
  const { position } = await log.settled();
  return { log, bytes: await readBytes(log, 4096, position) };
}

async function taken(log: TestLog, bytes: Buffer): Promise<void> {
  // A roll may wait for a segment with the bytes already taken: they are looked at again when
  // asked.
  while (log.closed.position < 4096 + bytes.length) {
    log.native.ingest(bytes, 0, 0);
    await log.progress();
  }
  await log.settled();
}

function walFiles(dir: string): string[] {
  return readdirSync(dir).filter((name) => name.endsWith('.wal'));
}

describe('a standby', () => {
  it.each<[string, boolean, (random: (n: number) => number) => number]>([
    ['byte by byte', false, () => 1],
    ['in chunks of any size', false, (random) => 1 + random(20_000)],
    ['in chunks of any size, padded', true, (random) => 1 + random(20_000)],
    ['in one piece', false, () => 1 << 30],
  ])('that takes the log %s has the same files', async (_, padded, chunk) => {
    const from = freshDir();
    const to = freshDir();
    const { log: primary, bytes } = await source(from, { padded });
    const standby = await TestLog.openStandby(primary.native, { dir: to });
    await standby.native.storeRole('standby', primary.native.info().term, 'a', '');
    standby.native.beginIngest(historyOf(primary));
    const random = randomFrom(8);
    await ingestAll(standby, bytes, () => chunk(random));
    await taken(standby, bytes);
    expect(standby.native.received()).toBe(4096 + bytes.length);
    expect(standby.flushed).toEqual(primary.flushed);
    expect(standby.crc).toBe(primary.crc);
    expect(standby.native.info().history).toEqual(primary.native.info().history);
    await standby.close();
    await primary.close();
    expect(walFiles(to)).toEqual(walFiles(from));
    for (const name of walFiles(to)) {
      expect(readFileSync(join(to, name)).equals(readFileSync(join(from, name))), name).toBe(true);
    }
    const read = readLog(to);
    expect(read.damage).toBeUndefined();
    expect(read.control.role).toBe('standby');
  });

  it('goes on after a partly received batch, a close and an opening', async () => {
    const dir = freshDir();
    const { log: primary, bytes } = await source(freshDir());
    for (let at = 0; at < bytes.length; ) {
      const standby = await TestLog.openStandby(primary.native, { dir });
      at = standby.closed.position - 4096;
      // As a session does: no batch of a term comes before the term is stored.
      await standby.native.storeRole('standby', primary.native.info().term, 'a', '');
      standby.native.beginIngest(historyOf(primary));
      await ingestAll(standby, bytes.subarray(at, at + 40_001), () => 7001);
      const before = standby.closed.position;
      expect(standby.native.received()).toBe(4096 + Math.min(bytes.length, at + 40_001));
      await standby.settled();
      await standby.close();
      expect(readLog(dir).end.position).toBe(before);
      if (before === at + 4096) break;
      at = before - 4096;
    }
    expect(readLog(dir).end).toMatchObject(primary.closed);
    await primary.close();
  });

  it('refuses appends, and has no opening before it is asked for one', async () => {
    const primary = await TestLog.openPrimary({ dir: freshDir() });
    const standby = await TestLog.openStandby(primary.native, { dir: freshDir() });
    const refused = expect.objectContaining({ code: 'WAL_IS_STANDBY' });
    expect(() => standby.native.reserve(0, 0, 8)).toThrow(refused);
    expect(() => standby.native.ingest(Buffer.alloc(8), 0, 8)).toThrow();
    expect(standby.closed).toEqual({ position: 4096, lsn: 0 });
    await standby.close();
    await primary.close();
  });

  it('promoted in the middle of a batch drops the part and opens its own term', async () => {
    const dir = freshDir();
    const { log: primary, bytes } = await source(freshDir());
    const standby = await TestLog.openStandby(primary.native, { dir });
    await standby.native.storeRole('standby', primary.native.info().term, 'a', '');
    standby.native.beginIngest(historyOf(primary));
    await ingestAll(standby, bytes.subarray(0, 30_000), () => 999);
    const { lsn } = standby.closed;
    const { nodeId } = standby.native.info();
    await standby.native.openTerm({ epoch: 2, opener: nodeId, incarnation: 1 });
    await standby.batch('mine');
    await standby.close();
    await primary.close();
    const read = readLog(dir);
    expect(read.damage).toBeUndefined();
    expect(read.end.lsn).toBe(lsn + 1);
    expect(read.control.role).toBe('primary');
    expect(read.history.map(({ epoch }) => epoch)).toEqual([1, 2]);
    expect(String(read.records.at(-1))).toBe('mine');
  });
});

describe('bytes that do not verify', () => {
  const built = new LogBuilder({ maxRecordBytes: 4096 })
    .openTerm(1)
    .data(['one', '', 'three'])
    .data([payload(1, 200)]);
  const bytes = built.bytes().subarray(4096);

  async function standby(dir = freshDir(), incarnation = 1): Promise<TestLog> {
    const { logId, salt, segmentBytes, nodeId } = built.log;
    const options = { logId, salt: saltText(salt), segmentBytes };
    const log = await TestLog.open({ dir, role: 'standby', ...options });
    await log.native.storeRole('standby', { epoch: 1, opener: nodeId, incarnation }, 'a', '');
    log.native.beginIngest(built.history);
    return log;
  }

  /** As the addon writes a salt. */
  function saltText(salt: bigint): string {
    return salt.toString(16).padStart(16, '0');
  }

  it('of this shape do verify when whole', async () => {
    const dir = freshDir();
    const log = await standby(dir);
    expect(log.native.ingest(bytes, 0, bytes.length)).toBe(bytes.length);
    expect(log.closed).toEqual({ position: built.position, lsn: 4 });
    await log.close();
    expect(readLog(dir).end.crc).toBe(built.crc);
  });

  it('are refused with any one byte changed, and nothing of their batch is kept', async () => {
    const log = await standby();
    for (let at = 0; at < bytes.length; at++) {
      const before = log.closed;
      const changed = Buffer.from(bytes);
      changed.writeUInt8(changed.readUInt8(at) ^ (1 << (at % 8)), at);
      const from = before.position - 4096;
      const end = built.ends.find((position) => position > 4096 + at) ?? 0;
      // A length that asks for more bytes than there are is only found out when they come.
      const more = Buffer.concat([changed.subarray(from, end - 4096), Buffer.alloc(70_000)]);
      const refused = expect.objectContaining({ code: 'WAL_PEER_INVALID' });
      let sent = 0;
      const send = (): void => {
        while (sent < more.length) {
          const took = log.native.ingest(more, sent, more.length);
          if (took === 0) throw new Error('the ring is full of it');
          sent += took;
        }
      };
      expect(send, `byte ${at}`).toThrow(refused);
      // The batches before the bad one are whole, and stay.
      expect(log.closed.position).toBe(Math.max(4096, ...built.ends.filter((e) => e <= 4096 + at)));
      expect(log.native.received()).toBe(log.closed.position);
      log.native.beginIngest(built.history);
    }
    await log.close();
  }, 20_000);

  it.each<[string, (batch: Buffer) => unknown]>([
    ['log id', (batch) => batch.writeUInt8(9, 16)],
    ['salt', (batch) => batch.writeUInt8(9, 32)],
    ['position', (batch) => batch.writeBigUInt64LE(8192n, 40)],
    ['epoch', (batch) => batch.writeBigUInt64LE(2n, 48)],
    ['epoch', (batch) => batch.writeBigUInt64LE(0n, 48)],
    ['first LSN', (batch) => batch.writeBigUInt64LE(2n, 56)],
    ['opener', (batch) => batch.writeUInt8(1, 64)],
    ['incarnation', (batch) => batch.writeUInt32LE(2, 80)],
    ['count', (batch) => batch.writeUInt32LE(2, 84)],
    ['count', (batch) => batch.writeUInt32LE(0xffffffff, 84)],
    ['payload', (batch) => batch.writeUInt32LE(20, 88)],
    ['payload', (batch) => batch.writeUInt32LE(0xffffffff, 88)],
    ['raw bytes', (batch) => batch.writeUInt32LE(0, 92)],
    ['codec', (batch) => batch.writeUInt8(1, 15)],
    ['kind', (batch) => batch.writeUInt8(77, 13)],
    ['kind', (batch) => batch.writeUInt8(1, 13)],
    ['kind', (batch) => batch.writeUInt8(5, 13)],
    ['flags', (batch) => batch.writeUInt8(128, 14)],
    ['version', (batch) => batch.writeUInt8(2, 12)],
    ['watermark', (batch) => batch.writeBigUInt64LE(1n << 40n, 104)],
    ['prev crc', (batch) => batch.writeUInt32LE(0, 112)],
    ['record length', (batch) => batch.writeUInt32LE(0xfffffff0, 128)],
    ['record padding', (batch) => batch.writeUInt8(1, 135)],
  ])('for their %s alone are refused, though the crc fits', async (_, change) => {
    const log = await standby();
    const first = (built.ends[0] ?? 0) - 4096;
    expect(log.native.ingest(bytes, 0, first)).toBe(first);
    const { length } = decodeBatchHeader(bytes, first);
    const batch = Buffer.from(bytes.subarray(first, first + length));
    change(batch);
    mendCrc(batch);
    const refused = expect.objectContaining({ code: 'WAL_PEER_INVALID' });
    expect(() => log.native.ingest(batch, 0, length)).toThrow(refused);
    expect(log.closed).toEqual({ position: built.ends[0], lsn: 0 });
    log.native.beginIngest(built.history);
    expect(log.native.ingest(bytes, first, bytes.length)).toBe(bytes.length - first);
    expect(log.closed.lsn).toBe(4);
    await log.close();
  });

  it('behind a filler are refused: zeros and the next header follow from the log', async () => {
    const sealed = new LogBuilder().openTerm(1).data(['a']).fill().data(['b']);
    const whole = sealed.bytes().subarray(4096);
    const fillerEnd = (sealed.ends[1] ?? 0) + 128 - 4096;
    const header = 65536 - 4096;
    for (const at of [
      fillerEnd,
      fillerEnd + 1000,
      header - 1,
      header,
      header + 40,
      header + 4095,
    ]) {
      const changed = Buffer.from(whole);
      changed.writeUInt8(changed.readUInt8(at) ^ 4, at);
      const log = await standby();
      log.native.beginIngest(sealed.history);
      const refused = expect.objectContaining({ code: 'WAL_PEER_INVALID' });
      await expect(ingestAll(log, changed, () => 5000)).rejects.toThrow(refused);
      expect(log.closed.position, `byte ${at}`).toBe(sealed.ends[1]);
      await log.close();
    }
  });

  it('of a history that the session does not have are refused', async () => {
    const log = await standby(freshDir(), 2);
    log.native.beginIngest([{ ...built.history[0]!, incarnation: 2 }]);
    const refused = expect.objectContaining({ code: 'WAL_PEER_INVALID' });
    expect(() => log.native.ingest(bytes, 0, bytes.length)).toThrow(refused);
    expect(log.closed.position).toBe(4096);
    await log.close();
  });

  it.each([
    [-1, 4],
    [0, -1],
    [4, 2],
    [0, 1e9],
    [Number.NaN, 4],
    [0.5, 4],
  ])('from %d to %d of a buffer are refused as an argument', async (start, end) => {
    const log = await standby();
    expect(() => log.native.ingest(bytes, start, end)).toThrow();
    expect(log.closed.position).toBe(4096);
    await log.close();
  });
});
