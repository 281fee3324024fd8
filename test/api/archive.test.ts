import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { DirectoryStore } from '../../src/archive/directory_store.js';
import { ObjectReader } from '../../src/archive/object_reader.js';
import type { ArchiveChange, ArchiveStore, Log, OpenOptions } from '../../src/index.js';
import { MemoryStore } from '../archive/memory_store.js';
import { crc32c, gathered, inPieces, objectOf } from '../archive/objects.js';
import { freshDir } from '../helpers/temp.js';
import {
  allArchived,
  archiveOf,
  expectArchived,
  grow,
  namesIn,
  perSegment,
  tiny,
} from './archive_helpers.js';
import { codeOf, openLog, reopen, texts, until } from './helpers.js';

function changesOf(log: Log): ArchiveChange[] {
  const found: ArchiveChange[] = [];
  log.on('archive', (change) => found.push(change));
  return found;
}

const tick = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

describe('the archive of a log', () => {
  it('gets every full segment, byte for byte, and nothing of the one that is written', async () => {
    const store = new DirectoryStore(freshDir('archive'));
    const log = await openLog({ ...tiny, archive: store });
    expect(archiveOf(log)).toMatchObject({ archivedLsn: null, firstLsn: null, gap: null });
    await grow(log, 8);
    const status = await allArchived(log);
    expect(status).toMatchObject({ firstLsn: 1, state: 'working', error: null, gap: null });
    expect(status.segments).toBeGreaterThanOrEqual(8);
    expect(status.rawBytes).toBe(status.segments * tiny.segmentBytes);
    expect(status.storedBytes).toBeLessThan(status.rawBytes / 4);
    expect(status.heldBytes).toBeLessThanOrEqual(2 * tiny.segmentBytes);
    const { logId } = log.status();
    await log.close();
    const segments = readdirSync(log.dir).filter((name) => name.endsWith('.wal')).length;
    expect(await expectArchived(store, logId, log.dir)).toBe(segments - 1);
    expect(await namesIn(store, logId)).toHaveLength(segments - 1);
  });

  it('takes a path, a store, or more of it', async () => {
    const dir = freshDir('archive');
    for (const archive of [dir, new DirectoryStore(dir), { store: dir, rate: 2 ** 20 }]) {
      const log = await openLog({ ...tiny, archive });
      expect(archiveOf(log).store).toBe(dir);
      await log.close();
    }
    const plain = await openLog();
    expect(plain.status().archive).toBeNull();
  });

  it.each([
    [{}, TypeError, 'a path'],
    [7, TypeError, 'a path'],
    [{ store: {} }, TypeError, 'path'],
    [{ store: './a', rate: 1 }, RangeError, 'archive.rate'],
    [{ store: './a', maxBytes: 0 }, RangeError, 'archive.maxBytes'],
    [{ store: './a', speed: 1 }, TypeError, 'speed'],
    ['', RangeError, 'path'],
  ])('refuses %j', async (archive, kind, _) => {
    const dir = freshDir();
    const opening = openLog({ dir, archive: archive as unknown as ArchiveStore });
    await expect(opening).rejects.toBeInstanceOf(kind);
    expect(existsSync(dir)).toBe(false);
  });

  it('is not for a log that runs in a thread of its own', async () => {
    const options = { dir: freshDir(), archive: freshDir('archive'), replicationThread: 'worker' };
    expect(await codeOf(() => openLog(options as unknown as OpenOptions))).toBe('WAL_UNSUPPORTED');
  });

  it('goes on where it was, by what the store says, and stores nothing twice', async () => {
    const store = new MemoryStore();
    const log = await openLog({ ...tiny, archive: store });
    await grow(log, 6);
    await allArchived(log);
    const { logId } = log.status();
    const puts = () => store.calls.filter((call) => call.startsWith('put'));
    const before = puts().length;
    const again = await reopen(log, { archive: store });
    await until(() => archiveOf(again).archivedLsn !== null, 'the store was asked');
    expect(archiveOf(again)).toMatchObject({ firstLsn: 1, gap: null, segments: 0 });
    await grow(again, 3);
    await allArchived(again);
    await again.close();
    const added = puts().slice(before);
    expect(added).toHaveLength(store.objects.size - before);
    expect(new Set(puts()).size).toBe(puts().length);
    await expectArchived(store, logId, log.dir);
  });

  it('stores again what was taken out of the store, when it is opened again', async () => {
    const store = new MemoryStore();
    const log = await openLog({ ...tiny, archive: store });
    await grow(log, 6);
    await allArchived(log);
    const { logId } = log.status();
    const missing = [...store.objects.keys()].sort()[2]!;
    store.objects.delete(missing);
    const again = await reopen(log, { archive: store });
    await allArchived(again);
    expect(store.objects.has(missing)).toBe(true);
    expect(archiveOf(again).segments).toBe(1);
    await again.close();
    await expectArchived(store, logId, log.dir);
  });

  it('has nothing of what is not committed', async () => {
    const store = new MemoryStore();
    const listen = { port: 0 };
    const sync = { synchronousStandbys: 'ANY 1 (*)' };
    const log = await openLog({ ...tiny, ...sync, listen, archive: store });
    await grow(log, 5);
    await tick(2500);
    expect(log.status().flushLsn).toBeGreaterThan(5 * perSegment);
    expect(store.objects.size).toBe(0);
    expect(archiveOf(log).state).toBe('working');
    const { port } = log.status().listening!;
    await openLog({ follow: { port } });
    await allArchived(log);
    expect(store.objects.size).toBeGreaterThanOrEqual(5);
  });

  it('has batches of one long record, and the room that they leave', async () => {
    const store = new MemoryStore();
    const log = await openLog({ segmentBytes: 8 << 20, ringBytes: 64 << 20, archive: store });
    const { maxRecordBytes } = log;
    // Each leaves nearly half of a segment empty.
    for (let i = 0; i < 5; i += 1) {
      await log.drain(maxRecordBytes);
      await log.appendAndCommit(Buffer.alloc(Math.floor(maxRecordBytes * 0.6), i));
    }
    await until(() => archiveOf(log).archivedLsn === 4, 'four of five');
    const { logId } = log.status();
    await log.close();
    expect(await namesIn(store, logId)).toHaveLength(4);
  });

  it('is no faster than it is told, while little waits', async () => {
    const store = new MemoryStore();
    // Ten segments of 128 KiB at 512 KiB a second.
    const log = await openLog({ ...tiny, archive: { store, rate: 512 * 1024 } });
    const begin = performance.now();
    await grow(log, 8);
    await allArchived(log);
    expect(performance.now() - begin).toBeGreaterThan(1500);
  });
});

describe('a store that is down', () => {
  it('makes the log keep what is not archived; it goes on by itself', async () => {
    const store = new MemoryStore();
    const log = await openLog({ ...tiny, retention: { bytes: 0 }, archive: store });
    const changes = changesOf(log);
    await grow(log, 4);
    const { archivedLsn } = await allArchived(log);
    store.before = () => {
      throw new Error('the store is down');
    };
    await grow(log, 8);
    await until(() => archiveOf(log).state === 'failing', 'it fails');
    await tick(2500);
    const failing = log.status();
    expect(failing.archive).toMatchObject({ archivedLsn, error: { code: 'WAL_IO' }, gap: null });
    expect(failing.archive!.error!.message).toContain('the store is down');
    expect(failing.archive!.oldestUnarchivedMs).toBeGreaterThan(1000);
    expect(failing.archive!.heldBytes).toBeGreaterThan(8 * tiny.segmentBytes);
    expect(failing.firstLsn).toBeLessThanOrEqual(archivedLsn! + 1);
    expect(failing.lastError?.message).toContain('the store is down');
    // What is archived may go, also by hand.
    await log.trim(failing.commitLsn);
    expect(log.status().firstLsn).toBe(archivedLsn! + 1);
    store.before = () => undefined;
    await allArchived(log);
    await until(() => log.status().firstLsn > failing.commitLsn - 2 * perSegment, 'it goes');
    expect(changes.map(({ change }) => change)).toEqual(['failing', 'working']);
    expect(archiveOf(log)).toMatchObject({ firstLsn: 1, gap: null, error: null });
  });

  it('holds so much and no more; then the archive has a gap, and says so', async () => {
    const store = new MemoryStore();
    const maxBytes = 8 * tiny.segmentBytes;
    const archive = { store, maxBytes };
    const log = await openLog({ ...tiny, retention: { bytes: 0 }, archive });
    const changes = changesOf(log);
    await grow(log, 4);
    const { archivedLsn } = await allArchived(log);
    store.before = () => {
      throw new Error('the store is down');
    };
    await grow(log, 20);
    await until(() => archiveOf(log).gap !== null, 'a gap');
    await until(() => log.status().segments.used <= 11, 'the rest goes');
    expect(log.status().segments.used).toBeGreaterThanOrEqual(8);
    const { firstLsn } = log.status();
    expect(archiveOf(log).gap?.from).toBe(archivedLsn! + 1);
    store.before = () => undefined;
    const after = await allArchived(log);
    expect(after.firstLsn).toBeGreaterThanOrEqual(firstLsn);
    expect(after.gap).toEqual({ from: archivedLsn! + 1, to: after.firstLsn! - 1 });
    const kinds = changes.map(({ change }) => change);
    for (const kind of ['failing', 'behind', 'gap'] as const) expect(kinds).toContain(kind);
    expect(kinds.at(-1)).toBe('working');
    // It is known by the store after all that the process knew is gone.
    const again = await reopen(log, { archive, retention: { bytes: 0 } });
    await until(() => archiveOf(again).archivedLsn !== null, 'the store was asked');
    expect(archiveOf(again)).toMatchObject({ firstLsn: after.firstLsn, gap: after.gap });
  });

  it('holds all from the beginning where it has never answered', async () => {
    const store = new MemoryStore();
    const first = await openLog({ ...tiny, retention: { bytes: 0 }, archive: store });
    await grow(first, 3);
    await allArchived(first);
    await first.close();
    const kept = readdirSync(first.dir).filter((name) => name.endsWith('.wal')).length;
    // It hangs, and only then is the log opened: nobody knows what is in it.
    store.before = () => new Promise(() => undefined);
    const log = await openLog({
      ...{ ...tiny, dir: first.dir, retention: { bytes: 0 }, archive: store },
    });
    const { firstLsn } = log.status();
    await grow(log, 6);
    await log.trim(log.status().commitLsn);
    await tick(2500);
    expect(log.status().firstLsn).toBe(firstLsn);
    expect(log.status().segments.used).toBeGreaterThanOrEqual(kept + 6);
    expect(archiveOf(log)).toMatchObject({ state: 'starting', archivedLsn: null, firstLsn: null });
    // Nor does its end wait for it.
    const begin = performance.now();
    await log.close();
    expect(performance.now() - begin).toBeLessThan(2000);
  });

  it('hangs in the middle of an object: the log closes all the same', async () => {
    const store = new MemoryStore();
    const hanging = new MemoryStore();
    hanging.put = async (_, content) => {
      for await (const part of content) if (part.length > 0) break;
      return new Promise(() => undefined);
    };
    const log = await openLog({ ...tiny, archive: hanging });
    await grow(log, 4);
    await tick(1500);
    await log.close();
    expect(log.status().archive).toMatchObject({ archivedLsn: null, error: null });
    const again = await openLog({ ...tiny, dir: log.dir, archive: store });
    await allArchived(again);
  });

  it('fails at any call: the archive is whole in the end', async () => {
    for (let failing = 1; failing <= 5; failing += 1) {
      const store = new MemoryStore();
      store.before = () => {
        if (store.calls.length === failing) throw new Error(`call ${failing} fails`);
      };
      const log = await openLog({ ...tiny, archive: store });
      await grow(log, 5);
      await allArchived(log);
      expect(store.calls.length).toBeGreaterThan(failing);
      const { logId } = log.status();
      await log.close();
      store.before = () => undefined;
      expect(await expectArchived(store, logId, log.dir)).toBeGreaterThanOrEqual(5);
    }
  });

  it('says that it failed after it has stored: the same object is fine', async () => {
    const store = new MemoryStore();
    let isFirst = true;
    store.after = () => {
      if (isFirst) {
        isFirst = false;
        throw new Error('the answer was lost');
      }
    };
    const log = await openLog({ ...tiny, archive: store });
    const changes = changesOf(log);
    await grow(log, 4);
    await allArchived(log);
    expect(changes.map(({ change }) => change)).toEqual(['failing', 'working']);
    expect(store.calls.some((call) => call.startsWith('get'))).toBe(true);
  });
});

describe('something else under the name of a segment', () => {
  /** The log was archived up to its third segment, which is what `spoil` makes of it. */
  async function spoiled(spoil: (bytes: Buffer, store: MemoryStore) => Buffer | Promise<Buffer>) {
    const store = new MemoryStore();
    const log = await openLog({ ...tiny, archive: store });
    await grow(log, 6);
    await allArchived(log);
    await log.close();
    const names = [...store.objects.keys()].sort();
    const [name, bytes] = [names[2]!, store.objects.get(names[2]!)!];
    const there = await spoil(Buffer.from(bytes), store);
    // The name comes to be there only when the log has found that it is not.
    for (const each of names.slice(2)) store.objects.delete(each);
    store.before = (call, at) => {
      if (call === 'put' && at === name) store.objects.set(name, there);
    };
    const again = await openLog({ ...tiny, dir: log.dir, archive: store });
    return { store, name, there, log: again };
  }

  it.each([
    ['another segment', (_: Buffer, store: MemoryStore) => [...store.objects.values()][1]!],
    [
      'a damaged one',
      (bytes: Buffer) => Buffer.from(bytes.map((byte, i) => (i === 500 ? byte ^ 1 : byte))),
    ],
    ['half of it', (bytes: Buffer) => bytes.subarray(0, bytes.length / 2)],
    ['nothing', () => Buffer.alloc(0)],
  ])('%s: it is not overwritten, and the archive stops and says so', async (_, spoil) => {
    const { store, name, there, log } = await spoiled(spoil);
    const changes = changesOf(log);
    await until(() => archiveOf(log).state === 'stopped', 'it stops');
    expect(archiveOf(log).error).toMatchObject({ code: 'WAL_ARCHIVE_CONFLICT' });
    expect(archiveOf(log).error?.message).toContain(name);
    await grow(log, 3);
    await tick(1500);
    expect(store.objects.get(name)?.equals(there)).toBe(true);
    expect(store.objects.size).toBe(3);
    expect(changes.map(({ change }) => change)).toEqual(['stopped']);
    // What is not archived is kept.
    await log.trim(log.status().commitLsn);
    expect(log.status().firstLsn).toBeLessThanOrEqual(archiveOf(log).archivedLsn! + 1);
    // Taken away, it is stored as it should be.
    store.objects.delete(name);
    store.before = () => undefined;
    const again = await reopen(log, { archive: store });
    await allArchived(again);
  });

  it('the same segment in other blocks is the same', async () => {
    const { store, name, there, log } = await spoiled(async (bytes) => {
      const reader = await ObjectReader.open('it', inPieces(bytes), crc32c);
      return objectOf({ facts: reader.header, raw: await gathered(reader.raw()) }, 4096);
    });
    await allArchived(log);
    expect(archiveOf(log).state).toBe('working');
    expect(store.objects.get(name)?.equals(there)).toBe(true);
    expect(store.objects.size).toBeGreaterThan(5);
  });
});

describe('an archive in a directory', () => {
  it('that is not there, or is no directory, fails and says what is wrong', async () => {
    const file = freshDir('file');
    writeFileSync(file, '');
    for (const dir of [join(freshDir('mount'), 'archive'), file]) {
      const log = await openLog({ ...tiny, archive: dir });
      await until(() => archiveOf(log).state !== 'starting', 'the store was asked');
      await grow(log, 2);
      await until(() => archiveOf(log).state === 'failing', 'it fails');
      expect(archiveOf(log).error?.message).toContain(dir);
      expect(await texts(log, log.status().commitLsn)).toHaveLength(1);
    }
  });

  it('comes to be there later', async () => {
    const mount = freshDir('mount');
    const log = await openLog({ ...tiny, archive: join(mount, 'archive') });
    await grow(log, 3);
    await until(() => archiveOf(log).state === 'failing', 'it fails');
    mkdirSync(mount);
    await allArchived(log);
  });
});
