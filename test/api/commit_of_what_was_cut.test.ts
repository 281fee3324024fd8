import { describe, expect, it, onTestFinished } from 'vitest';
import { OwnAppends } from '../../src/api/own_appends.js';
import { Log, type LogStatus, type ThreadedLog } from '../../src/index.js';
import { openLog, until } from './helpers.js';
import { pair, promoted, stopped } from './rejoin_nodes.js';
import { openThreaded } from './threaded_helpers.js';

type Watched = Pick<Log, 'rejoin' | 'promote'> & { status(): LogStatus | Promise<LogStatus> };

async function untilStatus(log: Watched, met: (status: LogStatus) => boolean): Promise<void> {
  for (;;) {
    if (met(await log.status())) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/**
 * What was appended to `a` last is cut: `a` is fenced, follows another primary, which has a record
 * of its own at that LSN, and is the primary again.
 */
async function cutLast(a: Watched, bDir: string): Promise<void> {
  const b = await promoted(bDir, 'b', ['another', 'and one more']);
  const at = (status: LogStatus): { port: number } => ({ port: status.listening!.port });
  const teller = await openLog({ name: 'c', follow: at(b.status()) });
  await teller.connected();
  await teller.close();
  const again = openLog({ dir: teller.dir, name: 'c', follow: at(await a.status()) });
  await untilStatus(a, ({ role }) => role === 'fenced');
  await (await again).close();
  await a.rejoin({ follow: at(b.status()), rejoin: 'auto' });
  await untilStatus(a, ({ role, flushLsn }) => role === 'standby' && flushLsn === 3);
  await b.close();
  await a.promote({ ...stopped, force: true });
}

const refused = { code: 'WAL_FENCED', outcome: 'unknown' };

describe('a commit of what was cut since is not met by what has its LSN now', () => {
  it('by who appended it, and did something else before it asked', async () => {
    const { a, b } = await pair();
    await a.appendAndCommit('one');
    await until(() => b.status().flushLsn === 1, 'b has it');
    await b.close();
    const lsn = a.append('cut');
    await until(() => a.status().flushLsn === lsn, 'it is flushed');
    await cutLast(a, b.dir as string);
    // What is appended now is in the log, and makes nothing of the earlier one.
    const { lsn: next } = await a.appendAndCommit('of now');
    expect(next).toBe(4);
    expect((await a.commit(next)).lsn).toBe(next);
    const both = [a.appendAndCommit('also'), a.commit()];
    await expect(both[1]).rejects.toMatchObject(refused);
    expect((await both[0]!).lsn).toBe(5);
    // It has been told.
    expect((await a.commit()).lsn).toBe(5);
    expect((await a.commit(lsn)).lsn).toBe(5);
  });

  it('but once, and not where a commit had been asked for', async () => {
    const { a, b } = await pair({ synchronousStandbys: 'ANY 1 (*)' });
    await a.appendAndCommit('one');
    await until(() => b.status().flushLsn === 1, 'b has it');
    await b.close();
    const waiting = a.appendAndCommit('cut');
    const ended = expect(waiting).rejects.toMatchObject(refused);
    await until(() => a.status().flushLsn === 2, 'it is flushed');
    await cutLast(a, b.dir as string);
    await ended;
    a.setPolicy({ synchronousCommit: 'local' }).catch(() => undefined);
    expect((await a.commit(undefined, { level: 'local' })).lsn).toBe(3);
  });

  it('by a thread that attached', async () => {
    const { a, b } = await pair();
    await a.appendAndCommit('one');
    await until(() => b.status().flushLsn === 1, 'b has it');
    await b.close();
    const attached = await Log.attach(a.handle);
    onTestFinished(() => attached.close().catch(() => undefined));
    const lsn = attached.append('cut');
    await until(() => a.status().flushLsn === lsn, 'it is flushed');
    await cutLast(a, b.dir as string);
    await expect(attached.commit(lsn)).rejects.toMatchObject(refused);
    await expect(attached.commit()).rejects.toMatchObject(refused);
    // What is appended now is in the log.
    const next = attached.append('of now');
    expect((await attached.commit(next)).lsn).toBe(next);
    expect((await attached.commit()).lsn).toBe(next);
  });

  it('by the application of a log in a thread of its own', async () => {
    const a: ThreadedLog = await openThreaded({ name: 'a', listen: { port: 0 } });
    const { listening } = await a.status();
    const b = await openLog({ name: 'b', follow: { port: listening!.port }, listen: { port: 0 } });
    await b.connected();
    await a.appendAndCommit('one');
    await until(() => b.status().flushLsn === 1, 'b has it');
    await b.close();
    const lsn = a.append('cut');
    await untilStatus(a, ({ flushLsn }) => flushLsn === lsn);
    await cutLast(a, b.dir as string);
    await expect(a.commit()).rejects.toMatchObject(refused);
    await expect(a.commit(lsn)).rejects.toMatchObject(refused);
    const next = a.append('of now');
    expect((await a.commit()).lsn).toBe(next);
    expect((await a.commit(next)).lsn).toBe(next);
  });
});

describe('what a thread has appended and no commit has met', () => {
  it('counts from its first, until that is met', () => {
    const own = new OwnAppends();
    expect(own.since).toBeUndefined();
    own.appended(1, 1, 10);
    own.appended(2, 4, undefined);
    own.appended(7, 7, 20);
    expect(own.since).toBe(10);
    // Others have appended 5 and 6.
    own.met(5, 30);
    expect(own.since).toBe(10);
    own.met(6, 30);
    expect(own.since).toBe(20);
    own.met(7, 15);
    expect(own.since).toBe(20);
    own.met(7, 30);
    expect(own.since).toBeUndefined();
  });

  it('is forgotten where it was told to be unknown, and more is appended', () => {
    const own = new OwnAppends();
    own.appended(1, 1, 10);
    own.appended(2, 2, 20);
    own.unknown();
    expect(own.since).toBe(20);
    own.appended(2, 2, 30);
    expect(own.since).toBe(30);
  });

  it('takes so much memory and no more', () => {
    const own = new OwnAppends();
    for (let i = 1; i <= 10_000; i += 1) own.appended(i, i, i);
    expect(own.since).toBe(1);
    own.met(10_000, 20_000);
    expect(own.since).toBeUndefined();
  });
});
