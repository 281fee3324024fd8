import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Log, WalError } from '../../src/index.js';
import { readLog } from '../format/read_log.js';
import { missing } from '../global/requirements.js';
import { makeTempDir, tempDir } from '../global/temp.js';
import { payload } from '../native/native.js';

/** A disk of ten segments or so; also one that, on older kernels, takes no O_DIRECT. */
const reason = missing({ root: true, programs: ['mount', 'umount'] });

const sizes = { segmentBytes: 65536, maxRecordBytes: 8192, ringBytes: 131072 } as const;

function smallDisk(kilobytes: number): string {
  const parent = makeTempDir('disk');
  const mounted = join(parent, 'mounted');
  mkdirSync(mounted);
  const size = `size=${kilobytes}k,mode=0700`;
  const done = spawnSync('mount', ['-t', 'tmpfs', '-o', size, 'tmpfs', mounted]);
  onTestFinished(() => {
    // Lazily: a test that failed may have left the log open.
    spawnSync('umount', ['-l', mounted]);
    rmSync(parent, { recursive: true, force: true });
  });
  if (done.status !== 0) throw new Error(done.stderr.toString());
  return mounted;
}

/** Appends, so many records a turn, and commits until refused; the refusal. */
async function fill(log: Log, kept: Buffer[], atOnce: number): Promise<WalError> {
  for (;;) {
    try {
      for (let i = 0; i < atOnce; i++) {
        const record = payload(kept.length, 3000);
        log.append(record);
        kept.push(record);
      }
      await log.commit();
    } catch (error) {
      if (!(error instanceof WalError)) throw error;
      if (error.code !== 'WAL_RING_FULL') return error;
      try {
        await log.drain();
      } catch (refused) {
        if (refused instanceof WalError) return refused;
        throw refused;
      }
    }
  }
}

describe.skipIf(reason)('a full disk', () => {
  it.each([1, 3])('refuses appends by name, %i a turn, and goes on after a trim', async (count) => {
    const dir = join(smallDisk(700), 'log');
    const options = { ...sizes, dir };
    const log = await Log.open(options);
    onTestFinished(() => log.close().catch(() => undefined));
    const kept: Buffer[] = [];
    for (let round = 0; round < 3; round++) {
      const refusal = await fill(log, kept, count);
      expect(refusal).toMatchObject({ code: 'WAL_NO_SPACE', outcome: 'refused' });
      expect(log.status()).toMatchObject({ state: 'open', appendLsn: kept.length });
      // What was taken in the turn of the refusal is in the log, like any other.
      await log.commit();
      expect(readLog(dir).damage).toBeUndefined();
      await log.trim(kept.length);
      const before = kept.length;
      // There is space again; the engine may take a moment to find that out.
      await expect.poll(() => tryAppend(log, kept), { timeout: 5000 }).toBe(true);
      expect(kept.length).toBe(before + 1);
      await log.commit();
    }
    expect(kept.length).toBeGreaterThan(150);
    await log.close();
    const read = readLog(dir);
    expect(read.damage).toBeUndefined();
    expect(read.end.lsn).toBe(kept.length);
    read.records.forEach((record, i) => {
      expect(kept[read.start.lsn + i]?.equals(record)).toBe(true);
    });
    const again = await Log.open(options);
    expect(again.status().appendLsn).toBe(kept.length);
    await again.close();
  });

  it('takes a group as a whole or not at all, and promises no room that is not there', async () => {
    for (const padded of [false, true]) {
      const dir = join(smallDisk(900), 'log');
      const log = await Log.open({ ...sizes, ringBytes: 262144, dir, padded });
      onTestFinished(() => log.close().catch(() => undefined));
      const kept: Buffer[] = [];
      const codes = new Set<string>();
      for (let round = 0; round < 3; round++) {
        // Each group needs a roll or two.
        for (let refused = 0; refused < 3; ) {
          const group = Array.from({ length: 25 }, (_, i) => payload(kept.length + i, 3000));
          try {
            expect(log.appendMany(group).first).toBe(kept.length + 1);
            kept.push(...group);
          } catch (error) {
            if (!(error instanceof WalError)) throw error;
            expect(error.outcome).toBe('refused');
            expect(log.status()).toMatchObject({ state: 'open', appendLsn: kept.length });
            codes.add(error.code);
            const wait = await drained(log, 25 * 3008);
            if (wait === 'WAL_NO_SPACE') refused += 1;
          }
        }
        expect(log.status()).toMatchObject({ state: 'open', appendLsn: kept.length });
        await log.commit();
        await log.trim(kept.length);
        await expect.poll(() => drained(log, 25 * 3008), { timeout: 5000 }).toBe('room');
      }
      expect([...codes].sort()).toEqual(['WAL_NO_SPACE', 'WAL_RING_FULL']);
      await log.close();
      expect(readLog(dir)).toMatchObject({ damage: undefined, end: { lsn: kept.length } });
    }
  });

  it('promotes a standby when there is space for the opening again', async () => {
    const disk = smallDisk(700);
    writeFileSync(join(disk, 'ballast'), Buffer.alloc(300 * 1024));
    const p = await Log.open({ ...sizes, dir: join(tempDir('p'), 'log'), listen: { port: 0 } });
    onTestFinished(() => p.close().catch(() => undefined));
    const follow = { port: p.status().listening?.port ?? 0 };
    const s = await Log.open({ ...sizes, dir: join(disk, 'log'), follow });
    onTestFinished(() => s.close().catch(() => undefined));
    await s.connected();
    let kept = 0;
    for (let before = -1; before < s.status().flushLsn; ) {
      before = s.status().flushLsn;
      // So small that no opening fits behind the last one of a segment.
      for (let i = 0; i < 500; i++, kept++) {
        await p.drain();
        await p.appendAndCommit('x', { level: 'off' });
      }
      await p.commit();
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    await p.close();
    // It is known to lack what its disk had no room for.
    const stopped = { primaryStopped: true, force: true };
    for (let attempt = 0; attempt < 2; attempt++) {
      await expect(s.promote(stopped)).rejects.toMatchObject({ code: 'WAL_NO_SPACE' });
      expect(s.status()).toMatchObject({ role: 'standby', state: 'open' });
    }
    rmSync(join(disk, 'ballast'));
    const { lsn } = await s.promote(stopped);
    expect(lsn).toBeGreaterThan(20);
    expect(lsn).toBeLessThan(kept);
    expect((await s.appendAndCommit('goes on')).lsn).toBe(lsn + 1);
    await s.close();
    expect(readLog(s.dir)).toMatchObject({ damage: undefined, end: { lsn: lsn + 1 } });
  });

  it('is told when a log is made on it', async () => {
    const dir = join(smallDisk(100), 'log');
    const open = Log.open({ dir, segmentBytes: 1 << 20, maxRecordBytes: 8192 });
    await expect(open).rejects.toMatchObject({ code: 'WAL_NO_SPACE' });
  });
});

/** How a drain of so many bytes ends. */
async function drained(log: Log, bytes: number): Promise<string> {
  try {
    await log.drain(bytes);
    return 'room';
  } catch (error) {
    if (error instanceof WalError) return error.code;
    throw error;
  }
}

function tryAppend(log: Log, kept: Buffer[]): boolean {
  const record = payload(kept.length, 3000);
  try {
    log.append(record);
  } catch (error) {
    if (error instanceof WalError && /RING_FULL|NO_SPACE/.test(error.code)) return false;
    throw error;
  }
  kept.push(record);
  return true;
}
