import { createServer, type Server, type Socket } from 'node:net';
import { WalError } from '../api/errors.js';
import { listenAddress } from './plaintext.js';
import type { ListenLimits } from './timing.js';

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

export interface ListenOptions extends Endpoint {
  readonly plaintext: boolean;
}

/** Counts, for the status. */
export interface ListenerCounts {
  connections: number;
  halfOpen: number;
  /** Turned away at the door. */
  turnedAway: number;
}

/**
 * The listening socket and its caps: connections in all, and such whose handshake is not through,
 * so that strangers cost a bounded amount of memory and never hold up the log.
 */
export class Listener {
  readonly counts: ListenerCounts = { connections: 0, halfOpen: 0, turnedAway: 0 };
  readonly #limits: ListenLimits;
  readonly #halfOpen = new Set<Socket>();
  readonly #onConnection: (socket: Socket) => void;
  #server: Server | undefined;

  constructor(limits: ListenLimits, onConnection: (socket: Socket) => void) {
    this.#limits = limits;
    this.#onConnection = onConnection;
  }

  async listen(options: ListenOptions): Promise<Endpoint> {
    const host = await listenAddress(options.host, options.plaintext).catch((error: unknown) => {
      throw error instanceof WalError ? error : listenError(options, error as Error);
    });
    const server = createServer({ highWaterMark: 64 * 1024 }, (socket) => this.#accept(socket));
    this.#server = server;
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => reject(listenError(options, error)));
      server.listen({ host, port: options.port, exclusive: true }, resolve);
    });
    // Later errors (no descriptors left, say) concern one connection each, not the log.
    server.removeAllListeners('error');
    server.on('error', () => undefined);
    const address = server.address();
    if (address === null || typeof address === 'string') throw new TypeError('not a TCP address');
    return { host: address.address, port: address.port };
  }

  /** The handshake of this connection is through. */
  admitted(socket: Socket): void {
    if (this.#halfOpen.delete(socket)) this.counts.halfOpen -= 1;
  }

  /** Takes no more connections; those there are stay. */
  async close(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (server === undefined) return;
    await new Promise<void>((resolve) => server.close(() => resolve()));
  }

  #accept(socket: Socket): void {
    const { counts } = this;
    if (
      counts.connections >= this.#limits.connections ||
      counts.halfOpen >= this.#limits.halfOpen
    ) {
      counts.turnedAway += 1;
      socket.on('error', () => undefined);
      socket.destroy();
      return;
    }
    counts.connections += 1;
    counts.halfOpen += 1;
    this.#halfOpen.add(socket);
    socket.once('close', () => {
      counts.connections -= 1;
      this.admitted(socket);
    });
    this.#onConnection(socket);
  }
}

/**
 * Throws what `listen` would throw now: it is better known before a role is taken, or a log
 * created, for it. It may still change in between; `listen` then throws, with the role taken.
 */
export async function requireBindable(options: ListenOptions): Promise<void> {
  const listener = new Listener({ connections: 0, halfOpen: 0 }, () => undefined);
  try {
    await listener.listen(options);
  } finally {
    await listener.close();
  }
}

function listenError(options: Endpoint, error: Error): WalError {
  const text = `cannot listen on ${options.host}:${options.port}: ${error.message}`;
  return new WalError('WAL_IO', text, { cause: error });
}
