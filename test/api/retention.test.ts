import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Log, LogStatus, OpenOptions } from '../../src/index.js';
import { freshDir } from '../helpers/temp.js';
import { imageOf } from './group_nodes.js';
import { codeOf, openLog, reopen, small, texts, until } from './helpers.js';

/** Small segments, so that some MB are many of them. */
const tiny = { segmentBytes: 128 * 1024, maxRecordBytes: 16 * 1024, ringBytes: 1 << 20 } as const;
const record = Buffer.alloc(4000, 'x');
const perSegment = Math.floor(tiny.segmentBytes / record.length);

/** So many segments more, committed by the log's own disk. */
async function grow(log: Log, segments: number): Promise<void> {
  for (let i = 0; i < segments; i += 1) {
    for (let j = 0; j < perSegment; j += 1) {
      await log.drain(record.length);
      log.append(record);
    }
    await log.commit(undefined, { level: 'local' });
  }
}

function used(log: Log): number {
  return log.status().segments.used;
}

/** As it stands when nothing more goes. */
async function settled(log: Log): Promise<LogStatus> {
  for (;;) {
    const { firstLsn } = log.status();
    await new Promise((resolve) => setTimeout(resolve, 1200));
    const status = log.status();
    if (status.firstLsn === firstLsn) return status;
  }
}

describe('retention', () => {
  it('by bytes keeps so many, and lets go of the segments before', async () => {
    const log = await openLog({ ...tiny, retention: { bytes: 4 * tiny.segmentBytes } });
    await grow(log, 20);
    await until(() => used(log) <= 7, 'what is older goes');
    const { firstLsn, commitLsn } = await settled(log);
    expect(commitLsn - firstLsn).toBeGreaterThanOrEqual(4 * (perSegment - 2));
    expect((await texts(log, firstLsn)).length).toBe(commitLsn - firstLsn + 1);
    expect(await codeOf(() => texts(log, 1))).toBe('WAL_LSN_GONE');
  });

  it('by records keeps so many, and all that another limit keeps', async () => {
    const log = await openLog({ ...tiny, retention: { records: 2 * perSegment, bytes: 0 } });
    await grow(log, 12);
    await until(() => used(log) <= 5, 'what is older goes');
    const { firstLsn, commitLsn } = log.status();
    expect(commitLsn - firstLsn + 1).toBeGreaterThanOrEqual(2 * perSegment);
  });

  it('by age keeps what is younger', async () => {
    const log = await openLog({ ...tiny, retention: { age: 3000 } });
    await grow(log, 6);
    const { firstLsn } = log.status();
    expect(firstLsn).toBe(1);
    const [begin, end] = [performance.now(), log.status().commitLsn];
    await until(() => log.status().firstLsn > end - 2 * perSegment, 'it has grown old');
    expect(performance.now() - begin).toBeGreaterThan(2500);
  });

  it('goes no further than the older of two snapshots', async () => {
    let state = 0;
    const snapshot = {
      save: async function* () {
        yield Buffer.from(String(state));
      },
      load: async () => undefined,
    };
    const log = await openLog({ ...tiny, retention: { bytes: 0 }, snapshot });
    await grow(log, 6);
    expect((await settled(log)).firstLsn).toBe(1);
    const older = log.status().commitLsn;
    for (let taken = 0; taken < 2; taken += 1) {
      state = log.status().commitLsn;
      await log.snapshot({ lsn: state });
      await grow(log, 3);
    }
    const { firstLsn, commitLsn } = await settled(log);
    expect(firstLsn).toBeGreaterThan(older - 2 * perSegment);
    expect(firstLsn).toBeLessThanOrEqual(older + 1);
    expect(commitLsn).toBeGreaterThan(older + perSegment);
  });

  it('keeps what a reader has before it', async () => {
    const log = await openLog({ ...tiny, retention: { bytes: 0 } });
    await log.appendAndCommit('first');
    const reading = log.read({ from: 1, live: false });
    await reading.next();
    await grow(log, 8);
    await new Promise((resolve) => setTimeout(resolve, 2500));
    expect(log.status().firstLsn).toBe(1);
    await reading.return?.();
    await until(() => used(log) <= 3, 'the reader has gone');
  });

  it('keeps what the applier has not applied, read ahead or not, also where it fails', async () => {
    const log = await openLog({ ...tiny, retention: { bytes: 0 } });
    let fail = (_: Error): void => undefined;
    const held = new Promise<void>((_, reject) => {
      fail = reject;
    });
    let last = 0;
    const applier = log.apply(undefined, (batch) => {
      last = batch.lastLsn;
      return last > 20 ? held : undefined;
    });
    await grow(log, 8);
    await new Promise((resolve) => setTimeout(resolve, 2500));
    const { applyLsn } = log.status();
    expect(applyLsn).toBeLessThan(last);
    expect(log.status().firstLsn).toBeLessThanOrEqual(applyLsn! + 1);
    fail(new Error('no room'));
    await expect(applier.done).rejects.toThrow('no room');
    await grow(log, 1);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    expect(log.status().firstLsn).toBeLessThanOrEqual(applyLsn! + 1);
    log.apply({ from: applyLsn! + 1 }, () => undefined);
    await until(() => used(log) <= 3, 'all is applied');
  });

  it('is nothing without the option', async () => {
    const log = await openLog(tiny);
    await grow(log, 8);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    expect(log.status().firstLsn).toBe(1);
  });

  it.each<[string, object, RegExp]>([
    ['nothing', {}, /retention takes bytes, age or records/],
    ['a word', { byte: 1 }, /bytes/],
    ['less than nothing', { bytes: -1 }, /retention\.bytes/],
    ['a short age', { age: 10 }, /retention\.age/],
  ])('refuses %s', async (_, retention, message) => {
    await expect(openLog({ retention } as OpenOptions)).rejects.toThrow(message);
  });
});

describe('a slot', () => {
  it('keeps the log over restarts, and lets go of it when it is dropped', async () => {
    const options = { ...tiny, retention: { bytes: 0 } };
    const log = await openLog(options);
    const slot = await log.createSlot('b');
    expect(slot).toMatchObject({ name: 'b', state: 'away', flushLsn: 0, nodeId: null });
    await grow(log, 8);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    expect(log.status().firstLsn).toBe(1);
    const again = await reopen(log, options);
    await grow(again, 2);
    await again.trim(again.status().commitLsn);
    expect(again.status().firstLsn).toBe(1);
    const [held] = again.status().slots;
    expect(held!.heldBytes).toBeGreaterThan(9 * tiny.segmentBytes);
    expect(await again.dropSlot('b')).toBe(true);
    await until(() => used(again) <= 3, 'it is let go of');
    expect(again.status().slots).toEqual([]);
  });

  it('is there after a crash that comes right behind its creation', async () => {
    const log = await openLog(tiny);
    await log.createSlot('b');
    const crashed = await openLog({ ...tiny, dir: imageOf(log) });
    expect(crashed.status().slots.map(({ name }) => name)).toEqual(['b']);
  });

  it('lies in each directory, and one that lost it gets it again', async () => {
    const dir = [freshDir('one'), freshDir('two')];
    const log = await openLog({ ...tiny, dir });
    await log.createSlot('b');
    const [one, two] = dir.map((each) => join(each, 'slots'));
    expect(readFileSync(one!)).toEqual(readFileSync(two!));
    await log.close();
    writeFileSync(one!, 'rubbish');
    const again = await openLog({ ...tiny, dir });
    expect(again.status().slots.map(({ name }) => name)).toEqual(['b']);
    await until(() => readFileSync(one!).equals(readFileSync(two!)), 'it is written anew');
  });

  it('in a file that does not verify keeps all, and says what to do', async () => {
    const options = { ...tiny, retention: { bytes: 0 } };
    const log = await openLog(options);
    await log.createSlot('b');
    await log.close();
    writeFileSync(join(log.dir, 'slots'), 'rubbish');
    const again = await openLog({ ...options, dir: log.dir });
    await grow(again, 6);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    const { firstLsn, slotsFault, lastError, events } = again.status();
    expect(firstLsn).toBe(1);
    expect(slotsFault).toMatch(/slots does not verify/);
    expect(lastError?.message).toMatch(/does not verify/);
    expect(events.some(({ event, level }) => event === 'slot' && level === 'error')).toBe(true);
    expect(await codeOf(() => again.createSlot('c'))).toBe('WAL_CORRUPT');
  });

  it('takes the name of a standby, on a primary', async () => {
    const log = await openLog(small);
    await expect(log.createSlot('a b')).rejects.toThrow(RangeError);
    await expect(log.createSlot(7 as never)).rejects.toThrow(TypeError);
    await log.close();
    expect(await codeOf(() => log.createSlot('b'))).toBe('WAL_CLOSED');
    expect(existsSync(join(log.dir, 'slots'))).toBe(false);
  });
});
