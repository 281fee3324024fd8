import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, createServer as createRawServer } from 'node:net';
import { onTestFinished } from 'vitest';

export type Question = { readonly [key: string]: unknown };

/**
 * What a member answers: status and JSON; `hang`: nothing, ever; `cut`: the connection ends;
 * `drip`: a line now and then, without an end.
 */
export type Reply = readonly [number, unknown] | 'hang' | 'cut' | 'drip';

export interface Asked {
  readonly path: string;
  readonly question: Question;
  readonly token: string | undefined;
}

/** A member of etcd that says what the test wants. */
export class Gateway {
  readonly asked: Asked[] = [];
  reply: (asked: Asked) => Reply = () => [200, {}];
  /** Streams that are open. */
  dripping = 0;
  readonly #server = createServer((request, response) => void this.#answer(request, response));

  static async open(reply: (asked: Asked) => Reply): Promise<Gateway> {
    const gateway = new Gateway();
    gateway.reply = reply;
    await new Promise<void>((resolve) => gateway.#server.listen(0, '127.0.0.1', resolve));
    onTestFinished(async () => {
      gateway.#server.closeAllConnections();
      await new Promise((resolve) => gateway.#server.close(resolve));
    });
    return gateway;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** What was asked, without what comes before the last part of the path. */
  get paths(): string[] {
    return this.asked.map(({ path }) => path.slice(path.lastIndexOf('/') + 1));
  }

  /** Ends the connections that are kept and not in use. */
  forget(): void {
    this.#server.closeIdleConnections();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let text = '';
    for await (const part of request as AsyncIterable<Buffer>) text += part.toString();
    const { authorization } = request.headers;
    const asked = { path: request.url ?? '', question: JSON.parse(text), token: authorization };
    this.asked.push(asked);
    const reply = this.reply(asked);
    if (reply === 'hang') return;
    if (reply === 'cut') {
      request.socket.destroy();
      return;
    }
    if (reply === 'drip') {
      const timer = setInterval(() => response.write('\n'), 1);
      response.once('close', () => {
        clearInterval(timer);
        this.dripping -= 1;
      });
      this.dripping += 1;
      return;
    }
    const [status, body] = reply;
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(typeof body === 'string' ? body : JSON.stringify(body));
  }
}

/** The URL of what says just this to whoever asks, and leaves the connection open. */
export async function rawMember(answer: string): Promise<string> {
  const server = createRawServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => socket.write(answer));
    onTestFinished(() => {
      socket.destroy();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** As etcd has it at the beginning of each answer. */
export function header(part: { member?: string; term?: string; revision?: string } = {}) {
  const { member = '11', term = '2', revision = '5' } = part;
  return { cluster_id: '99', member_id: member, raft_term: term, revision };
}

/** An error of etcd, outside of a stream. */
export function failure(code: number, message: string): Reply {
  return [code === 5 ? 404 : 400, { error: message, message, code }];
}
