import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { describe, expect, it } from 'vitest';
import type { SnapshotOptions } from '../../src/index.js';
import { codeOf, openLog, small, until } from './helpers.js';
import { Ledger, names, snapshotsOf } from './snapshot_ledger.js';
import { snapshotsAt } from './snapshot_logs.js';

/** A `load` whose own sink fails, which takes the stream with it. */
function withFullSink(ledger: Ledger, error: Error): SnapshotOptions {
  const sink = () => new Writable({ write: (_chunk, _encoding, done) => done(error) });
  return { ...ledger.snapshot, load: (stream) => pipeline(stream, sink()) };
}

describe('a `load` that fails', () => {
  it('by a pipeline, which destroys the stream, says nothing against the file', async () => {
    const { dir } = await snapshotsAt([4, 8], 10);
    const full = new Error('no room in my database');
    const tried: number[] = [];
    const failing = withFullSink(new Ledger(), full);
    const load: SnapshotOptions['load'] = (stream, lsn, context) => {
      tried.push(lsn);
      return failing.load(stream, lsn, context);
    };
    await expect(openLog({ dir, snapshot: { ...failing, load } })).rejects.toBe(full);
    expect(tried).toEqual([8]);
    const ledger = new Ledger();
    await openLog({ dir, snapshot: ledger.snapshot });
    expect(ledger.loads).toEqual([8]);
  });

  it('leaves half a state, of which nothing goes on', async () => {
    const { dir, lines } = await snapshotsAt([4, 8], 10);
    const ledger = new Ledger();
    let isBroken = false;
    const snapshot: SnapshotOptions = {
      ...ledger.snapshot,
      load: async (stream, lsn, context) => {
        if (!isBroken) return ledger.snapshot.load(stream, lsn, context);
        ledger.lines = ['half'];
        throw new Error('broken');
      },
    };
    const log = await openLog({ dir, snapshot });
    expect(log.loadedSnapshot?.lsn).toBe(8);
    isBroken = true;
    await expect(log.loadSnapshot()).rejects.toThrow('broken');
    expect(log.loadedSnapshot).toBeNull();
    expect(await codeOf(async () => log.apply({}, ledger.apply))).toBe('WAL_REBUILD');
    expect(await codeOf(() => log.snapshot({ lsn: 10 }))).toBe('WAL_REBUILD');
    isBroken = false;
    expect((await log.loadSnapshot())?.lsn).toBe(8);
    log.apply({}, ledger.apply);
    await log.waitFor(10);
    expect(ledger.lines).toEqual(lines);
  });

  it('since it was given up leaves half a state too', async () => {
    const { dir } = await snapshotsAt([4, 8], 10);
    const ledger = new Ledger();
    let isHanging = false;
    const snapshot: SnapshotOptions = {
      ...ledger.snapshot,
      load: (stream, lsn, context) =>
        isHanging ? new Promise(() => undefined) : ledger.snapshot.load(stream, lsn, context),
    };
    const log = await openLog({ dir, snapshot });
    isHanging = true;
    const enough = new Error('enough');
    const cancel = new AbortController();
    const loading = log.loadSnapshot({ signal: cancel.signal });
    await until(() => log.loadedSnapshot === null, 'it is being loaded');
    expect(() => log.apply({ from: 9 }, ledger.apply)).toThrow(/being loaded; await that first/);
    cancel.abort(enough);
    await expect(loading).rejects.toBe(enough);
    expect(log.loadedSnapshot).toBeNull();
    expect(await codeOf(async () => log.apply({}, ledger.apply))).toBe('WAL_REBUILD');
    // Whoever says from where it goes on knows.
    const applier = log.apply({ from: 9 }, ledger.apply);
    await log.waitFor(10);
    await applier.stop();
  });
});

describe('a snapshot that is there already', () => {
  it('is given again only where it verifies', async () => {
    const { dir, lines } = await snapshotsAt([4, 8], 8);
    const ledger = new Ledger();
    const log = await openLog({ dir, snapshot: ledger.snapshot });
    expect((await log.snapshot({ lsn: 8 })).lsn).toBe(8);
    const path = join(dir, 'snapshots', names(log).sort().at(-1)!);
    const bytes = readFileSync(path);
    bytes[100]! ^= 1;
    writeFileSync(path, bytes);
    expect(await codeOf(() => log.snapshot({ lsn: 8 }))).toBe('WAL_CORRUPT');
    expect(snapshotsOf(log).map(({ lsn, state }) => [lsn, state])).toEqual([
      [8, 'damaged'],
      [4, 'good'],
    ]);
    ledger.lines = [...lines];
    expect((await log.snapshot({ lsn: 8 })).lsn).toBe(8);
    const after = new Ledger();
    await log.close();
    await openLog({ dir, snapshot: after.snapshot });
    expect(after.loads).toEqual([8]);
  });

  it('and was removed by hand does not keep others from being removed', async () => {
    const ledger = new Ledger();
    const log = await openLog({ ...small, snapshot: ledger.snapshot });
    for (let i = 0; i < 2; i += 1) {
      await ledger.write(log, 2);
      await log.snapshot({ lsn: ledger.lines.length });
    }
    rmSync(join(log.dir, 'snapshots', names(log).sort()[0]!));
    for (let i = 0; i < 3; i += 1) {
      await ledger.write(log, 2);
      await log.snapshot({ lsn: ledger.lines.length });
    }
    expect(names(log)).toHaveLength(2);
    expect(snapshotsOf(log).map(({ lsn }) => lsn)).toEqual([10, 8]);
  });
});

it('a source that throws at once is that of `save`, and leaves nothing', async () => {
  const ledger = new Ledger();
  class Mine extends Error {}
  let asked = 0;
  const source = {
    [Symbol.asyncIterator]: () => ({
      next: (): Promise<IteratorResult<string>> => {
        asked += 1;
        if (asked > 1) throw new Mine('enough');
        return Promise.resolve({ done: false, value: 'one' });
      },
      return: (): never => {
        throw new Mine('not even that');
      },
    }),
  };
  const log = await openLog({ ...small, snapshot: { ...ledger.snapshot, save: () => source } });
  await ledger.write(log, 2);
  await expect(log.snapshot({ lsn: 2 })).rejects.toThrow('enough');
  expect(asked).toBe(2);
  expect(names(log)).toEqual([]);
});

it('nothing is applied while the first piece is awaited, by another applier neither', async () => {
  const ledger = new Ledger();
  const states: [number, number][] = [];
  let isAsked = false;
  let give = (): void => undefined;
  const given = new Promise<void>((resolve) => {
    give = resolve;
  });
  const save = async function* (lsn: number) {
    isAsked = true;
    await given;
    states.push([lsn, ledger.applied.length]);
    yield 'state';
  };
  const log = await openLog({ ...small, snapshot: { ...ledger.snapshot, save } });
  const first = log.apply({}, ledger.apply);
  await log.appendAndCommit('one');
  await log.waitFor(1);
  const taking = log.snapshot();
  await until(() => isAsked, 'it is asked');
  let isStopped = false;
  const stopping = first.stop().then(() => {
    isStopped = true;
    log.apply({ from: 2 }, ledger.apply);
  });
  await log.appendAndCommit('two');
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(isStopped).toBe(false);
  expect(() => log.apply({ from: 2 }, ledger.apply)).toThrow(/has an applier already/);
  give();
  await Promise.all([taking, stopping]);
  await log.waitFor(2);
  expect(states).toEqual([[1, 1]]);
  expect(ledger.applied).toEqual([1, 2]);
});
