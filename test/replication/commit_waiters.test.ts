import { describe, expect, it } from 'vitest';
import { CommitWaiters } from '../../src/replication/commit_waiters.js';
import type { CommitLevel } from '../../src/replication/level.js';

class Source {
  readonly at: Record<CommitLevel, number> = {
    off: 0,
    local: 0,
    remote_write: 0,
    remote_flush: 0,
    remote_apply: 0,
  };
  reached(level: CommitLevel): number {
    return this.at[level];
  }
  ownLevel(): CommitLevel {
    return 'remote_flush';
  }
  standbysAt(level: CommitLevel): string[] {
    return level === 'remote_flush' ? ['b'] : [];
  }
}

function setUp(timeoutMs?: number) {
  const source = new Source();
  return { source, waiters: new CommitWaiters(source, { timeoutMs }) };
}

/** What a promise has come to by now. */
async function outcome(promise: Promise<unknown>): Promise<unknown> {
  const pending = Symbol('pending');
  const first = await Promise.race([
    promise.then(
      (value) => value,
      (error) => (error as { code: string }).code,
    ),
    new Promise((resolve) => setImmediate(() => resolve(pending))),
  ]);
  return first === pending ? 'pending' : first;
}

describe('commit waiters', () => {
  it('share one promise for all records of the open batch', async () => {
    const { source, waiters } = setUp();
    const first = waiters.wait('local', 3);
    expect(waiters.wait('local', 1)).toBe(first);
    expect(waiters.wait('local', 7)).toBe(first);
    expect(waiters.groups).toBe(1);
    source.at.off = 7;
    waiters.closed();
    source.at.local = 6;
    waiters.settle();
    expect(await outcome(first)).toBe('pending');
    source.at.local = 7;
    waiters.settle();
    expect(await outcome(first)).toEqual({ lsn: 7, level: 'local', standbys: [] });
    expect(waiters.waiting).toBe(false);
  });

  it('start a new group when the batch was closed', async () => {
    const { source, waiters } = setUp();
    const first = waiters.wait('remote_flush', 1);
    source.at.off = 1;
    waiters.closed();
    const second = waiters.wait('remote_flush', 2);
    expect(second).not.toBe(first);
    source.at.remote_flush = 1;
    waiters.settle();
    expect(await outcome(first)).toMatchObject({ lsn: 1, standbys: ['b'] });
    expect(await outcome(second)).toBe('pending');
  });

  it('join the group of an earlier batch by its LSN', async () => {
    const { source, waiters } = setUp();
    const early = waiters.wait('local', 2);
    source.at.off = 5;
    waiters.closed();
    const late = waiters.wait('local', 8);
    expect(waiters.wait('local', 4)).toBe(early);
    source.at.local = 5;
    waiters.settle();
    expect(await outcome(early)).toMatchObject({ lsn: 5 });
    expect(await outcome(late)).toBe('pending');
  });

  it('resolve at once what is met already', async () => {
    const { source, waiters } = setUp();
    source.at.off = 9;
    source.at.local = 9;
    expect(await outcome(waiters.wait('local', 4))).toMatchObject({ lsn: 9 });
    expect(waiters.waiting).toBe(false);
  });

  it('resolve `off` when the batch is closed', async () => {
    const { source, waiters } = setUp();
    const off = waiters.wait('off', 1);
    expect(await outcome(off)).toBe('pending');
    source.at.off = 1;
    waiters.closed();
    expect(await outcome(off)).toMatchObject({ lsn: 1, level: 'off' });
  });

  it('cancel one wait and leave the others', async () => {
    const { source, waiters } = setUp();
    const stop = new AbortController();
    const mine = waiters.waitWithSignal('local', 1, stop.signal);
    const other = waiters.wait('local', 1);
    stop.abort(new Error('enough'));
    const error = await mine.catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'WAL_COMMIT_ABORTED', outcome: 'unknown', lsn: 1 });
    expect((error as Error).cause).toMatchObject({ message: 'enough' });
    source.at.off = 1;
    source.at.local = 1;
    waiters.closed();
    waiters.settle();
    expect(await outcome(other)).toMatchObject({ lsn: 1 });
  });

  it('keep nothing of cancelled waits', async () => {
    const { waiters } = setUp();
    for (let i = 0; i < 100; i += 1) {
      const stop = new AbortController();
      const wait = waiters.waitWithSignal('remote_flush', i + 1, stop.signal);
      stop.abort();
      expect(await outcome(wait)).toBe('WAL_COMMIT_ABORTED');
    }
    expect(waiters.groups).toBe(0);
  });

  it('refuse a signal that has fired', async () => {
    const { waiters } = setUp();
    const wait = waiters.waitWithSignal('local', 1, AbortSignal.abort());
    expect(await outcome(wait)).toBe('WAL_COMMIT_ABORTED');
  });

  it('time out remote waits only, with an outcome unknown', async () => {
    const { waiters } = setUp(100);
    const remote = waiters.wait('remote_flush', 1);
    const local = waiters.wait('local', 1);
    waiters.tick(1000);
    waiters.tick(1099);
    expect(await outcome(remote)).toBe('pending');
    waiters.tick(1100);
    expect(await remote.catch((error: unknown) => error)).toMatchObject({
      code: 'WAL_SYNC_TIMEOUT',
      outcome: 'unknown',
    });
    expect(await outcome(local)).toBe('pending');
    waiters.rejectAll(Object.assign(new Error('over'), { code: 'over' }));
    expect(await outcome(local)).toBe('over');
  });

  it('time out each wait by when it was asked for, also in one batch', async () => {
    const { waiters } = setUp(100);
    const first = waiters.wait('remote_flush', 1);
    waiters.tick(0);
    const second = waiters.wait('remote_flush', 1);
    expect(second).not.toBe(first);
    const third = waiters.waitWithSignal('remote_flush', 1, new AbortController().signal);
    expect(waiters.groups).toBe(1);
    waiters.tick(90);
    waiters.tick(100);
    expect(await outcome(first)).toBe('WAL_SYNC_TIMEOUT');
    expect(await outcome(second)).toBe('pending');
    waiters.tick(189);
    expect(await outcome(third)).toBe('pending');
    waiters.tick(190);
    expect(await outcome(second)).toBe('WAL_SYNC_TIMEOUT');
    expect(await outcome(third)).toBe('WAL_SYNC_TIMEOUT');
    expect(waiters.waiting).toBe(false);
  });

  it('raised: the batch is waited for as far as was said, and no other', async () => {
    const { source, waiters } = setUp();
    waiters.raise('local', 1);
    expect(waiters.waiting).toBe(false);
    const wait = waiters.wait('local', 1);
    waiters.raise('local', 3);
    source.at.off = 3;
    waiters.closed();
    waiters.raise('local', 4);
    source.at.local = 2;
    waiters.settle();
    expect(await outcome(wait)).toBe('pending');
    source.at.local = 3;
    waiters.settle();
    expect(await outcome(wait)).toMatchObject({ lsn: 3 });
  });

  it('end every wait once, with the same error', async () => {
    const { source, waiters } = setUp();
    const error = Object.assign(new Error('over'), { code: 'over' });
    const waits = [
      waiters.wait('local', 1),
      waiters.waitWithSignal('remote_apply', 1, new AbortController().signal),
      waiters.wait('off', 2),
    ];
    waiters.rejectAll(error);
    for (const wait of waits) expect(await wait.catch((reason: unknown) => reason)).toBe(error);
    // One that had waited for something else until now.
    expect(await waiters.wait('local', 1).catch((reason: unknown) => reason)).toBe(error);
    const { signal } = new AbortController();
    const late = waiters.waitWithSignal('local', 1, signal);
    expect(await late.catch((reason: unknown) => reason)).toBe(error);
    source.at.off = 5;
    waiters.closed();
    waiters.settle();
    expect(waiters.waiting).toBe(false);
  });

  it('a wait for what is not appended yet does not hold up the closed batches', async () => {
    const { source, waiters } = setUp();
    const far = waiters.wait('local', 100);
    source.at.off = 10;
    waiters.closed();
    const near = waiters.wait('local', 10);
    source.at.local = 10;
    waiters.settle();
    expect(await outcome(near)).toMatchObject({ lsn: 10 });
    expect(await outcome(far)).toBe('pending');
  });
});
