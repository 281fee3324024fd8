import { type AddressInfo, connect, createServer, Socket } from 'node:net';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { State } from '../../src/native/native_log.js';
import { encodeStandbyHello } from '../../src/wire/handshake_messages.js';
import { freshDir } from '../helpers/temp.js';
import { payload } from '../native/native.js';
import { PrimaryNode, quick, StandbyNode, until } from './nodes.js';
import { RawStandby } from './raw_standby.js';

const open: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  vi.restoreAllMocks();
  for (const close of open.splice(0).reverse()) await close();
});

const nodeId = 'e'.repeat(32);

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function primaryNode(timing: object, options = {}): Promise<PrimaryNode> {
  const primary = await PrimaryNode.open(
    { dir: freshDir('a'), ...options },
    { timing: { ...quick, ...timing } },
  );
  open.push(() => primary.close());
  return primary;
}

describe('a primary that closes', () => {
  it('lets what was sent leave, however long a standby takes, and sends nothing more', async () => {
    const record = 256 << 10;
    const large = { segmentBytes: 32 << 20, maxRecordBytes: record, ringBytes: 16 << 20 };
    const primary = await primaryNode({ heartbeat: 20, close: 6000, dead: 6000 }, large);
    const raw = await RawStandby.admitted(primary.port, nodeId, 'slow');
    open.push(async () => raw.socket.destroy());
    await until(() => primary.hub.status().standbys[0]?.state === 'live');
    raw.socket.pause();
    const sent = (): number => primary.hub.status().standbys[0]?.sentPosition ?? 0;
    for (let i = 0; i < 100 && sent() === primary.log.closed.position; i += 1) {
      await primary.batch(payload(i, record));
      await pause(5);
    }
    await pause(100);
    const left = sent();
    expect(left).toBeLessThan(primary.log.closed.position);
    const closed = primary.hub.close();
    await pause(300);
    raw.socket.resume();
    await raw.closed;
    expect(raw.received).toBe(left - 4096);
    await closed;
  });

  it('tells where it has committed to, last of all', async () => {
    const primary = await primaryNode({ heartbeat: 10_000 });
    const raw = await RawStandby.admitted(primary.port, nodeId, 'x');
    const { position } = await primary.batch('x');
    await raw.until(() => raw.received === position - 4096);
    await until(() => primary.hub.commit.position === position);
    await raw.until(() => raw.commit?.position === position);
    const next = await primary.batch('y');
    await raw.until(() => raw.received === next.position - 4096);
    const { native } = primary.log;
    while (native.state[State.FLUSH_POSITION]! < next.position) native.wakeTicker();
    // The place is pushed at the end of this turn, and the connection ends within it.
    primary.hub.flushAdvanced();
    const closed = primary.hub.close();
    expect(primary.hub.commit).toEqual(next);
    await raw.closed;
    await closed;
    expect(raw.commit).toEqual(next);
  });
});

describe('a standby that closes in order', () => {
  const large = { segmentBytes: 32 << 20, maxRecordBytes: 256 << 10, ringBytes: 16 << 20 };

  async function standbyOf(primary: PrimaryNode, port: number, timing = {}): Promise<StandbyNode> {
    const options = { timing: { ...quick, ...timing } };
    const of = { dir: freshDir('b'), name: 'b', ...large };
    const standby = await StandbyNode.open(primary.log.native, port, of, options);
    open.push(() => standby.close());
    await standby.follower.connected();
    return standby;
  }

  it('is no fault to its primary, whatever was on its way', async () => {
    const primary = await primaryNode({}, large);
    const standby = await standbyOf(primary, primary.port);
    await until(() => primary.hub.status().standbys[0]?.state === 'live');
    const sent = primary.hub.status().standbys[0]!.sentPosition;
    const end = standby.end.position;
    // In this turn of the event loop: what was sent lies unread in the standby's socket.
    for (let i = 0; i < 3; i += 1) await primary.batch(payload(i, 256 << 10));
    expect(primary.hub.status().standbys[0]!.sentPosition).toBeGreaterThan(sent);
    await standby.follower.stop('leave');
    await until(() => primary.heard.length === 2);
    expect(primary.heard).toEqual(['b came', 'b went: the standby closed the connection']);
    expect(standby.end.position).toBe(end);
  });

  /** What stands between them passes bytes on, and does not end its side by itself. */
  async function halfOpen(to: number, onEnd: (standby: Socket) => void): Promise<number> {
    const between = createServer({ allowHalfOpen: true }, (socket) => {
      const other = connect(to, '127.0.0.1');
      socket.on('data', (chunk) => other.write(chunk));
      other.on('data', (chunk) => socket.write(chunk));
      for (const each of [socket, other]) each.on('error', () => undefined);
      socket.on('end', () => onEnd(socket));
      socket.on('close', () => other.destroy());
    });
    await new Promise<void>((resolve) => between.listen(0, '127.0.0.1', resolve));
    open.push(async () => between.close());
    return (between.address() as AddressInfo).port;
  }

  it('reads on until its primary has ended too', async () => {
    const primary = await primaryNode({}, large);
    const writes: unknown[] = [];
    const port = await halfOpen(primary.port, (socket) => {
      socket.write(Buffer.alloc(16 << 20), (error) => {
        writes.push(error ?? 'written');
        socket.end();
      });
    });
    const standby = await standbyOf(primary, port, { close: 60_000, dead: 60_000 });
    await standby.follower.stop('leave');
    expect(writes).toEqual(['written']);
  });

  it('does not wait for long for a primary that does not end its side', async () => {
    const primary = await primaryNode({}, large);
    let ends = 0;
    const port = await halfOpen(primary.port, () => {
      ends += 1;
    });
    const standby = await standbyOf(primary, port, { close: 100, dead: 60_000 });
    await standby.follower.stop('leave');
    expect(ends).toBe(1);
    await until(() => primary.heard.length === 2);
  });
});

describe('a refusal', () => {
  it('is the last that is written, whatever else the peer had sent', async () => {
    const primary = await primaryNode({});
    const destroy = vi.spyOn(Socket.prototype, 'destroy');
    const raw = new RawStandby(primary.port);
    const hello = { minVersion: 99, maxVersion: 99, name: 'x', sender: undefined };
    raw.socket.write(Buffer.concat([encodeStandbyHello(hello), encodeStandbyHello(hello)]));
    await raw.closed;
    await until(() => primary.hub.status().connections.connections === 0);
    expect(raw.refusal?.code).toBe('WAL_VERSION');
    expect(destroy.mock.calls.filter(([error]) => error !== undefined && error !== null)).toEqual(
      [],
    );
  });
});
