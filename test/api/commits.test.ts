import { describe, expect, it, onTestFinished } from 'vitest';
import type { Appender } from '../../src/api/appender.js';
import { CommitTally } from '../../src/api/commit_tally.js';
import { Commits } from '../../src/api/commits.js';
import type { KeepAlive } from '../../src/api/keep_alive.js';
import { CommitWaiters } from '../../src/replication/commit_waiters.js';
import { parseStandbys } from '../../src/replication/policy.js';
import { turn, walError } from './helpers.js';

/** Commits whose batch stays open, as one does while the flush before it is slow. */
function setUp(timeoutMs: number) {
  const appender = { closedLsn: 0, lsn: 1, close: () => undefined, closeWhenIdle: () => undefined };
  const reached = { remote_flush: 0 };
  const source = {
    reached: (level: string) => (level === 'off' ? appender.closedLsn : reached.remote_flush),
    ownLevel: () => 'remote_flush' as const,
    standbysAt: () => [],
  };
  const waiters = new CommitWaiters(source, { timeoutMs });
  const commits = new Commits({
    appender: appender as unknown as Appender,
    keepAlive: { acquire: () => undefined, release: () => undefined } as unknown as KeepAlive,
    waiters,
    tally: new CommitTally(),
    now: () => 0,
    log: { log: 'n', dir: '/d' },
    policy: () => ({ level: 'remote_flush', standbys: parseStandbys('ANY 1 (*)') }),
    admit: () => undefined,
    refresh: () => undefined,
    mayShare: () => true,
  });
  const closeBatch = () => {
    appender.closedLsn = appender.lsn;
    commits.batchClosed();
  };
  const settle = (lsn: number) => {
    reached.remote_flush = lsn;
    waiters.settle();
  };
  return { appender, commits, waiters, closeBatch, settle };
}

/** Rejections that nobody took, which would end a process. */
function unhandled(): unknown[] {
  const found: unknown[] = [];
  const note = (reason: unknown) => found.push(reason);
  const before = process.listeners('unhandledRejection');
  process.removeAllListeners('unhandledRejection');
  process.on('unhandledRejection', note);
  onTestFinished(() => {
    process.removeListener('unhandledRejection', note);
    for (const each of before) process.on('unhandledRejection', each);
  });
  return found;
}

describe('commits that time out before their batch is closed', () => {
  it('leave no promise behind that nobody holds', async () => {
    const found = unhandled();
    const { commits, waiters, closeBatch } = setUp(1000);
    const first = walError(() => commits.commit(1, undefined, undefined));
    commits.tick(0);
    commits.tick(1000);
    expect((await first).code).toBe('WAL_SYNC_TIMEOUT');
    expect(commits.shared).toBeUndefined();
    closeBatch();
    expect(waiters.waiting).toBe(false);
    commits.tick(2000);
    commits.tick(3100);
    await turn();
    expect(found).toEqual([]);
  });

  it('leave those that ask later their own time', async () => {
    const { appender, commits, closeBatch, settle } = setUp(1000);
    const first = walError(() => commits.commit(1, undefined, undefined));
    commits.tick(0);
    appender.lsn = 2;
    expect(commits.shared).toBeUndefined();
    const second = commits.commit(2, undefined, undefined);
    expect(commits.shared).toBe(second);
    commits.tick(999);
    commits.tick(1000);
    expect((await first).code).toBe('WAL_SYNC_TIMEOUT');
    commits.tick(1998);
    closeBatch();
    settle(2);
    expect(await second).toMatchObject({ lsn: 2 });
  });

  it('who shared a promise waits for the last record that it may have asked for', async () => {
    const { appender, commits, closeBatch, settle } = setUp(1000);
    const promise = commits.commit(1, undefined, undefined);
    // Others took it, for a record appended meanwhile.
    appender.lsn = 5;
    expect(commits.shared).toBe(promise);
    commits.tick(0);
    appender.lsn = 7;
    closeBatch();
    let resolved = false;
    void promise.then(() => {
      resolved = true;
    });
    settle(4);
    await turn();
    expect(resolved).toBe(false);
    settle(7);
    expect(await promise).toMatchObject({ lsn: 7 });
  });
});
