import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';

export type Question = { readonly [key: string]: unknown };

/** What a member answers: status and JSON; `hang`: nothing, ever; `cut`: the connection ends. */
export type Reply = readonly [number, unknown] | 'hang' | 'cut';

export interface Asked {
  readonly path: string;
  readonly question: Question;
  readonly token: string | undefined;
}

/** A member of etcd that says what the test wants. */
export class Gateway {
  readonly asked: Asked[] = [];
  reply: (asked: Asked) => Reply = () => [200, {}];
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
    const [status, body] = reply;
    response.writeHead(status, { 'content-type': 'application/json' });
    response.end(typeof body === 'string' ? body : JSON.stringify(body));
  }
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
