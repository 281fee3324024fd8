import type { IncomingMessage } from 'node:http';
import { WalError } from '../api/errors.js';
import { CallSignal } from './call_signal.js';
import { EtcdHttp } from './etcd_http.js';
import type { EtcdCredentials, ResolvedEtcd } from './etcd_options.js';

/** Codes of gRPC, as the gateway gives them. */
const grpc = {
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  permissionDenied: 7,
  resourceExhausted: 8,
  failedPrecondition: 9,
  aborted: 10,
  internal: 13,
  unavailable: 14,
  unauthenticated: 16,
} as const;

/** Of these another member, or the same one a moment later, may know better. */
const passing: readonly number[] = [
  1,
  2,
  grpc.deadlineExceeded,
  grpc.resourceExhausted,
  grpc.aborted,
  grpc.internal,
  grpc.unavailable,
];

/** An answer of etcd that is an error. */
export class EtcdError extends Error {
  readonly grpcCode: number;

  constructor(grpcCode: number, message: string) {
    super(message);
    this.grpcCode = grpcCode;
  }

  get isNotFound(): boolean {
    return this.grpcCode === grpc.notFound;
  }

  get isPassing(): boolean {
    return passing.includes(this.grpcCode);
  }

  /** A token that has ended, or that none was sent: to be asked for anew. */
  get wantsToken(): boolean {
    if (this.grpcCode === grpc.unauthenticated) return true;
    const isOfToken = /user name is empty|revision of auth store is old/.test(this.message);
    return this.grpcCode === grpc.invalidArgument && isOfToken;
  }
}

export type Json = { readonly [key: string]: unknown };

/**
 * Asks etcd's members, one after the other, beginning with the one that answered last.
 */
export class EtcdClient {
  readonly #http: EtcdHttp;
  readonly #endpoints: readonly string[];
  readonly #credentials: EtcdCredentials;
  /** Of one question, with all its attempts. */
  readonly callTimeoutMs: number;
  readonly #closing = new AbortController();
  #current = 0;
  #token: string | undefined;

  constructor({ endpoints, credentials, tls, timing }: ResolvedEtcd) {
    this.#http = new EtcdHttp(tls);
    this.#endpoints = endpoints;
    this.#credentials = credentials;
    this.callTimeoutMs = timing.callTimeoutMs;
    if ('token' in credentials) this.#token = credentials.token;
  }

  /**
   * One question, within the call's time out, which its attempts share. Rejects with an EtcdError
   * that is of use to the caller, or with WAL_REFEREE_AWAY or WAL_REFEREE_REFUSED.
   */
  async call(path: string, question: Json, signal?: AbortSignal): Promise<Json> {
    signal?.throwIfAborted();
    const ends = performance.now() + this.callTimeoutMs;
    const count = this.#endpoints.length;
    const first = this.#current;
    const faults: string[] = [];
    for (let i = 0; i < count; i += 1) {
      const index = (first + i) % count;
      // What hangs takes its part of the time only.
      const within = Math.max(1, (ends - performance.now()) / (count - i));
      try {
        const answer = await this.#askWithToken(index, path, question, within, signal);
        this.#current = index;
        return answer;
      } catch (error) {
        signal?.throwIfAborted();
        if (error instanceof WalError) throw error;
        if (error instanceof EtcdError && !error.isPassing) throw refused(error);
        faults.push(`${this.#endpoints[index]}: ${(error as Error).message}`);
        this.#current = (index + 1) % count;
      }
      if (this.#closing.signal.aborted || performance.now() >= ends) break;
    }
    throw new WalError('WAL_REFEREE_AWAY', `etcd does not answer: ${faults.join('; ')}`);
  }

  /** A stream from the member that is asked first; it ends when the signal, or `close`, says so. */
  async stream(path: string, question: Json, signal: AbortSignal): Promise<IncomingMessage> {
    const endpoint = this.#endpoints[this.#current]!;
    const ends = new CallSignal([signal, this.#closing.signal]);
    try {
      await this.#requireToken(endpoint, ends.signal);
      const url = new URL(path, endpoint);
      const text = JSON.stringify(question);
      const stream = await this.#http.open(url, text, this.#token, ends.signal);
      stream.once('close', () => ends.done());
      return stream;
    } catch (error) {
      ends.done();
      throw error;
    }
  }

  close(): void {
    this.#closing.abort(new WalError('WAL_REFEREE_AWAY', 'the referee is closed here'));
    this.#http.close();
  }

  async #askWithToken(
    index: number,
    path: string,
    question: Json,
    withinMs: number,
    signal: AbortSignal | undefined,
  ): Promise<Json> {
    const endpoint = this.#endpoints[index]!;
    const ends = new CallSignal([this.#closing.signal, signal], withinMs);
    try {
      await this.#requireToken(endpoint, ends.signal);
      const token = this.#token;
      try {
        return await this.#ask(endpoint, path, question, token, ends.signal);
      } catch (error) {
        const mayAskAgain = error instanceof EtcdError && error.wantsToken;
        if (!mayAskAgain || !('username' in this.#credentials)) throw error;
        if (this.#token === token) await this.#authenticate(endpoint, ends.signal);
        return await this.#ask(endpoint, path, question, this.#token, ends.signal);
      }
    } finally {
      ends.done();
    }
  }

  async #requireToken(endpoint: string, ends: AbortSignal): Promise<void> {
    if (this.#token === undefined) await this.#authenticate(endpoint, ends);
  }

  async #authenticate(endpoint: string, ends: AbortSignal): Promise<void> {
    if (!('username' in this.#credentials)) return;
    const { username: name, password } = this.#credentials;
    const answer = await this.#ask(
      endpoint,
      '/v3/auth/authenticate',
      { name, password },
      undefined,
      ends,
    );
    if (typeof answer.token !== 'string') throw new EtcdError(grpc.internal, 'gave no token');
    this.#token = answer.token;
  }

  async #ask(
    endpoint: string,
    path: string,
    question: Json,
    token: string | undefined,
    ends: AbortSignal,
  ): Promise<Json> {
    const url = new URL(path, endpoint);
    const { status, body } = await this.#http.post(url, JSON.stringify(question), token, ends);
    return readAnswer(status, body);
  }
}

/** Throws EtcdError for an answer that is an error, also one inside a stream. */
export function readAnswer(status: number, body: string): Json {
  const answer = parse(body);
  if (answer === undefined) {
    const isGateway = status >= 500 || status === 200;
    throw new EtcdError(
      isGateway ? grpc.unavailable : grpc.failedPrecondition,
      `answered with status ${status} and no JSON: is it etcd 3.4 or later?`,
    );
  }
  const { error } = answer;
  if (error === undefined && status === 200) return answer;
  // Inside a stream the error is an object; else its text, beside its code.
  const inner = typeof error === 'object' && error !== null ? (error as Json) : answer;
  const code = inner.code ?? inner.grpc_code;
  const message = inner.message ?? error;
  throw new EtcdError(
    typeof code === 'number' ? code : grpc.unavailable,
    typeof message === 'string' ? message.slice(0, 300) : `status ${status}`,
  );
}

function parse(body: string): Json | undefined {
  try {
    const value: unknown = JSON.parse(body);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json;
  } catch {
    // Told by the caller.
  }
  return undefined;
}

/** What is of no use to ask again; but for a lease that is not there, which callers know. */
function refused(error: EtcdError): Error {
  if (error.isNotFound) return error;
  return new WalError('WAL_REFEREE_REFUSED', `etcd refuses: ${error.message}`, { cause: error });
}
