/** PEM: text, or its bytes. */
export type Pem = string | Uint8Array;

/**
 * TLS of both ends: 1.3, and each shows a certificate. Plain values, since they cross threads; the
 * names are those of `node:tls`, but for `allow`.
 */
export interface TlsOptions {
  /** Private key of this node. */
  readonly key: Pem;
  /** Certificate of this node, and those between it and the `ca`. */
  readonly cert: Pem;
  /** Whose certificates are accepted; nobody else's, also not those that the system trusts. */
  readonly ca: Pem | readonly Pem[];
  /**
   * Lists of the certificates that were revoked: one of each authority between a node and the `ca`,
   * and none that has run out, or nobody is let in.
   */
  readonly crl?: Pem | readonly Pem[] | undefined;
  /** Of an encrypted `key`. */
  readonly passphrase?: string | undefined;
  /** Names of the nodes that may be at the other end; '*': each that its certificate names. */
  readonly allow: readonly string[] | '*';
}

/** What keeps strangers out of a connection. */
export interface Security {
  /** Off loopback, without TLS, only where this was said. */
  readonly plaintext: boolean;
  readonly tls?: TlsOptions | undefined;
  /** Both sides prove that they know it (secret.ts). */
  readonly secret?: Uint8Array | undefined;
}

/**
 * How strangers are kept out of a link that is up, by what both of its ends have shown. `none`:
 * they are not. `secret`: both have proved that they know it; nothing is encrypted. `tls`: all is
 * encrypted, and both have shown a certificate. `tls+secret`: both of these.
 */
export type LinkSecurity = 'none' | 'secret' | 'tls' | 'tls+secret';

export function linkSecurity({ tls, secret }: Pick<Security, 'tls' | 'secret'>): LinkSecurity {
  if (tls !== undefined) return secret === undefined ? 'tls' : 'tls+secret';
  return secret === undefined ? 'none' : 'secret';
}
