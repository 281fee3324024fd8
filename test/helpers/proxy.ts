import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** What happens to bytes in one direction. Changes take effect for the bytes that come after. */
export interface Lane {
  /** Milliseconds that each chunk is late. */
  delayMs: number;
  /** Chunks of at most this many bytes, each in a turn of its own. */
  drip: number;
  /** hold: kept until `release`; swallow: lost without a sign, as on a half-open connection. */
  mode: 'pass' | 'hold' | 'swallow';
  /** The connection is cut when this many bytes of it have passed. */
  cutAfter: number;
}

function openLane(): Lane {
  return { delayMs: 0, drip: Number.POSITIVE_INFINITY, mode: 'pass', cutAfter: Infinity };
}

/** A TCP proxy between a standby and its primary that does what networks do. */
export class TcpProxy {
  readonly toPrimary = openLane();
  readonly toStandby = openLane();
  /** Connections accepted so far. */
  connections = 0;
  #server: Server;
  #target = 0;
  #held: (() => void)[] = [];
  #sockets = new Set<Socket>();

  private constructor() {
    this.#server = createServer((socket) => this.#accept(socket));
  }

  static async open(target: number): Promise<TcpProxy> {
    const proxy = new TcpProxy();
    proxy.#target = target;
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Connections from now on lead there. */
  set target(port: number) {
    this.#target = port;
  }

  /** Ends every connection, without a word. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Lets go what was held, in order; also into connections that are dead by now. */
  release(): void {
    this.toPrimary.mode = 'pass';
    this.toStandby.mode = 'pass';
    for (const send of this.#held.splice(0)) send();
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #accept(standby: Socket): void {
    this.connections += 1;
    const primary = connect({ port: this.#target, host: '127.0.0.1', noDelay: true });
    standby.setNoDelay(true);
    this.#join(standby, primary, this.toPrimary);
    this.#join(primary, standby, this.toStandby);
  }

  #join(from: Socket, to: Socket, lane: Lane): void {
    this.#sockets.add(from);
    let passed = 0;
    let last = Promise.resolve();
    from.on('data', (chunk) => {
      last = last.then(() =>
        this.#pass(chunk, to, lane, (bytes) => {
          const room = lane.cutAfter - passed;
          passed += Math.min(bytes, Math.max(0, room));
          return room;
        }),
      );
    });
    from.on('error', () => undefined);
    from.on('close', () => {
      this.#sockets.delete(from);
      if (lane.mode !== 'swallow') to.destroy();
    });
  }

  async #pass(
    chunk: Buffer,
    to: Socket,
    lane: Lane,
    count: (bytes: number) => number,
  ): Promise<void> {
    if (lane.mode === 'swallow') return;
    if (lane.delayMs > 0) await new Promise((resolve) => setTimeout(resolve, lane.delayMs));
    for (let at = 0; at < chunk.length; at += lane.drip) {
      const piece = chunk.subarray(at, Math.min(chunk.length, at + lane.drip));
      if (lane.drip < chunk.length) await new Promise((resolve) => setImmediate(resolve));
      const send = (): void => {
        const room = count(piece.length);
        if (room > 0) to.write(piece.subarray(0, Math.min(piece.length, room)));
        if (room <= piece.length) to.end(() => to.destroy());
      };
      if (lane.mode === 'hold') this.#held.push(send);
      else send();
    }
  }
}
