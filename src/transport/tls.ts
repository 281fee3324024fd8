import { constants, type X509Certificate } from 'node:crypto';
import type { SecureContextOptions } from 'node:tls';
import { WalError } from '../api/errors.js';
import { printable } from '../wire/handshake_messages.js';
import type { Pem, TlsOptions } from './security.js';

/**
 * What `node:tls` is given, for either end. Without session tickets: a session that is resumed is
 * not verified again, and would outlive the certificate that it was begun with.
 */
export function contextOptions(tls: TlsOptions): SecureContextOptions {
  const { key, cert, ca, crl, passphrase } = tls;
  return {
    key: bytes(key),
    cert: bytes(cert),
    ca: all(ca),
    ...(crl === undefined ? {} : { crl: all(crl) }),
    ...(passphrase === undefined ? {} : { passphrase }),
    minVersion: 'TLSv1.3',
    maxVersion: 'TLSv1.3',
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
}

function bytes(pem: Pem): string | Buffer {
  return typeof pem === 'string' ? pem : Buffer.from(pem);
}

function all(pems: Pem | readonly Pem[]): (string | Buffer)[] {
  return (typeof pems === 'string' || pems instanceof Uint8Array ? [pems] : pems).map(bytes);
}

/**
 * Whether a certificate, which was verified, is that of a node of this name: letter for letter one
 * of its DNS names or, where it has none, its common name.
 */
export function isNamed(certificate: X509Certificate, name: string): boolean {
  return certificate.checkHost(name, { subject: 'default', wildcards: false }) === name;
}

/** Throws unless the node that a verified certificate names may be at the other end. */
export function requireAllowed(certificate: X509Certificate, allow: TlsOptions['allow']): void {
  if (allow === '*' || allow.some((name) => isNamed(certificate, name))) return;
  const names = shownNames(certificate);
  const text = `the certificate of the peer (${names}) names no node of \`allow\``;
  throw new WalError('WAL_AUTH_FAILED', text);
}

/** Throws unless the peer, with this certificate, may say that it is the node of this name. */
export function requireNamed(
  certificate: X509Certificate,
  allow: TlsOptions['allow'],
  name: string,
): void {
  if (!isNamed(certificate, name)) {
    const text = `the peer says it is ${printable(name)}; its certificate is for`;
    throw new WalError('WAL_AUTH_FAILED', `${text} ${shownNames(certificate)}`);
  }
  if (allow !== '*' && !allow.includes(name)) {
    throw new WalError('WAL_AUTH_FAILED', `\`allow\` does not name ${printable(name)}`);
  }
}

/** The same as an answer; `name`: that of the peer, if it has said it. */
export function mayBeThere(
  certificate: X509Certificate,
  allow: TlsOptions['allow'],
  name: string | undefined,
): boolean {
  try {
    if (name === undefined) requireAllowed(certificate, allow);
    else requireNamed(certificate, allow, name);
    return true;
  } catch {
    return false;
  }
}

/** The names in a certificate, for a message. */
export function shownNames({ subjectAltName, subject }: X509Certificate): string {
  const names = printable(subjectAltName ?? subject ?? '').trim();
  return names === '' ? 'nobody' : names.slice(0, 200);
}

/** What OpenSSL, or the verification of a certificate, found wrong: in one line. */
export function tlsReason(error: Error): string {
  const { reason } = error as { readonly reason?: unknown };
  return printable(typeof reason === 'string' ? reason : error.message).trim();
}
