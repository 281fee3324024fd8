import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { State } from '../../src/native/native_log.js';
import { parseStandbys } from '../../src/replication/policy.js';
import { encodePosition, encodeStandbyHello } from '../../src/wire/handshake_messages.js';
import { MessageType } from '../../src/wire/message_type.js';
import { freshDir } from '../helpers/temp.js';
import { payload, randomFrom } from '../native/native.js';
import { PrimaryNode, quick, StandbyNode, until } from './nodes.js';
import { RawStandby } from './raw_standby.js';

const policy = { synchronousCommit: 'remote_flush', standbys: parseStandbys('ANY 1 (*)') } as const;
const nodeId = 'e'.repeat(32);

/** Memory in use, after what nobody refers to any more was let go. */
async function collected(): Promise<number> {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  let least = Number.POSITIVE_INFINITY;
  // Memory of buffers goes back in turns after the one in which they were found unused.
  for (let i = 0; i < 8; i += 1) {
    gc();
    await new Promise((resolve) => setTimeout(resolve, 10));
    const { heapUsed, external } = process.memoryUsage();
    least = Math.min(least, heapUsed + external);
  }
  return least;
}

let primary: PrimaryNode;
const sockets: Socket[] = [];

beforeEach(async () => {
  primary = await PrimaryNode.open({ dir: freshDir('a') }, { policy });
});

afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await primary.close();
});

async function admitted(id = nodeId): Promise<RawStandby> {
  const raw = await RawStandby.admitted(primary.port, id, 'liar');
  sockets.push(raw.socket);
  return raw;
}

describe('an acknowledgement that lies', () => {
  async function honest() {
    const place = await primary.batch('one', 'two');
    await primary.log.settled();
    const raw = await admitted();
    await raw.until(() => raw.received > 0);
    return { raw, place };
  }

  it('but an honest one moves the commit place', async () => {
    const { raw, place } = await honest();
    const { position, lsn } = place;
    const all = { writePosition: position, writeLsn: lsn, flushPosition: position, flushLsn: lsn };
    raw.ack(all);
    // With all of it, it is named by the rule, which it has to record.
    await raw.until(() => raw.rules.length === 2);
    raw.ack(all);
    await until(() => primary.hub.commit.lsn === 2);
    expect(primary.hub.commit).toEqual(place);
  });

  it.each([
    ['too high a write', { writePosition: 1_000_000 }],
    ['too high an LSN', { writeLsn: 3 }],
    ['too high a flush', { writePosition: 4096, flushPosition: 1_000_000 }],
    ['a flush past the write', { writePosition: 4096, flushPosition: 4200 }],
    ['an apply past the flush', { applyLsn: 1 }],
    ['2^53 - 1', { writePosition: Number.MAX_SAFE_INTEGER }],
  ])('by %s drops the peer and moves nothing', async (_, fields) => {
    const { raw } = await honest();
    const before = primary.hub.commit;
    raw.ack(fields);
    await raw.closed;
    await until(() => primary.heard.length === 2);
    expect(primary.hub.commit).toEqual(before);
    expect(primary.hub.status()).toMatchObject({ rejected: 1, standbys: [] });
    expect(primary.heard[1]).toMatch(/^liar went: an acknowledgement/);
  });

  it.each([
    ['negative', Buffer.alloc(8, 0xff)],
    ['2^63', Buffer.from('0000000000000080', 'hex')],
    ['the bits of NaN', Buffer.from('000000000000f87f', 'hex')],
  ])('by a number that is %s drops the peer', async (_, bits) => {
    const { raw } = await honest();
    for (const field of [24, 32, 40, 48, 56]) {
      const liar = field === 24 ? raw : await admitted();
      const message = liar.ackMessage({});
      bits.copy(message, field);
      liar.socket.write(message);
      await liar.closed;
    }
    expect(primary.hub.commit.lsn).toBe(0);
    expect(primary.hub.status().rejected).toBe(5);
  });

  describe('while it catches up', () => {
    const inside = 4096 + 100_000;

    /** Nothing of the log beyond some MiB is sent to it, and the first records are. */
    async function behind(): Promise<RawStandby> {
      await primary.close();
      const record = 1 << 20;
      const large = { segmentBytes: 32 << 20, maxRecordBytes: record, ringBytes: 8 << 20 };
      primary = await PrimaryNode.open({ dir: freshDir('a'), ...large }, { policy });
      for (let i = 0; i < 16; i += 1) await primary.batch(payload(i, record));
      await primary.log.settled();
      const raw = await admitted();
      raw.socket.pause();
      await until(() => primary.hub.status().standbys[0]!.sentPosition > inside);
      return raw;
    }

    it('by the LSN of what was not sent drops the peer and moves nothing', async () => {
      const raw = await behind();
      const { lsn } = primary.log.closed;
      raw.ack({ writePosition: inside, writeLsn: lsn, flushPosition: inside, flushLsn: lsn });
      await until(() => primary.heard.length === 2);
      expect(primary.heard[1]).toMatch(/^liar went: an acknowledgement/);
      expect(primary.hub.commit.lsn).toBe(0);
      expect(primary.hub.reached('remote_flush')).toBe(0);
    });

    it('by a place within a batch counts up to the end of the one before', async () => {
      const raw = await behind();
      const place = { writePosition: inside, flushPosition: inside };
      raw.ack(place);
      // The rule that names it is told then; here nothing is read.
      await until(() => (primary.hub.status().standbys[0]?.flush.position ?? 0) > 0);
      raw.ack({ ...place, rule: 2 });
      await until(() => primary.hub.status().standbys[0]?.counts === true);
      const opening = { position: primary.log.native.info().opened, lsn: 0 };
      expect(primary.hub.status().standbys).toMatchObject([{ write: opening, flush: opening }]);
      expect(primary.hub.commit).toEqual(opening);
    });
  });

  it('by going backwards drops the peer', async () => {
    const { raw, place } = await honest();
    raw.ack({ writePosition: place.position, writeLsn: 2 });
    raw.ack({ writePosition: 4096, writeLsn: 0 });
    await raw.closed;
    expect(primary.hub.status().rejected).toBe(1);
  });

  it.each([
    ['another term', { epoch: 99 }],
    ['another incarnation', { incarnation: 99 }],
    ['another connection', { session: 99 }],
  ])('by carrying %s drops the peer and moves nothing', async (_, other) => {
    const { raw, place } = await honest();
    const all = {
      writePosition: place.position,
      flushPosition: place.position,
      flushLsn: 2,
      writeLsn: 2,
    };
    raw.ack(all, { ...raw.tag, ...other });
    await raw.closed;
    expect(primary.hub.commit.lsn).toBe(0);
  });

  it('in what an old connection still says counts for nothing', async () => {
    const { raw: old, place } = await honest();
    const message = old.ackMessage({
      writePosition: place.position,
      writeLsn: 2,
      flushPosition: place.position,
      flushLsn: 2,
    });
    const fresh = await admitted();
    await old.closed;
    fresh.socket.write(message);
    await fresh.closed;
    expect(primary.hub.commit.lsn).toBe(0);
    expect(primary.heard.filter((line) => line === 'liar came')).toHaveLength(2);
  });
});

describe('a stranger', () => {
  function open(): Socket {
    const socket = connect({ port: primary.port, host: '127.0.0.1' });
    socket.on('error', () => undefined);
    sockets.push(socket);
    return socket;
  }

  function ended(socket: Socket): Promise<number> {
    let bytes = 0;
    socket.on('data', (chunk) => {
      bytes += chunk.length;
    });
    return new Promise((resolve) => socket.on('close', () => resolve(bytes)));
  }

  it('who sends garbage gets a refusal by name and nothing more', async () => {
    for (let i = 0; i < 50; i += 1) {
      const socket = open();
      const end = ended(socket);
      socket.write(randomBytes(1 + ((i * 97) % 3000)));
      socket.end();
      expect(await end).toBeLessThanOrEqual(1024);
    }
    await until(() => primary.hub.status().connections.connections === 0);
    expect(primary.hub.status().standbys).toEqual([]);
  });

  it('who speaks HTTP is refused by name', async () => {
    const raw = new RawStandby(primary.port);
    raw.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await raw.closed;
    expect(raw.refusal?.code).toBe('WAL_PEER_INVALID');
  });

  const sender = {
    logId: 'a'.repeat(32),
    salt: 'b'.repeat(16),
    nodeId,
    term: { epoch: 1, opener: nodeId, incarnation: 1 },
  };
  const hello = (versions: number, more: object = {}): Buffer =>
    Buffer.from(
      encodeStandbyHello({
        minVersion: versions,
        maxVersion: versions,
        name: 'x',
        sender: undefined,
        ...more,
      }),
    );
  const changed = (at: number, bytes: readonly number[]): Buffer => {
    const message = hello(1);
    message.set(bytes, at);
    return message;
  };
  it.each([
    ['an unknown type of message', changed(4, [99]), 'WAL_PEER_INVALID', /type 99/],
    [
      'a message out of turn',
      changed(4, [MessageType.POSITION]),
      'WAL_PEER_INVALID',
      /out of turn/,
    ],
    ['log bytes', changed(4, [MessageType.DATA]), 'WAL_PEER_INVALID', /out of turn/],
    ['a hello of 4 GiB', changed(0, [255, 255, 255, 255]), 'WAL_PEER_INVALID', /bytes long/],
    ['a hello past 1 KiB', changed(0, [0, 4, 0, 0]), 'WAL_PEER_INVALID', /bytes long/],
    ['an empty hello', Buffer.from([1, 0, 0, 0, 1]), 'WAL_PEER_INVALID', /bytes long/],
    ['another magic number', changed(5, [0]), 'WAL_PEER_INVALID', /./],
    ['another protocol', hello(99), 'WAL_VERSION', /version/],
    ['another log', hello(1, { sender }), 'WAL_NOT_A_LOG', /another log/],
  ])('who sends %s is refused by name', async (_, bytes, code, text) => {
    const raw = new RawStandby(primary.port);
    sockets.push(raw.socket);
    raw.socket.write(bytes);
    await raw.closed;
    expect(raw.refusal).toMatchObject({ code, message: expect.stringMatching(text) });
    await until(() => primary.hub.status().connections.connections === 0);
    expect(primary.hub.status().standbys).toEqual([]);
  });

  it('who goes on after the hello without a turn is refused', async () => {
    const raw = new RawStandby(primary.port);
    const hello = encodeStandbyHello({
      minVersion: 1,
      maxVersion: 1,
      name: 'x',
      sender: undefined,
    });
    raw.socket.write(Buffer.concat([hello, hello, hello]));
    await raw.closed;
    await until(() => primary.hub.status().connections.connections === 0);
  });

  it('who says nothing is shown the door in time, and there is room for few of them', async () => {
    await primary.close();
    const timing = { ...quick, handshake: 1500 };
    primary = await PrimaryNode.open({ dir: freshDir('a') }, { policy, timing });
    const crowd = Array.from({ length: 200 }, open);
    const ends = crowd.map(ended);
    await until(() => primary.hub.status().connections.turnedAway === 168);
    expect(primary.hub.status().connections).toMatchObject({ connections: 32, halfOpen: 32 });
    await Promise.all(ends);
    await until(() => primary.hub.status().connections.connections === 0);
    expect(primary.hub.status().connections.halfOpen).toBe(0);
    const standby = await StandbyNode.open(primary.log.native, primary.port, {
      dir: freshDir('b'),
    });
    await standby.follower.connected();
    await standby.close();
  });

  it('in great numbers costs little memory and does not hold up a standby', async () => {
    const standby = await StandbyNode.open(primary.log.native, primary.port, {
      dir: freshDir('b'),
    });
    await standby.follower.connected();
    const memory = process.memoryUsage().rss;
    let lsn = 0;
    for (let round = 0; round < 20; round += 1) {
      for (let i = 0; i < 25; i += 1) open().write(randomBytes(900));
      lsn = (await primary.batch(payload(round, 100))).lsn;
      await until(
        () => primary.hub.commit.lsn === lsn,
        () => primary.hub.status(),
      );
    }
    expect(process.memoryUsage().rss - memory).toBeLessThan(64 * 1024 * 1024);
    await standby.close();
  });

  it('after stranger leaves nothing behind in memory', async () => {
    const random = randomFrom(29);
    const round = async (): Promise<void> => {
      const closed = Array.from({ length: 30 }, () => {
        const raw = new RawStandby(primary.port);
        // Near enough to a hello to get somewhere; then more than a stranger may say.
        const bytes = random(2) === 0 ? hello(1) : hello(1, { sender });
        bytes[random(bytes.length)] = random(256);
        raw.socket.write(bytes);
        raw.socket.end(randomBytes(random(100_000)));
        return raw.closed;
      });
      await Promise.all(closed);
      await until(() => primary.hub.status().connections.connections === 0);
    };
    for (let i = 0; i < 10; i += 1) await round();
    const before = await collected();
    for (let i = 0; i < 60; i += 1) await round();
    // 1,800 of them: 1.2 KB each would be found.
    expect((await collected()) - before).toBeLessThan(2 * 1024 * 1024);
    await primary.batch('it goes on');
    await until(() => primary.hub.reached('local') === 1);
  });

  it('who drips a hello byte by byte is cut off at the deadline all the same', async () => {
    await primary.close();
    const timing = { ...quick, handshake: 200 };
    primary = await PrimaryNode.open({ dir: freshDir('a') }, { policy, timing });
    const socket = open();
    const end = ended(socket);
    const drip = setInterval(() => socket.write(Buffer.from([1])), 20);
    const started = performance.now();
    await end;
    clearInterval(drip);
    expect(performance.now() - started).toBeLessThan(2000);
  });
});

describe('a split', () => {
  it('that one standby tells of ends the others, also those that are only coming in', async () => {
    const follower = await admitted('f'.repeat(32));
    const coming = new RawStandby(primary.port);
    sockets.push(coming.socket);
    await coming.greet('d'.repeat(32), 'coming');
    const { logId, salt, term } = coming.hello!;
    const sender = { logId, salt, nodeId, term: { ...term, opener: nodeId } };
    const teller = new RawStandby(primary.port);
    sockets.push(teller.socket);
    teller.socket.write(
      encodeStandbyHello({ minVersion: 1, maxVersion: 1, name: 'teller', sender }),
    );
    await teller.closed;
    expect(teller.refusal?.code).toBe('WAL_SPLIT');
    const end = { position: 4096, lsn: 0 };
    const commit = { position: 0, lsn: 0 };
    coming.socket.write(encodePosition({ end, crc: 0, commit, history: [] }));
    await Promise.all([coming.closed, follower.closed]);
    expect(coming.accept).toBeUndefined();
    expect(primary.hub.status().standbys).toEqual([]);
    expect(primary.heard).toContain('WAL_SPLIT');
  });
});

describe('a standby that reads nothing', () => {
  it('is dropped when the ring is wanted, and the primary goes on', async () => {
    await primary.close();
    const large = {
      segmentBytes: 4 << 20,
      maxRecordBytes: 256 << 10,
      ringBytes: 2 << 20,
      maxBatchBytes: 256 << 10,
    };
    primary = await PrimaryNode.open({ dir: freshDir('a'), ...large }, { policy });
    const raw = await admitted();
    raw.socket.pause();
    const record = payload(1, 100 << 10);
    for (let i = 0; i < 300; i += 1) {
      while (primary.log.append(record) === undefined) {
        primary.hub.ringWanted();
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      primary.log.closeBatch();
      primary.hub.closedAdvanced();
    }
    expect(primary.log.native.state[State.CLOSED_LSN]).toBe(300);
    expect(primary.heard).toEqual([
      'liar came',
      'liar went: the standby made no progress while the log memory was wanted',
    ]);
    raw.socket.resume();
    await raw.closed;
  });

  describe('and holds the ring', () => {
    const stalled = 'liar went: the standby made no progress while the log memory was wanted';

    /** Live, with more on the way than the kernel takes; what is on the way refers to the ring. */
    async function holder(before?: () => Promise<void>): Promise<RawStandby> {
      await primary.close();
      const record = 256 << 10;
      const large = { segmentBytes: 32 << 20, maxRecordBytes: record, ringBytes: 16 << 20 };
      const timing = { ...quick, dead: 20_000 };
      primary = await PrimaryNode.open({ dir: freshDir('a'), ...large }, { policy, timing });
      const raw = await admitted();
      await until(() => primary.hub.status().standbys[0]?.state === 'live');
      raw.socket.pause();
      await before?.();
      const sent = (): number => primary.hub.status().standbys[0]?.sentPosition ?? -1;
      while (sent() === primary.log.closed.position) {
        await primary.batch(payload(1, record));
        await new Promise((resolve) => setTimeout(resolve, 2));
      }
      await primary.log.settled();
      return raw;
    }

    function pause(ms: number): Promise<void> {
      return new Promise((resolve) => setTimeout(resolve, ms));
    }

    it('is dropped also if it came to hold it after the ring was asked for', async () => {
      const raw = await holder(async () => {
        primary.hub.ringWanted();
        await pause(3 * (quick.stall ?? 0));
        expect(primary.heard).toEqual(['liar came']);
      });
      await until(() => primary.heard.includes(stalled));
      raw.socket.resume();
      await raw.closed;
    });

    it('is left alone when nobody wants the ring any more', async () => {
      const raw = await holder();
      primary.hub.ringWanted();
      primary.ringWanted = false;
      await pause(5 * (quick.stall ?? 0));
      expect(primary.heard).toEqual(['liar came']);
      raw.socket.destroy();
    });

    it('makes progress as long as it acknowledges more of what it was sent', async () => {
      const raw = await holder();
      primary.hub.ringWanted();
      const { sentPosition } = primary.hub.status().standbys[0]!;
      let position = 4096;
      for (let i = 0; i < 20; i += 1) {
        await pause((quick.stall ?? 0) / 4);
        position += 100;
        // Within a batch: it counts up to the one before.
        raw.ack({ writePosition: Math.min(position, sentPosition) });
      }
      expect(primary.heard).toEqual(['liar came']);
      await until(() => primary.heard.includes(stalled));
      raw.socket.resume();
      await raw.closed;
    });
  });

  it('costs a bounded amount of memory, and is dropped for its silence', async () => {
    await primary.close();
    const timing = { ...quick, dead: 400 };
    primary = await PrimaryNode.open({ dir: freshDir('a') }, { policy, timing });
    const raw = await admitted();
    raw.socket.pause();
    let most = 0;
    for (let i = 0; i < 3000; i += 1) {
      await primary.batch(payload(i, 1000));
      most = Math.max(most, primary.hub.status().standbys[0]?.bufferBytes ?? 0);
    }
    // Three buffers of a copy each (docs/adr/0009).
    expect(most).toBeLessThanOrEqual(12 << 20);
    await until(() => primary.hub.status().standbys.length === 0);
    raw.socket.resume();
    await raw.closed;
  });
});
