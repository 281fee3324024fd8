import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  readdirSync,
  rmdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Log, type OpenOptions } from '../../src/index.js';
import { freshDir } from '../helpers/temp.js';
import { codeOf, openLog, reopen, small, texts, walError } from './helpers.js';

describe('Log.open', () => {
  it('creates the directory for its owner alone, and names the log after it', async () => {
    const log = await openLog();
    expect(statSync(log.dir).mode & 0o777).toBe(0o700);
    for (const file of readdirSync(log.dir)) {
      expect(statSync(join(log.dir, file)).mode & 0o077).toBe(0);
    }
    expect(log.name).toBe(basename(log.dir));
    expect(log.status()).toMatchObject({ schema: 1, role: 'primary', state: 'open' });
  });

  it('finds what was there, and counts its openings', async () => {
    const log = await openLog({ ...small, name: 'n' });
    await log.appendAndCommit('a');
    const { logId, nodeId } = log.status();
    const again = await reopen(log);
    expect(again.status()).toMatchObject({ logId, nodeId, appendLsn: 1, flushLsn: 1, firstLsn: 1 });
    expect(again.status().term).toMatchObject({ epoch: 1, opener: nodeId, incarnation: 2 });
    expect(again.append('b')).toBe(2);
    expect(await texts(again)).toEqual(['a', 'b']);
  });

  it('a second opening says who has the directory', async () => {
    const log = await openLog(small);
    const error = await walError(() => Log.open({ dir: log.dir }));
    expect(error.code).toBe('WAL_LOCKED');
    expect(error.message).toContain(String(process.pid));
    log.append('still works');
    await log.commit();
  });

  it('refuses a directory that others may write, and one that holds other files', async () => {
    const open = freshDir();
    mkdirSync(open, { recursive: true });
    chmodSync(open, 0o777);
    expect(await codeOf(() => Log.open({ dir: open }))).toBe('WAL_DIR_PERMISSIONS');
    const other = freshDir();
    mkdirSync(other, { recursive: true, mode: 0o700 });
    writeFileSync(join(other, 'notes.txt'), 'mine');
    expect(await codeOf(() => Log.open({ dir: other }))).toBe('WAL_NOT_A_LOG');
    expect(readdirSync(other)).toEqual(['notes.txt']);
  });

  it('what was fixed at creation can be repeated, and not changed', async () => {
    const log = await openLog(small);
    const again = await reopen(log, small);
    await again.close();
    for (const change of [{ segmentBytes: 1 << 20 }, { maxRecordBytes: 100 }, { padded: true }]) {
      await expect(Log.open({ dir: log.dir, ...change })).rejects.toThrow(/was fixed at/);
    }
    await (await Log.open({ dir: log.dir })).close();
  });

  it('a failed opening lets the directory go', async () => {
    const log = await openLog(small);
    await log.close();
    const wrong = { dir: log.dir, segmentBytes: 1 << 20 };
    for (let i = 0; i < 3; i++) await expect(Log.open(wrong)).rejects.toThrow(/was fixed at/);
    await expect(
      Log.open({ dir: log.dir, listen: { host: '192.0.2.1', port: 0, plaintext: true } }),
    ).rejects.toThrow(/192\.0\.2\.1/);
    const nowhere = { host: 'nowhere.invalid', port: 0, plaintext: true };
    await expect(Log.open({ dir: log.dir, listen: nowhere })).rejects.toMatchObject({
      code: 'WAL_IO',
      message: expect.stringMatching(/^cannot listen on nowhere\.invalid:0: /),
    });
    await (await Log.open({ dir: log.dir })).close();
  });

  it('says so where it cannot make its control socket, and lets the directory go', async () => {
    const log = await openLog(small);
    await log.close();
    mkdirSync(join(log.dir, 'control.sock'));
    const error = await walError(() => Log.open({ dir: log.dir }));
    expect(error.code).toBe('WAL_IO');
    expect(error.message).toContain(`cannot make the control socket in ${log.dir}`);
    rmdirSync(join(log.dir, 'control.sock'));
    await (await Log.open({ dir: log.dir })).close();
  });

  it('pads batches where asked to', async () => {
    const log = await openLog({ ...small, padded: true });
    for (let i = 0; i < 20; i++) await log.appendAndCommit(`${i}`);
    expect((await texts(await reopen(log, { padded: true }))).length).toBe(20);
  });

  it('takes the smallest sizes', async () => {
    const log = await openLog({ segmentBytes: 65536, ringBytes: 65536, maxBatchBytes: 1024 });
    expect(log.maxRecordBytes).toBe(65536 - 5 * 4096);
    for (let i = 0; i < 10; i++) {
      await log.drain(log.maxRecordBytes);
      log.append(Buffer.alloc(log.maxRecordBytes, i));
    }
    await log.commit();
    expect((await texts(log)).length).toBe(10);
  });

  it('has a default of maxRecordBytes that the engine takes, for every size', async () => {
    // Around each step of 4096, and where the default stops growing.
    const pages = [16, 17, 18, 23, 24, 25, 64, 255, 256, 4100, 4101, 4102, 4103, 4104];
    for (const segmentBytes of pages.map((count) => count * 4096)) {
      for (const padded of [false, true]) {
        const log = await Log.open({ dir: freshDir(), segmentBytes, padded, ringBytes: 65536 });
        const overhead = (padded ? 7 : 5) * 4096;
        expect(log.maxRecordBytes).toBe(Math.min(16 << 20, segmentBytes - overhead));
        // Beside an opening, so that a segment of its own is rolled into.
        for (let i = 0; i < 2; i++) {
          await log.drain(log.maxRecordBytes);
          log.append(Buffer.alloc(log.maxRecordBytes, 5));
        }
        expect((await log.commit()).lsn).toBe(2);
        await log.close();
        // One more is refused before the engine sees it.
        const maxRecordBytes = log.maxRecordBytes + 1;
        const more = Log.open({ dir: freshDir(), segmentBytes, padded, maxRecordBytes });
        await expect(more).rejects.toThrow(RangeError);
      }
    }
  });

  it('gives up before it begins where the signal says so', async () => {
    const dir = freshDir();
    const signal = AbortSignal.abort(new Error('not now'));
    await expect(Log.open({ dir, signal })).rejects.toThrow('not now');
    expect(() => statSync(dir)).toThrow();
  });

  it.each<[string, unknown, RegExp]>([
    ['no options', undefined, /dir: '\.\/log'/],
    ['a path alone', './log', /options object/],
    ['no dir', {}, /dir takes a string/],
    ['an empty dir', { dir: '' }, /dir/],
    ['a dir that is no text', { dir: ['a', 1] }, /dir takes a string/],
    ['an unknown option', { dir: 'x', ringbytes: 1 }, /did you mean ringBytes\?/],
    ['an option of another system', { dir: 'x', zzzzzzzzz: 1 }, /it takes dir, name/],
    ['a name with a space', { dir: 'x', name: 'a b' }, /name takes/],
    ['a long name', { dir: 'x', name: 'n'.repeat(64) }, /name takes/],
    ['a ring that is no power of two', { dir: 'x', ringBytes: 100_000 }, /power of two/],
    ['a ring as text', { dir: 'x', ringBytes: '64' }, /ringBytes takes a whole number/],
    ['a segment of odd size', { dir: 'x', segmentBytes: 100_000 }, /multiple of 4096/],
    ['a tiny segment', { dir: 'x', segmentBytes: 4096 }, /segmentBytes/],
    ['records over 16 MiB', { dir: 'x', maxRecordBytes: 2 ** 24 + 1 }, /maxRecordBytes/],
    ['records over the segment', { dir: 'x', segmentBytes: 65536, maxRecordBytes: 65536 }, /maxR/],
    ['batches over the segment', { dir: 'x', segmentBytes: 65536, maxBatchBytes: 65536 }, /maxB/],
    ['no delay', { dir: 'x', maxBatchDelay: 0 }, /maxBatchDelay/],
    ['half a delay', { dir: 'x', maxBatchDelay: 0.5 }, /maxBatchDelay.* whole number, 1 to/],
    ['a delay and a half', { dir: 'x', maxBatchDelay: 1.5 }, /maxBatchDelay \(/],
    ['NaN delay', { dir: 'x', maxBatchDelay: Number.NaN }, /maxBatchDelay/],
    ['padded as text', { dir: 'x', padded: 'yes' }, /true or false/],
    ['a port as text', { dir: 'x', listen: { port: '1' } }, /listen\.port/],
    ['no port', { dir: 'x', follow: {} }, /follow\.port/],
    ['port 0 to follow', { dir: 'x', follow: { port: 0 } }, /follow\.port/],
    ['an address as text', { dir: 'x', listen: 'localhost:1' }, /an object such as/],
    ['an unknown level', { dir: 'x', synchronousCommit: 'sync' }, /one of 'off', 'local'/],
    [
      'standbys that have to be quoted',
      { dir: 'x', synchronousStandbys: 'FIRST 1 (a-b)' },
      /character 11: a name with this character has to be quoted/,
    ],
    [
      'standbys that do not parse',
      { dir: 'x', synchronousStandbys: 'ANY x (a)' },
      /synchronousSta/,
    ],
    [
      'too few names',
      { dir: 'x', synchronousStandbys: 'ANY 3 (a, b)' },
      /for 3 standbys and names 2/,
    ],
    ['a name twice', { dir: 'x', synchronousStandbys: 'ANY 1 (a, "A")' }, /'A' is there twice/],
    [
      'an unknown whenMissing',
      { dir: 'x', synchronousStandbys: 'ANY 1 (*)', whenMissing: 'wait' },
      /'block', 'fail', 'degrade'/,
    ],
    ['degrade for nobody', { dir: 'x', whenMissing: 'degrade' }, /synchronousStandbys/],
    ['whenMissing for nobody', { dir: 'x', whenMissing: 'fail' }, /synchronousStandbys/],
    [
      'a timeout that would not count',
      { dir: 'x', synchronousStandbys: 'ANY 1 (*)', syncTimeout: 5 },
      /whenMissing: 'fail'/,
    ],
    ['a signal that is none', { dir: 'x', signal: 1 }, /AbortSignal/],
  ])('refuses %s', async (_, options, message) => {
    await expect(Log.open(options as OpenOptions)).rejects.toThrow(message);
    await expect(Log.open(options as OpenOptions)).rejects.toThrow(Error);
  });

  it('refuses plaintext off loopback, and a remote level with nobody named', async () => {
    const dir = freshDir();
    const off = { host: '10.0.0.1', port: 7401 };
    expect(await codeOf(() => Log.open({ dir, listen: off }))).toBe('WAL_PLAINTEXT');
    expect(await codeOf(() => Log.open({ dir, follow: off }))).toBe('WAL_PLAINTEXT');
    expect(await codeOf(() => Log.open({ dir, listen: { host: '0.0.0.0', port: 1 } }))).toBe(
      'WAL_PLAINTEXT',
    );
    const level = { synchronousCommit: 'remote_apply' } as const;
    expect(await codeOf(() => Log.open({ dir, ...level }))).toBe('WAL_NO_STANDBYS');
    expect(() => statSync(dir)).toThrow();
  });

  it('imports without loading anything native', () => {
    const script =
      "await import('./dist/index.js'); const maps = (await import('node:fs'))" +
      ".readFileSync('/proc/self/maps', 'utf8');" +
      "process.stdout.write(String(maps.includes('walmirror.node')))";
    const output = execFileSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
    });
    expect(output).toBe('false');
  });

  it('where the native part does not load, imports, and says what is supported', () => {
    const root = freshDir('package');
    cpSync('dist', join(root, 'dist'), { recursive: true });
    cpSync('package.json', join(root, 'package.json'));
    symlinkSync(resolve('node_modules'), join(root, 'node_modules'));
    const script =
      "const { Log } = await import('./dist/index.js');" +
      "const error = await Log.open({ dir: './log' }).catch((error) => error);" +
      "process.stdout.write(error.code + ': ' + error.message + ' ' + error.hint)";
    const output = execFileSync(process.execPath, ['--input-type=module', '-e', script], {
      cwd: root,
      encoding: 'utf8',
    });
    expect(output).toMatch(/^WAL_UNSUPPORTED: .*Supported are Linux.*npm rebuild walmirror/);
  });
});
