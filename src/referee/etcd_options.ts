import { X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import { WalError } from '../api/errors.js';
import * as check from '../api/validate.js';
import { isLoopback } from '../transport/plaintext.js';
import { etcdTiming, type RefereeTiming, resolveTiming } from './timing.js';

/** PEM: text, or its bytes. */
type EtcdPem = string | Buffer;

/** TLS to etcd. Without `ca`, what the system trusts is trusted. */
export interface EtcdTls {
  readonly ca?: EtcdPem | EtcdPem[];
  /** Certificate and key of this client, where etcd asks for one. */
  readonly cert?: EtcdPem;
  readonly key?: EtcdPem;
  readonly passphrase?: string;
}

export interface EtcdOptions {
  /**
   * Client URLs of the members, 1 to 16: `['https://10.0.0.1:2379', ...]`. Each member by its own
   * address: behind a load balancer, renewals may not be confirmed.
   */
  readonly endpoints: readonly string[];
  /** Name of the group in etcd: 1 to 100 letters, digits, `.`, `_`, `-`. One a log. */
  readonly group: string;
  /** Before the keys: they are `PREFIX/GROUP/leader` and so on. Default '/walmirror'. */
  readonly prefix?: string;
  readonly username?: string;
  readonly password?: string;
  /** Instead of user and password, such as a JWT. */
  readonly token?: string;
  readonly tls?: EtcdTls;
  /** Off loopback, http URLs have to be asked for by name. Default false. */
  readonly plaintext?: boolean;
  readonly timing?: Partial<RefereeTiming>;
  /** File in which this node keeps what it saw of the referee; not shared with other nodes. */
  readonly memory: string;
}

export interface ResolvedEtcd {
  readonly endpoints: readonly string[];
  /** Ends in a slash. */
  readonly keys: string;
  readonly credentials: EtcdCredentials;
  readonly tls: EtcdTls | undefined;
  readonly timing: RefereeTiming;
  readonly memory: string;
}

export type EtcdCredentials =
  | { readonly token?: string }
  | { readonly username: string; readonly password: string };

const keys = [
  'endpoints',
  'group',
  'prefix',
  'username',
  'password',
  'token',
  'tls',
  'plaintext',
  'timing',
  'memory',
] as const;
const tlsKeys = ['ca', 'cert', 'key', 'passphrase'] as const;
const maxEndpoints = 16;

/** Throws TypeError and RangeError, and WAL_PLAINTEXT; no message has a word of what is secret. */
export function resolveEtcd(options: EtcdOptions): ResolvedEtcd {
  const what = 'etcdReferee';
  const raw = check.optionsObject(options, what, keys);
  const plaintext =
    raw.plaintext === undefined ? false : check.boolean(raw.plaintext, `${what}.plaintext`);
  const group = check.string(raw.group, `${what}.group`);
  if (!/^[\w.-]{1,100}$/.test(group)) {
    throw new RangeError(`${what}.group takes 1 to 100 letters, digits, '.', '_', '-'`);
  }
  const prefix = raw.prefix === undefined ? '/walmirror' : check.string(raw.prefix, 'prefix');
  if (!/^\/[\w./-]{1,100}$/.test(prefix) || prefix.endsWith('/')) {
    throw new RangeError(`${what}.prefix takes a path like '/walmirror', with no slash at its end`);
  }
  const endpoints = resolveEndpoints(raw.endpoints, `${what}.endpoints`, plaintext);
  if (raw.tls !== undefined && endpoints.some((each) => each.startsWith('http:'))) {
    throw new RangeError(`${what} takes https URLs with tls`);
  }
  const memory = check.string(raw.memory, `${what}.memory`);
  if (memory === '') throw new RangeError(`${what}.memory takes the path of a file`);
  return {
    endpoints,
    keys: `${prefix}/${group}/`,
    credentials: resolveCredentials(raw, what),
    tls: raw.tls === undefined ? undefined : resolveTls(raw.tls, `${what}.tls`),
    timing: resolveTiming(raw.timing, `${what}.timing`, etcdTiming, 'etcd'),
    memory,
  };
}

function resolveEndpoints(value: unknown, what: string, plaintext: boolean): readonly string[] {
  if (!Array.isArray(value)) {
    // Not what was passed: a URL may have a password in it.
    throw new TypeError(`${what} takes an array of URLs, got ${typeof value}`);
  }
  if (value.length === 0 || value.length > maxEndpoints) {
    throw new RangeError(`${what} takes 1 to ${maxEndpoints} URLs, got ${value.length}`);
  }
  const endpoints = value.map((each) => resolveEndpoint(each, what, plaintext));
  if (new Set(endpoints).size < endpoints.length) throw new RangeError(`${what} names one twice`);
  return endpoints;
}

function resolveEndpoint(value: unknown, what: string, plaintext: boolean): string {
  if (typeof value !== 'string') throw new TypeError(`${what} takes URLs, got ${typeof value}`);
  let url: URL;
  try {
    url = new URL(value);
  } catch {
    throw new RangeError(`${what} takes URLs like 'https://10.0.0.1:2379'`);
  }
  const isBare = url.pathname === '/' && `${url.search}${url.hash}${url.username}` === '';
  if (!['http:', 'https:'].includes(url.protocol) || !isBare || url.password !== '') {
    throw new RangeError(
      `${what} takes URLs of scheme, host and port alone, like 'https://10.0.0.1:2379'`,
    );
  }
  if (url.protocol === 'http:' && !plaintext && !isLoopback(url.hostname.replace(/^\[|\]$/g, ''))) {
    throw new WalError('WAL_PLAINTEXT', `etcd at ${url.host} is off loopback, and not encrypted`, {
      hint: 'Use https URLs and `tls` or, on a network to trust, `plaintext: true`.',
    });
  }
  return url.origin;
}

function resolveCredentials(raw: Record<string, unknown>, what: string): EtcdCredentials {
  const { username, password, token } = raw;
  if (token !== undefined) {
    if (username !== undefined || password !== undefined) {
      throw new TypeError(`${what} takes token, or username and password, and got both`);
    }
    if (!isToken(token)) {
      throw new RangeError(`${what}.token takes 1 to 8192 printable characters without spaces`);
    }
    return { token };
  }
  if (username === undefined && password === undefined) return {};
  if (typeof username !== 'string' || typeof password !== 'string' || username === '') {
    throw new TypeError(`${what} takes username and password together, both as strings`);
  }
  return { username, password };
}

/** It may be sent in a header. */
export function isToken(value: unknown): value is string {
  return typeof value === 'string' && /^[\x21-\x7e]{1,8192}$/.test(value);
}

function resolveTls(value: unknown, what: string): EtcdTls {
  const raw = check.optionsObject(value, what, tlsKeys);
  if ((raw.cert === undefined) !== (raw.key === undefined)) {
    throw new TypeError(`${what} takes cert and key together`);
  }
  // Node's own errors show what they are passed.
  for (const name of ['cert', 'key', 'passphrase'] as const) {
    const value = raw[name];
    if (value === undefined || typeof value === 'string') continue;
    if (name === 'passphrase' || !Buffer.isBuffer(value)) {
      throw new TypeError(`${what}.${name} takes ${name === 'passphrase' ? 'a string' : 'PEM'}`);
    }
  }
  const ca = raw.ca === undefined ? [] : [raw.ca].flat();
  if (!ca.every((each) => typeof each === 'string' || Buffer.isBuffer(each))) {
    throw new TypeError(`${what}.ca takes PEM, or an array of it`);
  }
  try {
    createSecureContext(raw);
    // OpenSSL passes over an authority that it cannot read.
    for (const each of ca) new X509Certificate(each as EtcdPem);
  } catch (error) {
    const { message } = error as Error;
    throw new RangeError(`${what}: these ca, cert and key cannot be used: ${message}`);
  }
  return raw as EtcdTls;
}
