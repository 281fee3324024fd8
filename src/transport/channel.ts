import type { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import { TLSSocket } from 'node:tls';

/** What TLS says of a connection, once its handshake is through. */
export interface Channel {
  /** Of the peer; it was verified. undefined: there is no TLS. */
  readonly certificate: X509Certificate | undefined;
  /** The same at both ends of this connection, and of no other; empty without TLS. */
  readonly id: Uint8Array;
}

/** To be asked once a connection: Node tells the certificate of one that was dialled only once. */
export function channelOf(socket: Socket): Channel {
  if (!(socket instanceof TLSSocket)) return { certificate: undefined, id: new Uint8Array() };
  const id = socket.exportKeyingMaterial(32, 'EXPORTER-walmirror', Buffer.alloc(0));
  return { certificate: socket.getPeerX509Certificate(), id };
}
