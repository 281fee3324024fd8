import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

/** What a proxy does to all connections; changes take effect for the bytes that come after. */
export interface EtcdWeather {
  /** Milliseconds that what is asked arrives late, and what is answered. */
  askDelayMs: number;
  answerDelayMs: number;
  /** What is asked, or answered, is lost without a sign: the connection is half open. */
  losesAsked: boolean;
  losesAnswers: boolean;
  /** New connections are accepted, and nothing becomes of them. */
  isHung: boolean;
}

const fair: EtcdWeather = {
  ...{ askDelayMs: 0, answerDelayMs: 0 },
  ...{ losesAsked: false, losesAnswers: false, isHung: false },
};

/** A TCP proxy between one node and etcd, which does what networks and slow machines do. */
export class EtcdProxy {
  readonly weather: EtcdWeather = { ...fair };
  readonly #target: URL;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(target: URL) {
    this.#target = target;
    this.#server = createServer((socket) => this.#accept(socket));
  }

  /** Listens at this address. */
  static async open(target: string, address: string): Promise<EtcdProxy> {
    const proxy = new EtcdProxy(new URL(target));
    await new Promise<void>((resolve) => proxy.#server.listen(0, address, resolve));
    return proxy;
  }

  get endpoint(): string {
    const { address, port } = this.#server.address() as AddressInfo;
    return `http://${address}:${port}`;
  }

  /** Ends every connection, also in the middle of an answer. */
  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  /** As if nothing had been. What was lost stays lost: connections that lack bytes are ended. */
  clear(): void {
    const { losesAsked, losesAnswers, isHung } = this.weather;
    Object.assign(this.weather, fair);
    if (losesAsked || losesAnswers || isHung) this.cut();
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }

  #accept(node: Socket): void {
    const { weather } = this;
    const { hostname, port } = this.#target;
    this.#keep(node);
    if (weather.isHung) return;
    const etcd = connect({ host: hostname, port: Number(port), noDelay: true });
    this.#keep(etcd);
    node.setNoDelay(true);
    this.#join(node, etcd, () => (weather.losesAsked ? undefined : weather.askDelayMs));
    this.#join(etcd, node, () => (weather.losesAnswers ? undefined : weather.answerDelayMs));
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => this.#sockets.delete(socket));
  }

  /** In order, whatever each chunk's delay is. An end is passed on behind what came before it. */
  #join(from: Socket, to: Socket, delay: () => number | undefined): void {
    let last = Promise.resolve();
    from.on('data', (chunk) => {
      const waitMs = delay();
      if (waitMs === undefined) return;
      const due = performance.now() + waitMs;
      last = last.then(async () => {
        const leftMs = due - performance.now();
        if (leftMs > 0) await new Promise((resolve) => setTimeout(resolve, leftMs));
        if (!to.destroyed) to.write(chunk);
      });
    });
    from.once('close', () => {
      if (delay() === undefined) return;
      void last.then(() => to.destroySoon());
    });
  }
}
