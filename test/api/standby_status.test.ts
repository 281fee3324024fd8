import { describe, expect, it } from 'vitest';
import { StandbyBook } from '../../src/api/standby_book.js';
import { ClosedTimes } from '../../src/replication/closed_times.js';
import type { StandbyStatus as HubStandby } from '../../src/transport/primary_hub.js';
import { openLog, small, until } from './helpers.js';

function hubStandby(nodeId: string, lsn: number, more: Partial<HubStandby> = {}): HubStandby {
  const place = { position: 64 + lsn * 100, lsn };
  return {
    name: nodeId,
    nodeId,
    address: '127.0.0.1:1',
    security: 'none',
    state: 'live',
    stateSince: 0,
    counts: false,
    sentPosition: place.position,
    sentLsn: lsn,
    write: place,
    flush: place,
    applyLsn: lsn,
    lagBytes: 0,
    silence: 5,
    bufferBytes: 0,
    ...more,
  };
}

function now(lsn: number, times: ClosedTimes, nowMs: number) {
  return { closed: { position: 64 + lsn * 100, lsn }, times, nowMs, wallMs: nowMs };
}

describe('the standbys of a primary', () => {
  it('lag by stages, in records, bytes and time', () => {
    const times = new ClosedTimes(64, 0, 0);
    for (let lsn = 1; lsn <= 10; lsn++) times.closed(64 + lsn * 100, lsn, lsn * 1000);
    const flush = { position: 464, lsn: 4 };
    const standby = hubStandby('b', 8, { flush, applyLsn: 2 });
    const [status] = new StandbyBook().status([standby], now(10, times, 12_000));
    expect(status?.lag).toEqual({
      write: { records: 2, bytes: 200, milliseconds: 3000 },
      flush: { records: 6, bytes: 600, milliseconds: 7000 },
      apply: { records: 8, bytes: 800, milliseconds: 9000 },
    });
  });

  it('that have gone stay, with why and since when, and their lag grows', () => {
    const times = new ClosedTimes(64, 0, 0);
    const book = new StandbyBook();
    times.closed(164, 1, 1000);
    const b = hubStandby('b', 1, { counts: true });
    book.left(b, 'unplugged', 2000);
    const [idle] = book.status([], now(1, times, 60_000));
    expect(idle).toMatchObject({ state: 'disconnected', reason: 'unplugged', synchronous: false });
    expect(idle?.since).toBe(new Date(2000).toISOString());
    expect(idle?.lastContactMs).toBe(58_005);
    expect(idle?.lag.flush).toEqual({ records: 0, bytes: 0, milliseconds: 0 });
    times.closed(264, 2, 70_000);
    const [late] = book.status([], now(2, times, 100_000));
    expect(late?.lag.flush).toEqual({ records: 1, bytes: 100, milliseconds: 30_000 });
    book.came(b);
    expect(book.status([b], now(2, times, 100_000))).toMatchObject([{ state: 'live' }]);
  });

  it('are remembered up to a limit, and one that was wiped takes the place of its old self', () => {
    const book = new StandbyBook();
    const times = new ClosedTimes(64, 0, 0);
    for (let i = 0; i < 200; i++) book.left(hubStandby(`n${i}`, 0), 'gone', i);
    const status = book.status([], now(0, times, 0));
    expect(status.length).toBe(64);
    expect(status[0]?.name).toBe('n199');
    book.came({ name: 'n199', nodeId: 'another id' });
    expect(book.status([], now(0, times, 0))[0]?.name).toBe('n198');
  });
});

it('a standby that comes, falls behind, leaves and comes again shows in the status', async () => {
  const a = await openLog({ ...small, name: 'a', listen: { port: 0 } });
  const port = a.status().listening!.port;
  const b = await openLog({ name: 'b', follow: { port } });
  await a.appendAndCommit('one');
  await until(() => a.status().standbys[0]?.lag.flush.records === 0, 'it has flushed');
  const fed = a.status().standbys[0]!;
  expect(fed).toMatchObject({ state: 'live', reason: null, sentLsn: 1 });
  expect(fed.lag.flush).toEqual({ records: 0, bytes: 0, milliseconds: 0 });
  expect(fed.lag.apply.records).toBe(1);
  b.apply(undefined, async () => undefined);
  await until(() => a.status().standbys[0]?.lag.apply.records === 0, 'applied');
  const came = a.status().standbys[0]!.since;
  await b.close();
  await until(() => a.status().standbys[0]?.state === 'disconnected', 'it has gone');
  await a.appendAndCommit('two');
  const gone = a.status().standbys[0]!;
  expect(gone.reason).not.toBe('');
  expect(gone.since >= came).toBe(true);
  expect(gone.lag.flush.records).toBe(1);
  expect(gone.lag.flush.bytes).toBeGreaterThan(0);
  const again = await openLog({ dir: b.dir, name: 'b', follow: { port } });
  await again.connected();
  await until(() => a.status().standbys[0]?.flushLsn === 2, 'it has caught up');
  expect(a.status().standbys.length).toBe(1);
});

it('the oldest wait is told while commits wait, and each commit is counted once', async () => {
  const log = await openLog({ ...small, synchronousStandbys: 'ANY 1 (*)' });
  expect(log.status().commits).toEqual({
    waiting: 0,
    oldestWaitMs: null,
    acknowledged: 0,
    rejected: 0,
  });
  const signal = AbortSignal.timeout(50);
  const waits = [log.append('a'), log.append('b')].map((lsn) => log.commit(lsn, { signal }));
  await until(() => (log.status().commits.oldestWaitMs ?? 0) > 5, 'they wait');
  expect(log.status().commits.waiting).toBe(2);
  await Promise.allSettled(waits);
  await Promise.all([1, 2, 3].map(() => log.appendAndCommit('c', { level: 'local' })));
  const { waiting, oldestWaitMs, acknowledged, rejected } = log.status().commits;
  expect({ waiting, oldestWaitMs, acknowledged, rejected }).toEqual({
    waiting: 0,
    oldestWaitMs: null,
    acknowledged: 3,
    rejected: 2,
  });
});
