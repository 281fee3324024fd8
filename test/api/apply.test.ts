import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { codeOf, openLog, reopen, small, until } from './helpers.js';

describe('apply', () => {
  it('gives every record once, in order, one batch after the other', async () => {
    const log = await openLog(small);
    const found: number[] = [];
    let running = 0;
    const applier = log.apply({ from: 1 }, async (batch) => {
      running += 1;
      expect(running).toBe(1);
      await sleep(1);
      for (const { lsn } of batch) found.push(lsn);
      running -= 1;
    });
    for (let i = 0; i < 50; i++) await log.appendAndCommit(`${i}`);
    await until(() => applier.appliedLsn === 50, 'all applied');
    expect(found).toEqual(Array.from({ length: 50 }, (_, i) => i + 1));
    expect(log.status().applyLsn).toBe(50);
    await applier.stop();
    await applier.done;
  });

  it('counts a batch as applied only when its promise has resolved', async () => {
    const log = await openLog(small);
    let release: (() => void) | undefined;
    const applier = log.apply(
      {},
      () =>
        new Promise<void>((resolve) => {
          release = resolve;
        }),
    );
    await log.appendAndCommit('a');
    await until(() => release !== undefined, 'the callback');
    expect(applier.appliedLsn).toBe(0);
    release?.();
    await until(() => applier.appliedLsn === 1, 'applied');
  });

  it('starts where the application is', async () => {
    const log = await openLog(small);
    for (let i = 0; i < 5; i++) await log.appendAndCommit(`${i}`);
    const again = await reopen(log);
    const found: number[] = [];
    const applier = again.apply({ from: 4 }, (batch) => void found.push(batch.firstLsn));
    expect(again.status().applyLsn).toBe(3);
    await until(() => applier.appliedLsn === 5, 'all applied');
    expect(found[0]).toBe(4);
  });

  it('a callback that throws ends it; what it applied before counts', async () => {
    const log = await openLog(small);
    const applier = log.apply({}, (batch) => {
      if (batch.lastLsn >= 2) throw new Error('cannot apply');
    });
    const done = expect(applier.done).rejects.toThrow('cannot apply');
    await log.appendAndCommit('a');
    await until(() => applier.appliedLsn === 1, 'the first');
    await log.appendAndCommit('b');
    await done;
    expect(applier.appliedLsn).toBe(1);
    const message = 'the applier has failed after LSN 1: Error';
    const { lastError, events, state } = log.status();
    expect(lastError).toMatchObject({ code: 'WAL_APPLY_FAILED', message });
    expect(events.at(-1)).toMatchObject({ level: 'error', event: 'applier', message });
    expect(state).toBe('open');
    await applier.stop();
    // The log itself goes on, and so may another applier.
    await log.appendAndCommit('c');
    const next = log.apply({ from: 2 }, () => undefined);
    await until(() => next.appliedLsn === 3, 'the second applier');
  });

  it('there is one at a time', async () => {
    const log = await openLog(small);
    const first = log.apply({}, () => undefined);
    expect(() => log.apply({}, () => undefined)).toThrow(/applier already/);
    await first.stop();
    const second = log.apply({}, () => undefined);
    await second.stop();
  });

  it('stop waits for a running callback; the signal and close end it quietly', async () => {
    const log = await openLog(small);
    let ended = false;
    const first = log.apply({}, async () => {
      await sleep(20);
      ended = true;
    });
    await log.appendAndCommit('a');
    await sleep(5);
    await first.stop();
    expect(ended).toBe(true);
    const controller = new AbortController();
    const second = log.apply({ signal: controller.signal }, () => undefined);
    controller.abort();
    await second.done;
    const third = log.apply({}, () => undefined);
    await log.close();
    await third.done;
    expect(await codeOf(() => log.apply({}, () => undefined))).toBe('WAL_CLOSED');
  });

  it('refuses what is no function, and wrong options', async () => {
    const log = await openLog(small);
    const wrong = (options: unknown, fn: unknown) => log.apply(options as object, fn as () => void);
    expect(() => wrong({}, undefined)).toThrow(/function/);
    expect(() => wrong({ from: 0 }, () => undefined)).toThrow(RangeError);
    expect(() => wrong({ form: 1 }, () => undefined)).toThrow(/did you mean from/);
    expect(() => wrong(() => undefined, undefined)).toThrow(TypeError);
  });

  it('what was trimmed cannot be applied', async () => {
    const log = await openLog(small);
    for (let i = 0; i < 30; i++) {
      await log.drain(60_000);
      await log.appendAndCommit(Buffer.alloc(60_000));
    }
    await log.trim(25);
    const applier = log.apply({ from: 1 }, () => undefined);
    expect(await codeOf(() => applier.done)).toBe('WAL_LSN_GONE');
  });
});
