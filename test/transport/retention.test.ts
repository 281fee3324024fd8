import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { State } from '../../src/native/native_log.js';
import { encodeRefusal } from '../../src/wire/handshake_messages.js';
import { TcpProxy } from '../helpers/proxy.js';
import { freshDir } from '../helpers/temp.js';
import { payload, small } from '../native/native.js';
import { PrimaryNode, StandbyNode, until } from './nodes.js';
import { RawStandby } from './raw_standby.js';

/** What a commit needs here is the primary's own disk: a standby does not hold up trimming so. */
let primary: PrimaryNode;
let proxy: TcpProxy;

beforeEach(async () => {
  primary = await PrimaryNode.open({ dir: freshDir('a') });
  proxy = await TcpProxy.open(primary.port);
});

afterEach(async () => {
  await proxy.close();
  await primary.close();
});

/** Some tens of segments; the end of them is committed. */
async function write(): Promise<number> {
  for (let i = 0; i < 700; i += 1) await primary.batch(payload(i, 4000));
  const { position } = await primary.log.settled();
  await until(() => primary.hub.commit.position === position);
  return position;
}

/** Asks for all to be trimmed; gives where the log begins then. */
async function trimmed(): Promise<number> {
  await primary.log.native.trim(primary.log.flushed.position);
  return primary.log.native.info().start.position;
}

describe('a trim keeps', () => {
  it('what a standby needs that is away, which then goes on; and lets go afterwards', async () => {
    const standby = await StandbyNode.open(primary.log.native, proxy.port, { dir: freshDir('b') });
    try {
      await standby.follower.connected();
      await write();
      await until(() => standby.log.flushed.position === primary.log.flushed.position);
      proxy.target = 1;
      proxy.cut();
      await until(() => primary.hub.status().standbys.length === 0);
      const end = await write();
      const has = standby.end.position;
      const start = await trimmed();
      expect(start).toBeLessThanOrEqual(has);
      // A claim follows its standby in steps of 1 MiB.
      expect(start).toBeGreaterThan(has - (1 << 20) - 2 * small.segmentBytes);

      proxy.target = primary.port;
      await until(
        () => standby.log.flushed.position === end,
        () => [standby.heard.slice(-3), primary.hub.status()],
        15_000,
      );
      expect(standby.heard.filter((line) => line.startsWith('failed'))).toEqual([]);
      await until(() => primary.hub.status().standbys[0]?.flush.position === end);
      expect(await trimmed()).toBeGreaterThan(has);
    } finally {
      await standby.close();
    }
  });

  it('what a standby needs that has all, and has not said that it is flushed', async () => {
    const raw = await RawStandby.admitted(primary.port, 'e'.repeat(32), 'slow');
    const end = await write();
    await until(() => raw.received === end - 4096);
    expect(await trimmed()).toBe(4096);
    raw.ack({ writePosition: end, writeLsn: primary.log.flushed.lsn });
    await until(() => primary.hub.status().standbys[0]?.write.position === end);
    expect(await trimmed()).toBe(4096);
    raw.ack({
      writePosition: end,
      writeLsn: primary.log.flushed.lsn,
      flushPosition: end,
      flushLsn: primary.log.flushed.lsn,
    });
    await until(() => primary.hub.status().standbys[0]?.flush.position === end);
    expect(await trimmed()).toBeGreaterThan(4096);
    raw.socket.destroy();
    await raw.closed;
  });

  it('nothing for a standby that comes just too late for it', async () => {
    const end = await write();
    const { native } = primary.log;
    const { retain } = native;
    // The trim falls between the look at where the log starts and the claim.
    const value = (position: number): number => {
      Reflect.deleteProperty(native, 'retain');
      void native.trim(end);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 200);
      return retain.call(native, position);
    };
    Object.defineProperty(native, 'retain', { value, configurable: true });
    const late = RawStandby.admitted(primary.port, 'e'.repeat(32), 'late');
    await expect(late).rejects.toThrow('WAL_LSN_GONE');
    await until(() => primary.hub.status().connections.connections === 0);
    const start = await trimmed();
    const later = await write();
    expect(await trimmed()).toBeGreaterThan(start);
    expect(await trimmed()).toBeGreaterThan(later - small.segmentBytes - 1);
  });

  it('nothing for a standby that was let in, and does not follow', async () => {
    const raw = await RawStandby.admitted(primary.port, 'e'.repeat(32), 'asks');
    const refusal = { code: 'WAL_WAS_PRIMARY', message: 'it asks', term: undefined };
    raw.socket.write(encodeRefusal(refusal));
    await raw.closed;
    await until(() => primary.hub.status().connections.connections === 0);
    const end = await write();
    expect(await trimmed()).toBeGreaterThan(end - small.segmentBytes - 1);
  });

  it('nothing for a standby that was never seen', async () => {
    const end = await write();
    expect(await trimmed()).toBeGreaterThan(end - small.segmentBytes - 1);
    expect(primary.log.native.state[State.START_POSITION]).toBe(await trimmed());
  });
});
