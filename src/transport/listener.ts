import type { Server, Socket } from 'node:net';
import { WalError } from '../api/errors.js';
import { type Endpoint, peerAddress, showEndpoint } from './endpoint.js';
import { type Environment, processEnvironment } from './environment.js';
import { HalfOpen } from './half_open.js';
import { listenAddress } from './plaintext.js';
import type { Security, TlsOptions } from './security.js';
import type { ListenLimits } from './timing.js';
import { rawSocketOf, TlsDoor } from './tls_door.js';

export type { Endpoint } from './endpoint.js';

export interface ListenOptions extends Endpoint, Security {
  readonly environment?: Environment | undefined;
}

/** Counts, for the status. */
export interface ListenerCounts {
  connections: number;
  halfOpen: number;
  /** Turned away at the door, or made to give way to a newer one before they were through. */
  turnedAway: number;
}

export interface ListenerHost {
  /** Monotone milliseconds. */
  now(): number;
  /** A peer, whose certificate was verified where there is TLS; accepted at this time. */
  onConnection(socket: Socket, acceptedAt: number): void;
  /** A connection came to nothing before that. */
  onRefused(address: string, reason: string): void;
}

/** A connection that TLS is not through with, or was not. */
interface Securing {
  readonly address: string;
  readonly acceptedAt: number;
}

/**
 * The listening socket and its caps: connections in all, and such whose handshake is not through,
 * that of TLS included, so that strangers cost a bounded amount of memory and never hold up the
 * log. Where all places of the latter are taken, one of them gives way (HalfOpen).
 */
export class Listener {
  readonly counts: ListenerCounts = { connections: 0, halfOpen: 0, turnedAway: 0 };
  readonly #limits: ListenLimits;
  readonly #host: ListenerHost;
  readonly #open = new Set<Socket>();
  readonly #halfOpen = new HalfOpen();
  readonly #securing = new Map<Socket, Securing>();
  #server: Server | undefined;
  #holds = true;
  #door: TlsDoor | undefined;

  constructor(limits: ListenLimits, host: ListenerHost) {
    this.#limits = limits;
    this.#host = host;
  }

  async listen(options: ListenOptions): Promise<Endpoint> {
    const { environment = processEnvironment } = options;
    const host = await listenAddress(options, environment).catch((error: unknown) => {
      throw error instanceof WalError ? error : listenError(options, error as Error);
    });
    if (options.tls !== undefined) this.#door = this.#tlsDoor(options.tls);
    const server = environment.createServer({ highWaterMark: 64 * 1024 }, (socket) =>
      this.#accept(socket),
    );
    this.#server = server;
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => reject(listenError(options, error)));
      server.listen({ host, port: options.port, exclusive: true }, resolve);
    });
    // Later errors (no descriptors left, say) concern one connection each, not the log.
    server.removeAllListeners('error');
    server.on('error', () => undefined);
    this.setRef(this.#holds);
    const address = server.address();
    if (address === null || typeof address === 'string') throw new TypeError('not a TCP address');
    return { host: address.address, port: address.port };
  }

  /** Whether listening keeps the process alive. Default true. */
  setRef(holds: boolean): void {
    this.#holds = holds;
    if (holds) this.#server?.ref();
    else this.#server?.unref();
  }

  /** Certificates for the handshakes from now on. Throws where there is no TLS, or they are bad. */
  reloadTls(tls: TlsOptions): void {
    if (this.#door === undefined) throw new TypeError('it does not listen with TLS');
    this.#door.reload(tls);
  }

  /** The handshake of this connection is through. */
  admitted(socket: Socket): void {
    this.#halfOpen.delete(rawSocketOf(socket) ?? socket);
    this.#count();
  }

  /** Ends the TLS handshakes that were begun before `since`. */
  endSecuring(since: number): void {
    for (const [raw, { acceptedAt }] of this.#securing) {
      if (acceptedAt <= since) this.#refuse(raw, 'the TLS handshake took too long');
    }
  }

  /**
   * Takes no more connections; those there are stay, unless they are still in a TLS handshake, or
   * all are to be dropped. Resolves when none is left.
   */
  async close(how: 'leave' | 'drop' = 'leave'): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (server === undefined) return;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const raw of how === 'drop' ? this.#open : this.#securing.keys()) raw.destroy();
    await closed;
  }

  #accept(socket: Socket): void {
    socket.on('error', () => undefined);
    if (this.#halfOpen.size >= this.#limits.halfOpen) this.#giveWay();
    if (this.#open.size >= this.#limits.connections) {
      this.counts.turnedAway += 1;
      socket.destroy();
      return;
    }
    const acceptedAt = this.#host.now();
    this.#open.add(socket);
    this.#halfOpen.add(socket);
    this.#count();
    socket.once('close', () => this.#left(socket));
    if (this.#door === undefined) this.#host.onConnection(socket, acceptedAt);
    else this.#secure(this.#door, socket, acceptedAt);
  }

  #giveWay(): void {
    const oldest = this.#halfOpen.oldestOfMost();
    if (oldest === undefined) return;
    this.counts.turnedAway += 1;
    const address = this.#securing.get(oldest)?.address ?? peerAddress(oldest);
    this.#host.onRefused(address, 'its place was wanted before its handshake was through');
    // At once: of many that come in one turn of the loop, each is to find its place free.
    this.#left(oldest);
    this.#securing.delete(oldest);
    oldest.destroy();
  }

  #left(socket: Socket): void {
    this.#open.delete(socket);
    this.#halfOpen.delete(socket);
    this.#count();
  }

  #count(): void {
    this.counts.connections = this.#open.size;
    this.counts.halfOpen = this.#halfOpen.size;
  }

  /** What TLS says of a connection may come after its end. */
  #secure(door: TlsDoor, raw: Socket, acceptedAt: number): void {
    this.#securing.set(raw, { address: peerAddress(raw), acceptedAt });
    raw.once('close', () => setImmediate(() => this.#refuse(raw, 'it went away during TLS')));
    door.take(raw);
  }

  #tlsDoor(tls: TlsOptions): TlsDoor {
    return new TlsDoor(tls, {
      onSecure: (socket, raw) => {
        const securing = this.#securing.get(raw);
        this.#securing.delete(raw);
        if (securing === undefined || this.#server === undefined) socket.destroy();
        else this.#host.onConnection(socket, securing.acceptedAt);
      },
      onFailed: (raw, reason) => {
        if (raw !== undefined) this.#refuse(raw, reason);
      },
    });
  }

  #refuse(raw: Socket, reason: string): void {
    const securing = this.#securing.get(raw);
    // What is ended here fails in TLS as well: told once.
    if (securing === undefined) return;
    this.#securing.delete(raw);
    this.#host.onRefused(securing.address, reason);
    raw.destroy();
  }
}

/**
 * Throws what `listen` would throw now: it is better known before a role is taken, or a log
 * created, for it. It may still change in between; `listen` then throws, with the role taken.
 */
export async function requireBindable(options: ListenOptions): Promise<void> {
  const nobody = { now: () => 0, onConnection: () => undefined, onRefused: () => undefined };
  const listener = new Listener({ connections: 0, halfOpen: 0 }, nobody);
  try {
    await listener.listen(options);
  } finally {
    await listener.close();
  }
}

function listenError(options: Endpoint, error: Error): WalError {
  const text = `cannot listen on ${showEndpoint(options)}: ${error.message}`;
  return new WalError('WAL_IO', text, { cause: error });
}
