import { type ClientRequest, Agent as HttpAgent, type IncomingMessage, request } from 'node:http';
import { Agent as HttpsAgent, request as secureRequest } from 'node:https';
import type { EtcdTls } from './etcd_options.js';

/** What etcd answered. */
export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
}

/** More than all records of a group take, by far. */
const maxAnswerBytes = 1 << 20;

/**
 * Posts JSON to etcd's gateway, over connections that are kept. Node's own client, since its
 * `fetch` takes no certificates of one's own.
 */
export class EtcdHttp {
  readonly #agents: { readonly http: HttpAgent; readonly https: HttpsAgent };

  constructor(tls: EtcdTls | undefined) {
    // Sockets that are idle do not keep the process alive.
    const kept = { keepAlive: true, maxSockets: 16, maxFreeSockets: 4 };
    this.#agents = {
      http: new HttpAgent(kept),
      https: new HttpsAgent({ ...kept, ...tls, minVersion: 'TLSv1.2' }),
    };
  }

  /** The whole answer. Rejects when the connection fails, or with the signal's reason. */
  async post(
    url: URL,
    body: string,
    token: string | undefined,
    signal: AbortSignal,
  ): Promise<HttpAnswer> {
    try {
      return await this.#postOnce(url, body, token, signal);
    } catch (error) {
      signal.throwIfAborted();
      // A connection that was kept, and that etcd had closed: nobody has read the question.
      const { wasKept } = error as { wasKept?: boolean };
      if (wasKept !== true) throw error;
      return await this.#postOnce(url, body, token, signal);
    }
  }

  async #postOnce(
    url: URL,
    body: string,
    token: string | undefined,
    signal: AbortSignal,
  ): Promise<HttpAnswer> {
    const response = await this.open(url, body, token, signal);
    const parts: Buffer[] = [];
    let bytes = 0;
    for await (const part of response as AsyncIterable<Buffer>) {
      bytes += part.length;
      if (bytes > maxAnswerBytes) throw new Error(`the answer is over ${maxAnswerBytes} bytes`);
      parts.push(part);
    }
    return { status: response.statusCode ?? 0, body: Buffer.concat(parts).toString('utf8') };
  }

  /** The answer as it comes. What fails later, and the signal, ends its stream. */
  open(
    url: URL,
    body: string,
    token: string | undefined,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const isSecure = url.protocol === 'https:';
      const headers: Record<string, string | number> = {
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(body),
      };
      if (token !== undefined) headers.authorization = token;
      const options = { method: 'POST', headers };
      const asked: ClientRequest = isSecure
        ? secureRequest(url, { ...options, agent: this.#agents.https })
        : request(url, { ...options, agent: this.#agents.http });
      // By the answer, once it is there: the signal as an option, and the request, end the socket,
      // which may be kept, and then has for a moment nobody who takes its error.
      let toEnd: ClientRequest | IncomingMessage = asked;
      const end = (): void => {
        toEnd.destroy(new Error('given up', { cause: signal.reason }));
      };
      signal.addEventListener('abort', end);
      if (signal.aborted) end();
      asked.on('response', (response) => {
        toEnd = response;
        // Whoever reads it sees its errors; one that comes after the reading is nobody's.
        response.on('error', () => undefined);
        resolve(response);
      });
      asked.on('error', (error: NodeJS.ErrnoException) => {
        const wasKept = asked.reusedSocket && error.code === 'ECONNRESET';
        reject(signal.aborted ? signal.reason : Object.assign(error, { wasKept }));
      });
      // Also after an upgrade that nobody asked for, which is neither answer nor error.
      asked.on('close', () => {
        signal.removeEventListener('abort', end);
        reject(new Error('the connection ended without an answer'));
      });
      asked.end(body);
    });
  }

  close(): void {
    this.#agents.http.destroy();
    this.#agents.https.destroy();
  }
}
