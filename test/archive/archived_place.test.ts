import { describe, expect, it } from 'vitest';
import { askStore } from '../../src/archive/archived_place.js';
import { nameOf, parseName } from '../../src/archive/object_name.js';
import { termAt } from '../../src/archive/segment_source.js';
import { MemoryStore } from './memory_store.js';

const logId = 'ab'.repeat(16);
const [a, b] = ['aa'.repeat(16), 'bb'.repeat(16)];
const segmentBytes = 65_536;
const at = (segment: number): number => 4096 + segment * segmentBytes;
const one = { epoch: 1, opener: a, incarnation: 1 };
const two = { epoch: 2, opener: b, incarnation: 1 };
const { signal } = new AbortController();
/** Epoch 2 begins within segment 5. */
const history = [
  { ...one, position: 4096, lsn: 0 },
  { ...two, position: at(5) + 1000, lsn: 500 },
];

/** A store that has these segments; those from 5 on are of epoch 2, in this log's history. */
function storeOf(segments: readonly number[], term?: typeof one): MemoryStore {
  const store = new MemoryStore();
  for (const each of segments) {
    const own = term ?? (each < 5 ? one : two);
    const name = nameOf(logId, { term: own, firstLsn: 1 + each * 100, start: at(each) });
    store.objects.set(name, Buffer.alloc(0));
  }
  return store;
}

function ask(store: MemoryStore, log: { start?: number; commit?: number } = {}) {
  const { start = at(0), commit = at(100) } = log;
  return askStore(store, { logId, segmentBytes, history, start, commit }, signal);
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

describe('what is archived', () => {
  it('is nothing where the store has nothing', async () => {
    expect(await ask(storeOf([]))).toEqual({
      next: at(0),
      firstLsn: undefined,
      beforeGap: undefined,
    });
    expect((await ask(storeOf([]), { start: at(7) })).next).toBe(at(7));
  });

  it('is all up to the first segment that is missing', async () => {
    const found = await ask(storeOf([...range(0, 4), 5, 6]));
    expect(found).toEqual({ next: at(4), firstLsn: 1, beforeGap: undefined });
    expect((await ask(storeOf(range(0, 10)))).next).toBe(at(10));
  });

  it('may begin before what the log still has', async () => {
    const found = await ask(storeOf(range(0, 8)), { start: at(6) });
    expect(found).toEqual({ next: at(8), firstLsn: 1, beforeGap: undefined });
  });

  it('has a gap where the log lacks what the store lacks', async () => {
    const { next, firstLsn, beforeGap } = await ask(storeOf([...range(0, 3), 6, 7]), {
      start: at(6),
    });
    expect([next, firstLsn]).toEqual([at(8), 601]);
    expect(parseName(logId, beforeGap!)?.start).toBe(at(2));
    const ends = await ask(storeOf(range(0, 3)), { start: at(6) });
    expect([ends.next, ends.firstLsn]).toEqual([at(6), undefined]);
    expect(parseName(logId, ends.beforeGap!)?.start).toBe(at(2));
  });

  it('has none where it begins later than the log did', async () => {
    const found = await ask(storeOf([4, 5]), { start: at(4) });
    expect(found).toEqual({ next: at(6), firstLsn: 401, beforeGap: undefined });
    expect((await ask(storeOf([4, 5]), { start: at(2) })).next).toBe(at(2));
  });

  it('is of this history only', async () => {
    const store = storeOf(range(0, 5));
    const ofOld = nameOf(logId, { term: one, firstLsn: 501, start: at(5) });
    store.objects.set(ofOld, Buffer.alloc(0));
    expect((await ask(store)).next).toBe(at(5));
    store.objects.set(nameOf(logId, { term: two, firstLsn: 501, start: at(5) }), Buffer.alloc(0));
    expect((await ask(store)).next).toBe(at(6));
    const incarnation = { ...one, incarnation: 2 };
    expect((await ask(storeOf(range(0, 3), incarnation))).next).toBe(at(0));
  });

  it('is nothing past the commit position: that may be of another one yet', async () => {
    expect((await ask(storeOf(range(0, 8)), { commit: at(6) + 50 })).next).toBe(at(6));
  });

  it('is no file of another log, nor one of another kind', async () => {
    const store = storeOf(range(0, 2));
    const name = nameOf('cd'.repeat(16), { term: one, firstLsn: 201, start: at(2) });
    store.objects.set(name, Buffer.alloc(0));
    store.objects.set(`${logId}/notes.text`, Buffer.alloc(0));
    store.objects.set(
      nameOf(logId, { term: one, firstLsn: 201, start: at(2) + 8 }),
      Buffer.alloc(0),
    );
    expect((await ask(store)).next).toBe(at(2));
  });

  it('is asked page by page, and a store that gives one twice is refused', async () => {
    const store = storeOf(range(0, 8));
    await ask(store);
    expect(store.calls.length).toBeGreaterThanOrEqual(3);
    const page = await store.list(`${logId}/`, { signal });
    store.list = async () => page;
    await expect(ask(store)).rejects.toThrow('lists the same names again');
  });
});

describe('a name', () => {
  it('says what it is of, and sorts by position', () => {
    const what = { term: two, firstLsn: 2 ** 50, start: at(2 ** 30) };
    const name = nameOf(logId, what);
    expect(parseName(logId, name)).toEqual(what);
    const names = [3, 20, 100, 70_000].map((each) => nameOf(logId, { ...what, start: at(each) }));
    expect([...names].sort()).toEqual(names);
  });

  it('of something else is none', () => {
    const name = nameOf(logId, { term: one, firstLsn: 1, start: 4096 });
    const digits = 'f'.repeat(16);
    const others = [`x${name}`, `${name}x`, name.toUpperCase(), name.replace('-', '_'), ''];
    for (const other of others) expect(parseName(logId, other)).toBeUndefined();
    expect(parseName(logId, name.replace(/\/[0-9a-f]{16}/, `/${digits}`))).toBeUndefined();
  });
});

describe('the term of a segment', () => {
  it('is that of its last batch', () => {
    expect(termAt(history, at(1))).toEqual(one);
    expect(termAt(history, at(5))).toEqual(one);
    expect(termAt(history, at(6))).toEqual(two);
    expect(termAt(history, at(9))).toEqual(two);
    expect(termAt(history.slice(1), at(5))).toBeUndefined();
  });
});
