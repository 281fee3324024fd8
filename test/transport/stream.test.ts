import { describe, expect, it, onTestFinished } from 'vitest';
import { State } from '../../src/native/native_log.js';
import { freshDir } from '../helpers/temp.js';
import { payload, readBytes } from '../native/native.js';
import { PrimaryNode, StandbyNode, until } from './nodes.js';

async function pair(policy = true) {
  const primary = await PrimaryNode.open(
    { dir: freshDir('a') },
    policy
      ? {
          policy: {
            synchronousCommit: 'remote_flush',
            standbys: { method: 'any', count: 1, names: ['*'] },
          },
        }
      : {},
  );
  const standby = await StandbyNode.open(primary.log.native, primary.port, { dir: freshDir('b') });
  onTestFinished(async () => {
    await standby.close();
    await primary.close();
  });
  return { primary, standby };
}

describe('a primary and a standby', () => {
  it('have the same bytes, and the commit waits for the standby', async () => {
    const { primary, standby } = await pair();
    await standby.follower.connected();
    const place = await primary.batch('one', 'two', 'three');
    await until(
      () => primary.hub.commit.lsn === 3,
      () => primary.hub.status(),
    );
    expect(primary.hub.commit).toEqual(place);
    expect(primary.hub.reached('remote_flush')).toBe(3);
    expect(primary.hub.standbysAt('remote_flush', 3)).toEqual(['b']);
    await until(
      () => standby.follower.commit.lsn === 3,
      () => standby.follower.status(),
    );
    const end = place.position;
    const bytes = await readBytes(standby.log, 4096, end);
    expect(bytes.equals(await readBytes(primary.log, 4096, end))).toBe(true);
    expect(primary.heard).toEqual(['b came']);
  });

  it('go on live over many rolls', async () => {
    const { primary, standby } = await pair();
    await standby.follower.connected();
    for (let i = 0; i < 3000; i += 1) await primary.batch(payload(i, 1 + ((i * 37) % 3000)));
    await until(
      () => primary.hub.commit.lsn === 3000,
      () => [
        primary.hub.status(),
        Array.from(standby.log.native.state),
        standby.log.native.received(),
        standby.follower.status(),
        standby.log.native.info(),
      ],
    );
    expect(standby.end).toEqual(primary.log.closed);
  });

  it('catch up from segments that have left the ring', async () => {
    const { primary, standby } = await pair(false);
    await standby.follower.connected();
    await standby.follower.stop();
    for (let i = 0; i < 1000; i += 1) await primary.batch(payload(i, 1 + ((i * 37) % 3000)));
    const floor = primary.log.native.state[State.RING_FLOOR]!;
    expect(floor).toBeGreaterThan(standby.end.position);
    const again = await StandbyNode.open(primary.log.native, primary.port, {
      dir: freshDir('c'),
      name: 'c',
    });
    onTestFinished(() => again.close());
    await until(
      () => again.log.flushed.lsn === 1000,
      () => [again.follower.status(), again.heard, primary.hub.status()],
      20000,
    );
    await until(() => primary.hub.status().standbys[0]?.state === 'live');
  });

  it('a primary that closes during a catch-up ends the connection in order', async () => {
    const went: string[] = [];
    let closed: Promise<void> | undefined;
    const primary: PrimaryNode = await PrimaryNode.open(
      { dir: freshDir('a') },
      {
        events: {
          onCommitMoved: () => undefined,
          onHigherTerm: () => undefined,
          onStandby: ({ connected, reason }) => {
            if (!connected) went.push(reason);
            // The first read for the standby is under way by then.
            else queueMicrotask(() => (closed = primary.hub.close()));
          },
        },
      },
    );
    for (let i = 0; i < 1000; i += 1) await primary.batch(payload(i, 1 + ((i * 37) % 3000)));
    const standby = await StandbyNode.open(primary.log.native, primary.port, {
      dir: freshDir('b'),
    });
    onTestFinished(async () => {
      await standby.close();
      await primary.close();
    });
    await until(() => went.length > 0);
    await closed;
    expect(went).toEqual(['the primary closes']);
    // What comes after the first are attempts to connect again.
    const ends = (): string[] => standby.heard.filter((line) => line.startsWith('disconnected'));
    await until(() => ends().length > 0);
    expect(ends()[0]).toMatch(/the primary closed the connection/);
  });
});
