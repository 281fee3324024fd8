import { connect, type Socket } from 'node:net';
import { WalError } from '../api/errors.js';

/**
 * Received bytes land here; one buffer serves all connections of a standby, one after the other.
 */
export const receiveBytes = 256 * 1024;

export interface DialHandlers {
  onConnect(): void;
  /** Bytes at the front of the buffer. false: read no more until `resume`. */
  onRead(count: number): boolean;
  /** The connection is over, or never came about. Called once, last. */
  onClose(error: WalError): void;
}

/** Connects out. Bytes are read into the caller's buffer, so that receiving allocates nothing. */
export function dial(
  target: { readonly host: string; readonly port: number },
  buffer: Uint8Array,
  handlers: DialHandlers,
): Socket {
  let failure: NodeJS.ErrnoException | undefined;
  const socket = connect({
    host: target.host,
    port: target.port,
    noDelay: true,
    onread: { buffer, callback: (count) => handlers.onRead(count) },
  });
  const where = `${target.host}:${target.port}`;
  socket.on('connect', () => handlers.onConnect());
  socket.on('error', (error) => {
    failure = error;
  });
  socket.on('close', () => {
    // A write that crossed the end of the connection fails; the end is the news.
    const isEnd = failure === undefined || failure.code === 'EPIPE';
    const text = isEnd ? 'the primary closed the connection' : failure?.message;
    handlers.onClose(new WalError('WAL_IO', `${where}: ${text}`, { cause: failure }));
  });
  return socket;
}
