import { EventEmitter } from 'node:events';
import type { AddressInfo, NetConnectOpts, Server, Socket } from 'node:net';
import { Duplex } from 'node:stream';
import type { Random } from './random.js';

/** Where an end of a connection lives: what happens there happens while that machine runs. */
export interface Host {
  readonly name: string;
  readonly address: string;
  /** Grows each time it goes off: what was connected before is gone. */
  readonly life: number;
  readonly isOn: boolean;
  readonly servers: Map<number, SimulatedServer>;
  /** Runs it there, so many milliseconds from now; never, if the machine goes off before. */
  after(ms: number, run: () => void): void;
}

export interface NetworkHost {
  readonly random: Random;
  readonly now: number;
  after(ms: number, run: () => void): void;
  hostOf(nameOrAddress: string): Host | undefined;
  /** For the hash of all that happened. */
  note(what: string, size: number): void;
}

/** How connections behave; milliseconds and bytes. Each may be changed at any time. */
export interface NetworkOptions {
  latency: number;
  /** Up to so much more, drawn for each piece. */
  jitter: number;
  /** Bytes under way in one direction of a connection before the sender has to wait. */
  window: number;
  /** How often a piece arrives in parts, from 0 to 1. */
  split: number;
}

/** Between attempts of a connection whose packets do not arrive. */
const CONNECT_RETRY_MS = 1000;
/** From a `write` to the system's having taken its bytes, which are read then and not before. */
const SEND_MS = 0.005;

/**
 * The connections between machines: ordered and whole, as TCP makes them, with delays; packets of
 * one direction can be held up, and ends of connections can be lost.
 */
export class SimulatedNetwork {
  readonly options: NetworkOptions = { latency: 0.1, jitter: 0.1, window: 64 * 1024, split: 0.1 };
  readonly #host: NetworkHost;
  readonly #blocked = new Set<string>();
  readonly #pipes = new Set<Pipe>();

  constructor(host: NetworkHost) {
    this.#host = host;
  }

  /** Nothing that `from` sends arrives at `to` any more, before it is unblocked. */
  block(from: string, to: string): void {
    this.#blocked.add(`${from}>${to}`);
  }

  unblock(from: string, to: string): void {
    this.#blocked.delete(`${from}>${to}`);
    for (const pipe of [...this.#pipes]) {
      if (pipe.from.name === from && pipe.to.name === to) pipe.release();
    }
  }

  /** Ends every block and every hold. */
  heal(): void {
    for (const key of [...this.#blocked]) {
      const [from = '', to = ''] = key.split('>');
      this.unblock(from, to);
    }
    for (const pipe of [...this.#pipes]) {
      pipe.held = false;
      pipe.release();
    }
  }

  /** The connections that there are now deliver nothing from `from` to `to`; new ones do. */
  hold(from: string, to: string, ms: number): void {
    for (const pipe of this.#pipes) {
      if (pipe.from.name !== from || pipe.to.name !== to) continue;
      pipe.held = true;
      this.#host.after(ms, () => {
        pipe.held = false;
        pipe.release();
      });
    }
  }

  /** Ends the connections between two machines, as a router that forgot them. */
  reset(a: string, b: string): void {
    for (const pipe of [...this.#pipes]) {
      const isBetween = pipe.from.name === a && pipe.to.name === b;
      if (isBetween || (pipe.from.name === b && pipe.to.name === a)) pipe.reset();
    }
  }

  isBlocked(from: Pick<Host, 'name'>, to: Pick<Host, 'name'>): boolean {
    return this.#blocked.size > 0 && this.#blocked.has(`${from.name}>${to.name}`);
  }

  delay(): number {
    const { latency, jitter } = this.options;
    return latency + this.#host.random.fraction() * jitter;
  }

  get now(): number {
    return this.#host.now;
  }

  get random(): Random {
    return this.#host.random;
  }

  note(what: string, size: number): void {
    this.#host.note(what, size);
  }

  /** `life`: of `from`, whose doing it is; what is left of an earlier one reaches nobody. */
  connect(from: Host, options: NetConnectOpts, life = from.life): Socket {
    const {
      host = 'localhost',
      port,
      onread,
    } = options as {
      host?: string;
      port: number;
      onread?: OnRead;
    };
    const socket = new SimulatedSocket(from, onread);
    if (from.isOn && from.life === life) this.#dial(socket, from, host, port);
    return socket as unknown as Socket;
  }

  listen(host: Host, onConnection: (socket: Socket) => void, life = host.life): Server {
    return new SimulatedServer(host, onConnection, life) as unknown as Server;
  }

  /** The machine has gone off. `told`: its system still ends its connections, as that of a process
   *  that was killed. */
  left(host: Host, told: boolean): void {
    for (const pipe of [...this.#pipes]) {
      if (pipe.to === host) this.#pipes.delete(pipe);
      if (pipe.from !== host) continue;
      if (told) pipe.sendEnd('reset');
      else this.#pipes.delete(pipe);
    }
  }

  forget(pipe: Pipe): void {
    this.#pipes.delete(pipe);
  }

  #dial(socket: SimulatedSocket, from: Host, name: string, port: number): void {
    const to = name === 'localhost' ? from : this.#host.hostOf(name);
    from.after(this.delay(), () => {
      if (socket.destroyed) return;
      if (to === undefined || !to.isOn || this.isBlocked(from, to) || this.isBlocked(to, from)) {
        from.after(CONNECT_RETRY_MS, () => this.#dial(socket, from, name, port));
        return;
      }
      const server = to.servers.get(port);
      if (server === undefined) {
        socket.destroy(systemError('ECONNREFUSED', `connect ${to.address}:${port}`));
        return;
      }
      this.#join(socket, from, to, port, server);
    });
  }

  #join(socket: SimulatedSocket, from: Host, to: Host, port: number, server: SimulatedServer) {
    const other = new SimulatedSocket(to, undefined);
    const there = new Pipe(this, from, to, socket, other);
    const back = new Pipe(this, to, from, other, socket);
    this.#pipes.add(there);
    this.#pipes.add(back);
    const ownPort = this.random.integer(30_000, 60_000);
    socket.joined(there, back, to.address, port);
    other.joined(back, there, from.address, ownPort);
    to.after(0, () => {
      if (server.isListening) server.accept(other);
      else other.destroy();
    });
    from.after(this.delay(), () => socket.connected());
  }
}

interface OnRead {
  readonly buffer: Uint8Array;
  readonly callback: (count: number, buffer: Uint8Array) => boolean;
}

type End = 'end' | 'reset';

/** One direction of a connection. */
class Pipe {
  readonly from: Host;
  readonly to: Host;
  held = false;
  /** For the hash. */
  readonly #name: string;
  readonly #network: SimulatedNetwork;
  readonly #sender: SimulatedSocket;
  readonly #receiver: SimulatedSocket;
  readonly #fromLife: number;
  readonly #toLife: number;
  /** What has arrived at a block, in order. */
  #waiting: (Uint8Array | End)[] = [];
  /** On its way, in order. */
  #moving: (Uint8Array | End)[] = [];
  #underWay = 0;
  #lastArrival = 0;
  #space: (() => void) | undefined;
  #ended = false;

  constructor(
    network: SimulatedNetwork,
    from: Host,
    to: Host,
    sender: SimulatedSocket,
    receiver: SimulatedSocket,
  ) {
    this.#network = network;
    this.from = from;
    this.to = to;
    this.#name = `${from.name}>${to.name}`;
    this.#sender = sender;
    this.#receiver = receiver;
    this.#fromLife = from.life;
    this.#toLife = to.life;
  }

  get unsent(): number {
    return this.#underWay;
  }

  get hasSpace(): boolean {
    return this.#underWay < this.#network.options.window;
  }

  whenSpace(run: () => void): void {
    this.#space = run;
  }

  send(bytes: Uint8Array): void {
    const { random, options } = this.#network;
    let at = 0;
    while (at < bytes.length) {
      const isWhole = !random.chance(options.split);
      const size = isWhole ? bytes.length - at : random.integer(1, bytes.length - at);
      this.#transmit(bytes.subarray(at, at + size));
      at += size;
    }
  }

  sendEnd(end: End): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#transmit(end);
  }

  /** Both ends find out by themselves, each after its own delay. */
  reset(): void {
    this.#ended = true;
    this.#network.forget(this);
    this.#waiting = [];
    if (this.to.life === this.#toLife) {
      this.to.after(this.#network.delay(), () => this.#receiver.broken('ECONNRESET'));
    }
  }

  /** The receiver has taken so much. */
  taken(bytes: number): void {
    this.#underWay -= bytes;
    const space = this.#space;
    if (space === undefined || !this.hasSpace) return;
    this.#space = undefined;
    if (this.from.life === this.#fromLife) this.from.after(this.#network.delay(), space);
  }

  release(): void {
    if (this.#isStopped) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    // Before all that is on its way: that was sent behind it.
    this.#moving.unshift(...waiting);
    for (const _ of waiting) this.#comeNext();
  }

  get #isStopped(): boolean {
    return this.held || this.#network.isBlocked(this.from, this.to);
  }

  #transmit(item: Uint8Array | End): void {
    if (typeof item !== 'string') this.#underWay += item.length;
    this.#moving.push(item);
    this.#comeNext();
  }

  /** One more of those on their way comes, the first of them. */
  #comeNext(): void {
    // In order: not before what was sent before it.
    const { now } = this.#network;
    this.#lastArrival = Math.max(now + this.#network.delay(), this.#lastArrival);
    if (this.to.life !== this.#toLife) {
      this.#moving = [];
      this.#reachNobody();
      return;
    }
    this.to.after(this.#lastArrival - now, () => this.#arrive(this.#moving.shift()!));
  }

  /** The other end does not know the connection any more, and says so if it can. */
  #reachNobody(): void {
    if (this.from.life !== this.#fromLife) return;
    this.from.after(2 * this.#network.delay(), () => {
      const { from, to } = this;
      const isAnswered = to.isOn && !this.held && !this.#network.isBlocked(from, to);
      if (isAnswered && !this.#network.isBlocked(to, from)) this.#sender.broken('ECONNRESET');
    });
  }

  #arrive(item: Uint8Array | End): void {
    if (this.#waiting.length > 0 || this.#isStopped) {
      // Who resets does not do so twice: where that is lost, the other end never hears of it.
      if (item !== 'reset') this.#waiting.push(item);
      return;
    }
    if (typeof item === 'string') {
      this.#network.note(`${this.#name} ${item}`, 0);
      if (item === 'end') this.#receiver.ended();
      else this.#receiver.broken('ECONNRESET');
      if (item === 'reset') this.#network.forget(this);
      return;
    }
    this.#network.note(this.#name, checksum(item));
    this.#receiver.arrived(item);
  }
}

/** What the transport uses of a `net.Socket`. */
class SimulatedSocket extends Duplex {
  connecting = true;
  remoteAddress: string | undefined;
  remotePort: number | undefined;
  readonly #host: Host;
  readonly #life: number;
  readonly #onread: OnRead | undefined;
  #out: Pipe | undefined;
  #in: Pipe | undefined;
  #waiting: (() => void) | undefined;
  #received: Uint8Array[] = [];
  #reading = true;
  #isEnded = false;

  constructor(host: Host, onread: OnRead | undefined) {
    super({ allowHalfOpen: false, highWaterMark: 16 * 1024 });
    this.#host = host;
    this.#life = host.life;
    this.#onread = onread;
  }

  /** For how much the system has not sent (transport/feeder.ts). */
  get _handle(): { readonly writeQueueSize: number } {
    return { writeQueueSize: this.#out?.unsent ?? 0 };
  }

  joined(out: Pipe, back: Pipe, address: string, port: number): void {
    this.#out = out;
    this.#in = back;
    this.remoteAddress = address;
    this.remotePort = port;
  }

  connected(): void {
    if (this.destroyed) return;
    this.connecting = false;
    this.emit('connect');
    this.emit('ready');
    this.#waiting?.();
    this.#waiting = undefined;
    this.#feed();
  }

  arrived(bytes: Uint8Array): void {
    if (this.destroyed) {
      this.#out?.sendEnd('reset');
      this.#in?.taken(bytes.length);
      return;
    }
    this.#received.push(bytes);
    this.#feed();
  }

  ended(): void {
    if (this.destroyed || this.#isEnded) return;
    this.#isEnded = true;
    this.#feed();
  }

  broken(code: string): void {
    if (!this.destroyed) this.destroy(systemError(code, 'read'));
  }

  // -- as net.Socket --

  setNoDelay(): this {
    return this;
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  destroySoon(): void {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once('finish', () => this.destroy());
  }

  override resume(): this {
    super.resume();
    if (this.#onread !== undefined && !this.#reading) {
      this.#reading = true;
      this.#host.after(0, () => this.#feed());
    }
    return this;
  }

  override pause(): this {
    if (this.#onread !== undefined) this.#reading = false;
    return super.pause();
  }

  override _read(): void {
    if (this.#onread !== undefined || this.#reading) return;
    this.#reading = true;
    this.#feed();
  }

  override _write(chunk: Uint8Array, _: BufferEncoding, done: (error?: Error | null) => void) {
    this.#send([chunk], done);
  }

  override _writev(
    chunks: readonly { readonly chunk: Uint8Array }[],
    done: (error?: Error | null) => void,
  ): void {
    this.#send(
      chunks.map(({ chunk }) => chunk),
      done,
    );
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#whenConnected(() => {
      this.#out?.sendEnd('end');
      done();
    });
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    if (this.#host.life === this.#life) {
      this.#out?.sendEnd(this.#received.length > 0 || error !== null ? 'reset' : 'end');
    }
    this.#received = [];
    done(error);
  }

  #send(chunks: readonly Uint8Array[], done: (error?: Error | null) => void): void {
    this.#whenConnected(() => {
      const out = this.#out;
      if (out === undefined || this.destroyed) return;
      if (!out.hasSpace) {
        out.whenSpace(() => this.#send(chunks, done));
        return;
      }
      // The system reads the bytes when it takes them, not when it is asked to.
      this.#host.after(SEND_MS, () => {
        if (this.destroyed) return;
        for (const chunk of chunks) out.send(new Uint8Array(chunk));
        done();
      });
    });
  }

  #whenConnected(run: () => void): void {
    if (!this.connecting || this.#in === undefined || this.#host.life !== this.#life) {
      if (!this.connecting) run();
      else this.#waiting = run;
      return;
    }
    this.#waiting = run;
  }

  #feed(): void {
    if (this.connecting) return;
    while (this.#reading && this.#received.length > 0 && !this.destroyed) {
      const bytes = this.#received.shift()!;
      if (this.#onread === undefined) {
        this.#in?.taken(bytes.length);
        if (!this.push(bytes)) this.#reading = false;
      } else {
        this.#feedBuffer(bytes, this.#onread);
      }
    }
    if (this.#isEnded && this.#received.length === 0 && !this.destroyed && !this.readableEnded) {
      this.#isEnded = false;
      this.push(null);
      if (this.#onread !== undefined) this.read(0);
    }
  }

  #feedBuffer(bytes: Uint8Array, { buffer, callback }: OnRead): void {
    const size = Math.min(bytes.length, buffer.length);
    buffer.set(bytes.subarray(0, size));
    if (size < bytes.length) this.#received.unshift(bytes.subarray(size));
    this.#in?.taken(size);
    if (!callback(size, buffer)) this.#reading = false;
  }
}

/** What the transport uses of a `net.Server`. */
export class SimulatedServer extends EventEmitter {
  isListening = false;
  readonly #host: Host;
  readonly #onConnection: (socket: Socket) => void;
  readonly #sockets = new Set<SimulatedSocket>();
  readonly #life: number;
  #port = 0;
  #closed: (() => void) | undefined;

  constructor(host: Host, onConnection: (socket: Socket) => void, life: number) {
    super();
    this.#host = host;
    this.#life = life;
    this.#onConnection = onConnection;
  }

  listen({ port }: { readonly port: number }, listening: () => void): this {
    this.#port = port === 0 ? freePort(this.#host) : port;
    if (this.#isOver) return this;
    this.#host.after(0, () => {
      if (this.#host.servers.has(this.#port)) {
        const where = `listen ${this.#host.address}:${this.#port}`;
        this.emit('error', systemError('EADDRINUSE', where));
        return;
      }
      this.#host.servers.set(this.#port, this);
      this.isListening = true;
      listening();
    });
    return this;
  }

  address(): AddressInfo {
    return { address: this.#host.address, port: this.#port, family: 'IPv4' };
  }

  accept(socket: SimulatedSocket): void {
    this.#sockets.add(socket);
    socket.once('close', () => {
      this.#sockets.delete(socket);
      this.#endIfOver();
    });
    socket.connected();
    this.#onConnection(socket as unknown as Socket);
  }

  close(closed?: () => void): this {
    // Where it went with its machine, the port is another's by now.
    if (this.isListening && !this.#isOver) this.#host.servers.delete(this.#port);
    this.isListening = false;
    this.#closed = closed;
    if (!this.#isOver) this.#host.after(0, () => this.#endIfOver());
    return this;
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  get #isOver(): boolean {
    return this.#host.life !== this.#life || !this.#host.isOn;
  }

  #endIfOver(): void {
    if (this.isListening || this.#sockets.size > 0) return;
    const closed = this.#closed;
    this.#closed = undefined;
    closed?.();
  }
}

function freePort(host: Host): number {
  let port = 40_000;
  while (host.servers.has(port)) port += 1;
  return port;
}

function systemError(code: string, what: string): Error {
  return Object.assign(new Error(`${what} ${code}`), { code });
}

/** Enough to tell messages apart in the hash. */
function checksum(bytes: Uint8Array): number {
  let sum = bytes.length;
  for (let i = 0; i < bytes.length; i++) sum = (Math.imul(sum, 31) + bytes[i]!) | 0;
  return sum;
}
