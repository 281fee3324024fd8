import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { DamagedRange, Log, OpenOptions, ScrubStatus } from '../../src/index.js';
import { expectEqualSealedSegments } from '../helpers/sealed_segments.js';
import { codeOf, openLog, walError } from './helpers.js';

/** Segments of 64 KiB, and a ring that holds two: what is older is read from the disk. */
const tiny = { segmentBytes: 65_536, maxRecordBytes: 4096, ringBytes: 65_536 } as const;
const RECORDS = 250;

function record(lsn: number): string {
  return `${lsn}:${'x'.repeat(1500 + (lsn % 7) * 100)}`;
}

async function fill(log: Log, records = RECORDS): Promise<void> {
  for (let i = 0; i < records; i += 1) {
    await log.drain(4096);
    await log.appendAndCommit(record(log.status().appendLsn + 1));
  }
}

async function filled(options: Partial<OpenOptions> = {}): Promise<Log> {
  const log = await openLog({ ...tiny, ...options });
  await fill(log);
  return log;
}

function segments(log: Log): string[] {
  const start = (name: string): string => name.slice(17);
  return readdirSync(log.dir)
    .filter((name) => name.endsWith('.wal'))
    .sort((a, b) => start(a).localeCompare(start(b)))
    .map((name) => join(log.dir, name));
}

/** Damages a segment by its number; gives its path. */
function spoil(log: Log, number: number, offset: number, bytes = 100): string {
  const path = segments(log)[number] ?? '';
  const content = readFileSync(path);
  for (let i = offset; i < offset + bytes; i += 1) content[i] = (content[i] ?? 0) ^ 0xff;
  writeFileSync(path, content);
  return path;
}

async function read(log: Log, from: number, to: number): Promise<number> {
  let last = 0;
  for await (const batch of log.read({ from, to, live: false })) {
    for (const { lsn, data } of batch) {
      expect(data.toString()).toBe(record(lsn));
      last = lsn;
    }
  }
  return last;
}

function damageOf(status: ScrubStatus): DamagedRange {
  const [range] = status.damage;
  if (range === undefined) throw new Error('no damage is known');
  return range;
}

describe('the scrub of an open log', () => {
  it('verifies all sealed segments, and says so in the status', async () => {
    const log = await filled();
    expect(log.status().scrub).toEqual({
      running: false,
      done: 0,
      of: 0,
      finished: null,
      damage: [],
      damagedRanges: 0,
      found: 0,
      repaired: 0,
      reason: null,
    });
    const status = await log.scrub();
    expect(status).toMatchObject({ running: false, damage: [], found: 0, reason: null });
    expect(status.of).toBeGreaterThan(5 * tiny.segmentBytes);
    expect(Date.now() - Date.parse(status.finished ?? '')).toBeLessThan(60_000);
    expect(log.status().scrub).toEqual(status);
  });

  it('tells damage by file, offset and LSNs; reads of it reject, appends go on', async () => {
    const log = await filled();
    const heard: ScrubStatus[] = [];
    log.on('damage', (status) => heard.push(status));
    const path = spoil(log, 2, 30_000);
    const found = damageOf(await log.scrub());
    expect(found).toMatchObject({ part: 'batches', file: path });
    expect(found.offset).toBeLessThanOrEqual(30_000);
    expect(found.offset + found.bytes).toBeGreaterThanOrEqual(30_100);
    expect(found.lastLsn).toBeGreaterThanOrEqual(found.firstLsn);
    await expect.poll(() => heard.length).toBe(1);
    expect(heard[0]?.damage).toEqual([found]);

    const error = await walError(() => read(log, found.firstLsn, found.firstLsn));
    expect(error).toMatchObject({ code: 'WAL_CORRUPT', file: path, offset: found.offset });
    expect(error.lsn).toBe(found.firstLsn);
    // Also where the reading begins before it, and what is whole is read.
    expect(await walError(() => read(log, 1, RECORDS))).toMatchObject({
      code: 'WAL_CORRUPT',
      file: path,
      offset: found.offset,
      lsn: found.firstLsn,
    });
    expect(await read(log, 1, found.firstLsn - 1)).toBe(found.firstLsn - 1);
    expect(await read(log, found.lastLsn + 40, RECORDS)).toBe(RECORDS);
    await fill(log, 5);
    expect(log.status()).toMatchObject({ state: 'open', commitLsn: RECORDS + 5, failure: null });
    expect(await read(log, RECORDS, RECORDS + 5)).toBe(RECORDS + 5);
  });

  it('repairs what follows from the log itself', async () => {
    const log = await filled();
    const repaired: ScrubStatus[] = [];
    log.on('repaired', (status) => repaired.push(status));
    spoil(log, 1, 0, 100);
    spoil(log, 3, 2000, 10);
    const status = await log.scrub();
    expect(status).toMatchObject({ damage: [], found: 2, repaired: 2, reason: null });
    await expect.poll(() => repaired.at(-1)?.repaired).toBe(2);
    expect((await log.scrub()).found).toBe(2);
  });

  it('runs in the background at its rate, or not at all', async () => {
    for (const [scrub, message] of [
      [{ bytesPerSecond: 0 }, /scrub.bytesPerSecond takes a whole number/],
      [{ everyHours: 0.5 }, /scrub.everyHours takes a whole number/],
      [{ often: true }, /often/],
      [true, /scrub takes an object such as \{ everyHours: 24 \}, or false/],
    ] as const) {
      await expect(openLog({ scrub: scrub as never })).rejects.toThrow(message);
    }
    const log = await openLog({ ...tiny, scrub: false });
    expect((await log.scrub()).of).toBe(0);
  });

  it('ends with the log, and with a signal', async () => {
    const log = await filled();
    const controller = new AbortController();
    const cancelled = log.scrub({ signal: controller.signal });
    controller.abort(new Error('enough'));
    await expect(cancelled).rejects.toThrow('enough');
    const cut = codeOf(() => log.scrub());
    await log.close();
    expect(['WAL_CLOSED']).toContain(await cut.catch(() => 'WAL_CLOSED'));
    expect(await codeOf(() => log.scrub())).toBe('WAL_CLOSED');
  });
});

describe('a standby', () => {
  async function pair(): Promise<{ a: Log; b: Log }> {
    const a = await openLog({ ...tiny, name: 'a', listen: { port: 0 } });
    const port = a.status().listening?.port ?? 0;
    const b = await openLog({ name: 'b', ringBytes: 65_536, follow: { port } });
    await b.connected();
    await fill(a);
    await expect.poll(() => b.status().commitLsn).toBe(RECORDS);
    return { a, b };
  }

  it('fetches what is damaged again from its primary', async () => {
    const { a, b } = await pair();
    spoil(b, 1, 30_000, 5000);
    rmSync(segments(b)[2] ?? '');
    spoil(b, 3, 0, 65_536);
    const status = await b.scrub();
    expect(status).toMatchObject({ damage: [], reason: null });
    expect(status.repaired).toBeGreaterThanOrEqual(3);
    expect(await read(b, 1, RECORDS)).toBe(RECORDS);
    await b.close();
    await a.close();
    expect(expectEqualSealedSegments(a.dir, b.dir)).toBeGreaterThan(4);
  });

  it('mends by itself what a read met', async () => {
    const { b } = await pair();
    spoil(b, 1, 30_000, 5000);
    expect(await codeOf(() => read(b, 1, RECORDS))).toBe('WAL_CORRUPT');
    await expect.poll(() => b.status().scrub.repaired).toBeGreaterThan(0);
    expect(await read(b, 1, RECORDS)).toBe(RECORDS);
  });

  it('takes nothing that the primary has damaged too, and says why', async () => {
    const { a, b } = await pair();
    spoil(a, 1, 30_000);
    const path = spoil(b, 1, 30_000);
    const before = readFileSync(path);
    const status = await b.scrub();
    expect(status).toMatchObject({ damagedRanges: 1, repaired: 0 });
    expect(status.reason).toMatch(/the peer has no batch that verifies at position \d+/);
    expect(readFileSync(path).equals(before)).toBe(true);
    expect(b.status().upstream?.connected).toBe(true);
  });

  it('gets nothing of a damaged segment of its primary when it catches up', async () => {
    const a = await openLog({ ...tiny, name: 'a', listen: { port: 0 } });
    await fill(a);
    const left: string[] = [];
    a.on('standby', ({ connected, reason }) => {
      if (!connected) left.push(reason);
    });
    const path = spoil(a, 2, 30_000);
    const damage = damageOf(await a.scrub());
    const port = a.status().listening?.port ?? 0;
    const b = await openLog({ name: 'b', ringBytes: 65_536, follow: { port } });
    await expect.poll(() => left.length).toBeGreaterThan(1);
    expect(left[0]).toContain('the log could not be read for the standby');
    expect(left[0]).toContain(`${path} at offset ${damage.offset}`);
    // All that was whole before it came, and nothing else.
    const whole = damage.firstLsn - 1;
    await expect.poll(() => b.status().flushLsn).toBe(whole);
    expect(await read(b, 1, b.status().commitLsn)).toBe(b.status().commitLsn);
    expect(b.status().failure).toBeNull();
  });
});
