import { X509Certificate } from 'node:crypto';
import type { Socket } from 'node:net';
import { type TLSSocket, connect as tlsConnect } from 'node:tls';
import { WalError } from '../api/errors.js';
import { type Channel, channelOf } from './channel.js';
import { dialFault, endedEarly } from './dial_fault.js';
import { bareHost, type Endpoint, showEndpoint } from './endpoint.js';
import { type Environment, processEnvironment } from './environment.js';
import { SecretProver } from './secret_prover.js';
import type { Security, TlsOptions } from './security.js';
import { contextOptions, mayBeThere, requireAllowed, requireNamed } from './tls.js';

/**
 * Received bytes land here; one buffer serves all connections of a standby, one after the other.
 */
export const receiveBytes = 256 * 1024;

/** Of a host name with several addresses, each is given this long before the next is tried too. */
const addressMs = 1000;

export interface DialTarget extends Endpoint, Pick<Security, 'tls' | 'secret'> {
  /** Of the log that this node holds, if it holds one. */
  readonly logId?: string | undefined;
  readonly environment?: Environment | undefined;
}

/** Who is at the other end. */
export interface Peer {
  /** Throws WAL_AUTH_FAILED unless the peer may say that this is its name. */
  requireName(name: string): void;
  /** Whether these names let it be there, under the name that it has said. */
  isAllowed(allow: TlsOptions['allow']): boolean;
}

export interface DialHandlers {
  /** Connected, and the peer has shown whatever is asked of it. Once. */
  onConnect(peer: Peer): void;
  /** Bytes at the front of the buffer. false: read no more until `resume`. */
  onRead(count: number): boolean;
  /** The connection is over, or never came about. Called once, last. */
  onClose(error: WalError): void;
}

/**
 * Connects out: every connection of this node to another begins here. Bytes are read into the
 * caller's buffer; without TLS receiving allocates nothing.
 */
export function dial(target: DialTarget, buffer: Uint8Array, handlers: DialHandlers): Socket {
  return new Dialling(target, buffer, handlers).socket;
}

class Dialling {
  readonly socket: Socket;
  readonly #target: DialTarget;
  readonly #buffer: Uint8Array;
  readonly #handlers: DialHandlers;
  #channel: Channel | undefined;
  #prover: SecretProver | undefined;
  #failure: Error | undefined;
  #connected = false;
  #heard = false;

  constructor(target: DialTarget, buffer: Uint8Array, handlers: DialHandlers) {
    this.#target = target;
    this.#buffer = buffer;
    this.#handlers = handlers;
    this.socket = target.tls === undefined ? this.#openPlain() : this.#openTls(target.tls);
    this.socket.on('error', (error) => {
      this.#failure ??= error;
    });
    this.socket.on('close', () => this.#closed());
  }

  get #address() {
    return {
      host: bareHost(this.#target.host),
      port: this.#target.port,
      noDelay: true,
      autoSelectFamily: true,
      autoSelectFamilyAttemptTimeout: addressMs,
    };
  }

  #openPlain(): Socket {
    const callback = (count: number): boolean => this.#read(count);
    const { environment = processEnvironment } = this.#target;
    const socket = environment.connect({
      ...this.#address,
      onread: { buffer: this.#buffer, callback },
    });
    socket.on('connect', () => this.#opened());
    return socket;
  }

  #openTls(tls: TlsOptions): TLSSocket {
    const socket = tlsConnect({
      ...this.#address,
      ...contextOptions(tls),
      rejectUnauthorized: true,
      // Nodes are known by their own names, not by those of the hosts that they run on.
      checkServerIdentity: (_, { raw }) => notAllowed(new X509Certificate(raw), tls.allow),
    });
    socket.setNoDelay(true);
    socket.on('secureConnect', () => this.#opened());
    // Not by `onread`: TLS goes on to deliver what it has decrypted when it is told to stop.
    socket.on('data', (chunk: Buffer) => this.#readChunk(chunk));
    return socket;
  }

  #opened(): void {
    this.#connected = true;
    const { secret, logId } = this.#target;
    const channel = channelOf(this.socket);
    this.#channel = channel;
    if (secret === undefined) {
      this.#admit(channel);
      return;
    }
    const send = (message: Uint8Array): void => void this.socket.write(message);
    this.#prover = new SecretProver(secret, channel.id, logId, send);
    this.#prover.start();
  }

  #admit({ certificate }: Channel): void {
    const { tls } = this.#target;
    let said: string | undefined;
    this.#handlers.onConnect({
      requireName: (name) => {
        if (tls !== undefined) requireNamed(certificate!, tls.allow, name);
        said = name;
      },
      isAllowed: (allow) => certificate === undefined || mayBeThere(certificate, allow, said),
    });
  }

  /** A chunk may be larger than the buffer; what is not taken now comes again. */
  #readChunk(chunk: Buffer): void {
    for (let at = 0; at < chunk.length && !this.socket.destroyed; ) {
      const piece = chunk.subarray(at, at + this.#buffer.length);
      this.#buffer.set(piece);
      at += piece.length;
      if (this.#read(piece.length)) continue;
      this.socket.pause();
      if (at < chunk.length) this.socket.unshift(chunk.subarray(at));
      return;
    }
  }

  #read(count: number): boolean {
    try {
      this.#heard = true;
      if (this.#prover === undefined) return this.#handlers.onRead(count);
      if (this.#prover.take(this.#buffer, count)) {
        this.#prover = undefined;
        this.#admit(this.#channel!);
      }
    } catch (error) {
      if (!(error instanceof WalError)) throw error;
      this.#failure = error;
      this.socket.destroy();
    }
    return !this.socket.destroyed;
  }

  #closed(): void {
    const where = showEndpoint(this.#target);
    const isTls = this.#target.tls !== undefined;
    const fault = this.#connected && !this.#heard ? endedEarly : dialFault;
    const error = fault(where, this.#failure, isTls);
    this.#handlers.onClose(error);
  }
}

function notAllowed(certificate: X509Certificate, allow: TlsOptions['allow']): Error | undefined {
  try {
    requireAllowed(certificate, allow);
    return undefined;
  } catch (error) {
    return error as Error;
  }
}
