import { createServer } from 'node:net';

/**
 * Below what systems give to outgoing connections and to those who ask for any port (Linux: from
 * 32768): such a one would be somebody else's while a node that is to have it is away.
 */
const FIRST = 10_240;
/** For each process; two with neighbouring ids have none in common. */
const EACH = 64;
const SLOTS = 350;

let taken = 0;

/** Ports that nobody has now, all different; nobody else who asks here gets them soon. */
export async function freePorts(count: number, address = '127.0.0.1'): Promise<number[]> {
  const ports: number[] = [];
  for (let tries = 0; ports.length < count && tries < 2 * EACH; tries += 1) {
    const port = FIRST + (process.pid % SLOTS) * EACH + (taken % EACH);
    taken += 1;
    if (await isFree(port, address)) ports.push(port);
  }
  if (ports.length < count) throw new Error(`no ${count} ports are free at ${address}`);
  return ports;
}

function isFree(port: number, address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, address, () => server.close(() => resolve(true)));
  });
}
