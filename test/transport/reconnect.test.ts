import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseStandbys } from '../../src/replication/policy.js';
import { MessageType } from '../../src/wire/message_type.js';
import { ackBytes, commitBytes, dataHeaderBytes } from '../../src/wire/stream_messages.js';
import { type Message, type PlaceInStream, TcpProxy } from '../helpers/proxy.js';
import { freshDir } from '../helpers/temp.js';
import { payload, readBytes } from '../native/native.js';
import { PrimaryNode, quick, StandbyNode, until } from './nodes.js';

const policy = { synchronousCommit: 'remote_flush', standbys: parseStandbys('ANY 1 (*)') } as const;

let primary: PrimaryNode;
let proxy: TcpProxy;
let standby: StandbyNode;

beforeEach(async () => {
  primary = await PrimaryNode.open({ dir: freshDir('a') }, { policy });
  proxy = await TcpProxy.open(primary.port);
  standby = await StandbyNode.open(primary.log.native, proxy.port, { dir: freshDir('b') });
});

afterEach(async () => {
  await standby.close();
  await proxy.close();
  await primary.close();
});

function both(): unknown {
  return [primary.hub.status(), standby.follower.status(), standby.heard.slice(-3)];
}

/** All that was appended is committed, and the two logs are the same. */
async function agree(lsn: number): Promise<void> {
  await until(() => primary.hub.commit.lsn === lsn, both);
  await until(() => standby.follower.commit.lsn === lsn, both);
  const end = primary.log.closed.position;
  expect(standby.end.position).toBe(end);
  const bytes = await readBytes(standby.log, 4096, end);
  expect(bytes.equals(await readBytes(primary.log, 4096, end))).toBe(true);
}

it('takes nothing of what was changed on its way, and gets it again', async () => {
  await standby.follower.connected();
  // In the middle of what follows.
  proxy.toStandby.flipAt = 20_000;
  for (let i = 0; i < 20; i += 1) await primary.batch(payload(i, 2000));
  await until(() => standby.heard.some((each) => each.startsWith('disconnected')), both);
  expect(standby.heard.find((each) => each.startsWith('disconnected'))).toMatch(/checksum/);
  proxy.toStandby.flipAt = Number.POSITIVE_INFINITY;
  await agree(20);
});

it('lives on where the log fails as a standby is let in, which is in the next time', async () => {
  await standby.close();
  // It does not give up by itself.
  const timing = { ...quick, handshake: 60_000, dead: 60_000 };
  const open = { dir: freshDir('b') };
  standby = await StandbyNode.open(primary.log.native, proxy.port, open, { timing });
  await standby.follower.connected();
  await primary.batch('one');
  await agree(1);
  const { native } = primary.log;
  const info = native.info.bind(native);
  const checksumAt = native.checksumAt.bind(native);
  let failed = 0;
  const put = (name: 'info' | 'checksumAt', value: unknown): void => {
    Object.defineProperty(native, name, { value, configurable: true });
  };
  put('checksumAt', async (position: number) => {
    const checksum = await checksumAt(position);
    put('checksumAt', checksumAt);
    put('info', () => {
      put('info', info);
      failed += 1;
      throw Object.assign(new Error('out of memory'), { code: 'WAL_NO_MEMORY' });
    });
    return checksum;
  });
  proxy.cut();
  await until(() => failed === 1 && standby.heard.at(-1) === 'connected to a', both);
  // The connection ended at once, and not when its time was over.
  expect(primary.refused).toEqual([]);
  await primary.batch('two');
  await agree(2);
});

describe('a connection that is cut', () => {
  type LaneName = 'toPrimary' | 'toStandby';

  /** What each lane carries; each of them is cut somewhere. */
  const types: Readonly<Record<LaneName, readonly number[]>> = {
    toPrimary: [MessageType.STANDBY_HELLO, MessageType.POSITION, MessageType.ACK],
    toStandby: [
      MessageType.PRIMARY_HELLO,
      MessageType.ACCEPT,
      MessageType.DATA,
      MessageType.COMMIT,
    ],
  };
  const lanes = Object.keys(types) as LaneName[];
  /** No message of the stream is shorter. */
  const least = Math.min(ackBytes, commitBytes, dataHeaderBytes);

  beforeEach(async () => {
    await standby.close();
    // It comes back at once, however often it is cut.
    const timing = { ...quick, retryFirst: 1, retryMost: 2 };
    const open = { dir: freshDir('b') };
    standby = await StandbyNode.open(primary.log.native, proxy.port, open, { timing });
    await standby.follower.connected();
  });

  /** Cuts the next connection just there, then lets one through; gives what came before the cut. */
  async function cutAt(lane: LaneName, place: PlaceInStream): Promise<readonly Message[]> {
    const { length } = proxy.cuts;
    proxy[lane].cutAt = place;
    proxy.cut();
    const deadline = performance.now() + 8000;
    // Something to send and to acknowledge until that place is reached.
    while (proxy.cuts.length === length) {
      if (performance.now() > deadline) throw new Error(`no cut at ${JSON.stringify(place)}`);
      await primary.batch(payload(place.messages, 40));
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    proxy[lane].cutAt = undefined;
    const { lsn } = await primary.batch('after the cut');
    await until(() => primary.hub.commit.lsn === lsn, both);
    return proxy.cuts[length] ?? [];
  }

  it.each(lanes)('at every message boundary %s comes back', async (lane) => {
    const seen = new Set<number>();
    for (let messages = 0; messages <= 30; messages += 1) {
      const before = await cutAt(lane, { messages, bytes: 0 });
      expect(before).toHaveLength(messages);
      for (const { type } of before) seen.add(type);
    }
    expect([...seen].sort()).toEqual(types[lane]);
    await agree(primary.log.closed.lsn);
    expect(primary.hub.status().rejected).toBe(0);
  });

  it.each(lanes)('at every byte of the handshake and of small messages %s', async (lane) => {
    for (let messages = 0; messages < 5; messages += 1) {
      const message = (await cutAt(lane, { messages: messages + 1, bytes: 0 })).at(-1);
      const bytes = (message?.type ?? 0) > MessageType.ACCEPT ? least : (message?.bytes ?? 0);
      expect(bytes).toBeGreaterThan(40);
      for (let at = 1; at < bytes; at += 1) await cutAt(lane, { messages, bytes: at });
    }
    await agree(primary.log.closed.lsn);
    expect(primary.hub.status().rejected).toBe(0);
  });

  it('in the middle of large data goes on where the last whole batch ended', async () => {
    await standby.follower.connected();
    let lsn = 0;
    for (let round = 0; round < 20; round += 1) {
      proxy.toStandby.cutAfter = 2000 + round * 3331;
      proxy.cut();
      for (let i = 0; i < 20; i += 1) lsn = (await primary.batch(payload(round * i, 3000))).lsn;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    proxy.toStandby.cutAfter = Number.POSITIVE_INFINITY;
    proxy.cut();
    await agree(lsn);
  });
});

describe('a connection', () => {
  it('that drips single bytes carries everything', async () => {
    proxy.toPrimary.drip = 1;
    proxy.toStandby.drip = 1;
    proxy.cut();
    let lsn = 0;
    for (let i = 0; i < 20; i += 1) lsn = (await primary.batch(payload(i, 100))).lsn;
    await agree(lsn);
  });

  it('that is slow both ways carries everything', async () => {
    proxy.toPrimary.delayMs = 30;
    proxy.toStandby.delayMs = 30;
    let lsn = 0;
    for (let i = 0; i < 20; i += 1) lsn = (await primary.batch(payload(i, 1000))).lsn;
    await agree(lsn);
  });

  it('whose late acknowledgements arrive after a new one counts only the new one', async () => {
    await standby.follower.connected();
    let { lsn } = await primary.batch('first');
    await agree(lsn);
    proxy.toPrimary.mode = 'hold';
    lsn = (await primary.batch('second')).lsn;
    await until(() => standby.end.lsn === lsn);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(primary.hub.commit.lsn).toBe(lsn - 1);
    proxy.cut();
    proxy.release();
    await agree(lsn);
  });
});

describe('a half-open connection', () => {
  it.each(['toPrimary', 'toStandby'] as const)('silent %s is noticed by both', async (lane) => {
    await standby.close();
    await primary.close();
    const timing = { ...quick, heartbeat: 50, dead: 400 };
    primary = await PrimaryNode.open({ dir: freshDir('a') }, { policy, timing });
    proxy.target = primary.port;
    const open = { dir: freshDir('b') };
    standby = await StandbyNode.open(primary.log.native, proxy.port, open, { timing });
    // It has said all that it owes by then: what is missing from now on are heartbeats.
    await until(() => primary.hub.status().standbys.some(({ counts }) => counts));
    proxy[lane].mode = 'swallow';
    const started = performance.now();
    const side = lane === 'toPrimary' ? primary : standby;
    await until(() => side.heard.some((line) => line.includes('silent for too long')), both);
    expect(performance.now() - started).toBeGreaterThan(300);
    proxy[lane].mode = 'pass';
    const { lsn } = await primary.batch('after');
    await agree(lsn);
  });

  it('lives while only heartbeats cross it', async () => {
    await standby.close();
    await primary.close();
    const timing = { ...quick, heartbeat: 50, dead: 300 };
    primary = await PrimaryNode.open({ dir: freshDir('a') }, { policy, timing });
    proxy.target = primary.port;
    const open = { dir: freshDir('b') };
    standby = await StandbyNode.open(primary.log.native, proxy.port, open, { timing });
    await standby.follower.connected();
    await new Promise((resolve) => setTimeout(resolve, 1200));
    expect(primary.heard).toEqual(['b came']);
    expect(standby.heard).toEqual(['connected to a']);
  });
});

describe('connected', () => {
  it('waits, is cancelled by its signal, and ends with the follower', async () => {
    await standby.follower.connected();
    proxy.target = 1;
    proxy.cut();
    await until(() => !standby.follower.status().connected);
    expect(standby.follower.status().reason).not.toBeNull();
    const stop = new AbortController();
    const waiting = standby.follower.connected({ signal: stop.signal });
    stop.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
    const ended = standby.follower.connected();
    const stopped = standby.follower.stop();
    await expect(ended).rejects.toMatchObject({ code: 'WAL_CLOSED' });
    await stopped;
    await expect(standby.follower.connected()).rejects.toMatchObject({ code: 'WAL_CLOSED' });
  });
});
