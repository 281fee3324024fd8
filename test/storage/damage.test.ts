import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Log, WalError } from '../../src/index.js';
import { LogBuilder } from '../format/build_log.js';
import type { Control } from '../format/layout.js';
import { readLog } from '../format/read_log.js';
import { Damage, spotOf } from '../helpers/damage.js';
import { freshDir } from '../helpers/temp.js';
import { binding, payload } from '../native/native.js';

const SEGMENT = 65536;

/** A control file that a crash left: nothing is said to be durable. */
const unsure: Partial<Control> = {
  clean: false,
  watermark: { position: 4096, lsn: 0, crc: 0 },
  commit: { position: 4096, lsn: 0 },
};

function built(log: LogBuilder, control: Partial<Control> = {}): Damage {
  const dir = freshDir();
  log.writeTo(dir, control);
  return new Damage(dir);
}

/**
 * A log of this many batches of two records; `watermarks`: each says that all before it was
 * durable.
 */
function batches(count: number, bytes: number, watermarks = false): LogBuilder {
  const log = new LogBuilder({ segmentBytes: SEGMENT }).openTerm(1);
  for (let i = 0; i < count; i++) {
    const overrides = watermarks ? { watermark: log.position } : {};
    log.data([payload(i, bytes), `${i}`], overrides);
  }
  return log;
}

async function open(dir: string): Promise<Log> {
  const log = await Log.open({ dir });
  onTestFinished(() => log.close().catch(() => undefined));
  return log;
}

/** Opens it and gives all its records; or the error, of opening or of reading. */
async function contents(dir: string): Promise<Buffer[] | WalError> {
  let log: Log | undefined;
  try {
    log = await open(dir);
    const { firstLsn } = log.status();
    const records: Buffer[] = [];
    for await (const batch of log.read({ from: firstLsn, upTo: 'flush', live: false })) {
      for (const record of batch) records.push(Buffer.from(record.data));
    }
    return records;
  } catch (error) {
    if (error instanceof WalError) return error;
    throw error;
  } finally {
    await log?.close();
  }
}

function files(dir: string): string {
  const names = readdirSync(dir).filter((name) => !/^lock$|sock$/.test(name));
  return JSON.stringify(names.map((name) => [name, readFileSync(join(dir, name), 'base64')]));
}

/** What a reader finds: WAL_CORRUPT for damage found on opening or by reading all. */
async function verified(dir: string): Promise<string> {
  try {
    const reader = await binding.openReader(dir);
    const { damage } = await reader.verify();
    reader.close();
    return damage === undefined ? 'sound' : 'WAL_CORRUPT';
  } catch (error) {
    return String((error as { code?: unknown }).code);
  }
}

/** Opening says that it is corrupt, where, and changes nothing. */
async function expectRefused(damage: Damage, file: string, lsn?: number): Promise<WalError> {
  const before = files(damage.dir);
  const error = await contents(damage.dir);
  if (!(error instanceof WalError)) throw new Error(`${error.length} records were accepted`);
  expect(error.code).toBe('WAL_CORRUPT');
  expect(error.file).toContain(file);
  expect(error.offset).toBeTypeOf('number');
  if (lsn !== undefined) expect(error.lsn).toBe(lsn);
  expect(error.hint).toBeTruthy();
  expect(files(damage.dir)).toBe(before);
  return error;
}

describe('a bit flipped below the watermark', () => {
  it('is corruption wherever it is, and nothing is cut', async () => {
    const log = batches(8, 60);
    const damage = built(log);
    const [file] = log.names();
    // Bytes all over a small log, by the reader, which is quick to open; some of them by the log.
    for (let offset = 0; offset < log.position; offset += 5) {
      if (offset === 200) offset = 4096;
      damage.flippedBit({ file: file ?? '', offset }, offset % 8);
      expect(await verified(damage.dir), `byte ${offset}`).toBe('WAL_CORRUPT');
      if (offset % 77 === 0) await expectRefused(damage, file ?? '');
      damage.flippedBit({ file: file ?? '', offset }, offset % 8);
    }
    expect(await contents(damage.dir)).toHaveLength(16);
  });

  it('of the last segment is found on opening, with its batch and LSN', async () => {
    const log = batches(60, 2000);
    const damage = built(log);
    const read = readLog(damage.dir);
    const batch = read.batches.findLast(({ count }) => count > 0);
    const spot = spotOf(read, batch?.position ?? 0);
    damage.flippedBit({ ...spot, offset: spot.offset + 1000 });
    const error = await expectRefused(damage, spot.file, batch?.firstLsn);
    expect(error.offset).toBe(spot.offset);
  });

  it('of an earlier segment is found on reading, with its batch and LSN', async () => {
    const log = batches(60, 2000);
    const damage = built(log);
    const read = readLog(damage.dir);
    const batch = read.batches[5];
    const spot = spotOf(read, batch?.position ?? 0);
    damage.flippedBit({ ...spot, offset: spot.offset + 1000 });
    const error = await contents(damage.dir);
    expect(error).toMatchObject({ code: 'WAL_CORRUPT', offset: spot.offset, lsn: batch?.firstLsn });
    expect((error as WalError).file).toContain(spot.file);
    // What does not need the bad bytes is still served; the bad ones never are.
    const opened = await open(damage.dir);
    let served = 0;
    for await (const found of opened.read({ from: 60, upTo: 'flush', live: false })) {
      served += found.count;
    }
    expect(served).toBe(61);
    const at = opened.read({ from: batch?.firstLsn ?? 0, upTo: 'flush', live: false });
    await expect(at.next()).rejects.toMatchObject({ code: 'WAL_CORRUPT', lsn: batch?.firstLsn });
    await opened.close();
    expect(readLog(damage.dir).files.find(({ name }) => name === spot.file)?.bytes.length).toBe(
      SEGMENT,
    );
  });

  it('in the header of an earlier segment is found on opening', async () => {
    const log = batches(60, 2000);
    const [first, second] = log.names();
    for (const file of [first ?? '', second ?? '']) {
      await expectRefused(built(log).flippedBit({ file, offset: 60 }), file.slice(17));
    }
  });
});

describe('a bit flipped above the watermark', () => {
  it('cuts the log at the last complete batch before it, when it was the tail', async () => {
    const log = batches(6, 60);
    const last = log.ends.at(-2) ?? 0;
    for (const offset of [last, last + 4, last + 8, last + 100, log.position - 1]) {
      const damage = built(log, unsure);
      damage.flippedBit({ file: log.names()[0] ?? '', offset });
      const opened = await open(damage.dir);
      expect(opened.status().appendLsn).toBe(10);
      await opened.close();
      expect(await contents(damage.dir)).toHaveLength(10);
    }
  });

  it('is corruption when a later batch was framed after it was durable', async () => {
    const log = batches(40, 2000, true);
    const read = readLog(built(log, unsure).dir);
    for (const number of [1, 7, 20, 38]) {
      const damage = built(log, unsure);
      const batch = read.batches[number];
      const spot = spotOf(read, batch?.position ?? 0);
      damage.zeroedRange(spot, 200);
      if (batch?.kind === 5) continue;
      const error = await expectRefused(damage, spot.file, batch?.firstLsn);
      expect(error.offset).toBe(spot.offset);
    }
  });

  it('is corruption when it is in a segment header that a later batch covers', async () => {
    const log = batches(60, 2000, true);
    const damage = built(log, unsure);
    const [, second] = log.names();
    await expectRefused(damage.flippedBit({ file: second ?? '', offset: 60 }), second ?? '');
  });
});

describe('a torn tail', () => {
  it('is cut exactly at the last complete batch, wherever it was torn', async () => {
    const log = batches(5, 60);
    const start = log.ends.at(-3) ?? 0;
    for (let torn = start; torn < log.position; torn += 4) {
      const damage = built(log, unsure);
      damage.zeroedRange({ file: log.names()[0] ?? '', offset: torn }, SEGMENT - torn);
      // A batch whose last bytes are zeros anyway is whole.
      const end = readLog(damage.dir).end;
      const whole = log.ends.filter((position) => position <= torn).at(-1) ?? 0;
      expect(end.position).toBeGreaterThanOrEqual(whole);
      const reader = await binding.openReader(damage.dir);
      expect(await reader.refresh()).toEqual({ position: end.position, lsn: end.lsn });
      reader.close();
      if (torn % 48 === 0) expect(await contents(damage.dir)).toHaveLength(end.lsn);
    }
  });

  it('leaves nothing of the segments behind it, which another roll makes anew', async () => {
    // No watermark covers any of it: as far as this node can know, it never was durable.
    const log = batches(100, 2000);
    const damage = built(log, unsure);
    const at = log.ends[10] ?? 0;
    damage.zeroedRange({ file: log.names()[0] ?? '', offset: at }, 128);
    const opened = await open(damage.dir);
    expect(opened.status().appendLsn).toBe(20);
    for (let i = 0; i < 60; i++) await opened.appendAndCommit(payload(1000 + i, 2000));
    await opened.close();
    const read = readLog(damage.dir);
    expect(read).toMatchObject({ damage: undefined, end: { lsn: 80 } });
    expect(read.batches.at(-1)?.position).toBeGreaterThan(2 * SEGMENT);
    expect(await contents(damage.dir)).toHaveLength(80);
  });

  it('leaves a log that goes on, and on again after another crash at the same place', async () => {
    const log = batches(5, 600);
    const damage = built(log, unsure);
    // The first half of the last batch reached the disk; so did the second half of a later life's.
    const last = log.ends.at(-2) ?? 0;
    damage.zeroedRange({ file: log.names()[0] ?? '', offset: last + 300 }, SEGMENT - last - 300);
    for (let life = 0; life < 3; life++) {
      const opened = await open(damage.dir);
      expect(opened.status().appendLsn).toBe(8 + life * 3);
      for (let i = 0; i < 3; i++) opened.append(`${life}`);
      await opened.commit();
      await opened.close();
      const read = readLog(damage.dir);
      expect(read.damage).toBeUndefined();
      const end = spotOf(read, read.end.position);
      damage.plantedBytes(end, payload(life, 3000));
      damage.mendedControlCopy(0, (control) => control.writeUInt32LE(0, 84));
      damage.mendedControlCopy(1, (control) => control.writeUInt32LE(0, 84));
    }
    expect(await contents(damage.dir)).toHaveLength(17);
  });
});

describe('segment files', () => {
  const log = batches(100, 2000);
  const names = log.names();
  const [first, second, third] = names as [string, string, string];
  const last = names.at(-1) ?? '';

  it.each(names)('one that is gone (%s) is missed', async (name) => {
    await expectRefused(built(log).deletedFile(name), name.slice(17));
  });

  it.each([first, second, last])('one that was cut short (%s) is refused', async (name) => {
    for (const length of [0, 100, 4096, 8192, SEGMENT - 4096]) {
      await expectRefused(built(log).truncatedFile(name, length), name.slice(17));
    }
  });

  it('one cut at the exact end of a batch is refused', async () => {
    const damage = built(log);
    const batch = damage.read().batches.at(-2);
    await expectRefused(damage.truncatedFile(last, (batch?.end ?? 0) % SEGMENT), last);
  });

  it('one that grew is refused', async () => {
    await expectRefused(built(log).truncatedFile(second, SEGMENT + 4096), second);
  });

  it('under each other’s names are what their headers say', async () => {
    const damage = built(log).swappedNames(first, third);
    expect(await contents(damage.dir)).toHaveLength(200);
    expect(damage.read().files.map(({ name }) => name)).toEqual(expect.arrayContaining(names));
  });

  it('under another name, or a spare’s, are what their headers say', async () => {
    const damage = built(log)
      .renamedFile(second, 'x.wal')
      .renamedFile(last, '0000000000000009.spare');
    expect(await contents(damage.dir)).toHaveLength(200);
  });

  it('that claim the same place are refused, and neither is thrown away', async () => {
    const damage = built(log).duplicatedFile(second, 'copy.wal');
    const before = files(damage.dir);
    expect(await contents(damage.dir)).toMatchObject({ code: 'WAL_CORRUPT' });
    expect(files(damage.dir)).toBe(before);
  });

  it('of another log are refused, by name', async () => {
    const other = new LogBuilder({ segmentBytes: SEGMENT, logId: '22'.repeat(16) }).openTerm(1);
    for (let i = 0; i < 100; i++) other.data([payload(i, 2000), `${i}`]);
    const damage = built(log);
    damage.plantedBytes({ file: third, offset: 0 }, other.segments[2] ?? Buffer.alloc(0));
    await expectRefused(damage, third);
  });

  it('of an older state of the same log, put back, are refused', async () => {
    // The last segment as it was some batches ago: a restore that went wrong.
    const damage = built(log);
    const before = batches(96, 2000).segments.at(-1) ?? Buffer.alloc(0);
    expect(before.equals(log.segments.at(-1) ?? before)).toBe(false);
    damage.plantedBytes({ file: last, offset: 0 }, before);
    await expectRefused(damage, last);
  });

  it('with swapped sectors are refused', async () => {
    const damage = built(log);
    damage.swappedSectors(last, 4096 + 512, 4096 + 1024);
    await expectRefused(damage, last);
  });
});

describe('stale bytes', () => {
  it('of the segment that a file once was are never records', async () => {
    const log = batches(100, 2000);
    const last = log.segments.length - 1;
    const used = log.position - last * SEGMENT;
    for (const control of [{}, unsure]) {
      const damage = built(log, control);
      // Recycled without a wipe: behind the end lies what an older segment had there.
      const old = log.segments[0] ?? Buffer.alloc(0);
      damage.plantedBytes({ file: log.names().at(-1) ?? '', offset: used }, old.subarray(used));
      const opened = await open(damage.dir);
      expect(opened.status().appendLsn).toBe(200);
      opened.append('next');
      await opened.commit();
      await opened.close();
      expect((await contents(damage.dir)) as Buffer[]).toHaveLength(201);
    }
  });

  it('of a tail that was cut, with the same positions and LSNs, are never records', async () => {
    const kept = (): LogBuilder =>
      new LogBuilder({ segmentBytes: SEGMENT }).openTerm(1).data(['a']);
    // The same lengths batch for batch, so that the old batches lie where new ones would follow.
    const old = kept().openTerm(1, 2).data(['old 1']).data(['old 2']).data(['old 3']);
    const fresh = kept().openTerm(1, 3).data(['new 1']);
    const damage = built(fresh, unsure);
    const end = fresh.position;
    expect(old.ends).toContain(end);
    damage.plantedBytes({ file: fresh.names()[0] ?? '', offset: end }, old.bytes().subarray(end));
    expect(((await contents(damage.dir)) as Buffer[]).map(String)).toEqual(['a', 'new 1']);
  });
});
