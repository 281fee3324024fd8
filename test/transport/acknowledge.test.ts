import { afterEach, describe, expect, it } from 'vitest';
import { type NativeLog, State } from '../../src/native/native_log.js';
import { parseStandbys } from '../../src/replication/policy.js';
import { Follower } from '../../src/transport/follower.js';
import { freshDir } from '../helpers/temp.js';
import { TestLog } from '../native/native.js';
import { identityOf, PrimaryNode, quick, until } from './nodes.js';

const policy = { synchronousCommit: 'remote_flush', standbys: parseStandbys('ANY 1 (*)') } as const;

const open: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

/** A log that tells of no flush until it is let, as where a disk takes its time. */
class SlowDisk {
  readonly native: NativeLog;
  #held = true;

  constructor(real: NativeLog) {
    const state = Float64Array.from(real.state);
    const now = (): Float64Array => {
      const [position, lsn] = [state[State.FLUSH_POSITION] ?? 0, state[State.FLUSH_LSN] ?? 0];
      state.set(real.state);
      if (this.#held) {
        state[State.FLUSH_POSITION] = position;
        state[State.FLUSH_LSN] = lsn;
      }
      return state;
    };
    this.native = new Proxy(real, {
      get: (target, key) => {
        if (key === 'state') return now();
        const value: unknown = Reflect.get(target, key, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  }

  letGo(): void {
    this.#held = false;
  }
}

describe('a standby acknowledges', () => {
  it('what it has, as written at once and as flushed only when it is', async () => {
    const primary = await PrimaryNode.open({ dir: freshDir('a') }, { policy });
    open.push(() => primary.close());
    const log = await TestLog.openStandby(primary.log.native, { dir: freshDir('b') });
    open.push(() => log.close());
    const disk = new SlowDisk(log.native);
    const follower = new Follower({
      native: disk.native,
      identity: identityOf(log.native),
      host: '127.0.0.1',
      port: primary.port,
      plaintext: false,
      timing: quick,
      events: { onCommitMoved: () => undefined },
    });
    log.native.onProgress(() => follower.progress());
    open.push(() => follower.stop());
    follower.start();
    await follower.connected();

    const place = await primary.batch('one', 'two');
    await until(() => log.flushed.position === place.position);
    // Somebody waits for writes, so that these are acknowledged too.
    await until(() => primary.hub.reached('remote_write') === 2);
    await new Promise((resolve) => setTimeout(resolve, 3 * (quick.heartbeat ?? 0)));
    expect(primary.hub.status().standbys).toMatchObject([{ write: place, flush: { lsn: 0 } }]);
    expect(primary.hub.reached('remote_flush')).toBe(0);
    expect(primary.hub.commit.lsn).toBe(0);

    disk.letGo();
    follower.progress();
    await until(() => primary.hub.commit.lsn === 2);
    expect(primary.hub.status().standbys).toMatchObject([{ write: place, flush: place }]);
    expect(primary.hub.status().rejected).toBe(0);
  });
});
