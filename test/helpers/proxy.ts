import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { lengthBytes, prefixBytes } from '../../src/wire/message_type.js';

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
  /** Of each connection the byte at this place is changed. */
  flipAt: number;
  /** The connection is cut when so much of it has passed. */
  cutAt: PlaceInStream | undefined;
}

/** Whole messages, and bytes of the one after them. */
export interface PlaceInStream {
  readonly messages: number;
  readonly bytes: number;
}

function openLane(): Lane {
  const forever = Number.POSITIVE_INFINITY;
  return {
    delayMs: 0,
    drip: forever,
    mode: 'pass',
    cutAfter: forever,
    flipAt: forever,
    cutAt: undefined,
  };
}

export interface Message {
  readonly type: number;
  readonly bytes: number;
}

/** Finds the messages in a stream of bytes. */
class MessageFinder {
  /** Those of which length and type have come. */
  readonly found: Message[] = [];
  readonly #prefix = Buffer.alloc(prefixBytes);
  #seen = 0;
  #whole = 0;

  /** How many of these bytes come before the place; one more than there are if it is further on. */
  upTo(bytes: Buffer, place: PlaceInStream): number {
    for (let at = 0; at <= bytes.length; at += 1) {
      if (this.#whole === place.messages && this.#seen === place.bytes) return at;
      if (at < bytes.length) this.#take(bytes.readUInt8(at));
    }
    return bytes.length + 1;
  }

  #take(byte: number): void {
    if (this.#seen < prefixBytes) this.#prefix[this.#seen] = byte;
    this.#seen += 1;
    if (this.#seen < prefixBytes) return;
    if (this.#seen === prefixBytes) {
      const type = this.#prefix.readUInt8(lengthBytes);
      this.found.push({ type, bytes: this.#prefix.readUInt32LE(0) + lengthBytes });
    }
    if (this.#seen < (this.found.at(-1)?.bytes ?? 0)) return;
    this.#seen = 0;
    this.#whole += 1;
  }
}

const nowhere: PlaceInStream = { messages: Number.POSITIVE_INFINITY, bytes: 0 };

/** A TCP proxy between a standby and its primary that does what networks do. */
export class TcpProxy {
  readonly toPrimary = openLane();
  readonly toStandby = openLane();
  /** Connections accepted so far. */
  connections = 0;
  /** For each connection that was cut at its `cutAt`: the messages up to there. */
  readonly cuts: (readonly Message[])[] = [];
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
    const finder = new MessageFinder();
    /** How many of these bytes may pass; more than there are: no cut is due. */
    const roomFor = (piece: Buffer): number => {
      const flip = lane.flipAt - passed;
      if (flip >= 0 && flip < piece.length) piece[flip]! ^= 1;
      const place = finder.upTo(piece, lane.cutAt ?? nowhere);
      if (place <= piece.length) this.cuts.push(finder.found);
      const room = Math.min(lane.cutAfter - passed, place);
      passed += Math.min(piece.length, Math.max(0, room));
      return room;
    };
    from.on('data', (chunk) => {
      last = last.then(() => this.#pass(chunk, to, lane, roomFor));
    });
    from.on('error', () => undefined);
    from.on('close', () => {
      this.#sockets.delete(from);
      // What it said before its end still arrives.
      if (lane.mode !== 'swallow') last.then(() => to.destroySoon());
    });
  }

  async #pass(
    chunk: Buffer,
    to: Socket,
    lane: Lane,
    roomFor: (piece: Buffer) => number,
  ): Promise<void> {
    if (lane.mode === 'swallow') return;
    if (lane.delayMs > 0) await new Promise((resolve) => setTimeout(resolve, lane.delayMs));
    for (let at = 0; at < chunk.length; at += lane.drip) {
      const piece = chunk.subarray(at, Math.min(chunk.length, at + lane.drip));
      if (lane.drip < chunk.length) await new Promise((resolve) => setImmediate(resolve));
      const send = (): void => {
        if (to.writableEnded) return;
        const room = roomFor(piece);
        if (room > 0) to.write(piece.subarray(0, Math.min(piece.length, room)));
        if (room <= piece.length) to.end(() => to.destroy());
      };
      if (lane.mode === 'hold') this.#held.push(send);
      else send();
    }
  }
}
