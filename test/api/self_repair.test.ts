import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Log, OpenOptions, ScrubStatus } from '../../src/index.js';
import { expectEqualSealedSegments } from '../helpers/sealed_segments.js';
import { freshDir } from '../helpers/temp.js';
import { openLog } from './helpers.js';

/** Segments of 64 KiB, and a ring that holds one: what is older is read from the disk. */
const tiny = { segmentBytes: 65_536, maxRecordBytes: 4096, ringBytes: 65_536 } as const;
const RECORDS = 250;

function record(lsn: number): string {
  return `${lsn}:${'x'.repeat(1500 + (lsn % 7) * 100)}`;
}

async function fill(log: Log, records: number): Promise<void> {
  for (let i = 0; i < records; i += 1) {
    await log.drain(4096);
    await log.appendAndCommit(record(log.status().appendLsn + 1));
  }
}

function segmentPath(dir: string, number: number): string {
  const names = readdirSync(dir).filter((name) => name.endsWith('.wal'));
  const start = (name: string): number => Number.parseInt(name.slice(17, 33), 16);
  const name = names.find((each) => start(each) === number * tiny.segmentBytes);
  return join(dir, name ?? 'missing');
}

/** Damages a segment by its number; gives its path. */
function spoil(dir: string, number: number, offset: number, bytes = 100): string {
  const path = segmentPath(dir, number);
  const content = readFileSync(path);
  for (let i = offset; i < offset + bytes; i += 1) content[i] = (content[i] ?? 0) ^ 0xff;
  writeFileSync(path, content);
  return path;
}

async function primary(options: Partial<OpenOptions> = {}): Promise<Log> {
  return openLog({ ...tiny, name: 'a', listen: { port: 0 }, ...options });
}

async function standby(of: Log, name: string): Promise<Log> {
  const port = of.status().listening?.port ?? 0;
  const log = await openLog({ name, ringBytes: 65_536, follow: { port } });
  await log.connected();
  return log;
}

async function hasAll(log: Log, records: number): Promise<void> {
  await expect.poll(() => log.status().commitLsn).toBe(records);
  // What is committed is shown once it is flushed here too.
  await log.waitFor(records);
}

async function pair(): Promise<{ a: Log; b: Log }> {
  const a = await primary();
  const b = await standby(a, 'b');
  await fill(a, RECORDS);
  await hasAll(b, RECORDS);
  return { a, b };
}

async function read(log: Log): Promise<number> {
  let last = 0;
  for await (const batch of log.read({ from: 1, live: false })) {
    for (const { lsn, data } of batch) {
      expect(data.toString()).toBe(record(lsn));
      last = lsn;
    }
  }
  return last;
}

describe('a primary with a damaged segment', () => {
  it('takes what it lost from its standby, while appends and commits go on', async () => {
    const { a, b } = await pair();
    const heard: [string, ScrubStatus][] = [];
    a.on('damage', (status) => heard.push(['damage', status]));
    a.on('repaired', (status) => heard.push(['repaired', status]));
    spoil(a.dir, 1, 30_000, 5000);
    rmSync(segmentPath(a.dir, 2));
    spoil(a.dir, 3, 0, 65_536);
    spoil(a.dir, 4, 30_000, 1);
    let repairing = true;
    const appended = (async () => {
      let count = 0;
      do {
        await fill(a, 1);
        count += 1;
      } while (repairing);
      return count;
    })();
    const status = await a.scrub();
    repairing = false;
    expect(await appended).toBeGreaterThan(0);
    expect(status).toMatchObject({ damage: [], reason: null });
    expect(status.repaired).toBeGreaterThanOrEqual(4);
    await expect.poll(() => heard.at(-1)?.[1].repaired).toBe(status.repaired);
    expect(heard[0]?.[0]).toBe('damage');
    expect(heard.at(-1)?.[0]).toBe('repaired');
    expect((await a.scrub()).found).toBe(status.found);
    const last = a.status().commitLsn;
    expect(await read(a)).toBe(last);
    await hasAll(b, last);
    await b.close();
    await a.close();
    expect(expectEqualSealedSegments(a.dir, b.dir)).toBeGreaterThan(4);
  });

  it('mends by itself what a read met', async () => {
    const { a } = await pair();
    spoil(a.dir, 1, 30_000, 5000);
    await expect(read(a)).rejects.toMatchObject({ code: 'WAL_CORRUPT' });
    await expect.poll(() => a.status().scrub.repaired).toBeGreaterThan(0);
    expect(await read(a)).toBe(RECORDS);
  });

  it('takes nothing that the standby has damaged too, and says why', async () => {
    const { a, b } = await pair();
    spoil(b.dir, 1, 30_000);
    const path = spoil(a.dir, 1, 30_000);
    const before = readFileSync(path);
    const status = await a.scrub();
    expect(status).toMatchObject({ damagedRanges: 1, repaired: 0 });
    expect(status.reason).toMatch(
      /^b: refused by the peer: the peer has no batch that verifies at position \d+$/,
    );
    expect(readFileSync(path).equals(before)).toBe(true);
    expect(b.status().upstream?.connected).toBe(true);
    await fill(a, 1);
    await hasAll(b, RECORDS + 1);
  });

  it('takes from the second standby what the first has damaged too', async () => {
    const a = await primary();
    const b = await standby(a, 'b');
    const c = await standby(a, 'c');
    await fill(a, RECORDS);
    for (const each of [b, c]) await hasAll(each, RECORDS);
    // Each standby has a part of what the primary lost: together they have it.
    spoil(a.dir, 1, 20_000, 20_000);
    spoil(b.dir, 1, 22_000);
    spoil(c.dir, 1, 35_000);
    spoil(a.dir, 2, 30_000, 5000);
    spoil(b.dir, 2, 30_000);
    const status = await a.scrub();
    expect(status).toMatchObject({ damage: [], reason: null });
    expect(await read(a)).toBe(RECORDS);
    // And they take theirs from it.
    for (const each of [b, c]) expect(await each.scrub()).toMatchObject({ damage: [] });
    expect(await read(b)).toBe(RECORDS);
  });

  it('takes it from its own other directory first', async () => {
    const dirs = [freshDir('a'), freshDir('a')] as const;
    const a = await primary({ dir: [...dirs] });
    const b = await standby(a, 'b');
    await fill(a, RECORDS);
    await hasAll(b, RECORDS);
    // What the standby has is of no use, and not needed; then the other way around.
    spoil(dirs[0], 1, 30_000);
    spoil(b.dir, 1, 30_000);
    expect(await a.scrub()).toMatchObject({ damage: [], reason: null });
    spoil(dirs[0], 2, 30_000);
    spoil(dirs[1], 2, 30_000);
    expect(await a.scrub()).toMatchObject({ damage: [], reason: null });
    expect(await read(a)).toBe(RECORDS);
    expect(await b.scrub()).toMatchObject({ damage: [] });
    await b.close();
    await a.close();
    for (const dir of dirs) expect(expectEqualSealedSegments(dir, b.dir)).toBeGreaterThan(4);
  });

  it('says so where no standby is connected', async () => {
    const { a, b } = await pair();
    await b.close();
    await expect.poll(() => a.status().standbys[0]?.state).toBe('disconnected');
    spoil(a.dir, 1, 30_000);
    expect((await a.scrub()).reason).toMatch(
      /^no standby is connected that has flushed position \d+$/,
    );
  });

  it('feeds a standby in catch-up when it has repaired itself from another', async () => {
    const { a } = await pair();
    spoil(a.dir, 1, 30_000, 5000);
    const c = await standby(a, 'c');
    await hasAll(c, RECORDS);
    expect(a.status().scrub).toMatchObject({ damage: [], reason: null });
    expect(a.status().scrub.repaired).toBeGreaterThan(0);
    expect(await read(c)).toBe(RECORDS);
  });

  it('takes batches that are larger than what is asked for at once', async () => {
    const large = { segmentBytes: 4 << 20, maxRecordBytes: 1 << 20, ringBytes: 4 << 20 };
    const a = await primary(large);
    const port = a.status().listening?.port ?? 0;
    const b = await openLog({ name: 'b', ringBytes: 4 << 20, follow: { port } });
    await b.connected();
    for (let i = 0; i < 12; i += 1) {
      await a.drain(1 << 20);
      await a.appendAndCommit(Buffer.alloc(900_000, i));
    }
    await hasAll(b, 12);
    const [name] = readdirSync(a.dir)
      .filter((each) => each.endsWith('.wal'))
      .sort();
    const path = join(a.dir, name ?? '');
    const before = readFileSync(path);
    writeFileSync(path, Buffer.alloc(before.length, 7));
    expect(await a.scrub()).toMatchObject({ damage: [], reason: null });
    expect(readFileSync(path).equals(before)).toBe(true);
  });
});
