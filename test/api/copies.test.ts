import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Log, type OpenOptions } from '../../src/index.js';
import { freshDir } from '../helpers/temp.js';
import { openLog, small, texts, until, walError } from './helpers.js';

function twoDirs(): [string, string] {
  return [freshDir('a'), freshDir('b')];
}

async function fill(log: Log, count: number, bytes = 2000): Promise<void> {
  for (let i = 0; i < count; i++) {
    if (log.needsDrain) await log.drain();
    log.append(`${i}`.padEnd(bytes, '.'));
    if (i % 10 === 9) await log.commit();
  }
  await log.commit();
}

function stateOf(log: Log, dir: string): string | undefined {
  return log.status().copies.find((copy) => copy.dir === dir)?.state;
}

/** Every byte of the segments of a closed log, by name. */
function segments(dir: string): Map<string, string> {
  const names = readdirSync(dir).filter((name) => name.endsWith('.wal'));
  return new Map(names.map((name) => [name, readFileSync(join(dir, name), 'latin1')]));
}

/** Damages every segment of a directory, behind the back of whoever has it open. */
function damage(dir: string): void {
  for (const name of readdirSync(dir)) {
    if (!name.endsWith('.wal')) continue;
    const bytes = readFileSync(join(dir, name));
    bytes.fill(0x5a, 4096, bytes.length);
    writeFileSync(join(dir, name), bytes);
  }
}

describe('a log with two directories', () => {
  it('has the same bytes in both, and tells of both', async () => {
    const dir = twoDirs();
    const log = await openLog({ ...small, dir });
    await fill(log, 400);
    const { copies } = log.status();
    expect(copies).toMatchObject([
      { dir: dir[0], state: 'in', reason: null, progress: null, badReads: 0 },
      { dir: dir[1], state: 'in', reason: null, progress: null, badReads: 0 },
    ]);
    expect(Date.parse(copies[0]?.since ?? '')).toBeGreaterThan(Date.now() - 60_000);
    await log.close();
    const [a, b] = dir.map(segments);
    expect(a?.size).toBeGreaterThan(2);
    expect(a).toEqual(b);
  });

  it.each([0, 1])('a scrub repairs copy %i from the other, while the log goes on', async (bad) => {
    const dir = twoDirs();
    const log = await openLog({ ...small, dir });
    await fill(log, 400);
    const whole = segments(dir[1 - bad] ?? '');
    const sealed = [...whole.keys()].sort().slice(0, 2);
    for (const name of sealed) {
      const path = join(dir[bad] ?? '', name);
      const bytes = readFileSync(path);
      bytes.fill(0x5a, 6000, 9000);
      writeFileSync(path, bytes);
    }
    const found: string[] = [];
    log.on('damage', ({ damage }) => found.push(...damage.map(({ file }) => file)));
    const status = await log.scrub();
    expect(status).toMatchObject({ damage: [], damagedRanges: 0, reason: null });
    expect(status.repaired).toBeGreaterThanOrEqual(2);
    expect(status.repaired).toBe(status.found);
    expect(found.every((file) => file.startsWith(`${dir[bad]}/`))).toBe(true);
    expect(found.length).toBeGreaterThan(0);
    for (const name of sealed) expect(segments(dir[bad] ?? '').get(name)).toBe(whole.get(name));
    expect(log.status().copies.map(({ state }) => state)).toEqual(['in', 'in']);
    await fill(log, 50);
    await log.close();
    const [a, b] = dir.map(segments);
    expect(a).toEqual(b);
  });

  it('a scrub fills a copy anew that has lost a file', async () => {
    const dir = twoDirs();
    const log = await openLog({ ...small, dir });
    await fill(log, 400);
    const [lost = ''] = [...segments(dir[1]).keys()].sort();
    const dropped: string[] = [];
    log.on('copyDropped', ({ reason }) => dropped.push(reason));
    rmSync(join(dir[1], lost));
    await log.scrub();
    await until(
      () => dropped.length === 1 && stateOf(log, dir[1]) === 'in',
      'it is in again',
      20_000,
    );
    expect(dropped[0]).toContain(lost);
    expect(await log.scrub()).toMatchObject({ damagedRanges: 0, reason: null });
    await fill(log, 50);
    await log.close();
    const [a, b] = dir.map(segments);
    expect(a).toEqual(b);
  });

  it('what is damaged in both is told of both, and nothing is given up for it', async () => {
    const dir = twoDirs();
    const log = await openLog({ ...small, dir });
    await fill(log, 400);
    const [name = ''] = [...segments(dir[0]).keys()].sort();
    for (const each of dir) {
      const bytes = readFileSync(join(each, name));
      bytes.fill(0x5a, 6000, 9000);
      writeFileSync(join(each, name), bytes);
    }
    const { damage, repaired } = await log.scrub();
    expect(repaired).toBe(0);
    expect(damage.map(({ file }) => file).sort()).toEqual(
      dir.map((each) => join(each, name)).sort(),
    );
    expect(log.status().copies.map(({ state }) => state)).toEqual(['in', 'in']);
  });

  it('has no rows where there is one directory', async () => {
    const log = await openLog(small);
    expect(log.status().copies).toEqual([]);
  });

  it('serves on while one directory is deleted, and fills it when it is there again', async () => {
    const dir = twoDirs();
    const log = await openLog({ ...small, dir });
    const told: string[] = [];
    log.on('copyDropped', (copy) => told.push(`dropped ${copy.dir}: ${copy.reason}`));
    log.on('copyRestored', (copy) => told.push(`restored ${copy.dir}`));
    await fill(log, 100);
    rmSync(dir[0], { recursive: true });
    await until(() => stateOf(log, dir[0]) === 'dropped', 'the copy is dropped');
    await fill(log, 300);
    expect(log.status().failure).toBeNull();
    expect((await texts(log)).length).toBe(400);
    expect(log.status().copies[0]?.reason).not.toBeNull();
    mkdirSync(dir[0], { mode: 0o700 });
    await until(() => stateOf(log, dir[0]) === 'in', 'the copy is in again', 20_000);
    await fill(log, 100);
    expect(told[0]).toContain(`dropped ${dir[0]}: `);
    expect(told[1]).toBe(`restored ${dir[0]}`);
    await log.close();
    expect(segments(dir[0])).toEqual(segments(dir[1]));
    // What it was filled from is not needed any more.
    rmSync(dir[1], { recursive: true });
    const left = await openLog({ dir: dir[0], acceptMissing: [dir[1]] });
    expect((await texts(left)).length).toBe(500);
  });

  it('gives what verifies while every segment of one is damaged, and heals', async () => {
    const dir = twoDirs();
    const log = await openLog({ ...small, dir });
    await fill(log, 1600); // more than the log memory holds
    damage(dir[0]);
    expect((await texts(log)).length).toBe(1600);
    expect(log.status().copies[0]?.badReads).toBeGreaterThan(0);
    await fill(log, 100);
    await log.close();
    damage(dir[0]);
    const again = await openLog({ dir });
    expect((await texts(again)).length).toBe(1700);
    await until(() => stateOf(again, dir[0]) === 'in', 'the copy is in again');
    await again.close();
    expect(segments(dir[0])).toEqual(segments(dir[1]));
  });

  it('is not opened from one directory but by word, and takes back no stale copy', async () => {
    const dir = twoDirs();
    const log = await openLog({ ...small, dir });
    await fill(log, 10);
    await log.close();
    const missing = await walError(() => Log.open({ dir: dir[1] }));
    expect(missing.code).toBe('WAL_COPY_MISSING');
    expect(missing.message).toContain(dir[0].slice(-40));
    expect(missing.hint).toContain('acceptMissing');
    const alone = await openLog({ dir: dir[1], acceptMissing: [dir[0]] });
    await fill(alone, 10);
    await alone.close();
    expect((await walError(() => Log.open({ dir: dir[0] }))).code).toBe('WAL_COPY_MISSING');
    const both = await openLog({ dir });
    expect((await texts(both)).length).toBe(20);
    expect(stateOf(both, dir[0])).toBe('in');
  });

  it('is refused where both were used without each other, until one is emptied', async () => {
    const dir = twoDirs();
    await (await openLog({ ...small, dir })).close();
    for (const [mine, other] of [dir, [dir[1], dir[0]]] as const) {
      const alone = await openLog({ dir: mine, acceptMissing: [other] });
      await fill(alone, 10);
      await alone.close();
    }
    expect((await walError(() => Log.open({ dir }))).code).toBe('WAL_COPY_SPLIT');
    rmSync(dir[1], { recursive: true });
    mkdirSync(dir[1], { mode: 0o700 });
    const both = await openLog({ dir });
    expect((await texts(both)).length).toBe(10);
  });

  it('is locked in each of its directories', async () => {
    const dir = twoDirs();
    const log = await openLog({ ...small, dir });
    for (const one of dir) {
      expect((await walError(() => Log.open({ dir: one }))).code).toBe('WAL_LOCKED');
    }
    expect((await walError(() => Log.open({ dir: [freshDir(), dir[1]] }))).code).toBe('WAL_LOCKED');
    await log.close();
  });

  it('is made of a log that had one', async () => {
    const [a, b] = twoDirs();
    const log = await openLog({ ...small, dir: a });
    await fill(log, 200);
    await log.close();
    const both = await openLog({ dir: [a, b] });
    expect(stateOf(both, b)).toBe('in');
    await fill(both, 10);
    await both.close();
    expect(segments(a)).toEqual(segments(b));
  });
});

describe('a quorum of the directories', () => {
  const three = () => [freshDir('a'), freshDir('b'), freshDir('c')] as const;

  it('is told, and stored: any two of three are opened, one is not', async () => {
    const dir = three();
    const log = await openLog({ ...small, dir, mirrorQuorum: 2 });
    await fill(log, 100);
    expect(log.status()).toMatchObject({ mirrorQuorum: 2 });
    expect(log.status().copies.every(({ behind }) => behind >= 0)).toBe(true);
    await log.close();
    const [a, b, c] = dir.map(segments);
    expect(a).toEqual(b);
    expect(a).toEqual(c);
    const refused = await walError(() => Log.open({ dir: dir[2] }));
    expect(refused.code).toBe('WAL_COPY_MISSING');
    for (const missing of [dir[0], dir[1]]) expect(refused.message).toContain(missing.slice(-40));
    expect(refused.message).toContain('2 of the 3 are enough');
    const two = await openLog({ dir: [dir[1], dir[2]] });
    expect((await texts(two)).length).toBe(100);
    expect(two.status().mirrorQuorum).toBe(2); // all
    await fill(two, 50);
    await two.close();
    // The log went on without it: by itself it is nothing any more, with them it is filled.
    expect((await walError(() => Log.open({ dir: dir[0] }))).code).toBe('WAL_COPY_MISSING');
    expect((await walError(() => Log.open({ dir: [dir[0], dir[1]] }))).code).toBe(
      'WAL_COPY_MISSING',
    );
    const all = await openLog({ dir, mirrorQuorum: 2 });
    expect((await texts(all)).length).toBe(150);
    expect(all.status().copies.map(({ state }) => state)).toEqual(['in', 'in', 'in']);
  });

  it('opens while a directory is gone, and fills it when it is there again', async () => {
    const dir = three();
    const log = await openLog({ ...small, dir, mirrorQuorum: 2 });
    await fill(log, 100);
    await log.close();
    rmSync(dir[1], { recursive: true });
    const left = await openLog({ dir, mirrorQuorum: 2 });
    expect(left.status().copies[1]).toMatchObject({ state: 'dropped', behind: 0 });
    await fill(left, 100);
    mkdirSync(dir[1], { mode: 0o700 });
    await until(() => stateOf(left, dir[1]) === 'in', 'it is in again', 20_000);
    await left.close();
    expect(segments(dir[1])).toEqual(segments(dir[0]));
  });

  it('of one of two needs both to open', async () => {
    const dir = twoDirs();
    const log = await openLog({ ...small, dir, mirrorQuorum: 1 });
    await fill(log, 10);
    expect(log.status().mirrorQuorum).toBe(1);
    await log.close();
    for (const one of dir) {
      expect((await walError(() => Log.open({ dir: one }))).code).toBe('WAL_COPY_MISSING');
    }
    expect((await texts(await openLog({ dir }))).length).toBe(10);
  });

  it('is nothing where there is one directory', async () => {
    expect((await openLog(small)).status().mirrorQuorum).toBeNull();
  });
});

describe('options of several directories', () => {
  const wrong: readonly (readonly [unknown, RegExp])[] = [
    [{ dir: [] }, /dir takes 1 to 4 directories, got 0/],
    [{ dir: ['./a', './b', './c', './d', './e'] }, /dir takes 1 to 4 directories, got 5/],
    [{ dir: ['./a', './a/'] }, /each directory once/],
    [{ dir: ['./a', 7] }, /dir takes a string, got 7/],
    [{ dir: './a', copyLag: 1000 }, /copyLag is for a log with several directories/],
    [{ dir: './a', mirrorQuorum: 1 }, /mirrorQuorum is for a log with several directories/],
    [
      { dir: ['./a', './b'], mirrorQuorum: 3 },
      /mirrorQuorum, of the directories, takes a whole number, 1 to 2; got 3/,
    ],
    [{ dir: ['./a', './b'], mirrorQuorum: 0 }, /mirrorQuorum.* 1 to 2; got 0/],
    [{ dir: ['./a', './b'], mirrorQuorum: '1' }, /mirrorQuorum.* takes a whole number/],
    [{ dir: ['./a', './b'], copyLag: 1 }, /copyLag .* 100 to 3600000/],
    [{ dir: ['./a', './b'], resyncRate: 1 }, /resyncRate/],
    [{ dir: './a', acceptMissing: './b' }, /acceptMissing takes an array/],
  ];

  it.each(wrong)('%j is refused', async (options, message) => {
    await expect(Log.open(options as OpenOptions)).rejects.toThrow(message);
  });
});
