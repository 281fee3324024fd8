import type { Socket } from 'node:net';
import { createServer, type Server, type TLSSocket } from 'node:tls';
import type { TlsOptions } from './security.js';
import { contextOptions, tlsReason } from './tls.js';

export interface TlsDoorHost {
  /** The certificate of the peer was verified. */
  onSecure(socket: TLSSocket, raw: Socket): void;
  /** The connection is over. */
  onFailed(raw: Socket | undefined, reason: string): void;
}

/**
 * Makes a connection that was accepted one of TLS. From its first byte on: there is no way from
 * plaintext to TLS on one socket. How long that may take is looked at by whoever has accepted it.
 */
export class TlsDoor {
  readonly #server: Server;

  constructor(tls: TlsOptions, host: TlsDoorHost) {
    // It never listens itself: sockets are handed to it.
    this.#server = createServer({
      ...contextOptions(tls),
      requestCert: true,
      rejectUnauthorized: true,
    });
    this.#server.on('secureConnection', (socket) => {
      const raw = rawSocketOf(socket);
      if (raw === undefined) socket.destroy();
      else host.onSecure(socket, raw);
    });
    this.#server.on('tlsClientError', (error, socket) => {
      host.onFailed(rawSocketOf(socket), handshakeFault(error, socket));
      socket.destroy();
    });
  }

  take(raw: Socket): void {
    this.#server.emit('connection', raw);
  }

  /** For handshakes from now on. Throws where these cannot be used, and changes nothing. */
  reload(tls: TlsOptions): void {
    this.#server.setSecureContext(contextOptions(tls));
  }
}

/** The connection that a TLS socket is of; nothing public tells. */
export function rawSocketOf(socket: Socket): Socket | undefined {
  return (socket as Socket & { readonly _parent?: Socket })._parent;
}

function handshakeFault(error: Error, { authorizationError }: TLSSocket): string {
  // A certificate that does not verify ends the connection with no other word.
  const fault = (authorizationError as Error | string | undefined) ?? undefined;
  if (fault !== undefined && fault !== null) return `its certificate: ${String(fault)}`;
  return `TLS: ${tlsReason(error)}`;
}
