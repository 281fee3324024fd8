import { describe, expect, it } from 'vitest';
import type { Log, OpenOptions } from '../../src/index.js';
import { RawStandby } from '../transport/raw_standby.js';
import { codeOf, openLog, small, turn, until, walError } from './helpers.js';

async function pair(options: Partial<OpenOptions> = {}): Promise<{ a: Log; b: Log }> {
  const a = await openLog({ ...small, name: 'a', listen: { port: 0 }, ...options });
  const b = await openLog({ name: 'b', follow: { port: a.status().listening?.port ?? 0 } });
  await b.connected();
  return { a, b };
}

/** Whether a promise has settled after what is under way was done. */
function watch(promise: Promise<void>): { settled: boolean; readonly done: Promise<void> } {
  const seen = { settled: false, done: promise };
  promise.then(
    () => {
      seen.settled = true;
    },
    () => {
      seen.settled = true;
    },
  );
  return seen;
}

describe('waitFor', () => {
  it('on a standby: what was written there is read here', async () => {
    const { a, b } = await pair();
    for (let i = 0; i < 20; i++) {
      const lsn = a.append(`${i}`);
      await b.waitFor(lsn);
      expect(b.status().commitLsn).toBeGreaterThanOrEqual(lsn);
      const [record] = (await b.read({ from: lsn, live: false }).next()).value!;
      expect(record?.data.toString()).toBe(`${i}`);
    }
  });

  it('with an applier: what the applier has applied', async () => {
    const { a, b } = await pair();
    let release: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const found: string[] = [];
    b.apply({}, async (batch) => {
      await gate;
      for (const { data } of batch) found.push(data.toString());
    });
    const wait = watch(b.waitFor(a.append('x')));
    await until(() => b.status().commitLsn === 1, 'the record here');
    await turn();
    expect(wait.settled).toBe(false);
    release();
    await wait.done;
    expect(found).toEqual(['x']);
  });

  it('an applier that began later has applied what was before it', async () => {
    const log = await openLog(small);
    for (let i = 0; i < 5; i++) await log.appendAndCommit('x');
    log.apply({ from: 4 }, () => new Promise(() => undefined));
    await log.waitFor(3);
    expect(watch(log.waitFor(4)).settled).toBe(false);
    await turn();
  });

  it('an applier that was stopped: until another one has it', async () => {
    const log = await openLog(small);
    await log.apply({}, () => undefined).stop();
    const lsn = (await log.appendAndCommit('x')).lsn;
    const wait = watch(log.waitFor(lsn));
    await turn();
    expect(wait.settled).toBe(false);
    log.apply({}, () => undefined);
    await wait.done;
  });

  it('an applier that failed: rejects with what it failed with, now and later', async () => {
    const log = await openLog(small);
    const failure = new Error('no such table');
    const applier = log.apply({}, () => {
      throw failure;
    });
    const waiting = expect(log.waitFor(1)).rejects.toBe(failure);
    await log.appendAndCommit('x');
    await expect(applier.done).rejects.toBe(failure);
    await waiting;
    await expect(log.waitFor(1)).rejects.toBe(failure);
  });

  it('on a primary: when it is committed by the policy of the log', async () => {
    const log = await openLog({ ...small, synchronousStandbys: 'ANY 1 (nobody)' });
    const wait = watch(log.waitFor(log.append('x')));
    await until(() => log.status().flushLsn === 1, 'the flush');
    await turn();
    expect(wait.settled).toBe(false);
    const closed = codeOf(() => wait.done);
    await log.close();
    expect(await closed).toBe('WAL_CLOSED');
  });

  it('nothing to wait for: 0, what is there, what was trimmed', async () => {
    const log = await openLog({ ...small, maxBatchBytes: 4096 });
    await log.waitFor(0);
    for (let i = 0; i < 40; i++) {
      await log.drain(40_000);
      log.append(Buffer.alloc(40_000));
    }
    await log.commit();
    await log.trim(30);
    expect(log.status().firstLsn).toBeGreaterThan(2);
    await log.waitFor(1);
    await log.waitFor(40);
  });

  it('a record to come, through a promotion', async () => {
    const { a, b } = await pair();
    await a.appendAndCommit('x');
    const wait = watch(b.waitFor(2));
    await b.waitFor(1);
    await b.promote({ primaryStopped: true });
    expect(wait.settled).toBe(false);
    await b.appendAndCommit('y');
    await wait.done;
  });

  it('a fenced primary says so, of what it will never show', async () => {
    const { a, b } = await pair();
    await a.appendAndCommit('x');
    await b.close();
    const waiting = walError(() => a.waitFor(9));
    const newer = await RawStandby.ofTerm(a.status().listening?.port ?? 0, 9);
    expect(await waiting).toMatchObject({ code: 'WAL_FENCED', outcome: 'unknown' });
    newer.socket.destroy();
    expect(await codeOf(() => a.waitFor(9))).toBe('WAL_FENCED');
    await a.waitFor(1);
  });

  it('cancelled before or while it waits: rejects with the reason', async () => {
    const log = await openLog(small);
    const reason = new Error('enough');
    await expect(log.waitFor(1, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const controller = new AbortController();
    const wait = expect(log.waitFor(1, { signal: controller.signal })).rejects.toBe(reason);
    await turn();
    controller.abort(reason);
    await wait;
  });

  it('closed: rejects, and inside an encoder', async () => {
    const log = await openLog(small);
    const found: Promise<string>[] = [];
    log.appendInto(1, (_, at) => {
      found.push(codeOf(() => log.waitFor(1)));
      return at;
    });
    expect(await Promise.all(found)).toEqual(['WAL_REENTRANT']);
    await log.close();
    expect(await codeOf(() => log.waitFor(1))).toBe('WAL_CLOSED');
  });

  it.each([-1, 1.5, Number.NaN, '1', undefined, 2 ** 53])('refuses %s', async (wrong) => {
    const log = await openLog(small);
    await expect(log.waitFor(wrong as number)).rejects.toThrow(/waitFor\(lsn\)/);
  });

  it('refuses wrong options', async () => {
    const log = await openLog(small);
    await expect(log.waitFor(1, { signal: 1 as unknown as AbortSignal })).rejects.toThrow(/signal/);
    await expect(log.waitFor(1, { timeout: 1 } as object)).rejects.toThrow(/no option/);
  });
});
