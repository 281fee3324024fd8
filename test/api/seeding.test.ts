import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { Rebuild, SeedingStatus } from '../../src/index.js';
import { TcpProxy } from '../helpers/proxy.js';
import { freshDir } from '../helpers/temp.js';
import { codeOf, openLog, until, walError } from './helpers.js';
import { stopped } from './rejoin_nodes.js';
import {
  expectSameBytes,
  grow,
  hasAll,
  portOf,
  reopened,
  seededStandby,
  trimmedPrimary,
} from './seed_nodes.js';
import { Ledger, names, snapshotsOf } from './snapshot_ledger.js';

function nameOf(log: Parameters<typeof names>[0]): string {
  return names(log).sort().at(-1)!;
}

describe('a new standby of a primary that has let go of the beginning of its log', () => {
  it('begins with a snapshot of it, and the same log from there on', async () => {
    const a = await trimmedPrimary();
    const told: SeedingStatus[] = [];
    const b = await seededStandby(portOf(a.log), { onSeeding: (each) => told.push(each) });
    await hasAll(b, a.ledger);
    expect(b.ledger.loads).toEqual([180]);
    expect(b.ledger.applied[0]).toBe(181);
    const [newest] = snapshotsOf(a.log);
    expect(snapshotsOf(b.log)).toMatchObject([{ lsn: 180, state: 'good', bytes: newest!.bytes }]);
    const last = told.at(-1)!;
    expect(last.bytes).toBe(last.totalBytes);
    expect(last).toMatchObject({ phase: 'snapshot', lsn: 180 });
    expect(b.log.status().firstLsn).toBeGreaterThan(a.log.status().firstLsn);
    await a.ledger.write(a.log, 100, 4000);
    await hasAll(b, a.ledger);
    await until(() => b.log.status().flushLsn === a.log.status().flushLsn, 'flushed');
    expectSameBytes(a.log, b.log);
    expect(names(b.log).filter((name) => name.endsWith('.seed'))).toEqual([]);
    await b.log.close();
    await a.log.close();
  });

  it('opens again without its primary, and takes its place', async () => {
    const a = await trimmedPrimary();
    const { log } = await seededStandby(portOf(a.log));
    await until(() => log.status().commitLsn === a.log.status().commitLsn, 'it has all');
    await log.close();
    await a.log.close();
    const ledger = new Ledger();
    const again = await openLog({
      dir: log.dir,
      name: 'b',
      follow: { port: 1 },
      snapshot: ledger.snapshot,
    });
    expect(ledger.loads).toEqual([180]);
    again.apply({}, ledger.apply);
    await again.promote(stopped);
    await again.waitFor(185);
    expect(ledger.lines.join()).toBe(a.ledger.lines.join());
    again.append('one more');
    await again.commit();
    await again.close();
  });

  it('is followed itself, and seeds those that come', async () => {
    const a = await trimmedPrimary();
    const b = await seededStandby(portOf(a.log), { listen: { port: 0 } });
    const c = await seededStandby(portOf(b.log), { name: 'c' });
    await hasAll(c, a.ledger);
    await a.ledger.write(a.log, 10, 4000);
    await hasAll(c, a.ledger);
    const flushed = (): boolean => [b, c].every(({ log }) => log.status().flushLsn === 195);
    await until(flushed, 'both have flushed all');
    expectSameBytes(b.log, c.log);
    for (const { log } of [c, b, a]) await log.close();
  });

  it('is told where there is no snapshot to begin with', async () => {
    const ledger = new Ledger();
    const a = await openLog({
      segmentBytes: 256 * 1024,
      maxRecordBytes: 65536,
      listen: { port: 0 },
    });
    await ledger.write(a, 150, 4000);
    await a.trim(150);
    const opening = seededStandby(portOf(a));
    const error = await walError(() => opening);
    expect(error).toMatchObject({ code: 'WAL_LSN_GONE' });
    expect(error.message).toContain('opened without `snapshot`');
    await a.close();
  });

  it('without snapshots of its own is refused, and says what to do', async () => {
    const a = await trimmedPrimary();
    const b = await openLog({ name: 'b', follow: { port: portOf(a.log) } });
    expect(await codeOf(() => b.connected())).toBe('WAL_LSN_GONE');
    expect(b.status().upstream?.reason).toContain('snapshot');
    await b.close();
    await a.log.close();
  });

  it('waits for the log to reach the snapshot that it was given, over restarts too', async () => {
    const a = await trimmedPrimary();
    const proxy = await TcpProxy.open(portOf(a.log));
    const dir = freshDir();
    const first = new AbortController();
    const opening = seededStandby(proxy.port, { dir, signal: first.signal });
    opening.catch(() => undefined);
    // It asks who the primary is, is refused, and gets the snapshot: nothing of the log.
    await until(() => proxy.connections >= 3, 'it is given the snapshot');
    proxy.target = 1;
    await until(() => names({ dir }).includes(nameOf(a.log)), 'the snapshot is there');
    await until(() => proxy.connections >= 4, 'it would follow');
    first.abort(new Error('enough'));
    await expect(opening).rejects.toThrow('enough');
    const before = proxy.connections;
    let isOpen = false;
    const again = seededStandby(proxy.port, { dir });
    again.then(
      () => (isOpen = true),
      () => undefined,
    );
    await until(() => proxy.connections > before + 2, 'it has tried');
    expect(isOpen).toBe(false);
    proxy.target = portOf(a.log);
    const b = await again;
    expect(b.ledger.loads).toEqual([180]);
    await hasAll(b, a.ledger);
    await b.log.close();
    await proxy.close();
    await a.log.close();
  });
});

describe('a standby whose log its primary does not go on with', () => {
  async function leftBehind(options: Parameters<typeof seededStandby>[1]) {
    const a = await trimmedPrimary();
    const proxy = await TcpProxy.open(portOf(a.log));
    const b = await seededStandby(proxy.port, options);
    await hasAll(b, a.ledger);
    proxy.target = 1;
    proxy.cut();
    await until(() => b.log.status().upstream?.connected === false, 'it is away');
    await a.log.dropSlot('b').catch(() => undefined);
    return { a, b, proxy };
  }

  it('stays as it is, unless its owner said otherwise', async () => {
    const { a, b, proxy } = await leftBehind({});
    await b.log.close();
    const again = await reopened(a);
    await grow(again, a.ledger);
    const c = await seededStandby(portOf(again), { dir: b.log.dir as string });
    expect(await codeOf(() => c.log.connected())).toBe('WAL_LSN_GONE');
    expect(c.log.status().flushLsn).toBe(185);
    await c.log.close();
    await again.close();
    await proxy.close();
  });

  it('is replaced while it is open, and its application told', async () => {
    const told: Rebuild[] = [];
    const { a, b, proxy } = await leftBehind({
      reseed: 'auto',
      onRebuild: async (rebuild) => {
        told.push(rebuild);
        await expect(applier.done).rejects.toMatchObject({ code: 'WAL_REBUILD' });
        await b.log.loadSnapshot();
        b.log.apply({}, b.ledger.apply);
      },
    });
    const { applier } = b;
    const again = await reopened(a);
    await grow(again, a.ledger);
    const before = proxy.connections;
    proxy.target = portOf(again);
    // It is refused, and gets the snapshot: nothing of the log as yet.
    await until(() => proxy.connections >= before + 2, 'it is given the snapshot');
    proxy.target = 1;
    await until(() => b.log.status().seeding?.phase === 'log', 'the snapshot is there');
    expect(b.log.status().seeding).toMatchObject({ lsn: 365 });
    for (const force of [false, true]) {
      const promoting = (): Promise<unknown> => b.log.promote({ ...stopped, force });
      expect(await codeOf(promoting)).toBe('WAL_SNAPSHOT_MISSING');
    }
    expect(told).toEqual([]);
    proxy.target = portOf(again);
    await hasAll(b, a.ledger);
    expect(told).toEqual([{ from: 1, to: b.log.status().firstLsn - 1, file: null }]);
    expect(b.ledger.loads).toEqual([180, 365]);
    await a.ledger.write(again, 100, 4000);
    await hasAll(b, a.ledger);
    await until(() => b.log.status().flushLsn === again.status().flushLsn, 'flushed');
    expectSameBytes(again, b.log);
    expect(readdirSync(join(b.log.dir as string)).some((name) => name.endsWith('.diverged'))).toBe(
      false,
    );
    await b.log.close();
    await again.close();
    await proxy.close();
  });
});
