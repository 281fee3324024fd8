import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { promoteDirectory } from '../../src/api/promote_directory.js';
import type { OpenOptions, Rebuild, ThreadedLog } from '../../src/index.js';
import { openLog, until, walError } from './helpers.js';
import { following, forked, pair, stopped } from './rejoin_nodes.js';
import { openThreaded } from './threaded_helpers.js';

const auto = { rejoin: 'auto' } as const;

/** Options of an old primary, of which LSN 2 to 4 were seen, and the new primary. */
async function replaced() {
  // A batch for each of them.
  const both = await pair({ maxBatchBytes: 1024 });
  await both.a.appendAndCommit('one');
  const seen = ['seen', 'seen too', 'the last'].map((text) => text.padEnd(800));
  const b = await forked(both, seen, ['two', 'three']);
  return { b, options: { dir: both.a.dir, name: 'a', follow: following(b), ...auto } };
}

/** The same where the new primary is away: what was seen is shown until it is `back`. */
async function replacedLater() {
  const { b, options } = await replaced();
  await b.close();
  const back = () => openLog({ dir: b.dir, name: 'b', listen: options.follow });
  return { options, back };
}

/** A hook that says when it was called, and returns when it is let go. */
function gate() {
  const told: { rebuild: Rebuild; signal: AbortSignal }[] = [];
  let letGo = (): void => undefined;
  const open = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  const onRebuild: OpenOptions['onRebuild'] = (rebuild, signal) => {
    told.push({ rebuild, signal });
    return open;
  };
  return { told, onRebuild, letGo };
}

async function has(log: ThreadedLog, flushLsn: number, epoch = 2): Promise<void> {
  for (;;) {
    const status = await log.status();
    if (status.flushLsn === flushLsn && status.term.epoch >= epoch) return;
    await sleep(5);
  }
}

async function texts(log: ThreadedLog): Promise<string[]> {
  const found: string[] = [];
  for await (const batch of log.read({ live: false })) {
    for (const { data } of batch) found.push(data.toString());
  }
  return found;
}

function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

describe('onRebuild of a log in a thread of its own', () => {
  it('runs here, once, before anything of the new history is shown, which waits', async () => {
    const { options } = await replaced();
    const { told, onRebuild, letGo } = gate();
    const a = await openThreaded({ ...options, onRebuild });
    const events: Rebuild[] = [];
    a.on('rebuild', (rebuild) => events.push(rebuild));
    await until(() => told.length === 1, 'the hook is called');
    expect(told[0]!.rebuild).toMatchObject({ from: 2, to: 4, file: expect.any(String) });
    expect(events).toEqual([told[0]!.rebuild]);
    await has(a, 3);
    expect(await texts(a)).toEqual(['one']);
    expect((await a.status()).rebuild).toEqual({ from: 2, to: 4 });
    const early = a.waitFor(2, { signal: AbortSignal.timeout(20) });
    await expect(early).rejects.toThrow(/timeout/);
    letGo();
    await a.waitFor(3);
    expect(await texts(a)).toEqual(['one', 'two', 'three']);
    expect((await a.status()).rebuild).toBeNull();
    expect(told).toHaveLength(1);
  });

  it('fails the log where it rejects, and is called again when it is opened', async () => {
    const { options } = await replaced();
    const onRebuild = async () => {
      throw new Error('the snapshot is gone');
    };
    const a = await openThreaded({ ...options, onRebuild });
    const failed = new Promise<Error>((resolve) => a.once('failed', resolve));
    expect(await failed).toMatchObject({
      code: 'WAL_FAILED',
      message: expect.stringContaining('the snapshot is gone'),
    });
    await a.close().catch(() => undefined);
    const { told, onRebuild: good, letGo } = gate();
    letGo();
    const again = await openThreaded({ ...options, onRebuild: good });
    await again.waitFor(3);
    expect(told.map(({ rebuild }) => rebuild)).toEqual([{ from: 2, to: 4, file: null }]);
  });

  it('hears of the closing, which does not wait for it, and is called again then', async () => {
    const { options } = await replaced();
    const first = gate();
    const a = await openThreaded({ ...options, onRebuild: first.onRebuild });
    await until(() => first.told.length === 1, 'the hook is called');
    const closing = a.close();
    expect(first.told[0]!.signal.aborted).toBe(true);
    await closing;
    first.letGo();
    const second = gate();
    const again = await openThreaded({ ...options, onRebuild: second.onRebuild });
    await until(() => second.told.length === 1, 'it is called again');
    second.letGo();
    await again.waitFor(3);
  });

  it('hears of it where the thread dies', async () => {
    const spy = vi.spyOn(Worker.prototype, 'postMessage');
    onTestFinished(() => spy.mockRestore());
    const { options } = await replaced();
    const { told, onRebuild, letGo } = gate();
    const a = await openThreaded({ ...options, onRebuild });
    await until(() => told.length === 1, 'the hook is called');
    await a.status();
    const failed = new Promise<Error>((resolve) => a.once('failed', resolve));
    await (spy.mock.contexts.at(-1) as Worker).terminate();
    expect(await failed).toMatchObject({ code: 'WAL_CLOSED' });
    expect(told[0]!.signal.aborted).toBe(true);
    // Its answer goes nowhere, and does no harm.
    letGo();
    await turn();
  });

  it('is called before a primary is open, which waits for it', async () => {
    const { options } = await replaced();
    const first = gate();
    const a = await openThreaded({ ...options, onRebuild: first.onRebuild });
    await until(() => first.told.length === 1, 'it was cut');
    await has(a, 3);
    await a.close();
    const { dir } = options;
    await promoteDirectory({ dir, ...stopped });
    const second = gate();
    let isOpen = false;
    const opening = openThreaded({ dir, onRebuild: second.onRebuild }).then((log) => {
      isOpen = true;
      return log;
    });
    await until(() => second.told.length === 1, 'it is called');
    await sleep(50);
    expect(isOpen).toBe(false);
    second.letGo();
    const log = await opening;
    expect(await log.appendAndCommit('four')).toMatchObject({ lsn: 4 });
  });

  it('where it rejects then, the log is not opened', async () => {
    const { options } = await replaced();
    const first = gate();
    const a = await openThreaded({ ...options, onRebuild: first.onRebuild });
    await until(() => first.told.length === 1, 'it was cut');
    await has(a, 3);
    await a.close();
    const { dir } = options;
    await promoteDirectory({ dir, ...stopped });
    const onRebuild = () => {
      throw new RangeError('too large');
    };
    const opening = openThreaded({ dir, onRebuild });
    await expect(opening).rejects.toMatchObject({ message: expect.stringContaining('too large') });
    const log = await openThreaded({ dir, onRebuild: () => undefined });
    expect((await log.status()).rebuild).toBeNull();
  });

  it('waits for a thread that is blocked, and the standby goes on', async () => {
    const { b, options } = await replaced();
    let blocked = true;
    const seen: boolean[] = [];
    const onRebuild = () => {
      seen.push(blocked);
    };
    const a = await openThreaded({ ...options, onRebuild });
    block(1500);
    blocked = false;
    await b.setPolicy({ synchronousStandbys: 'ANY 1 (*)', synchronousCommit: 'remote_flush' });
    await b.appendAndCommit('four');
    await a.waitFor(4);
    expect(seen).toEqual([false]);
  });

  it('without it the event is told to who listens from the opening on, later too', async () => {
    const { options } = await replaced();
    const { told, onRebuild } = gate();
    const a = await openThreaded({ ...options, onRebuild });
    await until(() => told.length === 1, 'it was cut');
    await a.close();
    const again = await openThreaded(options);
    const rebuild = await new Promise((resolve) => again.once('rebuild', resolve));
    expect(rebuild).toEqual({ from: 2, to: 4, file: null });
    await again.waitFor(3);
    expect((await again.status()).rebuild).toBeNull();
  });

  it('without it what the event tells is not noted as told before it was heard', async () => {
    const { options } = await replaced();
    const { told, onRebuild } = gate();
    const a = await openThreaded({ ...options, onRebuild });
    await until(() => told.length === 1, 'it was cut');
    await a.close();
    const again = await openThreaded(options);
    let heard: unknown;
    again.once('rebuild', (rebuild) => {
      heard = rebuild;
    });
    block(300);
    // What is in the directory now, with this thread blocked up to here.
    expect(heard).toBeUndefined();
    const status = again.status();
    expect((await status).rebuild).toEqual({ from: 2, to: 4 });
    await again.waitFor(3);
    expect(heard).toBeDefined();
  });
});

describe('who reads a log in a thread of its own over a cut', () => {
  it('is shown nothing that was read ahead of it, and hears that it is gone', async () => {
    const { options, back } = await replacedLater();
    const { told, onRebuild, letGo } = gate();
    const a = await openThreaded({ ...options, onRebuild });
    const past = a.read();
    const before = a.read();
    const bounded = a.read({ to: 4, live: false });
    const ahead = a.read({ from: 5 });
    const aheadEnds = walError(() => ahead.next());
    for (const reader of [past, before, bounded]) {
      expect((await reader.next()).value?.lastLsn).toBe(1);
    }
    while ((await past.next()).value!.lastLsn < 4);
    await back();
    await until(() => told.length === 1, 'it was cut');
    const rebuild = { code: 'WAL_REBUILD', lsn: 2 };
    for (const reader of [past, before, bounded]) {
      expect(await walError(() => reader.next())).toMatchObject(rebuild);
      expect(await reader.next()).toEqual({ done: true, value: undefined });
    }
    expect(await aheadEnds).toMatchObject(rebuild);
    letGo();
    await a.waitFor(3);
    expect(await texts(a)).toEqual(['one', 'two', 'three']);
  });

  it('goes on where nothing of that was sent', async () => {
    const { options, back } = await replacedLater();
    const a = await openThreaded(options);
    const reader = a.read({ to: 1 });
    const live = a.read({ from: 1, to: 3 });
    expect((await reader.next()).value?.lastLsn).toBe(1);
    await back();
    await has(a, 3);
    expect(await reader.next()).toEqual({ done: true, value: undefined });
    const found: string[] = [];
    for await (const batch of live) for (const { data } of batch) found.push(data.toString());
    expect(found).toEqual(['one', 'two', 'three']);
  });

  it('applies nothing of it that has not begun; the hook waits for what has', async () => {
    const { options, back } = await replacedLater();
    const { told, onRebuild, letGo } = gate();
    const a = await openThreaded({ ...options, onRebuild });
    let release = (): void => undefined;
    const busy = new Promise<void>((resolve) => {
      release = resolve;
    });
    const applied: number[] = [];
    const applier = a.apply({}, async (batch) => {
      applied.push(batch.lastLsn);
      if (batch.lastLsn > 1) await busy;
    });
    const ends = walError(() => applier.done);
    await until(() => applied.length === 2, 'it applies what will go');
    const b = await back();
    await has(a, 3);
    await turn();
    expect(told).toEqual([]);
    const begun = [...applied];
    release();
    expect(await ends).toMatchObject({ code: 'WAL_REBUILD', lsn: 2 });
    expect(applied).toEqual(begun);
    expect(applier.appliedLsn).toBe(1);
    await until(() => told.length === 1, 'the hook is called');
    expect(b.status().standbys[0]?.applyLsn).toBe(1);
    // Another one may take its place from within the hook.
    const rest: string[] = [];
    a.apply({ from: told[0]!.rebuild.from }, (batch) => {
      for (const { data } of batch) rest.push(data.toString());
    });
    letGo();
    await until(() => rest.length === 2, 'the rest');
    expect(rest).toEqual(['two', 'three']);
    await until(() => b.status().standbys[0]?.applyLsn === 3, 'b hears of it');
  });

  it('hears of it though it had applied all of it, and does not count that', async () => {
    const { options, back } = await replacedLater();
    const order: string[] = [];
    const onRebuild = () => {
      order.push('hook');
    };
    const a = await openThreaded({ ...options, onRebuild });
    const applier = a.apply({}, () => undefined);
    const ends = walError(() => applier.done).finally(() => order.push('end'));
    await until(() => applier.appliedLsn === 4, 'all is applied');
    const b = await back();
    expect(await ends).toMatchObject({ code: 'WAL_REBUILD', lsn: 2 });
    expect(applier.appliedLsn).toBe(1);
    await a.waitFor(3, { signal: AbortSignal.timeout(100) }).catch(() => undefined);
    expect(b.status().standbys[0]?.applyLsn ?? 0).toBeLessThanOrEqual(1);
    await until(() => order.length === 2, 'both');
    expect(order).toEqual(['end', 'hook']);
  });
});

it('a fenced log in a thread of its own rejoins on the same object', async () => {
  const { options } = await replaced();
  const { follow } = options;
  const a = await openThreaded({ ...options, rejoin: 'ask' });
  expect(await walError(() => a.connected())).toMatchObject({ code: 'WAL_WAS_PRIMARY' });
  await a.rejoin({ follow, rejoin: 'auto' });
  await a.connected();
  await a.waitFor(3);
  expect(await texts(a)).toEqual(['one', 'two', 'three']);
  expect(await walError(() => a.rejoin({ follow }))).toMatchObject({ code: 'WAL_NOT_STANDBY' });
  await expect(a.pauseFailover('none')).rejects.toThrow(/without a referee/);
  await expect(a.resumeFailover()).rejects.toThrow(/without a referee/);
});
