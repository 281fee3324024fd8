import dns from 'node:dns';
import { createServer, type Server } from 'node:net';
import { afterEach, expect, it, vi } from 'vitest';
import type { WalError } from '../../src/api/errors.js';
import { dial } from '../../src/transport/dial.js';

const servers: Server[] = [];

afterEach(() => {
  vi.restoreAllMocks();
  for (const server of servers.splice(0)) server.close();
});

/** A name that has these addresses, whatever it is. */
function resolveTo(...addresses: readonly string[]): void {
  const lookup = (_: string, __: object, done: (error: null, found: object[]) => void): void =>
    done(
      null,
      addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
    );
  vi.spyOn(dns, 'lookup').mockImplementation(lookup as never);
}

function attempt(port: number): Promise<'connected' | WalError> {
  return new Promise((resolve) => {
    const socket = dial({ host: 'several.test', port }, new Uint8Array(64), {
      onConnect: () => {
        resolve('connected');
        socket.destroy();
      },
      onRead: () => true,
      onClose: resolve,
    });
  });
}

async function listening(host: string): Promise<number> {
  const server = createServer((socket) => socket.on('error', () => undefined).resume());
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  return (server.address() as { port: number }).port;
}

it('tries every address of a host', async () => {
  const port = await listening('127.0.0.3');
  resolveTo('::1', '127.0.0.1', '127.0.0.2', '127.0.0.3');
  expect(await attempt(port)).toBe('connected');
});

it('says of each address why it failed', async () => {
  const port = await listening('127.0.0.3');
  resolveTo('::1', '127.0.0.2');
  const error = (await attempt(port)) as WalError;
  expect(error.code).toBe('WAL_IO');
  expect(error.message).toMatch(/several\.test:\d+: .*127\.0\.0\.2.*; .*::1|::1.*; .*127\.0\.0\.2/);
});
