import { Socket } from 'node:net';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { State } from '../../src/native/native_log.js';
import { encodeStandbyHello } from '../../src/wire/handshake_messages.js';
import { freshDir } from '../helpers/temp.js';
import { payload } from '../native/native.js';
import { PrimaryNode, quick, until } from './nodes.js';
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
