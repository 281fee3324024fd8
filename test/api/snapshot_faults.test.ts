import { cpSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openLog as openCore } from '../../src/api/open.js';
import { processDisk } from '../../src/api/snapshot_disk.js';
import { verifySnapshot } from '../../src/api/snapshot_file.js';
import { Log, type OpenOptions } from '../../src/index.js';
import { processEnvironment } from '../../src/transport/environment.js';
import { freshDir } from '../helpers/temp.js';
import { openLog, until, walError } from './helpers.js';
import { FaultyDisk, faults } from './snapshot_disks.js';
import { Ledger, names, snapshotsOf } from './snapshot_ledger.js';
import { snapshotsAt } from './snapshot_logs.js';

const never = new AbortController().signal;

async function openOn(disk: FaultyDisk, options: OpenOptions): Promise<Log> {
  return Log.over(await openCore(options, processEnvironment, disk));
}

/** A log of 15 records with snapshots of 5 and 10, of which the bodies take some chunks. */
function prepared(bytes: number) {
  return snapshotsAt([5, 10], 15, bytes);
}

function copyOf(dir: string): string {
  const copy = freshDir('copy');
  const isPlain = (path: string): boolean => !/control\.sock$|lock$/.test(path);
  cpSync(dir, copy, { recursive: true, filter: isPlain });
  return copy;
}

/** What a restart finds: state, and of which snapshot it came. */
async function restarted(dir: string, lines: readonly string[]) {
  const ledger = new Ledger();
  const log = await openLog({ dir, snapshot: ledger.snapshot });
  log.apply({}, ledger.apply);
  await log.waitFor(lines.length);
  // Long ones, which a message should not hold.
  expect(ledger.lines.length).toBe(lines.length);
  expect(ledger.lines.every((line, i) => line === lines[i])).toBe(true);
  const loaded = ledger.loads.at(-1) ?? 0;
  expect(ledger.applied).toEqual(
    Array.from({ length: lines.length - loaded }, (_, i) => loaded + i + 1),
  );
  return { loaded, log };
}

describe('a snapshot that is being taken', () => {
  async function take(dir: string, lines: readonly string[], disk: FaultyDisk) {
    const ledger = new Ledger();
    const log = await openOn(disk, { dir, snapshot: ledger.snapshot });
    ledger.lines = [...lines];
    const before = disk.calls.length;
    const taken = await log.snapshot({ lsn: 15 }).then(
      () => undefined,
      (error: unknown) => error,
    );
    const found = { error: taken, calls: disk.calls.slice(before), before };
    await log.close();
    disk.losePower();
    return found;
  }

  it.each(faults)(
    'leaves two good ones whichever step goes wrong (%s)',
    async (fault) => {
      const { dir: origin, lines } = await prepared(30_000);
      const clean = await take(copyOf(origin), lines, new FaultyDisk());
      expect(clean.error).toBeUndefined();
      const { calls: steps, before } = clean;
      const loads = new Set<number>();
      for (let step = 0; step < steps.length; step++) {
        const what = `${fault} at step ${step}, ${steps[step]}`;
        const dir = copyOf(origin);
        const disk = new FaultyDisk(before + step, fault);
        const { error } = await take(dir, lines, disk);
        expect(disk.happened, what).toBe(true);
        const { loaded, log } = await restarted(dir, lines);
        // What resolved is there; before the rename nothing is.
        if (error === undefined) expect(loaded, what).toBe(15);
        else expect(error, what).toMatchObject({ code: 'WAL_IO' });
        if (step < steps.indexOf('rename')) expect(loaded, what).toBe(10);
        expect([10, 15], what).toContain(loaded);
        const found = snapshotsOf(log);
        expect(found.length, what).toBeGreaterThanOrEqual(2);
        expect(
          found.map(({ state }) => state),
          what,
        ).toEqual(found.map(() => 'good'));
        expect(
          names(log).filter((name) => name.endsWith('.part')),
          what,
        ).toEqual([]);
        loads.add(loaded);
        await log.close();
        rmSync(dir, { recursive: true });
      }
      expect([...loads].sort()).toEqual([10, 15]);
      const inFiles = ['create', 'write', 'sync', 'close', 'open', 'read'];
      const ofNames = ['prepare', 'rename', 'syncDirectory', 'remove'];
      expect([...new Set(steps)].sort()).toEqual([...inFiles, ...ofNames].sort());
    },
    120_000,
  );

  it('is read back: what the disk wrote wrongly does not count', async () => {
    const { dir: origin, lines } = await prepared(30_000);
    for (const flips of [3, 40, 96, 200_000, 300_000]) {
      const dir = copyOf(origin);
      const disk = new FaultyDisk();
      disk.flips = flips;
      const { error } = await take(dir, lines, disk);
      expect(error, `byte ${flips}`).toMatchObject({ code: 'WAL_CORRUPT' });
      const { loaded } = await restarted(dir, lines);
      expect(loaded).toBe(10);
    }
  });
});

describe('a damaged snapshot', () => {
  async function newest() {
    const origin = await prepared(200);
    const name = names(origin).sort().at(-1) ?? '';
    return { origin, pathIn: (dir: string): string => join(dir, 'snapshots', name) };
  }

  it('is found by any flipped bit, and at any length', async () => {
    const { origin, pathIn } = await newest();
    const whole = readFileSync(pathIn(origin.dir));
    const path = pathIn(copyOf(origin.dir));
    const bad = async (what: string) => {
      const error = await walError(() => verifySnapshot(processDisk, path, never));
      expect(error, what).toMatchObject({ code: 'WAL_CORRUPT', file: path });
    };
    await verifySnapshot(processDisk, path, never);
    for (let at = 0; at < whole.length; at += 1) {
      const isEdge = at < 96 || at >= whole.length - 64;
      if (!isEdge && at % 97 !== 0) continue;
      for (const bit of isEdge ? [0, 1, 2, 3, 4, 5, 6, 7] : [at % 8]) {
        const bytes = Buffer.from(whole);
        bytes[at]! ^= 1 << bit;
        writeFileSync(path, bytes);
        await bad(`bit ${bit} of byte ${at}`);
      }
    }
    for (const length of [0, 1, 95, 96, 159, 160, 161, whole.length - 64, whole.length - 1]) {
      writeFileSync(path, whole);
      truncateSync(path, length);
      await bad(`${length} bytes`);
    }
    writeFileSync(path, Buffer.concat([whole, Buffer.alloc(1)]));
    await bad('one byte more');
  });

  it('is passed over for the one before it, and told of', async () => {
    const { origin, pathIn } = await newest();
    const { length } = readFileSync(pathIn(origin.dir));
    for (const at of [0, 33, 50, 100, length - 60, length - 1]) {
      const dir = copyOf(origin.dir);
      const bytes = readFileSync(pathIn(dir));
      bytes[at]! ^= 16;
      writeFileSync(pathIn(dir), bytes);
      const { loaded, log } = await restarted(dir, origin.lines);
      expect(loaded, `byte ${at}`).toBe(5);
      expect(snapshotsOf(log).map(({ lsn, state }) => [lsn, state])).toEqual([
        [10, 'damaged'],
        [5, 'good'],
      ]);
      const told = log.status().events.filter(({ event }) => event === 'snapshot');
      expect(told.map(({ level, message }) => [level, message])).toEqual([
        ['warn', expect.stringMatching(/snapshot of LSN 10 is not loaded: .* is damaged/)],
        ['info', expect.stringMatching(/the state of LSN 5 was loaded/)],
      ]);
      // It is replaced by good ones before it goes, and holds no log.
      const before = log.status().firstLsn;
      await log.trim(6);
      expect(log.status().firstLsn).toBe(before);
      await log.close();
    }
  });

  it('that decays while it is loaded ends the stream, and the one before is loaded', async () => {
    const { origin, pathIn } = await newest();
    const dir = copyOf(origin.dir);
    const bytes = readFileSync(pathIn(dir));
    const ledger = new Ledger();
    const tried: number[] = [];
    const { load } = ledger.snapshot;
    const snapshot: OpenOptions['snapshot'] = {
      ...ledger.snapshot,
      load: (stream, lsn, context) => {
        tried.push(lsn);
        if (lsn === 10) {
          bytes[120]! ^= 1;
          writeFileSync(pathIn(dir), bytes);
        }
        return load(stream, lsn, context);
      },
    };
    const log = await openLog({ dir, snapshot });
    expect(tried).toEqual([10, 5]);
    expect(log.loadedSnapshot).toMatchObject({ lsn: 5 });
    expect(ledger.lines).toEqual(origin.lines.slice(0, 5));
  });

  it('goes when there are two good ones behind it', async () => {
    const { origin, pathIn } = await newest();
    const dir = copyOf(origin.dir);
    writeFileSync(pathIn(dir), 'no snapshot');
    const { log } = await restarted(dir, origin.lines);
    const ledger = new Ledger();
    await log.close();
    const again = await openLog({ dir, snapshot: ledger.snapshot });
    ledger.lines = [...origin.lines];
    await again.snapshot({ lsn: 12 });
    expect(snapshotsOf(again).map(({ lsn }) => lsn)).toEqual([12, 5]);
    await again.snapshot({ lsn: 15 });
    expect(snapshotsOf(again).map(({ lsn }) => lsn)).toEqual([15, 12]);
  });
});

it('a snapshot of another log is not loaded', async () => {
  const one = await prepared(100);
  const other = await prepared(100);
  rmSync(join(other.dir, 'snapshots'), { recursive: true });
  cpSync(join(one.dir, 'snapshots'), join(other.dir, 'snapshots'), { recursive: true });
  const { loaded, log } = await restarted(other.dir, other.lines);
  expect(loaded).toBe(0);
  expect(snapshotsOf(log)).toMatchObject([
    { lsn: 10, state: 'foreign', reason: 'it is of another log' },
    { lsn: 5, state: 'foreign' },
  ]);
  await until(() => log.status().events.length > 0, 'it is told');
});
