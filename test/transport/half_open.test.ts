import { Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { networkOf } from '../../src/transport/endpoint.js';
import { HalfOpen } from '../../src/transport/half_open.js';
import { Listener } from '../../src/transport/listener.js';
import { until } from './nodes.js';

/** A socket that says it is connected to this address. */
function from(address: string): Socket {
  const socket = new Socket();
  Object.defineProperty(socket, 'remoteAddress', { value: address });
  return socket;
}

function filled(addresses: readonly string[]): { places: HalfOpen; sockets: Socket[] } {
  const places = new HalfOpen();
  const sockets = addresses.map(from);
  for (const socket of sockets) places.add(socket);
  return { places, sockets };
}

describe('a place that is wanted by a newer connection', () => {
  it('is that of the oldest of the address that has most', () => {
    const { places, sockets } = filled(['10.0.0.1', '10.0.0.2', '10.0.0.2', '10.0.0.3']);
    expect(places.oldestOfMost()).toBe(sockets[1]);
    places.delete(sockets[1]!);
    expect(places.oldestOfMost()).toBe(sockets[0]);
  });

  it('counts an IPv6 network as one, and an IPv4 address in either spelling', () => {
    const { places, sockets } = filled([
      '10.0.0.1',
      '2001:db8:1:2::1',
      '2001:db8:1:2:ffff::1',
      '10.0.0.2',
    ]);
    expect(places.oldestOfMost()).toBe(sockets[1]);
    places.add(from('::ffff:10.0.0.1'));
    places.add(from('::ffff:10.0.0.1'));
    expect(places.oldestOfMost()).toBe(sockets[0]);
  });

  it('is none where there is none', () => {
    expect(new HalfOpen().oldestOfMost()).toBeUndefined();
  });
});

it.each([
  ['127.0.0.1', '127.0.0.1'],
  ['::ffff:192.0.2.7', '192.0.2.7'],
  ['::1', '0:0:0:0::/64'],
  ['2001:db8::1', '2001:db8:0:0::/64'],
  ['2001:DB8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
  ['fe80::1%eth0', 'fe80:0:0:0::/64'],
  ['64:ff9b::192.0.2.1', '64:ff9b:0:0::/64'],
  ['', ''],
])('the network of %j is %j', (address, network) => {
  expect(networkOf(address)).toBe(network);
});

describe('a listener whose places are taken', () => {
  const open: Socket[] = [];
  let listener: Listener;

  afterEach(async () => {
    for (const socket of open.splice(0)) socket.destroy();
    await listener.close();
  });

  async function connectFrom(localAddress: string, port: number): Promise<Socket> {
    const socket = new Socket();
    open.push(socket);
    socket.on('error', () => undefined);
    socket.resume();
    await new Promise<void>((resolve) => {
      socket.connect({ host: '127.0.0.1', port, localAddress }, resolve);
    });
    return socket;
  }

  it('lets others in while one address goes on to fill them, and tells of it', async () => {
    const taken: Socket[] = [];
    const told: string[] = [];
    const onRefused = (address: string, reason: string): void => {
      told.push(`${address.replace(/:\d+$/, '')}: ${reason}`);
    };
    listener = new Listener(
      { halfOpen: 4, connections: 8 },
      { now: () => 0, onConnection: (socket) => taken.push(socket), onRefused },
    );
    const { port } = await listener.listen({ host: '127.0.0.1', port: 0, plaintext: false });
    for (let i = 0; i < 4; i += 1) await connectFrom('127.0.0.2', port);
    await until(() => taken.length === 4);
    const member = await connectFrom('127.0.0.3', port);
    await until(() => taken.length === 5);
    for (let i = 0; i < 6; i += 1) await connectFrom('127.0.0.2', port);
    await until(() => taken.length === 11);
    await until(() => taken.filter((socket) => socket.destroyed).length === 7);
    expect(taken.find(({ remoteAddress }) => remoteAddress === '127.0.0.3')?.destroyed).toBe(false);
    expect(member.destroyed).toBe(false);
    expect(listener.counts).toEqual({ connections: 4, halfOpen: 4, turnedAway: 7 });
    const reason = 'its place was wanted before its handshake was through';
    expect(told).toEqual(Array.from({ length: 7 }, () => `127.0.0.2: ${reason}`));
  });

  it('takes no place from those that are through, and turns away where all are', async () => {
    const taken: Socket[] = [];
    const onConnection = (socket: Socket): void => {
      taken.push(socket);
      listener.admitted(socket);
    };
    listener = new Listener(
      { halfOpen: 2, connections: 3 },
      { now: () => 0, onConnection, onRefused: () => undefined },
    );
    const { port } = await listener.listen({ host: '127.0.0.1', port: 0, plaintext: false });
    for (let i = 0; i < 5; i += 1) await connectFrom('127.0.0.2', port);
    await until(() => listener.counts.turnedAway === 2);
    expect(taken.map(({ destroyed }) => destroyed)).toEqual([false, false, false]);
    expect(listener.counts).toEqual({ connections: 3, halfOpen: 0, turnedAway: 2 });
  });
});
