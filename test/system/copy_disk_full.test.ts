import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Log } from '../../src/index.js';
import { missing } from '../global/requirements.js';
import { makeTempDir, tempDir } from '../global/temp.js';
import { payload } from '../native/native.js';

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

function stateOf(log: Log, dir: string): string | undefined {
  return log.status().copies.find((copy) => copy.dir === dir)?.state;
}

async function append(log: Log, from: number, count: number): Promise<void> {
  for (let i = from; i < from + count; i++) {
    await log.drain();
    await log.appendAndCommit(payload(i, 3000));
  }
}

describe.skipIf(reason)('a disk that is full, of two', () => {
  it('is dropped, and filled when it has space again', async () => {
    const disk = smallDisk(2000);
    const dir = [join(tempDir('good'), 'log'), join(disk, 'log')] as const;
    const log = await Log.open({ ...sizes, dir });
    onTestFinished(() => log.close().catch(() => undefined));
    await append(log, 0, 20);
    expect(stateOf(log, dir[1])).toBe('in');
    spawnSync('dd', ['if=/dev/zero', `of=${join(disk, 'other')}`, 'bs=4096']);
    await append(log, 20, 150);
    expect(stateOf(log, dir[1])).not.toBe('in');
    expect(log.status().copies[1]?.reason).toMatch(/[Nn]o space/);
    expect(log.status().failure).toBeNull();
    writeFileSync(join(disk, 'other'), '');
    await expect.poll(() => stateOf(log, dir[1]), { timeout: 60_000 }).toBe('in');
    await append(log, 170, 20);
    await log.close();
    const alone = await Log.open({ dir: dir[1], acceptMissing: [dir[0]] });
    onTestFinished(() => alone.close().catch(() => undefined));
    let i = 0;
    for await (const batch of alone.read({ from: 1, upTo: 'flush', live: false })) {
      for (const record of batch) {
        expect(Buffer.compare(Buffer.from(record.data), payload(i, 3000))).toBe(0);
        i++;
      }
    }
    expect(i).toBe(190);
  });
});
