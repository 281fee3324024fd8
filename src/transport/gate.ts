import { randomBytes } from 'node:crypto';
import { WalError } from '../api/errors.js';
import {
  decodeAuthProof,
  decodeAuthStart,
  encodeAuthChallenge,
  encodeAuthProof,
  nonceBytes,
} from '../wire/auth_messages.js';
import { MessageType } from '../wire/message_type.js';
import type { Channel } from './channel.js';
import { type Exchange, isSameProof, proofOf } from './secret.js';
import type { Security, TlsOptions } from './security.js';
import { mayBeThere, requireAllowed, requireNamed } from './tls.js';

const { AUTH_START, AUTH_PROOF, STANDBY_HELLO, FETCH, SURVEY, FENCE, HANDOVER, SEED_ASK } =
  MessageType;

const requests = [STANDBY_HELLO, FETCH, SURVEY, FENCE, HANDOVER, SEED_ASK] as const;

/** Any may come first: what is missing is then told by name. */
const first = [AUTH_START, ...requests] as const;

/**
 * What a peer that has connected has to show before its first request counts:
 *
 *   start --AUTH_START--> proof --AUTH_PROOF--> open         where there is a secret
 *   open                                                     where there is none
 *
 * Whatever is wrong throws, WAL_AUTH_FAILED or WAL_PEER_INVALID, and ends the connection.
 */
export class Gate {
  readonly #security: Pick<Security, 'tls' | 'secret'>;
  readonly #channel: Channel;
  readonly #logId: string;
  #state: 'start' | 'proof' | 'open';
  #looked = false;
  #exchange: Exchange | undefined;
  /** Who the peer is. */
  #name: string | undefined;

  constructor(security: Pick<Security, 'tls' | 'secret'>, channel: Channel, logId: string) {
    this.#security = security;
    this.#channel = channel;
    this.#logId = logId;
    this.#state = security.secret === undefined ? 'open' : 'start';
  }

  /** Messages that the peer may send now. */
  get expects(): readonly number[] {
    if (this.#state === 'proof') return [AUTH_PROOF];
    return this.#exchange === undefined ? first : requests;
  }

  /** Throws where the first bytes of a peer are those of TLS, for which it is too late here. */
  look(bytes: Uint8Array): void {
    if (this.#looked || this.#channel.certificate !== undefined) return;
    this.#looked = true;
    // No first message is as long as these would say.
    if (bytes[0] !== 0x16 || bytes[1] !== 3 || (bytes[2] ?? 0) < 1) return;
    throw new WalError('WAL_AUTH_FAILED', 'the peer speaks TLS, and this node was given none');
  }

  /** Takes AUTH_START or AUTH_PROOF; returns the answer. */
  take(type: number, bytes: Uint8Array, start: number, end: number): Uint8Array {
    const { secret } = this.#security;
    if (secret === undefined) {
      const text = 'the peer proves a secret, and this node was given none';
      throw new WalError('WAL_AUTH_FAILED', text);
    }
    if (type === AUTH_START) return this.#challenge(decodeAuthStart(bytes, start, end));
    return this.#prove(secret, decodeAuthProof(bytes, start, end));
  }

  /** Throws unless the peer may ask for something. `name`: who it says it is, if it says so. */
  requireOpen(name?: string): void {
    if (this.#state !== 'open') {
      const text = 'the peer proves no secret, and this node was given one';
      throw new WalError('WAL_AUTH_FAILED', text);
    }
    const { tls } = this.#security;
    if (tls === undefined) return;
    const { certificate } = this.#channel;
    if (certificate === undefined) {
      throw new WalError('WAL_AUTH_FAILED', 'the peer shows no certificate');
    }
    requireAllowed(certificate, tls.allow);
    if (name !== undefined) requireNamed(certificate, tls.allow, name);
    this.#name = name;
  }

  /** Tells the certificate of the peer from others; undefined without TLS. */
  get fingerprint(): string | undefined {
    return this.#channel.certificate?.fingerprint256;
  }

  /** Whether these names do not let the peer in that this gate has let in, or would. */
  isRevoked(allow: TlsOptions['allow']): boolean {
    const { certificate } = this.#channel;
    return certificate !== undefined && !mayBeThere(certificate, allow, this.#name);
  }

  #challenge(dialNonce: Uint8Array): Uint8Array {
    const listenNonce = randomBytes(nonceBytes);
    const logId = this.#logId;
    this.#exchange = { dialNonce, listenNonce, logId, channel: this.#channel.id };
    this.#state = 'proof';
    return encodeAuthChallenge({ nonce: listenNonce, logId });
  }

  #prove(secret: Uint8Array, proof: Uint8Array): Uint8Array {
    const exchange = this.#exchange;
    if (exchange === undefined || !isSameProof(proof, proofOf(secret, 'dials', exchange))) {
      throw new WalError('WAL_AUTH_FAILED', 'the secret of the peer is another one');
    }
    this.#state = 'open';
    return encodeAuthProof(proofOf(secret, 'listens', exchange));
  }
}
