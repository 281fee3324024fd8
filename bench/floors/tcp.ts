import { once } from 'node:events';
import net from 'node:net';
import type { TcpAgent } from '../agents/tcp_agent.js';
import { Agent } from '../harness/agent.js';
import { median } from '../harness/statistics.js';

const CHUNK_BYTES = 256 * 1024;
const PING_BYTES = 64;

const program = new URL('../agents/tcp_agent.js', import.meta.url);

/** Bytes a second between two Node processes over loopback. */
export async function tcpThroughput(seconds: number, runs: number): Promise<number> {
  const rates: number[] = [];
  for (let run = 0; run < runs; run++) {
    const agent = Agent.start<TcpAgent>(program);
    try {
      const { server, port, accepted } = await listen();
      const received = agent.call('sink', { port });
      const socket = await accepted;
      await writeFor(socket, seconds);
      socket.end();
      const sample = await received;
      server.close();
      rates.push(sample.operations / sample.seconds);
    } finally {
      await agent.stop();
    }
  }
  return median(rates);
}

/** Seconds from a small write to its echo, median. */
export async function tcpRoundTrip(seconds: number): Promise<number> {
  const agent = Agent.start<TcpAgent>(program);
  try {
    const { server, port, accepted } = await listen();
    const echoed = agent.call('echo', { port });
    const socket = await accepted;
    await pings(socket, seconds / 2); // warm-up
    const trips = await pings(socket, seconds);
    socket.end();
    await echoed;
    server.close();
    return median(trips) / 1000;
  } finally {
    await agent.stop();
  }
}

interface Listening {
  readonly server: net.Server;
  readonly port: number;
  readonly accepted: Promise<net.Socket>;
}

async function listen(): Promise<Listening> {
  const server = net.createServer({ noDelay: true });
  const accepted = once(server, 'connection').then(([socket]) => socket as net.Socket);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, port: (server.address() as net.AddressInfo).port, accepted };
}

async function writeFor(socket: net.Socket, seconds: number): Promise<void> {
  const chunk = Buffer.alloc(CHUNK_BYTES, 0x5a);
  const end = performance.now() + seconds * 1000;
  while (performance.now() < end) {
    if (!socket.write(chunk)) await once(socket, 'drain');
  }
}

/** Milliseconds of each round trip. */
async function pings(socket: net.Socket, seconds: number): Promise<number[]> {
  const ping = Buffer.alloc(PING_BYTES, 0x5a);
  const trips: number[] = [];
  const end = performance.now() + seconds * 1000;
  return await new Promise((resolve, reject) => {
    let sent = 0;
    let missing = 0;
    const send = (): void => {
      sent = performance.now();
      missing = PING_BYTES;
      socket.write(ping);
    };
    const receive = (data: Buffer): void => {
      missing -= data.length;
      if (missing > 0) return;
      const now = performance.now();
      trips.push(now - sent);
      if (now < end) send();
      else {
        socket.off('data', receive);
        resolve(trips);
      }
    };
    socket.on('data', receive);
    socket.once('error', reject);
    send();
  });
}
