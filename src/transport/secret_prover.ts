import { randomBytes } from 'node:crypto';
import { WalError } from '../api/errors.js';
import {
  decodeAuthChallenge,
  decodeAuthProof,
  encodeAuthProof,
  encodeAuthStart,
  nonceBytes,
} from '../wire/auth_messages.js';
import { invalid } from '../wire/bytes.js';
import { FrameReader, type FrameSink } from '../wire/frame_reader.js';
import { decodeRefusal, printable } from '../wire/handshake_messages.js';
import { MessageType } from '../wire/message_type.js';
import { type Exchange, isSameProof, proofOf } from './secret.js';

const { AUTH_CHALLENGE, AUTH_PROOF, REFUSAL } = MessageType;

/**
 * The half of the one that dials: proves its secret, and believes nothing before the other side has
 * proved it too. Whatever is wrong throws.
 */
export class SecretProver implements FrameSink {
  readonly #secret: Uint8Array;
  readonly #channel: Uint8Array;
  readonly #logId: string | undefined;
  readonly #send: (message: Uint8Array) => void;
  readonly #reader = new FrameReader([AUTH_CHALLENGE, REFUSAL]);
  readonly #nonce = randomBytes(nonceBytes);
  #exchange: Exchange | undefined;
  #done = false;

  /** `logId`: of the log that this node holds, if it holds one. */
  constructor(
    secret: Uint8Array,
    channel: Uint8Array,
    logId: string | undefined,
    send: (message: Uint8Array) => void,
  ) {
    this.#secret = secret;
    this.#channel = channel;
    this.#logId = logId;
    this.#send = send;
  }

  start(): void {
    this.#send(encodeAuthStart(this.#nonce));
  }

  /** Takes what came; returns whether the other side has proved that it knows the secret. */
  take(bytes: Uint8Array, count: number): boolean {
    this.#reader.push(bytes, 0, count, this);
    return this.#done;
  }

  message(type: number, bytes: Uint8Array, start: number, end: number): void {
    if (type === AUTH_CHALLENGE) this.#answer(bytes, start, end);
    else if (type === AUTH_PROOF) this.#verify(decodeAuthProof(bytes, start, end));
    else {
      // Whoever it is: its word decides nothing here, and so its code is only told.
      const { code, message } = decodeRefusal(bytes, start, end);
      throw new WalError('WAL_AUTH_FAILED', `refused by the peer: ${printable(code)}: ${message}`);
    }
  }

  data(): void {
    throw invalid('a message out of turn');
  }

  dataBytes(): number {
    throw invalid('a message out of turn');
  }

  #answer(bytes: Uint8Array, start: number, end: number): void {
    const { nonce: listenNonce, logId } = decodeAuthChallenge(bytes, start, end);
    if (this.#logId !== undefined && logId !== this.#logId) {
      // Without TLS anybody may say so: it ends this connection, and no more. No proof is made.
      const code = this.#channel.length > 0 ? 'WAL_NOT_A_LOG' : 'WAL_PEER_INVALID';
      throw new WalError(code, 'the peer says that it has another log');
    }
    this.#exchange = { dialNonce: this.#nonce, listenNonce, logId, channel: this.#channel };
    this.#reader.expect([AUTH_PROOF, REFUSAL]);
    this.#send(encodeAuthProof(proofOf(this.#secret, 'dials', this.#exchange)));
  }

  #verify(proof: Uint8Array): void {
    // Nothing may follow before this side has asked for something.
    this.#reader.expect([]);
    const expected = proofOf(this.#secret, 'listens', this.#exchange!);
    if (!isSameProof(proof, expected)) {
      throw new WalError('WAL_AUTH_FAILED', 'the peer does not know the secret');
    }
    this.#done = true;
  }
}
