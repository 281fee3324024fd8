import { AsyncLocalStorage } from 'node:async_hooks';
import { channel, subscribe, tracingChannel, unsubscribe } from 'node:diagnostics_channel';
import { describe, expect, it, onTestFinished } from 'vitest';
import { channels } from '../../src/api/diagnostics.js';
import { openLog, small, until } from './helpers.js';

/** All that is told on a channel until the test is over. */
function heard(name: string): Record<string, unknown>[] {
  const messages: Record<string, unknown>[] = [];
  const listener = (message: unknown): void => {
    messages.push({ ...(message as Record<string, unknown>) });
  };
  subscribe(name, listener);
  onTestFinished(() => void unsubscribe(name, listener));
  return messages;
}

/** The parts of a trace in the order in which they came. */
function traced(name: string): { part: string; context: Record<string, unknown> }[] {
  const parts: { part: string; context: Record<string, unknown> }[] = [];
  const note = (part: string) => (context: unknown) => {
    parts.push({ part, context: context as Record<string, unknown> });
  };
  const listeners = {
    start: note('start'),
    end: note('end'),
    asyncStart: note('asyncStart'),
    asyncEnd: note('asyncEnd'),
    error: note('error'),
  };
  const tracing = tracingChannel(name);
  tracing.subscribe(listeners);
  onTestFinished(() => void tracing.unsubscribe(listeners));
  return parts;
}

describe('diagnostics channels', () => {
  it('tell of batches and flushes, not of records, and of no byte of them', async () => {
    const appends = heard('walmirror:append');
    const flushes = heard('walmirror:flush');
    const log = await openLog({ ...small, name: 'n' });
    flushes.length = 0;
    for (let i = 0; i < 100; i++) log.append('secret-5d1');
    await log.commit();
    await log.appendAndCommit('more');
    await until(() => flushes.at(-1)?.lsn === 101, 'the flush is told');
    // Two batches, or some more where this process had to wait for its processor meanwhile.
    expect(appends.length).toBeLessThan(50);
    const firsts = [1, ...appends.map(({ lastLsn }) => Number(lastLsn) + 1)];
    expect(appends.map(({ firstLsn }) => firstLsn)).toEqual(firsts.slice(0, -1));
    expect(firsts.at(-1)).toBe(102);
    for (const message of appends) expect(message).toMatchObject({ log: 'n', dir: log.dir });
    const bytes = appends.reduce((sum, message) => sum + Number(message.bytes), 0);
    expect(bytes).toBe(flushes.reduce((sum, message) => sum + Number(message.bytes), 0));
    expect(flushes.every(({ milliseconds }) => Number(milliseconds) > 0)).toBe(true);
    const count = flushes.reduce((sum, message) => sum + Number(message.flushes), 0);
    // The opening of the term was flushed before.
    expect(count).toBe(log.status().flushes.count - 1);
    expect(JSON.stringify([appends, flushes])).not.toContain('secret');
  });

  it('are told behind the call: what a subscriber commits is flushed when it says so', async () => {
    const log = await openLog(small);
    const flushed: boolean[] = [];
    const audit = (message: unknown): void => {
      const { lastLsn } = message as { lastLsn: number };
      if (lastLsn > 5) return;
      const lsn = log.append(`audit ${lastLsn}`);
      void log.commit(lsn).then(() => flushed.push(log.status().flushLsn >= lsn));
    };
    subscribe('walmirror:append', audit);
    onTestFinished(() => void unsubscribe('walmirror:append', audit));
    await log.appendAndCommit('one');
    await until(() => flushed.length >= 5, 'the commits of the subscriber');
    expect(flushed).not.toContain(false);
  });

  it('trace a commit, one trace for all that share a promise, and keep the promise', async () => {
    const log = await openLog({ ...small, name: 'n' });
    const parts = traced('walmirror:commit');
    const lsn = log.append('a');
    const first = log.commit(lsn);
    const second = log.commit(log.append('b'));
    expect(second).toBe(first);
    const result = await first;
    expect(parts.map(({ part }) => part)).toEqual(['start', 'end', 'asyncStart', 'asyncEnd']);
    expect(new Set(parts.map(({ context }) => context)).size).toBe(1);
    expect(parts[0]?.context).toEqual({ log: 'n', dir: log.dir, lsn: 1, level: 'local', result });
  });

  it('tell why a commit failed', async () => {
    const log = await openLog({ ...small, synchronousStandbys: 'ANY 1 (*)' });
    const parts = traced('walmirror:commit');
    const failing = log.appendAndCommit('a', { signal: AbortSignal.timeout(1) });
    await expect(failing).rejects.toMatchObject({ code: 'WAL_COMMIT_ABORTED' });
    expect(parts.map(({ part }) => part)).toContain('error');
    expect(parts.at(-1)?.context.error).toMatchObject({ code: 'WAL_COMMIT_ABORTED' });
  });

  it('carry the context of who commits into the stores that are bound', async () => {
    const log = await openLog(small);
    const store = new AsyncLocalStorage<unknown>();
    const start = channel('tracing:walmirror:commit:start');
    start.bindStore(store, (context) => context);
    onTestFinished(() => void start.unbindStore(store));
    const seen: unknown[] = [];
    const ends = heard('tracing:walmirror:commit:end');
    const end = (): void => void seen.push(store.getStore());
    subscribe('tracing:walmirror:commit:end', end);
    onTestFinished(() => void unsubscribe('tracing:walmirror:commit:end', end));
    await log.appendAndCommit('a');
    expect(ends.length).toBe(1);
    expect(seen[0]).toMatchObject({ lsn: 1 });
  });

  it('tell what standbys acknowledge, and trace a promotion', async () => {
    const acks = heard('walmirror:replicate');
    const roles = heard('walmirror:role');
    const parts = traced('walmirror:failover');
    const a = await openLog({ ...small, name: 'a', listen: { port: 0 } });
    const b = await openLog({ name: 'b', follow: { port: a.status().listening!.port } });
    await b.connected();
    for (let i = 0; i < 5; i++) await a.appendAndCommit(`${i}`);
    await until(() => acks.at(-1)?.flushLsn === 5, 'all is acknowledged');
    expect(acks.at(-1)).toMatchObject({ log: 'a', standby: 'b', sentLsn: 5, writeLsn: 5 });
    await expect(b.promote()).rejects.toMatchObject({ code: 'WAL_PRIMARY_REACHABLE' });
    expect(parts.map(({ part }) => part)).toContain('error');
    parts.length = 0;
    await b.promote({ primaryStopped: true });
    expect(parts.map(({ part }) => part)).toEqual(['start', 'end', 'asyncStart', 'asyncEnd']);
    expect(parts[0]?.context).toMatchObject({ log: 'b', action: 'promote', result: { lsn: 5 } });
    await until(() => roles.length > 0, 'the role is told');
    expect(roles[0]).toMatchObject({ log: 'b', role: 'primary', term: { epoch: 2 } });
  });

  it('have no subscribers of their own', () => {
    const { commit, failover, ...plain } = channels;
    for (const each of Object.values(plain)) expect(each.hasSubscribers).toBe(false);
    for (const { start, end, asyncStart, asyncEnd, error } of [commit, failover]) {
      for (const each of [start, end, asyncStart, asyncEnd, error]) {
        expect(each.hasSubscribers).toBe(false);
      }
    }
  });
});
