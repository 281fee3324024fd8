import type { Socket } from 'node:net';
import { channelOf } from './channel.js';
import type { Environment, Timer } from './environment.js';
import { Gate } from './gate.js';
import { type Endpoint, Listener, type ListenerCounts, type ListenOptions } from './listener.js';
import type { Security, TlsOptions } from './security.js';
import { defaultLimits, type ListenLimits, type ReplicationTiming } from './timing.js';

/** What a role does with those who come. */
export interface DoorKeeper {
  onConnection(socket: Socket, acceptedAt: number): void;
  /** Somebody was not let in. */
  onRefused(address: string, reason: string): void;
  /** Other names are let in from now on. */
  revoke(allow: TlsOptions['allow']): void;
  tick(nowMs: number): void;
}

export interface DoorOptions {
  readonly logId: string;
  readonly timing: ReplicationTiming;
  readonly environment: Environment;
  readonly limits?: Partial<ListenLimits> | undefined;
}

/**
 * Where a node listens, in every role: it outlives the keeper that a role puts there. While there
 * is none, nobody is let in.
 */
export class Door {
  readonly #options: DoorOptions;
  readonly #listener: Listener;
  #keeper: DoorKeeper | undefined;
  #security: Pick<Security, 'tls' | 'secret'> = {};
  #listening: Endpoint | null = null;
  #timer: Timer | undefined;
  #holds = true;

  constructor(options: DoorOptions) {
    this.#options = options;
    this.#listener = new Listener(
      { ...defaultLimits, ...options.limits },
      {
        now: () => options.environment.now(),
        onConnection: (socket, acceptedAt) => this.#connected(socket, acceptedAt),
        onRefused: (address, reason) => this.#keeper?.onRefused(address, reason),
      },
    );
  }

  get listening(): Endpoint | null {
    return this.#listening;
  }

  get counts(): Readonly<ListenerCounts> {
    return { ...this.#listener.counts };
  }

  get security(): Pick<Security, 'tls' | 'secret'> {
    return this.#security;
  }

  get holds(): boolean {
    return this.#holds;
  }

  /** Refused off loopback without TLS, unless `plaintext` is said (WAL_PLAINTEXT). */
  async listen(options: ListenOptions): Promise<Endpoint> {
    if (this.#listening !== null) throw new Error('the door is open already');
    this.#security = { tls: options.tls, secret: options.secret };
    const { environment, timing } = this.#options;
    this.#listening = await this.#listener.listen({ ...options, environment });
    const { heartbeat, dead, handshake, close } = timing;
    const period = Math.max(5, Math.min(heartbeat, dead, handshake, close) / 2);
    this.#timer = environment.setInterval(() => this.#tick(), period);
    this.#timer.unref();
    return this.#listening;
  }

  /** Who comes from now on is this keeper's. */
  keptBy(keeper: DoorKeeper | undefined): void {
    this.#keeper = keeper;
  }

  /** Only of its own: another role may have put its keeper there. */
  leftBy(keeper: DoorKeeper): void {
    if (this.#keeper === keeper) this.#keeper = undefined;
  }

  /**
   * Certificates, and who may come, for the connections from now on. Those that are there stay,
   * unless their peers may not come any more. Throws, and changes nothing, where they cannot be
   * used.
   */
  reloadTls(tls: TlsOptions): void {
    this.#listener.reloadTls(tls);
    this.#security = { ...this.#security, tls };
    this.#keeper?.revoke(tls.allow);
  }

  /** What this peer has to show first. */
  gate(socket: Socket): Gate {
    return new Gate(this.#security, channelOf(socket), this.#options.logId);
  }

  /** The handshake of this connection is through. */
  admitted(socket: Socket): void {
    this.#listener.admitted(socket);
  }

  /** Whether listening keeps the process alive. Default true. */
  setRef(holds: boolean): void {
    this.#holds = holds;
    this.#listener.setRef(holds);
  }

  /** Nobody comes any more. Resolves when the connections that are there are closed too. */
  async close(how: 'leave' | 'drop' = 'leave'): Promise<void> {
    await this.#listener.close(how);
    this.#options.environment.clearTimer(this.#timer);
    this.#listening = null;
  }

  #connected(socket: Socket, acceptedAt: number): void {
    if (this.#keeper !== undefined && !socket.destroyed) {
      this.#keeper.onConnection(socket, acceptedAt);
      return;
    }
    socket.on('error', () => undefined);
    socket.destroy();
  }

  #tick(): void {
    const now = this.#options.environment.now();
    this.#listener.endSecuring(now - this.#options.timing.handshake);
    this.#keeper?.tick(now);
  }
}
