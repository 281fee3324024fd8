import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { SnapshotOptions } from '../../src/index.js';
import { TcpProxy } from '../helpers/proxy.js';
import { freshDir } from '../helpers/temp.js';
import { codeOf, openLog, small, until, walError } from './helpers.js';
import { following, pair, rejoin } from './rejoin_nodes.js';
import { Ledger, names, snapshotsOf } from './snapshot_ledger.js';
import { replaced, snapshotsAt } from './snapshot_logs.js';

async function withSave(save: SnapshotOptions['save']) {
  const ledger = new Ledger();
  const log = await openLog({ ...small, snapshot: { ...ledger.snapshot, save } });
  await ledger.write(log, 4);
  return log;
}

describe('a snapshot that is given up', () => {
  it.each(['the signal', 'closing'])('by %s, whatever `save` does then', async (how) => {
    for (let round = 0; round < 8; round += 1) {
      let asked = 0;
      const log = await withSave(async function* (_, { signal }) {
        for (;;) {
          signal.throwIfAborted();
          asked += 1;
          yield Buffer.alloc(64 * 1024);
        }
      });
      const cancel = new AbortController();
      const taking = log.snapshot({ lsn: 4, signal: cancel.signal });
      taking.catch(() => undefined);
      await until(() => asked > 3 + round, 'it is being written');
      if (how === 'closing') await log.close();
      else cancel.abort(new Error('enough'));
      // What is left behind and fails later is nobody's to hear of.
      if (how === 'closing') expect(await codeOf(() => taking)).toBe('WAL_CLOSED');
      else await expect(taking).rejects.toThrow('enough');
      await sleep(5);
      expect(names(log)).toEqual([]);
      await log.close();
    }
  });

  it('by `save` itself, at any piece, rejects with what that throws', async () => {
    class Mine extends Error {}
    const log = await withSave(async function* () {
      yield 'one';
      throw new Mine('enough');
    });
    await expect(log.snapshot({ lsn: 4 })).rejects.toBeInstanceOf(Mine);
    const other = await withSave(async function* () {
      yield 'one';
      yield 7 as unknown as string;
    });
    await expect(other.snapshot({ lsn: 4 })).rejects.toBeInstanceOf(TypeError);
    expect(names(other)).toEqual([]);
  });

  it('for half a character, which would be another one', async () => {
    const log = await withSave(async function* () {
      const text = 'a😀';
      yield text.slice(0, 2);
      yield text.slice(2);
    });
    await expect(log.snapshot({ lsn: 4 })).rejects.toThrow('in the middle of a character');
  });

  it('where it would not be kept', async () => {
    const ledger = new Ledger();
    const log = await openLog({ ...small, snapshot: ledger.snapshot });
    await ledger.write(log, 6);
    await log.snapshot({ lsn: 4 });
    await log.snapshot({ lsn: 5 });
    await expect(log.snapshot({ lsn: 2 })).rejects.toThrow(/of later records than LSN 2/);
    expect(snapshotsOf(log).map(({ lsn }) => lsn)).toEqual([5, 4]);
  });
});

const newest = '0000000000000008-1-1.snapshot';

describe('an opening', () => {
  it('goes on from the one before, whatever bit of a header is flipped', async () => {
    const { dir } = await snapshotsAt([4, 8], 10);
    const path = join(dir, 'snapshots', newest);
    const whole = readFileSync(path);
    for (let at = 60; at < 84; at += 1) {
      for (const bit of [0, 4, 7]) {
        const bytes = Buffer.from(whole);
        bytes[at]! ^= 1 << bit;
        writeFileSync(path, bytes);
        const ledger = new Ledger();
        const log = await openLog({ dir, snapshot: ledger.snapshot });
        expect(ledger.loads, `bit ${bit} of byte ${at}`).toEqual([4]);
        expect(snapshotsOf(log).find(({ lsn }) => lsn === 8)?.state).toBe('damaged');
        await log.close();
      }
    }
  });

  it('does not go on from half a state', async () => {
    const { dir, lines } = await snapshotsAt([4, 8], 10);
    const ledger = new Ledger();
    const decaying: SnapshotOptions = {
      ...ledger.snapshot,
      load: (stream, lsn, context) => {
        // It was whole when it was looked at.
        for (const name of names({ dir })) writeFileSync(join(dir, 'snapshots', name), 'gone');
        return ledger.snapshot.load(stream, lsn, context);
      },
    };
    const error = await walError(() => openLog({ dir, snapshot: decaying }));
    expect(error.code).toBe('WAL_CORRUPT');
    const after = new Ledger();
    const again = await openLog({ dir, snapshot: after.snapshot });
    expect(again.loadedSnapshot).toBeNull();
    again.apply({}, after.apply);
    await again.waitFor(10);
    expect(after.lines).toEqual(lines);
  });

  it('sets aside what lies past the end of a standby that was put back to the past', async () => {
    const both = await pair();
    await both.a.appendAndCommit('1');
    await until(() => both.b.status().flushLsn === 1, 'b has it');
    await both.a.close();
    const { dir } = both.b;
    await both.b.close();
    const backup = freshDir();
    cpSync(dir, backup, { recursive: true, filter: (path) => !path.endsWith('.sock') });
    const options = { dir, name: 'b', follow: { port: 1 } };
    const lost = await openLog({ ...options, snapshot: new Ledger().snapshot });
    const { term } = await lost.promote({ primaryStopped: true, force: true });
    for (const text of ['lost', 'too']) await lost.appendAndCommit(text);
    await lost.snapshot({ lsn: 3 });
    await lost.close();
    cpSync(backup, dir, { recursive: true });

    const restored = await openLog({ ...options, snapshot: new Ledger().snapshot });
    // The same one, of other records.
    expect((await restored.promote({ primaryStopped: true, force: true })).term).toEqual(term);
    for (const text of ['other', 'two', 'three']) await restored.appendAndCommit(text);
    expect(snapshotsOf(restored)).toEqual([]);
    expect(names(restored)).toEqual([expect.stringMatching(/^0{15}3-.*\.snapshot\.foreign$/)]);
    await restored.close();
    const last = new Ledger();
    const again = await openLog({ dir, name: 'b', snapshot: last.snapshot });
    expect(last.loads).toEqual([]);
    again.apply({}, last.apply);
    await again.waitFor(4);
    expect(last.lines).toEqual(['1', 'other', 'two', 'three']);
  });

  it('sets aside what lies past the end of a log that was put back to the past', async () => {
    const ledger = new Ledger();
    const log = await openLog({ ...small, snapshot: ledger.snapshot });
    await ledger.write(log, 2);
    await log.close();
    const backup = freshDir();
    cpSync(log.dir, backup, { recursive: true, filter: (path) => !path.endsWith('.sock') });
    const lost = await openLog({ dir: log.dir, snapshot: ledger.snapshot });
    await ledger.write(lost, 3);
    await lost.snapshot({ lsn: 5 });
    await lost.close();
    cpSync(backup, log.dir, { recursive: true });

    const after = new Ledger();
    const restored = await openLog({ dir: log.dir, snapshot: after.snapshot });
    expect(after.loads).toEqual([]);
    expect(snapshotsOf(restored)).toEqual([]);
    expect(names(restored)).toEqual([expect.stringMatching(/^0{15}5-.*\.snapshot\.foreign$/)]);
    restored.apply({}, after.apply);
    for (let i = 0; i < 6; i += 1) restored.append(`other ${i}`);
    await restored.commit();
    await restored.close();
    const last = new Ledger();
    const again = await openLog({ dir: log.dir, snapshot: last.snapshot });
    expect(last.loads).toEqual([]);
    await again.close();
  });
});

it('state of records that were cut is not gone on from', async () => {
  const { dir, b } = await replaced(['two', 'three'], { last: 2, isLastTaken: true });
  const after = new Ledger();
  const way = await TcpProxy.open(1);
  const follow = { port: way.port };
  const a = await rejoin(dir, b, { rejoin: 'auto', snapshot: after.snapshot, follow });
  expect(after.loads).toEqual([2]);
  way.target = following(b).port;
  await until(() => a.status().commitLsn === 3, 'it follows');
  const stale = await walError(async () => a.apply({}, after.apply));
  expect(stale).toMatchObject({ code: 'WAL_REBUILD', lsn: 2 });
  expect((await a.loadSnapshot())?.lsn).toBe(1);
  a.apply({}, after.apply);
  await a.waitFor(3);
  expect(after.lines).toEqual(['1', 'two', 'three']);
  await way.close();
});

it('one that is under way at a cut does not stop the application from rebuilding', async () => {
  const { dir, b } = await replaced(['two', 'three'], { last: 3, isLastTaken: false });
  const after = new Ledger();
  let asked = 0;
  const snapshot: SnapshotOptions = {
    ...after.snapshot,
    // Until it is given up, which it takes its time for.
    async *save(_, { signal }) {
      asked += 1;
      yield 'state';
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      await sleep(100);
    },
  };
  const loaded: (number | undefined)[] = [];
  const onRebuild = async () => {
    loaded.push((await a.loadSnapshot())?.lsn);
  };
  const way = await TcpProxy.open(1);
  const follow = { port: way.port };
  const a = await openLog({ dir, name: 'a', follow, rejoin: 'auto', snapshot, onRebuild });
  const taking = a.snapshot({ lsn: 3 });
  taking.catch(() => undefined);
  await until(() => asked === 1, 'it is under way');
  way.target = following(b).port;
  await until(() => loaded.length > 0 || a.status().failure !== null, 'it has rebuilt');
  await until(() => a.status().rebuild === null, 'that is noted');
  expect(asked).toBe(1);
  expect(await codeOf(() => taking)).toBe('WAL_REBUILD');
  expect(loaded).toEqual([1]);
  expect(a.status().failure).toBeNull();
  a.apply({}, after.apply);
  await a.waitFor(3);
  expect(after.lines).toEqual(['1', 'two', 'three']);
  await way.close();
});
