import type { IncomingMessage } from 'node:http';
import { WalError } from '../api/errors.js';
import { CallSignal } from './call_signal.js';
import { EtcdHttp } from './etcd_http.js';
import { type EtcdCredentials, isToken, type ResolvedEtcd } from './etcd_options.js';

/** Codes of gRPC, as the gateway gives them. */
const grpc = {
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  permissionDenied: 7,
  resourceExhausted: 8,
  aborted: 10,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  dataLoss: 15,
  unauthenticated: 16,
} as const;

/** Of these another member, or the same one a moment later, may know better. */
const passing: readonly number[] = [
  1,
  2,
  grpc.deadlineExceeded,
  grpc.resourceExhausted,
  grpc.aborted,
  grpc.unimplemented,
  grpc.internal,
  grpc.unavailable,
  grpc.dataLoss,
];

/** An answer of etcd that is an error. */
export class EtcdError extends Error {
  readonly grpcCode: number;

  constructor(grpcCode: number, message: string) {
    super(message);
    this.grpcCode = grpcCode;
  }

  /** Of something that is not etcd 3.4 or later. */
  static strange(what: string): EtcdError {
    return new EtcdError(grpc.unimplemented, `${what}: is it etcd 3.4 or later?`);
  }

  get isStrange(): boolean {
    return this.grpcCode === grpc.unimplemented;
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

export interface EtcdCallOptions {
  readonly signal?: AbortSignal | undefined;
  /** The caller knows what it means that there is no such lease. */
  readonly tellsNotFound?: boolean;
}

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
   * One question, within the call's time out, which its attempts share; `read` throws an EtcdError
   * for an answer that is none. Rejects with WAL_REFEREE_AWAY: it may have been done; or
   * WAL_REFEREE_REFUSED: it was not. Only where `tellsNotFound`, with the EtcdError that says so.
   */
  async call<Result>(
    path: string,
    question: Json,
    read: (answer: Json) => Result,
    { signal, tellsNotFound = false }: EtcdCallOptions = {},
  ): Promise<Result> {
    signal?.throwIfAborted();
    const ends = performance.now() + this.callTimeoutMs;
    const count = this.#endpoints.length;
    const first = this.#current;
    const faults: Error[] = [];
    for (let i = 0; i < count; i += 1) {
      const index = (first + i) % count;
      // What hangs takes half of the time only; what is but slow has that half.
      const within = Math.max(1, (ends - performance.now()) / Math.min(2, count - i));
      try {
        const answer = await this.#askWithToken(index, path, question, within, signal);
        const result = read(answer);
        this.#current = index;
        return result;
      } catch (error) {
        signal?.throwIfAborted();
        if (error instanceof WalError) throw error;
        const fault = tellsNotFound ? (error as Error) : withoutNotFound(error as Error);
        if (fault instanceof EtcdError && fault.isNotFound) throw fault;
        faults.push(fault);
        if (fault instanceof EtcdError && !fault.isPassing) break;
        this.#current = (index + 1) % count;
      }
      if (this.#closing.signal.aborted || performance.now() >= ends) break;
    }
    const told = faults.map(({ message }, i) => {
      return `${this.#endpoints[(first + i) % count]}: ${message}`;
    });
    throw outcome(faults, told.join('; '));
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
    if (!isToken(answer.token)) throw new EtcdError(grpc.internal, 'gave no token');
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
    const said = body
      .replace(/[\p{C}\p{Zl}\p{Zp}\s]+/gu, ' ')
      .trim()
      .slice(0, 100);
    const what = `answered with status ${status} and no JSON (${said})`;
    // A proxy before it may have passed the question on.
    const isUnknown = status >= 500 || status === 200;
    throw isUnknown ? new EtcdError(grpc.unavailable, what) : EtcdError.strange(what);
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

/** A path, or a lease, that is not there, where etcd has nothing that might not be there. */
function withoutNotFound(error: Error): Error {
  const isNotFound = error instanceof EtcdError && error.isNotFound;
  return isNotFound ? EtcdError.strange(`found nothing: ${error.message}`) : error;
}

/** Refused only if every attempt was: of others it is not known what came of them. */
function outcome(faults: readonly Error[], told: string): WalError {
  const isRefused = faults.every(
    (fault) => fault instanceof EtcdError && (fault.isStrange || !fault.isPassing),
  );
  if (!isRefused) return new WalError('WAL_REFEREE_AWAY', `etcd does not answer: ${told}`);
  return new WalError('WAL_REFEREE_REFUSED', `etcd refuses: ${told}`, { cause: faults.at(-1) });
}
