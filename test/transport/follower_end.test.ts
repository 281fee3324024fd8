import { afterEach, expect, it } from 'vitest';
import { type NativeLog, State } from '../../src/native/native_log.js';
import { fenceTerm } from '../../src/replication/fence.js';
import { processEnvironment, type Timer } from '../../src/transport/environment.js';
import { Follower } from '../../src/transport/follower.js';
import { freshDir } from '../helpers/temp.js';
import { TestLog } from '../native/native.js';
import { identityOf, PrimaryNode, quick, until } from './nodes.js';

const open: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

/** The same engine, whose shared state is what the test says. */
function withState(native: NativeLog): { native: NativeLog; state: Float64Array } {
  const state = Float64Array.from(native.state as Iterable<number>);
  const shown = new Proxy(native, {
    get(target, key) {
      if (key === 'state') return state;
      const value = Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  return { native: shown, state };
}

/** A follower of nobody, with the timers that it has running. */
async function stray() {
  const primary = await PrimaryNode.open({ dir: freshDir('a') });
  open.push(() => primary.close());
  const log = await TestLog.openStandby(primary.log.native, { dir: freshDir('b') });
  open.push(() => log.close());
  const { native, state } = withState(log.native);
  const timers = new Set<Timer>();
  const environment = {
    ...processEnvironment,
    setTimeout: (callback: () => void, ms: number): Timer => {
      const timer = processEnvironment.setTimeout(() => {
        timers.delete(timer);
        callback();
      }, ms);
      timers.add(timer);
      return timer;
    },
    clearTimer: (timer: Timer | undefined): void => {
      if (timer !== undefined) timers.delete(timer);
      processEnvironment.clearTimer(timer);
    },
  };
  const heard: string[] = [];
  const follower = new Follower({
    native,
    environment,
    identity: identityOf(log.native),
    ...{ host: '127.0.0.1', port: 1, plaintext: false },
    timing: { ...quick, retryFirst: 60_000, retryMost: 60_000 },
    events: {
      onCommitMoved: () => undefined,
      onDisconnected: () => heard.push('disconnected'),
      onFailed: ({ code }) => heard.push(code),
    },
  });
  open.push(() => follower.stop());
  follower.start();
  await until(() => heard.includes('disconnected'));
  return { follower, state, timers, heard };
}

it('nothing waits for a flush that nobody looks at any more', async () => {
  const { follower, state } = await stray();
  state[State.CLOSED_POSITION] = 8192;
  await follower.stop();
  const fenced = follower.fence(fenceTerm(2, 'd'.repeat(32)), 'd');
  await expect(fenced).rejects.toMatchObject({ code: 'WAL_CLOSED' });
});

it('a follower that has failed leaves no timer behind', async () => {
  const { follower, state, timers, heard } = await stray();
  expect(timers.size).toBe(1);
  state[State.FAILED] = 1;
  follower.progress();
  expect(heard).toContain('WAL_FAILED');
  expect(timers.size).toBe(0);
});
