import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Place } from '../../src/native/native_log.js';
import { decodeSegmentHeader } from '../format/decode.js';
import { readLog } from '../format/read_log.js';
import { freshDir } from '../helpers/temp.js';
import { historyOf, ingestAll, payload, readBytes, TestLog } from './native.js';

/** Two logs with a common beginning; the second then goes another way. */
async function forked(
  batches: { common: number; more: number },
  options = {},
): Promise<{ primary: TestLog; standby: TestLog; dir: string; fork: Place; tail: Buffer }> {
  const dir = freshDir();
  const primary = await TestLog.openPrimary({ dir: freshDir(), ...options });
  for (let i = 0; i < batches.common; i++) await primary.batch(payload(i, 2000));
  const fork = await primary.settled();
  for (let i = 0; i < batches.more; i++) await primary.batch(payload(1000 + i, 2000));
  await primary.settled();
  const standby = await TestLog.openStandby(primary.native, { dir });
  await standby.native.storeRole('standby', primary.native.info().term, 'a', '');
  standby.native.beginIngest(historyOf(primary));
  const bytes = await readBytes(primary, 4096, primary.closed.position);
  await ingestAll(standby, bytes, () => 8192);
  while (standby.closed.position < primary.closed.position) {
    standby.native.ingest(bytes, 0, 0);
    await standby.progress();
  }
  await standby.settled();
  return { primary, standby, dir, fork, tail: bytes.subarray(fork.position - 4096) };
}

describe.each([
  { where: 'within a segment', common: 5, more: 10 },
  { where: 'some segments back', common: 5, more: 120 },
  { where: 'at the start', common: 0, more: 40 },
])('a cut $where', ({ common, more }) => {
  it.each([false, true])(
    'leaves the log at the fork, the tail aside, padded %s',
    async (padded) => {
      const log = await forked({ common, more }, { padded });
      const { primary, standby, dir, fork, tail } = log;
      const { crc } = readLog(dir).batches.find(({ end }) => end === fork.position)!;
      await standby.native.truncate(fork.position, '1.diverged');
      expect(standby.closed).toEqual(fork);
      expect(standby.flushed).toEqual(fork);
      expect(standby.native.received()).toBe(fork.position);
      expect(standby.crc).toBe(crc);
      expect(await standby.native.checksumAt(fork.position)).toBe(crc);
      const aside = readFileSync(join(dir, '1.diverged'));
      const header = decodeSegmentHeader(aside.subarray(0, 4096));
      expect(header).toMatchObject({ ok: false });
      expect(aside.subarray(4096).equals(tail)).toBe(true);
      expect(readLog(dir)).toMatchObject({ end: { ...fork, crc }, damage: undefined });

      // It follows another history from there.
      const other = 'cc'.repeat(16);
      await standby.native.storeRole(
        'standby',
        { epoch: 5, opener: other, incarnation: 1 },
        'c',
        '',
      );
      await standby.close();
      const again = await TestLog.openPrimary({ dir });
      expect(again.closed.lsn).toBe(fork.lsn);
      for (let i = 0; i < 60; i++) await again.batch(payload(5000 + i, 2000));
      await again.close();
      const read = readLog(dir);
      expect(read.damage).toBeUndefined();
      expect(read.dirtySeals).toEqual([]);
      expect(read.end.lsn).toBe(fork.lsn + 60);
      const kept = read.records.slice(0, fork.lsn).map(Buffer.from);
      expect(kept.every((record, i) => record.equals(payload(i, 2000)))).toBe(true);
      await primary.close();
    },
  );
});

describe('a cut', () => {
  it('below what is known to be committed is refused, and changes nothing', async () => {
    const { primary, standby, dir, fork } = await forked({ common: 5, more: 5 });
    const { position, lsn } = standby.closed;
    standby.native.setCommit(position, lsn);
    const cut = standby.native.truncate(fork.position, 'x.diverged');
    await expect(cut).rejects.toMatchObject({ code: 'WAL_COMMITTED_LOST' });
    expect(standby.closed).toEqual({ position, lsn });
    expect(existsSync(join(dir, 'x.diverged'))).toBe(false);
    await standby.close();
    expect(readLog(dir).end).toMatchObject({ position, lsn });
    await primary.close();
  });

  it.each([-8, 8, 128])('that is no batch boundary (%i bytes off) is refused', async (off) => {
    const { primary, standby, dir, fork } = await forked({ common: 5, more: 5 });
    const end = standby.closed;
    await expect(standby.native.truncate(fork.position + off, 'x.diverged')).rejects.toThrow();
    expect(standby.closed).toEqual(end);
    await standby.close();
    expect(readLog(dir).end).toMatchObject(end);
    await primary.close();
  });

  it('at the end of the log is none', async () => {
    const { primary, standby, dir } = await forked({ common: 5, more: 5 });
    const end = standby.closed;
    await standby.native.truncate(end.position, 'x.diverged');
    expect(standby.closed).toEqual(end);
    expect(existsSync(join(dir, 'x.diverged'))).toBe(false);
    await standby.close();
    await primary.close();
  });

  it('leaves alone what has the side file’s name, unless it is the same', async () => {
    const { primary, standby, dir, fork, tail } = await forked({ common: 5, more: 10 });
    const end = standby.closed.position;
    const other = 'of another cut';
    writeFileSync(join(dir, 'x.diverged'), other);
    await standby.native.truncate(fork.position, 'x.diverged');
    expect(readFileSync(join(dir, 'x.diverged'), 'utf8')).toBe(other);
    const aside = readFileSync(join(dir, 'x-2.diverged'));
    expect(aside.subarray(4096).equals(tail)).toBe(true);

    // The same cut once more: its tail is aside already.
    standby.native.beginIngest(historyOf(primary));
    await ingestAll(standby, tail, () => 8192);
    await standby.settled();
    expect(standby.closed.position).toBe(end);
    await standby.native.truncate(fork.position, 'x.diverged');
    expect(readFileSync(join(dir, 'x-2.diverged')).equals(aside)).toBe(true);
    expect(readdirSync(dir).filter((name) => name.includes('diverged'))).toHaveLength(2);
    await standby.close();
    await primary.close();
  });

  it.each([
    ...['../x', '/tmp/x', 'a/b', '', '.', 'control', 'x.wal', '.diverged', 'a/x.diverged'],
    'x.diverged.wal',
    '.x.diverged',
    'control\0.diverged',
  ])('into a side file named %j is refused', async (name) => {
    const { primary, standby, dir, fork } = await forked({ common: 2, more: 2 });
    // The engine may be preparing a segment meanwhile.
    const files = () => readdirSync(dir).filter((each) => !each.endsWith('.spare'));
    const names = files().sort();
    await expect(async () => standby.native.truncate(fork.position, name)).rejects.toThrow(
      /plain name/,
    );
    expect(files().sort()).toEqual(names);
    await standby.close();
    await primary.close();
  });
});
