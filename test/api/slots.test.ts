import { describe, expect, it } from 'vitest';
import type { Log, OpenOptions, SlotChange } from '../../src/index.js';
import { slotsProtocol } from '../../src/wire/message_type.js';
import { freshDir } from '../helpers/temp.js';
import { RawStandby } from '../transport/raw_standby.js';
import { codeOf, openLog, until } from './helpers.js';
import { openThreaded } from './threaded_helpers.js';

/** Small segments, so that some MB are many of them. */
const tiny = { segmentBytes: 128 * 1024, maxRecordBytes: 16 * 1024, ringBytes: 1 << 20 } as const;
const record = Buffer.alloc(4000, 'x');
const perSegment = Math.floor(tiny.segmentBytes / record.length);

async function grow(log: Log, segments: number): Promise<number> {
  for (let i = 0; i < segments * perSegment; i += 1) {
    await log.drain(record.length);
    log.append(record);
  }
  return (await log.commit(undefined, { level: 'local' })).lsn;
}

function port(log: Log): number {
  return log.status().listening!.port;
}

const keepNothing = { ...tiny, retention: { bytes: 0 } } as const;

async function primary(options: Partial<OpenOptions> = {}): Promise<Log> {
  return openLog({ ...keepNothing, name: 'a', listen: { port: 0 }, ...options });
}

async function standby(of: number, options: Partial<OpenOptions> = {}): Promise<Log> {
  const log = await openLog({ name: 'b', follow: { port: of }, ringBytes: 1 << 20, ...options });
  await log.connected();
  return log;
}

function slot(log: Log, name = 'b') {
  return log.status().slots.find((each) => each.name === name);
}

function changes(log: Log): SlotChange[] {
  const seen: SlotChange[] = [];
  log.on('slot', (change) => seen.push(change));
  return seen;
}

const used = (log: Log): number => log.status().segments.used;

describe('the slots of a primary', () => {
  it('are kept by its standbys too, and on after a promotion', async () => {
    const dirs = { a: freshDir('a'), b: freshDir('b'), c: freshDir('c') };
    const a = await primary({ dir: dirs.a });
    const open = { retention: { bytes: 0 }, listen: { port: 0 } } as const;
    const b = await standby(port(a), { dir: dirs.b, ...open });
    const c = await standby(port(a), { dir: dirs.c, name: 'c' });
    for (const name of ['a', 'b', 'c']) await a.createSlot(name);
    const has = await grow(a, 2);
    await until(() => slot(a, 'c')!.flushLsn === has, 'c has it');
    await until(() => slot(b, 'c')?.state === 'active', 'b is told');
    await c.close();
    const end = await grow(a, 12);
    await until(() => slot(b, 'c')?.state === 'away', 'b is told that it is away');
    await until(() => b.status().flushLsn === end && b.status().commitLsn === end, 'b has all');
    await new Promise((resolve) => setTimeout(resolve, 2500));
    expect(b.status().firstLsn).toBeLessThanOrEqual(has + 1);
    expect(slot(b, 'c')!.flushLsn).toBeLessThanOrEqual(has);

    // Slots are where b finds them when it is started again, and the primary.
    await a.close();
    await b.close();
    const again = await openLog({ dir: dirs.b, name: 'b', ...open, follow: { port: 1 } });
    expect(again.status().slots.map(({ name }) => name)).toEqual(['a', 'b', 'c']);
    await again.promote({ primaryStopped: true });
    await grow(again, 6);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    expect(again.status().firstLsn).toBeLessThanOrEqual(has + 1);
    expect(slot(again, 'b')).toMatchObject({ state: 'active' });
    const follow = { port: port(again) };
    const late = await openLog({ dir: dirs.c, name: 'c', follow, ringBytes: 1 << 20 });
    const old = await openLog({ dir: dirs.a, name: 'a', follow, ringBytes: 1 << 20 });
    const last = await grow(again, 1);
    await until(() => late.status().flushLsn === last, 'c has caught up');
    await until(() => old.status().flushLsn === last, 'the old primary has, too');
    expect(await again.dropSlot('c')).toBe(true);
    await until(() => slot(late, 'a') !== undefined && slot(late) !== undefined, 'c is told');
    await until(() => slot(late, 'c') === undefined, 'that it has none, too');
  });

  it('are told behind the handshake and when they change, and not to an older peer', async () => {
    const a = await primary();
    await a.createSlot('x');
    const older = await RawStandby.admitted(port(a), 'e'.repeat(32), 'older', slotsProtocol - 1);
    const raw = await RawStandby.admitted(port(a), 'f'.repeat(32), 'raw');
    const names = () => raw.slots.at(-1)?.map(({ name }) => name);
    await raw.until(() => names()?.join() === 'x');
    await a.createSlot('raw');
    await raw.until(() => names()?.join() === 'x,raw');
    expect(raw.slots.at(-1)?.map(({ isActive }) => isActive)).toEqual([false, true]);
    await a.dropSlot('x');
    await raw.until(() => names()?.join() === 'raw');
    const before = older.commits;
    await a.appendAndCommit('one');
    await older.until(() => older.commits > before || older.received > 0);
    expect(older.slots).toEqual([]);
    for (const each of [older, raw]) each.socket.destroy();
  });

  it('are made and dropped by a log that runs in a thread, too', async () => {
    const log = await openThreaded(tiny);
    const seen: string[] = [];
    log.on('slot', ({ name, change }) => seen.push(`${name} ${change}`));
    expect(await log.createSlot('b')).toMatchObject({ name: 'b', state: 'away' });
    expect((await log.status()).slots.map(({ name }) => name)).toEqual(['b']);
    await expect(log.createSlot('a b')).rejects.toThrow(RangeError);
    expect(await log.dropSlot('b')).toBe(true);
    expect(await log.dropSlot('b')).toBe(false);
    await until(() => seen.length === 2, 'both are told');
    expect(seen).toEqual(['b created', 'b dropped']);
  });

  it('are passed on by a standby to those that follow it', async () => {
    const a = await primary();
    const b = await standby(port(a), { dir: freshDir('b'), listen: { port: 0 } });
    const d = await standby(port(b), { dir: freshDir('d'), name: 'd' });
    await a.createSlot('e');
    await until(() => slot(d, 'e') !== undefined, 'it is passed on');
    await a.dropSlot('e');
    await until(() => slot(d, 'e') === undefined, 'that it is dropped, too');
  });
});

describe('a standby with a slot', () => {
  it('finds its log after it was away, and after its primary was started again', async () => {
    const dirs = { a: freshDir('a'), b: freshDir('b') };
    let a = await primary({ dir: dirs.a });
    await a.createSlot('b');
    let b = await standby(port(a), { dir: dirs.b });
    const has = await grow(a, 20);
    await until(() => slot(a)!.flushLsn === has, 'the slot follows');
    expect(slot(a)).toMatchObject({ state: 'active', nodeId: b.status().nodeId });
    // Of a connected standby 1 MiB more is kept, since its claim follows in steps.
    await until(() => used(a) <= 11, 'what it has flushed is let go of');
    await b.close();
    await until(() => slot(a)!.state === 'away', 'it is away');
    const listen = { port: port(a) };
    await a.close();
    a = await primary({ dir: dirs.a, listen });
    const end = await grow(a, 12);
    await new Promise((resolve) => setTimeout(resolve, 1500));
    expect(a.status().firstLsn).toBeLessThanOrEqual(has + 1);
    expect(slot(a)!.heldBytes).toBeGreaterThan(10 * tiny.segmentBytes);
    b = await standby(listen.port, { dir: dirs.b });
    await until(() => b.status().flushLsn === end, 'it has caught up');
    await until(() => used(a) <= 11, 'all is let go of');
    expect(slot(a)).toMatchObject({ state: 'active', awayMs: 0 });
  });

  it('is not one for a standby of another name', async () => {
    const dir = freshDir('b');
    const a = await primary({ maxSlotBytes: 2 * tiny.segmentBytes });
    await a.createSlot('c');
    const b = await standby(port(a), { dir });
    await b.close();
    await until(() => a.status().standbys[0]?.state === 'disconnected', 'it is away');
    expect(slot(a, 'c')).toMatchObject({ state: 'away', nodeId: null });
  });

  it('that has held too much is lost: warned of, told, and the disk is safe', async () => {
    const dir = freshDir('b');
    const a = await primary({ maxSlotBytes: 8 * tiny.segmentBytes });
    const seen = changes(a);
    await a.createSlot('b');
    const b = await standby(port(a), { dir });
    const has = await grow(a, 1);
    await until(() => slot(a)!.flushLsn === has, 'the slot follows');
    await b.close();
    await until(() => slot(a)!.state === 'away', 'it is away');
    for (let i = 0; i < 12; i += 1) {
      await grow(a, 1);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    await until(() => slot(a)!.state === 'lost', 'it is lost');
    await until(() => used(a) <= 3, 'its log is let go of');
    await until(() => seen.at(-1)?.change === 'lost', 'that is told');
    const told = seen.map(({ change }) => change);
    expect(told).toEqual(['created', 'active', 'away', 'warning', 'warning', 'lost']);
    expect(a.status().events.some(({ message }) => /slot b is lost/.test(message))).toBe(true);

    const late = await openLog({ name: 'b', follow: { port: port(a) }, dir });
    const why = () => late.status().upstream?.reason ?? '';
    await until(() => /seeded anew \(a slot of its name keeps/.test(why()), 'it is refused');
    expect(slot(a)!.state).toBe('lost');
    await late.close();
  });

  it('that is lost and comes back in time has a slot again', async () => {
    const dir = freshDir('b');
    const a = await openLog({ ...tiny, name: 'a', listen: { port: 0 }, maxSlotBytes: 1000 });
    await a.createSlot('b');
    const b = await standby(port(a), { dir });
    await b.close();
    await until(() => slot(a)!.state === 'away', 'it is away');
    await grow(a, 1);
    await until(() => slot(a)!.state === 'lost', 'it is lost');
    const again = await standby(port(a), { dir });
    const end = a.status().commitLsn;
    await until(() => again.status().flushLsn === end, 'it has caught up');
    await until(() => slot(a)!.state === 'active', 'the slot is used');
  });

  it('and without one is bounded all the same, while its primary runs', async () => {
    const dir = freshDir('b');
    const a = await primary({ maxSlotBytes: 3 * tiny.segmentBytes });
    const b = await standby(port(a), { dir });
    await b.close();
    await until(() => a.status().standbys[0]?.state === 'disconnected', 'it is away');
    await grow(a, 12);
    await until(() => used(a) <= 5, 'it holds no more than it may');
  });

  it('gets one where it stands; one that is dropped holds nothing', async () => {
    const dir = freshDir('b');
    const a = await primary();
    const b = await standby(port(a), { dir });
    const end = await grow(a, 3);
    await until(() => b.status().flushLsn === end, 'it has all');
    await until(() => a.status().standbys[0]?.flushLsn === end, 'and says so');
    expect(await a.createSlot('b')).toMatchObject({ state: 'active', flushLsn: end });
    await b.close();
    await grow(a, 6);
    expect(slot(a)!.state).toBe('away');
    expect(await a.dropSlot('b')).toBe(true);
    await until(() => used(a) <= 3, 'its log is let go of');
    expect(await a.dropSlot('b')).toBe(false);
  });

  it('cannot be made on a standby, which says where', async () => {
    const a = await primary();
    const b = await standby(port(a), { dir: freshDir('b') });
    expect(await codeOf(() => b.createSlot('c'))).toBe('WAL_IS_STANDBY');
    expect(await codeOf(() => b.dropSlot('c'))).toBe('WAL_IS_STANDBY');
  });
});
