import { describe, expect, it } from 'vitest';
import { DirectoryStore } from '../../src/archive/directory_store.js';
import { parseName } from '../../src/archive/object_name.js';
import type { Log, OpenOptions } from '../../src/index.js';
import { MemoryStore } from '../archive/memory_store.js';
import { freshDir } from '../helpers/temp.js';
import {
  allArchived,
  archiveOf,
  expectArchived,
  grow,
  namesIn,
  objectsIn,
  perSegment,
  tiny,
} from './archive_helpers.js';
import { openLog, until } from './helpers.js';
import { following, stopped } from './rejoin_nodes.js';

async function pair(archives: { a?: OpenOptions['archive']; b?: OpenOptions['archive'] }) {
  const of = (archive: OpenOptions['archive']) => (archive === undefined ? {} : { archive });
  const listen = { port: 0 };
  const a = await openLog({ ...tiny, name: 'a', listen, ...of(archives.a) });
  const b = await openLog({ name: 'b', follow: following(a), listen, ...of(archives.b) });
  await b.connected();
  return { a, b };
}

async function hasAll(b: Log, a: Log): Promise<void> {
  await until(() => b.status().commitLsn === a.status().commitLsn, 'it has all');
}

/** By position, the epochs of the segments in a store. */
async function epochsIn(store: MemoryStore, logId: string): Promise<Map<number, number[]>> {
  const found = new Map<number, number[]>();
  for (const name of await namesIn(store, logId)) {
    const { start, term } = parseName(logId, name)!;
    found.set(start, [...(found.get(start) ?? []), term.epoch]);
  }
  return found;
}

describe('an archive of several nodes', () => {
  it('a standby archives as its primary would', async () => {
    const store = new DirectoryStore(freshDir('archive'));
    const { a, b } = await pair({ b: store });
    await grow(a, 6);
    await hasAll(b, a);
    await allArchived(b);
    expect(a.status().archive).toBeNull();
    const { logId } = a.status();
    await a.close();
    await b.close();
    expect(await expectArchived(store, logId, a.dir)).toBeGreaterThanOrEqual(6);
    expect(await expectArchived(store, logId, b.dir)).toBeGreaterThanOrEqual(6);
  });

  it('two that store the same are harmless: each segment is there once', async () => {
    const dir = freshDir('archive');
    const { a, b } = await pair({ a: dir, b: new DirectoryStore(dir) });
    for (let i = 0; i < 3; i += 1) {
      await grow(a, 4);
      await hasAll(b, a);
    }
    const both = [await allArchived(a), await allArchived(b)];
    expect(both.map(({ error }) => error)).toEqual([null, null]);
    const { logId } = a.status();
    await a.close();
    await b.close();
    const store = new DirectoryStore(dir);
    const compared = await expectArchived(store, logId, a.dir);
    expect(compared).toBeGreaterThanOrEqual(12);
    expect(await namesIn(store, logId)).toHaveLength(compared);
    expect(both[0]!.segments + both[1]!.segments).toBe(compared);
  });

  it('a standby that is not connected ships nothing', async () => {
    const store = new MemoryStore();
    let isDown = true;
    store.before = () => {
      if (isDown) throw new Error('down');
    };
    const { a, b } = await pair({ b: store });
    await grow(a, 4);
    await hasAll(b, a);
    await a.close();
    await until(() => b.status().upstream?.connected === false, 'it hears nothing');
    isDown = false;
    await new Promise((resolve) => setTimeout(resolve, 2500));
    expect(store.objects.size).toBe(0);
    expect(['paused', 'failing']).toContain(archiveOf(b).state);
    await b.promote(stopped);
    await allArchived(b);
    expect(archiveOf(b).firstLsn).toBe(1);
  });
});

describe('after a failover', () => {
  it('the archive of the new primary goes on where it was', async () => {
    const store = new MemoryStore();
    const { a, b } = await pair({ a: store, b: store });
    await grow(a, 4);
    await hasAll(b, a);
    await allArchived(a);
    const { logId } = a.status();
    await a.close();
    await b.promote(stopped);
    await grow(b, 4);
    expect(await allArchived(b)).toMatchObject({ firstLsn: 1, gap: null, error: null });
    await b.close();
    expect(await expectArchived(store, logId, b.dir)).toBeGreaterThanOrEqual(8);
    const epochs = [...(await epochsIn(store, logId)).values()].flat();
    expect(new Set(epochs)).toEqual(new Set([1, 2]));
  });

  it('two histories never have one name; an old primary archives the new one', async () => {
    const store = new MemoryStore();
    const { a, b } = await pair({ a: store, b: store });
    await grow(a, 3);
    await hasAll(b, a);
    await allArchived(a);
    await allArchived(b);
    const { logId } = a.status();
    // What a commits alone from here on is archived, and lost.
    await b.close();
    await grow(a, 4);
    const lost = await allArchived(a);
    const [dirA, dirB] = [a.dir, b.dir];
    await a.close();
    const newer = await openLog({
      ...{ dir: dirB, name: 'b', follow: { port: 1 }, listen: { port: 0 }, archive: store },
    });
    await newer.promote({ ...stopped, force: true });
    await grow(newer, 6);
    const found = await allArchived(newer);
    expect(found).toMatchObject({ firstLsn: 1, gap: null, error: null, state: 'working' });
    expect(found.archivedLsn).toBeGreaterThan(lost.archivedLsn! - 2 * perSegment);
    const both = [...(await epochsIn(store, logId))].filter(([, epochs]) => epochs.length === 2);
    expect(both.length).toBeGreaterThanOrEqual(3);
    expect(new Set(both.map(([, epochs]) => epochs.join()))).toEqual(new Set(['1,2']));
    const before = store.objects.size;
    // It is cut, and asks the store anew: the other history is there already.
    const follow = following(newer);
    const old = await openLog({ dir: dirA, name: 'a', follow, rejoin: 'auto', archive: store });
    await old.connected();
    await hasAll(old, newer);
    expect(await allArchived(old)).toMatchObject({ firstLsn: 1, gap: null, error: null });
    expect(store.objects.size).toBe(before);
    await grow(newer, 3);
    await hasAll(old, newer);
    await allArchived(newer);
    await allArchived(old);
    await newer.close();
    await old.close();
    await objectsIn(store, logId);
    expect(await expectArchived(store, logId, dirA)).toBeGreaterThanOrEqual(12);
    expect(await expectArchived(store, logId, dirB)).toBeGreaterThanOrEqual(12);
  });

  it('a log that was cut before it archived has the new history only', async () => {
    const store = new MemoryStore();
    const { a, b } = await pair({ a: store });
    await grow(a, 2);
    await hasAll(b, a);
    await allArchived(a);
    const [dirA, dirB] = [a.dir, b.dir];
    await b.close();
    store.before = () => {
      throw new Error('down');
    };
    await grow(a, 3);
    await a.close();
    const newer = await openLog({
      ...{ dir: dirB, name: 'b', follow: { port: 1 }, listen: { port: 0 } },
    });
    await newer.promote({ ...stopped, force: true });
    await grow(newer, 5);
    const { logId } = newer.status();
    store.before = () => undefined;
    const follow = following(newer);
    const old = await openLog({ dir: dirA, name: 'a', follow, rejoin: 'auto', archive: store });
    await old.connected();
    await hasAll(old, newer);
    await allArchived(old);
    const epochs = [...(await epochsIn(store, logId)).values()];
    expect(epochs.every((each) => each.length === 1)).toBe(true);
    await newer.close();
    await old.close();
    await expectArchived(store, logId, dirB);
  });

  it('a primary that is fenced while it runs, and cut, archives the new history', async () => {
    const store = new MemoryStore();
    const { a, b } = await pair({ a: store });
    await grow(a, 2);
    await hasAll(b, a);
    await b.close();
    await grow(a, 5);
    const before = await allArchived(a);
    const newer = await openLog({
      ...{ dir: b.dir, name: 'b', follow: { port: 1 }, listen: { port: 0 } },
    });
    await newer.promote({ ...stopped, force: true });
    await grow(newer, 6);
    // Somebody who follows the new one comes to a.
    const teller = await openLog({ name: 'c', follow: following(newer) });
    await teller.connected();
    await teller.close();
    const again = openLog({ dir: teller.dir, name: 'c', follow: following(a) });
    await until(() => a.status().role === 'fenced', 'a is fenced');
    await (await again).close();
    expect(archiveOf(a).state).toBe('paused');
    await a.rejoin({ follow: following(newer), rejoin: 'auto' });
    await a.connected();
    await hasAll(a, newer);
    const after = await allArchived(a);
    expect(after).toMatchObject({ firstLsn: 1, gap: null, error: null });
    expect(after.archivedLsn).toBeGreaterThan(before.archivedLsn! - 2 * perSegment);
    const { logId } = newer.status();
    const [dirA, dirB] = [a.dir, newer.dir];
    await newer.close();
    await a.close();
    expect(await expectArchived(store, logId, dirA)).toBeGreaterThanOrEqual(8);
    expect(await expectArchived(store, logId, dirB)).toBeGreaterThanOrEqual(8);
  });
});
