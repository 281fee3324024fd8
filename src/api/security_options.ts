import { X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import type { Pem, Security, TlsOptions } from '../transport/security.js';
import { contextOptions, isNamed, shownNames, tlsReason } from '../transport/tls.js';
import { isNodeName, nodeNameRule } from './node_name.js';
import * as check from './validate.js';

/** What `listen` and `follow` have in common: who may be at the other end of a connection. */
export interface SecurityOptions {
  /**
   * TLS 1.3, with a certificate at both ends. That of a node names it: the node's `name` is one of
   * its DNS names or, where it has none, its common name. Default: none.
   */
  readonly tls?: TlsOptions;
  /**
   * What all nodes of the log know and nobody else, 16 bytes or more; both sides prove it to each
   * other before anything else is said. With TLS or without; it encrypts nothing itself. Default:
   * none.
   */
  readonly secret?: string | Uint8Array;
  /** Off loopback, replication without TLS has to be asked for by name. Default false. */
  readonly plaintext?: boolean;
}

export const securityKeys = ['tls', 'secret', 'plaintext'] as const;

const tlsKeys = ['key', 'cert', 'ca', 'crl', 'passphrase', 'allow'] as const;
const minSecretBytes = 16;
const maxSecretBytes = 1024;

/** `node`: the name of this one, which its certificate has to have; undefined: any will do. */
export function resolveSecurity(
  raw: Record<string, unknown>,
  what: string,
  node: string | undefined,
): Security {
  const plaintext =
    raw.plaintext === undefined ? false : check.boolean(raw.plaintext, `${what}.plaintext`);
  if (plaintext && raw.tls !== undefined) {
    throw new TypeError(`${what} takes tls or plaintext: true, and got both`);
  }
  const tls = raw.tls === undefined ? undefined : resolveTls(raw.tls, `${what}.tls`, node);
  const secret = raw.secret === undefined ? undefined : secretBytes(raw.secret, `${what}.secret`);
  return { plaintext, tls, secret };
}

/** Throws TypeError and RangeError; no message has a word of what is secret. */
export function resolveTls(value: unknown, what: string, node: string | undefined): TlsOptions {
  if (typeof value !== 'object') throw new TypeError(`${what} takes { key, cert, ca, allow }`);
  const raw = check.optionsObject(value, what, tlsKeys);
  const { crl, passphrase } = raw;
  const tls: TlsOptions = {
    key: pem(raw.key, `${what}.key`),
    cert: pem(raw.cert, `${what}.cert`),
    ca: pems(raw.ca, `${what}.ca`),
    ...(crl === undefined ? {} : { crl: pems(crl, `${what}.crl`) }),
    ...(passphrase === undefined ? {} : { passphrase: text(passphrase, `${what}.passphrase`) }),
    allow: allowed(raw.allow, `${what}.allow`),
  };
  requireUsable(tls, what);
  requireCertificates(tls, what);
  if (node !== undefined) requireOwnName(tls, what, node);
  return tls;
}

function requireUsable(tls: TlsOptions, what: string): void {
  try {
    createSecureContext(contextOptions(tls));
  } catch (error) {
    const reason = tlsReason(error as Error);
    throw new RangeError(`${what}: these key, cert, ca and crl cannot be used: ${reason}`);
  }
}

const certificates = /-----BEGIN ((?:X509 |TRUSTED )?CERTIFICATE)-----(?:[^-]*-----END \1-----)?/g;

/** OpenSSL leaves out what it cannot read of them: nobody, or not everybody, would be let in. */
function requireCertificates({ ca }: TlsOptions, what: string): void {
  for (const each of [ca].flat()) {
    const text = typeof each === 'string' ? each : Buffer.from(each).toString('latin1');
    const found = text.match(certificates) ?? [];
    if (found.length === 0) throw new RangeError(`${what}.ca holds no certificate in PEM`);
    for (const [i, certificate] of found.entries()) {
      const reason = unreadable(certificate);
      if (reason === undefined) continue;
      const which = `certificate ${i + 1} of ${found.length}`;
      throw new RangeError(`${what}.ca: ${which} cannot be read: ${reason}`);
    }
  }
}

/** Why a certificate cannot be read; undefined: it can. */
function unreadable(certificate: string): string | undefined {
  if (!certificate.includes('-----END ')) return 'it is cut short';
  try {
    new X509Certificate(certificate);
    return undefined;
  } catch (error) {
    return tlsReason(error as Error);
  }
}

/** The other nodes would refuse it, and only they would say why. */
function requireOwnName({ cert }: TlsOptions, what: string, node: string): void {
  const certificate = new X509Certificate(cert);
  if (isNamed(certificate, node)) return;
  const names = shownNames(certificate);
  throw new RangeError(
    `${what}.cert is for ${names}, and not for this node, whose name is ${node}`,
  );
}

function pem(value: unknown, what: string): Pem {
  if (value instanceof Uint8Array) return new Uint8Array(value);
  if (typeof value === 'string') return value;
  throw new TypeError(`${what} takes PEM, as a string or as bytes`);
}

function pems(value: unknown, what: string): readonly Pem[] {
  if (Array.isArray(value) && value.length === 0) {
    throw new RangeError(`${what} takes PEM, or several in an array; the array is empty`);
  }
  return (Array.isArray(value) ? value : [value]).map((one) => pem(one, what));
}

function text(value: unknown, what: string): string {
  if (typeof value === 'string') return value;
  throw new TypeError(`${what} takes a string`);
}

function allowed(value: unknown, what: string): TlsOptions['allow'] {
  if (value === '*') return value;
  const names = Array.isArray(value) ? value : [];
  if (names.length === 0 || names.some((name) => typeof name !== 'string' || name === '')) {
    const example = "['b', 'c'], or '*' for every node that the ca vouches for";
    throw new TypeError(`${what} takes the names of the other nodes, such as ${example}`);
  }
  if (names.includes('*')) {
    throw new RangeError(`${what} takes '*' alone and not in an array, where it would be a name`);
  }
  const wrong = names.find((name) => !isNodeName(name));
  if (wrong !== undefined) {
    throw new RangeError(
      `${what} has ${check.shown(wrong)}, and no node has such a name: ${nodeNameRule}`,
    );
  }
  return [...names];
}

function secretBytes(value: unknown, what: string): Uint8Array {
  if (typeof value !== 'string' && !(value instanceof Uint8Array)) {
    throw new TypeError(`${what} takes a string or bytes`);
  }
  const bytes = typeof value === 'string' ? new TextEncoder().encode(value) : value.slice();
  if (bytes.length < minSecretBytes || bytes.length > maxSecretBytes) {
    throw new RangeError(
      `${what} takes ${minSecretBytes} to ${maxSecretBytes} bytes that nobody can guess, such as ` +
        `what \`openssl rand -hex 32\` prints; got ${bytes.length}`,
    );
  }
  return bytes;
}
