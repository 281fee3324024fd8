import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Damage, spotOf } from '../helpers/damage.js';
import { freshDir } from '../helpers/temp.js';
import { binding, TestLog } from '../native/native.js';
import { type BatchOverrides, LogBuilder } from './build_log.js';
import type { Control } from './layout.js';
import { readLog } from './read_log.js';

function built(log: LogBuilder, control: Partial<Control> = {}): Damage {
  const dir = freshDir();
  log.writeTo(dir, control);
  return new Damage(dir);
}

const record = (n: number): string => `record ${n} ${'x'.repeat(n % 97)}`;

/** A log of some segments, each batch claiming (or not) that all before it is durable. */
function longLog(options = {}, watermarks = false): LogBuilder {
  const log = new LogBuilder({ segmentBytes: 16384, ...options }).openTerm(1);
  for (let n = 1; n <= 300; n += 3) {
    const overrides: BatchOverrides = watermarks ? { watermark: log.position } : {};
    log.data([record(n), record(n + 1), record(n + 2)], overrides);
  }
  return log;
}

describe('reading a log', () => {
  it.each([8, 4096])('gives every record across segments when aligned to %i', (align) => {
    const builder = longLog({ align });
    const log = built(builder).read();
    expect(builder.segments.length).toBeGreaterThan(2);
    expect(log.records.map(String)).toEqual(Array.from({ length: 300 }, (_, i) => record(i + 1)));
    expect(log.end).toEqual({
      position: builder.position,
      lsn: 300,
      crc: builder.crc,
      reason: 'zeros',
    });
    expect(log.damage).toBeUndefined();
    expect(log.dirtySeals).toEqual([]);
    expect(log.history).toEqual(builder.history);
  });

  it('follows the headers, not the names', () => {
    const damage = built(longLog());
    const [a, b] = damage.read().files;
    damage.swappedNames(a?.name ?? '', b?.name ?? '').renamedFile(a?.name ?? '', 'any.spare');
    expect(damage.read().end.lsn).toBe(300);
  });

  it('starts where the control file says', () => {
    const builder = longLog();
    const whole = built(builder).read();
    const second = whole.batches.find((batch) => batch.position >= 16384 * 2);
    const start = { position: 16384 * 2, lsn: (second?.firstLsn ?? 0) - 1 };
    const damage = built(builder, { start });
    for (const file of whole.files.slice(0, 2)) rmSync(join(damage.dir, file.name));
    const log = damage.read();
    expect(log.start.lsn).toBe(start.lsn);
    expect(log.records.length).toBe(300 - start.lsn);
    expect(log.damage).toBeUndefined();
  });

  it('ends at the start of a segment that is not there yet', () => {
    const builder = new LogBuilder().openTerm(1).data(['a']).fill();
    const damage = built(builder, { watermark: { position: 4096, lsn: 0, crc: 0 } });
    damage.deletedFile(builder.names()[1] ?? '');
    expect(damage.read().end).toMatchObject({ position: 65536 + 4096, reason: 'no segment' });
    expect(damage.read().damage).toBeUndefined();
  });

  it('says which sealed segment is not zero behind its filler', () => {
    const builder = new LogBuilder().openTerm(1).fill();
    const damage = built(builder);
    const [file] = builder.names();
    damage.plantedBytes({ file: file ?? '', offset: 65000 }, Buffer.from('x'));
    expect(damage.read().dirtySeals).toEqual([file]);
  });
});

describe('a batch that does not verify', () => {
  const early = { watermark: { position: 4096, lsn: 0, crc: 0 }, clean: false };

  it('above the watermark is a torn tail', () => {
    const builder = longLog();
    const damage = built(builder, early);
    const log = damage.read();
    const batch = log.batches.at(-1);
    damage.flippedBit(spotOf(log, (batch?.position ?? 0) + 130));
    expect(damage.read()).toMatchObject({ damage: undefined, end: { lsn: 297, reason: 'crc' } });
  });

  it('below the watermark is corruption, named by file, offset and LSN', () => {
    const damage = built(longLog());
    const log = damage.read();
    const batch = log.batches[70];
    const spot = spotOf(log, batch?.position ?? 0);
    damage.flippedBit({ ...spot, offset: spot.offset + 40 });
    expect(damage.read().damage).toMatchObject({ ...spot, lsn: batch?.firstLsn });
  });

  it('is corruption when a later batch of this node was framed after it was durable', () => {
    const damage = built(longLog({}, true), early);
    const log = damage.read();
    damage.zeroedRange(spotOf(log, log.batches[70]?.position ?? 0), 64);
    expect(damage.read().damage?.reason).toContain('later batch');
  });

  it('is a torn tail when only another node was known to have it durable', () => {
    const other = 'bb'.repeat(16);
    const damage = built(longLog({}, true), { ...early, nodeId: other });
    const log = damage.read();
    damage.zeroedRange(spotOf(log, log.batches[70]?.position ?? 0), 64);
    expect(damage.read().damage).toBeUndefined();
  });

  it('is corruption when its whole segment is gone', () => {
    const builder = longLog();
    const damage = built(builder);
    damage.deletedFile(builder.names()[2] ?? '');
    expect(damage.read().damage).toMatchObject({ file: builder.names()[2], offset: 0 });
  });

  it('is corruption when only the header of its segment is gone, at the watermark', async () => {
    const watermark = { position: 16384 + 4096, lsn: 0, crc: 0 };
    const builder = longLog({}, true);
    const before = built(builder)
      .read()
      .batches.findLast((batch) => batch.end <= watermark.position);
    const known = { ...watermark, lsn: before?.lastLsn ?? 0, crc: before?.crc ?? 0 };
    const damage = built(builder, { watermark: known, clean: false });
    const file = builder.names()[1] ?? '';
    damage.flippedBit({ file, offset: 20 });
    expect(damage.read().damage).toMatchObject({ offset: 0, lsn: known.lsn + 1 });
    const reader = await binding.openReader(damage.dir);
    const { damage: found } = await reader.verify();
    reader.close();
    expect(found).toMatchObject({ file: join(damage.dir, file), lsn: known.lsn + 1 });
    await expect(TestLog.open({ dir: damage.dir })).rejects.toMatchObject({ code: 'WAL_CORRUPT' });
    // Where no later batch says that it was durable, it was not.
    const silent = built(longLog(), { watermark: known, clean: false });
    silent.flippedBit({ file, offset: 20 });
    expect(silent.read()).toMatchObject({ end: { position: known.position }, damage: undefined });
  });

  it.each<[string, (log: LogBuilder, last: Buffer) => void]>([
    ['first LSN', (log, last) => last.writeBigUInt64LE(BigInt(log.lsn + 1), 56)],
    ['prev crc', (_, last) => last.writeUInt32LE(1, 112)],
    ['term', (_, last) => last.writeBigUInt64LE(0n, 48)],
    ['term', (_, last) => last.writeUInt32LE(0, 80)],
    ['term', (_, last) => last.writeUInt8(0xbb, 64)],
  ])('for its %s alone is not the next one', (reason, change) => {
    const builder = new LogBuilder().openTerm(1).data(['a']).data(['b']);
    const damage = built(builder, early);
    const spot = spotOf(damage.read(), builder.ends[1] ?? 0);
    damage.mendedBatch(spot, (batch) => change(builder, batch));
    expect(damage.read()).toMatchObject({ end: { lsn: 1, reason }, damage: undefined });
  });
});

describe('stale bytes of a recycled segment', () => {
  it('fail on their position, whatever their age', () => {
    const builder = longLog();
    const log = built(builder).read();
    const old = builder.segments[0] ?? Buffer.alloc(0);
    const last = builder.segments.length - 1;
    const used = builder.position - last * 16384;
    const damage = built(builder);
    // The file's former bytes from the end of the log on, as if it had been reused without a wipe.
    damage.plantedBytes(spotOf(log, last * 16384 + used), old.subarray(used));
    expect(damage.read().end.lsn).toBe(300);
    expect(damage.read().damage).toBeUndefined();
  });

  it('of a history that was cut fail on prev crc', () => {
    const shared = new LogBuilder().openTerm(1).data(['a']);
    const fork = shared.position;
    const stale = new LogBuilder().openTerm(1).data(['a']).data(['old 1']).data(['old 2']);
    const fresh = new LogBuilder().openTerm(1).data(['a']).data(['new 1']);
    expect(stale.ends[2]).toBe(fresh.position);
    const damage = built(fresh);
    const names = fresh.names();
    const end = fresh.position;
    damage.plantedBytes({ file: names[0] ?? '', offset: end }, stale.bytes().subarray(end));
    expect(fork).toBeLessThan(end);
    expect(readLog(damage.dir)).toMatchObject({
      end: { lsn: 2, reason: 'prev crc' },
      damage: undefined,
    });
  });
});
