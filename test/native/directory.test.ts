import { type ChildProcess, spawn } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { LogBuilder } from '../format/build_log.js';
import { readLog } from '../format/read_log.js';
import { Damage } from '../helpers/damage.js';
import { freshDir } from '../helpers/temp.js';
import { binding, payload, small, TestLog } from './native.js';

async function closedLog(batches = 3): Promise<string> {
  const dir = freshDir();
  const log = await TestLog.openPrimary({ dir });
  for (let i = 0; i < batches; i++) await log.batch(payload(i, 100));
  await log.close();
  return dir;
}

/** Where a link leads; empty for one that is gone meanwhile. */
function linkOf(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return '';
  }
}

function modeOf(path: string): string {
  return (statSync(path).mode & 0o7777).toString(8);
}

function snapshot(dir: string): Map<string, string> {
  const names = readdirSync(dir).filter((name) => name !== 'lock');
  return new Map(names.map((name) => [name, readFileSync(join(dir, name)).toString('base64')]));
}

describe('a log directory', () => {
  it('is made 0700, its parents too, and its files 0600', async () => {
    const parent = freshDir('a');
    const dir = join(parent, 'b', 'log');
    const log = await TestLog.openPrimary({ dir });
    await log.batch('x');
    for (const path of [parent, join(parent, 'b'), dir]) expect(modeOf(path)).toBe('700');
    for (const name of readdirSync(dir)) expect(modeOf(join(dir, name)), name).toBe('600');
    await log.close();
  });

  it.each([0o722, 0o702, 0o777])('of mode %o is refused', async (mode) => {
    const dir = freshDir();
    mkdirSync(dir);
    chmodSync(dir, mode);
    await expect(TestLog.open({ dir })).rejects.toMatchObject({ code: 'WAL_DIR_PERMISSIONS' });
    expect(readdirSync(dir)).toEqual([]);
  });

  it('that holds other files is refused, and left as it is', async () => {
    const dir = freshDir();
    mkdirSync(dir, { mode: 0o700 });
    writeFileSync(join(dir, 'letter.txt'), 'dear');
    await expect(TestLog.open({ dir })).rejects.toMatchObject({ code: 'WAL_NOT_A_LOG' });
    expect(readdirSync(dir).filter((name) => name !== 'lock')).toEqual(['letter.txt']);
  });

  it('that is not there, or empty, is no log unless one is to be made', async () => {
    const dir = freshDir();
    const open = TestLog.open({ dir, create: false });
    await expect(open).rejects.toMatchObject({ code: 'WAL_NOT_FOUND' });
    await expect(binding.openReader(dir)).rejects.toMatchObject({ code: 'WAL_NOT_FOUND' });
    mkdirSync(dir, { mode: 0o700 });
    const again = TestLog.open({ dir, create: false });
    await expect(again).rejects.toMatchObject({ code: 'WAL_NOT_FOUND' });
  });

  it('opened twice in one process says which process holds it', async () => {
    const dir = freshDir();
    const log = await TestLog.open({ dir });
    const second = await TestLog.open({ dir }).catch((error: unknown) => error);
    expect(second).toMatchObject({ code: 'WAL_LOCKED' });
    expect((second as Error).message).toContain(String(process.pid));
    await log.close();
    await (await TestLog.open({ dir })).close();
  });

  it('opened by another process says which, until that one is killed', async () => {
    const dir = freshDir();
    const child = holder(dir);
    try {
      await said(child, 'open');
      const second = await TestLog.open({ dir }).catch((error: unknown) => error);
      expect(second).toMatchObject({ code: 'WAL_LOCKED' });
      expect((second as Error).message).toContain(String(child.pid));
    } finally {
      child.kill('SIGKILL');
    }
    await new Promise((ended) => child.once('exit', ended));
    await (await TestLog.open({ dir })).close();
  });

  it('closed has no file open any more, and neither has a reader', async () => {
    const dir = freshDir();
    const openFiles = (): string[] => {
      const links = readdirSync('/proc/self/fd').map((fd) => linkOf(`/proc/self/fd/${fd}`));
      return links.filter((path) => path.startsWith(dir));
    };
    const log = await TestLog.openPrimary({ dir });
    for (let i = 0; i < 60; i++) await log.batch(payload(i, 3000));
    expect(openFiles().length).toBeGreaterThan(3);
    await log.close();
    expect(openFiles()).toEqual([]);
    const reader = await binding.openReader(dir);
    await reader.verify();
    reader.close();
    expect(openFiles()).toEqual([]);
  });

  it('is not changed by a byte through a reader', async () => {
    const dir = await closedLog();
    const before = snapshot(dir);
    const reader = await binding.openReader(dir);
    await reader.verify();
    reader.close();
    expect(snapshot(dir)).toEqual(before);
  });

  it('whose control file is gone is damaged, not empty', async () => {
    const dir = await closedLog();
    new Damage(dir).deletedFile('control');
    const before = snapshot(dir);
    await expect(TestLog.open({ dir })).rejects.toMatchObject({ code: 'WAL_CORRUPT' });
    expect(snapshot(dir)).toEqual(before);
  });

  it('opens with either control copy damaged, and not with both', async () => {
    const dir = await closedLog();
    for (const copy of [0, 1]) {
      const one = Damage.copyOf(dir, freshDir());
      one.flippedBit({ file: 'control', offset: copy * 16384 + 130 });
      const log = await TestLog.open({ dir: one.dir });
      expect(log.closed.lsn).toBe(3);
      await log.close();
    }
    const both = Damage.copyOf(dir, freshDir());
    both.flippedBit({ file: 'control', offset: 130 });
    both.flippedBit({ file: 'control', offset: 16384 + 130 });
    const open = TestLog.open({ dir: both.dir });
    await expect(open).rejects.toMatchObject({ code: 'WAL_CORRUPT' });
  });

  it('of a later format version says so', async () => {
    const dir = await closedLog();
    const damage = new Damage(dir);
    for (const copy of [0, 1] as const) {
      damage.mendedControlCopy(copy, (control) => control.writeUInt32LE(2, 8));
    }
    await expect(TestLog.open({ dir })).rejects.toMatchObject({ code: 'WAL_VERSION' });
  });

  it('written by the independent writer is opened and continued', async () => {
    const dir = freshDir();
    const built = new LogBuilder().openTerm(1).data(['a', 'b']);
    for (let i = 0; i < 100; i++) built.data([payload(i, 2000)]);
    built.writeTo(dir);
    const log = await TestLog.openPrimary({ dir });
    expect(log.native.info().recovery.clean).toBe(true);
    expect(log.closed.lsn).toBe(102);
    await log.batch('c');
    await log.close();
    const read = readLog(dir);
    expect(read.damage).toBeUndefined();
    expect(read.records.map(Buffer.from).map(String).slice(0, 2)).toEqual(['a', 'b']);
    expect(String(read.records.at(-1))).toBe('c');
    expect(read.end.lsn).toBe(103);
  });

  it('keeps what was fixed at creation, whatever is asked for later', async () => {
    const dir = await closedLog();
    const before = readLog(dir).control;
    const log = await TestLog.open({ dir, segmentBytes: 1 << 20, padded: true, name: 'z' });
    const { segmentBytes, padded, logId, nodeId } = log.native.info();
    expect({ segmentBytes, padded }).toEqual({ segmentBytes: small.segmentBytes, padded: false });
    expect({ logId, nodeId }).toEqual({ logId: before.logId, nodeId: before.nodeId });
    await log.close();
  });

  it.each([
    ['no multiple of 4096', { segmentBytes: 65537 }],
    ['too small for a record', { segmentBytes: 16384, maxRecordBytes: 16384 }],
    ['of nothing', { segmentBytes: 0 }],
    ['with records over the limit', { segmentBytes: 1 << 26, maxRecordBytes: (16 << 20) + 1 }],
  ])('of segments %s is refused', async (_, options) => {
    const dir = freshDir();
    await expect(TestLog.open({ dir, ...options })).rejects.toThrow();
  });
});

function holder(dir: string): ChildProcess {
  const addon = resolve(import.meta.dirname, '../../build/Release/walmirror.node');
  const options = JSON.stringify({ ...small, dir });
  const script = `
    require(${JSON.stringify(addon)}).open(${options}).then((log) => {
      log.ref();
      console.log('open');
      setInterval(() => log.info(), 1000);
    });`;
  return spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
}

function said(child: ChildProcess, word: string): Promise<void> {
  return new Promise((done, failed) => {
    child.stdout?.on('data', (data: Buffer) => {
      if (data.includes(word)) done();
    });
    child.once('exit', () => failed(new Error('the child ended')));
  });
}
