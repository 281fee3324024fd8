import { describe, expect, it } from 'vitest';
import { loseTail, readControl } from '../../demo/lying_disk.js';
import { Log } from '../../src/index.js';
import { LogBuilder } from '../format/build_log.js';
import { readLog } from '../format/read_log.js';
import { freshDir } from '../helpers/temp.js';

/** 20 batches of three records, all durable by a control file that was written before them. */
async function builtLog(): Promise<{ dir: string; control: Buffer }> {
  const dir = freshDir();
  const log = new LogBuilder({ segmentBytes: 65536 }).openTerm(1);
  for (let i = 0; i < 20; i++) log.data([`${i}`, 'b', 'c']);
  log.writeTo(dir, { clean: false, watermark: { position: 4096, lsn: 0, crc: 0 } });
  const control = await readControl(dir);
  // The process goes on, and notes that all is durable.
  const open = await Log.open({ dir });
  await open.close();
  return { dir, control };
}

describe('a lying disk', () => {
  it.each([
    [0.01, 7, 4],
    [0.5, 1, 11],
  ])('loses a share of %d, or batches of %i records at least', async (share, least, batches) => {
    const { dir, control } = await builtLog();
    const before = readLog(dir);
    const lost = await loseTail(dir, control, { share, least });
    expect(lost.batches).toBe(batches);
    const after = readLog(dir);
    expect(after.damage).toBeUndefined();
    expect(after.batches).toHaveLength(before.batches.length - batches);
    expect(after.end.lsn).toBe(before.end.lsn - lost.records);
    expect(lost.records).toBeGreaterThanOrEqual(least);
  });

  it('says so where there is too little to lose', async () => {
    const { dir, control } = await builtLog();
    await expect(loseTail(dir, control, { share: 0.02, least: 61 })).rejects.toThrow(/only 60/);
    expect(readLog(dir).end.lsn).toBe(60);
  });
});
