import { subscribe, tracingChannel, unsubscribe } from 'node:diagnostics_channel';
import { once } from 'node:events';
import { connect } from 'node:net';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Worker } from 'node:worker_threads';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import {
  type Applier,
  type CommitResult,
  type FailoverTrace,
  Log,
  type RoleMessage,
} from '../../src/index.js';
import { exportMetrics } from '../../src/observe/prometheus.js';
import { failureOf, openThreaded, reopenThreaded, withoutTheBuild } from './threaded_helpers.js';

const nobody = { synchronousStandbys: 'ANY 1 (nobody)' } as const;

function methodsOf(type: { readonly prototype: object }): string[] {
  return Object.getOwnPropertyNames(type.prototype).sort();
}

/** Messages to the thread of the log from now on. */
function spyOnMessages() {
  const spy = vi.spyOn(Worker.prototype, 'postMessage');
  onTestFinished(() => spy.mockRestore());
  return () => spy.mock.calls.map(([message]) => message as Record<string, unknown>);
}

describe('a log in a thread of its own', () => {
  it('has every call of a Log but those of snapshots, which it refuses to have', async () => {
    const log = await openThreaded();
    const ofSnapshots = ['loadSnapshot', 'loadedSnapshot', 'snapshot'];
    const expected = methodsOf(Log).filter((name) => !ofSnapshots.includes(name));
    expect(methodsOf(log.constructor as never)).toEqual(expected);
    expect(expected.length).toBe(methodsOf(Log).length - ofSnapshots.length);
    const snapshot = { save: async function* () {}, load: () => undefined };
    const refused = await failureOf(() => openThreaded({ snapshot } as never));
    expect(refused).toMatchObject({ code: 'WAL_UNSUPPORTED' });
  });

  it('commits, without an LSN, what was there before it was opened too', async () => {
    const first = await openThreaded(nobody);
    first.appendMany(['a', 'b']);
    await first.commit(undefined, { level: 'local' });
    const log = await reopenThreaded(first, nobody);
    const ends: unknown[] = [];
    const commit = log.commit().then(
      (result: CommitResult) => ends.push(result),
      (error) => ends.push(error.code),
    );
    const aborted = await failureOf(() =>
      log.commit(undefined, { signal: AbortSignal.timeout(50) }),
    );
    expect(aborted).toMatchObject({ code: 'WAL_COMMIT_ABORTED', outcome: 'unknown' });
    expect(ends).toEqual([]);
    expect(await log.commit(undefined, { level: 'local' })).toMatchObject({ lsn: 2 });
    await log.close();
    await commit;
    expect(ends).toEqual(['WAL_CLOSED']);
  });

  it('refuses at the call what can be known here', async () => {
    const log = await openThreaded();
    const calls: (() => unknown)[] = [
      () => log.read({ form: 1 } as never),
      () => log.read({ upTo: 'flush' }),
      () => log.createReadStream({ signal: 1 } as never),
      () => log.apply({ from: 0 }, () => undefined),
      () => log.createWriteStream({ commit: 'never' } as never),
    ];
    expect(calls.map((call) => thrownBy(call))).toEqual([
      'TypeError',
      'RangeError',
      'TypeError',
      'RangeError',
      'RangeError',
    ]);
    log.apply({}, () => undefined);
    expect(() => log.apply({}, () => undefined)).toThrow('has an applier already');
    log.appendInto(1, (buffer, at) => {
      expect(() => log.read()).toThrow(expect.objectContaining({ code: 'WAL_REENTRANT' }));
      buffer[at] = 1;
      return at + 1;
    });
  });

  it('refuses what cannot be sent to its thread, and waits for nothing then', async () => {
    const log = await openThreaded();
    const wrong = (() => 1) as never;
    const calls = [
      () => log.setPolicy({ synchronousStandbys: wrong }),
      () => log.promote({ listen: wrong }),
      () => log.reloadTls(wrong),
      () => log.serveStatus({ port: wrong }),
      () => openThreaded({ scrub: { everyHours: 1, toString: wrong } as never }),
    ];
    for (const call of calls) expect((await failureOf(call)).name).toBe('TypeError');
    expect((await log.status()).state).toBe('open');
  });

  it('says what became of it: refused after its end, unknown at it; its status stays', async () => {
    const log = await openThreaded(nobody);
    const pending = failureOf(() => log.appendAndCommit('x'));
    const waits = failureOf(() => log.waitFor(9));
    await log.close();
    expect(await pending).toMatchObject({ code: 'WAL_CLOSED', outcome: 'unknown' });
    expect(await waits).toMatchObject({ code: 'WAL_CLOSED', outcome: 'unknown' });
    for (const call of [() => log.trim(1), () => log.append('y'), () => log.read()]) {
      expect(await failureOf(call)).toMatchObject({ code: 'WAL_CLOSED', outcome: 'refused' });
    }
    expect(await log.status()).toMatchObject({ state: 'closed', flushLsn: 1 });
  });

  it('tells this thread of roles and failovers on the channels', async () => {
    const a = await openThreaded({ name: 'a', listen: { port: 0 } });
    const { port } = (await a.status()).listening!;
    const b = await openThreaded({ name: 'b', follow: { port } });
    await b.connected();
    await a.appendAndCommit('x');
    await expect.poll(async () => (await b.status()).flushLsn).toBe(1);
    const roles: unknown[] = [];
    const onRole = (message: unknown): void => {
      const { log, role } = message as RoleMessage;
      roles.push(`${log} ${role}`);
    };
    subscribe('walmirror:role', onRole);
    const ends: unknown[] = [];
    const asyncEnd = (message: unknown): void => {
      const { log, action } = message as FailoverTrace;
      ends.push(`${log} ${action}`);
    };
    const failover = tracingChannel('walmirror:failover');
    failover.subscribe({ asyncEnd } as never);
    onTestFinished(() => {
      unsubscribe('walmirror:role', onRole);
      failover.unsubscribe({ asyncEnd } as never);
    });
    const role = new Promise((resolve) => b.once('role', resolve));
    await b.promote({ primaryStopped: true });
    await role;
    expect({ roles, ends }).toEqual({ roles: ['b primary'], ends: ['b promote'] });
  });

  it('says what to do where its thread cannot start, as in a bundle without its file', async () => {
    withoutTheBuild();
    const error = await failureOf(() => openThreaded());
    expect(error).toMatchObject({ code: 'WAL_UNSUPPORTED', hint: expect.stringMatching('bundle') });
  });

  it('is no log whose metrics a registry can ask for', async () => {
    const log = await openThreaded();
    const registry = { registerMetric: () => undefined };
    expect(() => exportMetrics(log as unknown as Log, { registry })).toThrow('await log.status()');
  });
});

function thrownBy(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    return (error as Error).name;
  }
  return 'nothing';
}

describe('its closing', () => {
  it('with wrong options closes nothing', async () => {
    const log = await openThreaded({ listen: { port: 0 } });
    await expect(log.close({ timeout: 'soon' } as never)).rejects.toThrow(TypeError);
    expect((await log.appendAndCommit('x')).lsn).toBe(1);
  });

  it('takes nothing more at once, and what was committed in that turn is', async () => {
    const log = await openThreaded();
    log.append('x');
    const commits = [log.commit(1), log.commit()];
    const closed = log.close();
    expect(() => log.append('late')).toThrow(expect.objectContaining({ code: 'WAL_CLOSED' }));
    expect((await Promise.all(commits)).map(({ lsn }) => lsn)).toEqual([1, 1]);
    await closed;
  });

  it('is waited for only so long, and goes on behind', async () => {
    const log = await openThreaded({ listen: { port: 0 }, ...nobody });
    const { port } = (await log.status()).listening!;
    const peer = connect({ port, allowHalfOpen: true });
    onTestFinished(() => {
      peer.destroy();
    });
    await once(peer, 'connect');
    const pending = failureOf(() => log.appendAndCommit('x'));
    const reading = failureOf(() => log.read({ from: 9 }).next());
    await log.commit(1, { level: 'local' });
    const late = await failureOf(() => log.close({ timeout: 20 }));
    expect(late).toMatchObject({ code: 'WAL_CLOSE_TIMEOUT' });
    expect(late.message).toContain('not closed within 20 ms: all records are flushed');
    for (const end of [pending, reading]) {
      expect(await end).toMatchObject({ code: 'WAL_CLOSED', outcome: 'unknown' });
    }
    await log.close();
    expect(await log.status()).toMatchObject({ state: 'closed', flushLsn: 1 });
    await log.close({ timeout: 60_000 });
  });

  it('takes the longest time-out that there is', async () => {
    const log = await openThreaded();
    log.append('x');
    await log.close({ timeout: 2 ** 31 - 1 });
    expect((await log.status()).flushLsn).toBe(1);
  });

  it('is not waited for where the thread does not answer, however often', {
    timeout: 80_000,
  }, async () => {
    const log = await openThreaded();
    const post = Worker.prototype.postMessage;
    const unheard: (() => void)[] = [];
    const spy = vi.spyOn(Worker.prototype, 'postMessage').mockImplementation(function (
      this: Worker,
      message,
    ) {
      const deliver = (): void => post.call(this, message);
      if ((message as { ask?: { call: string } }).ask?.call === 'close') unheard.push(deliver);
      else deliver();
    });
    onTestFinished(() => spy.mockRestore());
    const waits = failureOf(() => log.waitFor(9));
    for (const timeout of [1, 2]) {
      const late = await failureOf(() => log.close({ timeout }));
      expect(late).toMatchObject({ code: 'WAL_CLOSE_TIMEOUT', outcome: 'unknown' });
      expect(late.message).toContain(`within ${timeout} ms: the thread of the log does not answer`);
    }
    expect(await waits).toMatchObject({ code: 'WAL_CLOSED' });
    for (const deliver of unheard) deliver();
    await log.close();
  });
});

it('drains for room behind what was appended last', async () => {
  const log = await openThreaded();
  for (let i = 0; i < 100; i++) {
    await log.drain(60_008);
    // A few of them are in a segment: the next needs one that is ready.
    expect(log.append(Buffer.alloc(60_000, i))).toBe(i + 1);
  }
  await log.commit();
});

describe('its readings', () => {
  it('come in few messages, however small the batches are', async () => {
    const log = await openThreaded();
    for (let i = 1; i <= 500; i++) await log.commit(log.append(`${i}`), { level: 'off' });
    await log.commit();
    const messages = spyOnMessages();
    const found: string[] = [];
    let batches = 0;
    for await (const batch of log.read({ from: 2, to: 499, live: false })) {
      batches += 1;
      for (const { lsn, data } of batch) {
        expect(`${lsn}`).toBe(`${data}`);
        found.push(`${data}`);
      }
    }
    expect(found.length).toBe(498);
    expect(batches).toBeGreaterThan(50);
    expect(messages().length).toBeLessThan(batches / 5);
  });

  it('answer calls that overlap in order, and end for who returns', async () => {
    const log = await openThreaded();
    for (const text of ['a', 'b', 'c']) await log.appendAndCommit(text);
    const reading = log.read();
    const three = await Promise.all([reading.next(), reading.next(), reading.next()]);
    expect(three.map(({ value }) => `${[...value!][0]?.data}`)).toEqual(['a', 'b', 'c']);
    const fourth = reading.next();
    await reading.return?.();
    expect([await fourth, await reading.next()]).toEqual(
      Array(2).fill({ done: true, value: undefined }),
    );
  });

  it('are streams too, and writing is', async () => {
    const log = await openThreaded({ ringBytes: 512 * 1024 });
    const blocks = Array.from({ length: 60 }, (_, i) => Buffer.alloc(60_000, i));
    const writing = log.createWriteStream({ commit: 'batch', highWaterMark: 4 });
    await pipeline(Readable.from(blocks), writing);
    expect([writing.lastLsn, writing.committedLsn]).toEqual([60, 60]);
    const found: number[] = [];
    for await (const { data } of log.createReadStream({ live: false })) found.push(data[0]);
    expect(found).toEqual(blocks.map((_, i) => i));
    const web: number[] = [];
    for await (const { lsn } of log.readable({ from: 50, live: false })) web.push(lsn);
    expect(web).toEqual([50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60]);
    const idle = log.createWriteStream();
    const destroyed = once(idle, 'error');
    await log.close();
    expect((await destroyed)[0]).toMatchObject({ code: 'WAL_CLOSED' });
  });
});

describe('its applier', () => {
  it('whose signal has fired applies nothing', async () => {
    const log = await openThreaded();
    await log.appendAndCommit('x');
    let applied = 0;
    const applier = log.apply({ signal: AbortSignal.abort() }, () => {
      applied += 1;
    });
    await applier.done;
    expect(applied).toBe(0);
  });

  it('takes no batch after it was stopped, nor says that it did', async () => {
    const log = await openThreaded();
    for (let i = 1; i <= 100; i++) await log.appendAndCommit(`${i}`);
    const seen: number[] = [];
    const applier = log.apply({}, async ({ lastLsn }) => {
      seen.push(lastLsn);
      if (lastLsn === 10) void applier.stop();
      await undefined;
    });
    await applier.done;
    expect([seen.at(-1), applier.appliedLsn]).toEqual([10, 10]);
    expect((await log.status()).applyLsn).toBe(10);
    const again = log.apply({ from: 11 }, () => undefined);
    await log.waitFor(100);
    expect(again.appliedLsn).toBe(100);
  });

  it('has not failed where the log was closed in the middle of what it was sent', async () => {
    const said: unknown[] = [];
    const note = (...args: unknown[]): void => void said.push(args);
    const logger = { debug: () => undefined, info: () => undefined, warn: note, error: note };
    const log = await openThreaded({ logger });
    for (let i = 1; i <= 100; i++) await log.appendAndCommit(`${i}`);
    let closing: Promise<void> | undefined;
    const applier = log.apply({}, async () => {
      closing ??= log.close();
      await new Promise((resolve) => setImmediate(resolve));
    });
    await applier.done;
    await closing;
    expect(said).toEqual([]);
    expect((await log.status()).lastError).toBeNull();
  });

  it('ends with the log, when the callback that runs has', async () => {
    const log = await openThreaded();
    let finish = (): void => undefined;
    let applier: Applier | undefined;
    const running = new Promise<void>((started) => {
      applier = log.apply({}, () => {
        started();
        return new Promise<void>((resolve) => {
          finish = resolve;
        });
      });
    });
    let ended = false;
    const done = applier?.done.then(() => {
      ended = true;
    });
    await log.appendAndCommit('x');
    await running;
    await log.close();
    expect(ended).toBe(false);
    finish();
    await done;
    expect(applier?.appliedLsn).toBe(1);
  });

  it('ends with the error of its callback, which a wait for it hears of', async () => {
    const log = await openThreaded();
    const mine = new TypeError('not this one');
    const applier = log.apply({}, () => {
      throw mine;
    });
    const waits = failureOf(() => log.waitFor(1));
    await log.appendAndCommit('x');
    expect(await failureOf(() => applier.done)).toBe(mine);
    expect((await waits).message).toBe('not this one');
  });
});

it('serves its page from its own thread', async () => {
  const log = await openThreaded();
  const page = await log.serveStatus();
  expect((await fetch(page.url)).status).toBe(200);
  await page.close();
  await expect(fetch(page.url)).rejects.toThrow();
});
