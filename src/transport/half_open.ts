import type { Socket } from 'node:net';
import { networkOf } from './endpoint.js';

/** The connections whose peers have not shown yet who they are, oldest first. */
export class HalfOpen {
  readonly #networks = new Map<Socket, string>();

  get size(): number {
    return this.#networks.size;
  }

  add(socket: Socket): void {
    this.#networks.set(socket, networkOf(socket.remoteAddress ?? ''));
  }

  /** Whether it was one of them. */
  delete(socket: Socket): boolean {
    return this.#networks.delete(socket);
  }

  /**
   * Which one gives way where there are too many: the oldest of the network that has most of them.
   * So a stranger who fills the places gives way to himself, and whoever else comes gets one. Of
   * several members behind one address each gets one too, and keeps it while it is used: a
   * handshake takes a moment, and the oldest is the one that has not made it yet.
   */
  oldestOfMost(): Socket | undefined {
    const counts = new Map<string, number>();
    for (const network of this.#networks.values()) {
      counts.set(network, (counts.get(network) ?? 0) + 1);
    }
    const most = Math.max(...counts.values());
    for (const [socket, network] of this.#networks) {
      if (counts.get(network) === most) return socket;
    }
    return undefined;
  }
}
