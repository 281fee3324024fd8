import { authChallengeBytes, authProofBytes, authStartBytes } from './auth_messages.js';
import { getU32, invalid } from './bytes.js';
import {
  lengthBytes,
  MessageType,
  maxDataBytes,
  maxHelloBytes,
  maxMessageBytes,
  prefixBytes,
} from './message_type.js';
import { fetchBytes, maxRangeBytes, rangeHeaderBytes } from './range_messages.js';
import { maxRuleBytes, minRuleBytes } from './rule_message.js';
import { maxSeedPieceBytes, seedPieceHeaderBytes } from './seed_messages.js';
import { maxSlotsBytes, minSlotsBytes } from './slots_message.js';
import { ackBytes, commitBytes, dataHeaderBytes } from './stream_messages.js';
import {
  maxCannotBytes,
  maxPieceBytes,
  minCannotBytes,
  pieceHeaderBytes,
  wantBytes,
} from './want_messages.js';

/** Whom the frame reader feeds. A method that throws ends the connection. */
export interface FrameSink {
  /** A whole message but DATA at bytes[start, end), prefix included. Valid during the call only. */
  message(type: number, bytes: Uint8Array, start: number, end: number): void;
  /** The envelope of a DATA message of `dataBytes` log bytes, which follow. */
  data(bytes: Uint8Array, start: number, dataBytes: number): void;
  /**
   * Log bytes. Returns how many were taken; fewer than given stops the reader until it is pushed
   * again.
   */
  dataBytes(bytes: Uint8Array, start: number, end: number): number;
}

/** Which messages a side takes at all, and how long each may be: [least, most], prefix included. */
const lengths: Readonly<Record<number, readonly [number, number]>> = {
  [MessageType.STANDBY_HELLO]: [prefixBytes + 1, maxHelloBytes],
  [MessageType.PRIMARY_HELLO]: [prefixBytes + 1, maxHelloBytes],
  [MessageType.REFUSAL]: [prefixBytes + 1, maxHelloBytes],
  [MessageType.POSITION]: [prefixBytes + 1, maxMessageBytes],
  [MessageType.ACCEPT]: [prefixBytes + 1, maxMessageBytes],
  [MessageType.DATA]: [dataHeaderBytes + 1, dataHeaderBytes + maxDataBytes],
  [MessageType.COMMIT]: [commitBytes, commitBytes],
  [MessageType.ACK]: [ackBytes, ackBytes],
  [MessageType.RULE]: [minRuleBytes, maxRuleBytes],
  [MessageType.FETCH]: [fetchBytes, fetchBytes],
  [MessageType.RANGE]: [rangeHeaderBytes + 1, rangeHeaderBytes + maxRangeBytes],
  [MessageType.WANT]: [wantBytes, wantBytes],
  [MessageType.PIECE]: [pieceHeaderBytes + 1, pieceHeaderBytes + maxPieceBytes],
  [MessageType.CANNOT]: [minCannotBytes, maxCannotBytes],
  [MessageType.AUTH_START]: [authStartBytes, authStartBytes],
  [MessageType.AUTH_CHALLENGE]: [authChallengeBytes, authChallengeBytes],
  [MessageType.AUTH_PROOF]: [authProofBytes, authProofBytes],
  [MessageType.SURVEY]: [prefixBytes + 1, maxHelloBytes],
  [MessageType.STANDING]: [prefixBytes + 1, maxMessageBytes],
  [MessageType.FENCE]: [prefixBytes + 1, maxHelloBytes],
  [MessageType.GRANT]: [prefixBytes + 1, maxMessageBytes],
  [MessageType.HANDOVER]: [prefixBytes + 1, maxHelloBytes],
  [MessageType.TAKEN]: [prefixBytes + 1, maxMessageBytes],
  [MessageType.SLOTS]: [minSlotsBytes, maxSlotsBytes],
  [MessageType.SEED_ASK]: [prefixBytes + 1, maxHelloBytes],
  [MessageType.SEED_OFFER]: [prefixBytes + 1, maxMessageBytes],
  [MessageType.SEED_PIECE]: [seedPieceHeaderBytes + 1, seedPieceHeaderBytes + maxSeedPieceBytes],
};

const stranger = 256;

/**
 * Cuts a byte stream into messages. The log bytes of DATA pass through chunk by chunk; any other
 * message is handed over whole, in place where it lies whole in the chunk. Holds at most one
 * partial message: 256 bytes until a longer one is expected, and never more than the limit of its
 * type.
 */
export class FrameReader {
  #expected: readonly number[];
  #partial = new Uint8Array(stranger);
  #held = 0;
  #dataLeft = 0;

  /** Types that the peer may send now; any other closes the connection. */
  constructor(expected: readonly number[]) {
    this.#expected = expected;
  }

  expect(types: readonly number[]): void {
    this.#expected = types;
  }

  /** Bytes that this reader has allocated. */
  get memory(): number {
    return this.#partial.length;
  }

  /** Log bytes of the present DATA message that are still to come. */
  get dataLeft(): number {
    return this.#dataLeft;
  }

  /**
   * Takes bytes[start, end). Returns where it stopped: before `end` only when the sink took less
   * than given.
   */
  push(bytes: Uint8Array, start: number, end: number, sink: FrameSink): number {
    let at = start;
    while (at < end) {
      if (this.#dataLeft > 0) {
        const stop = Math.min(end, at + this.#dataLeft);
        const taken = sink.dataBytes(bytes, at, stop);
        this.#dataLeft -= taken;
        at += taken;
        if (at < stop) return at;
      } else if (this.#held > 0) {
        at = this.#complete(bytes, at, end, sink);
      } else {
        at = this.#inPlace(bytes, at, end, sink);
      }
    }
    return at;
  }

  /** Messages that lie whole in the chunk; the rest of the chunk is held. */
  #inPlace(bytes: Uint8Array, at: number, end: number, sink: FrameSink): number {
    if (end - at >= prefixBytes) {
      const whole = this.#wholeBytes(bytes, at);
      if (end - at >= whole) {
        this.#emit(bytes, at, whole, sink);
        return at + whole;
      }
    }
    return this.#hold(bytes, at, end, end - at);
  }

  /** Goes on with a message of which a part is held. */
  #complete(bytes: Uint8Array, at: number, end: number, sink: FrameSink): number {
    if (this.#held < prefixBytes) {
      const after = this.#hold(bytes, at, end, prefixBytes - this.#held);
      if (this.#held < prefixBytes) return after;
      this.#wholeBytes(this.#partial, 0);
      return after;
    }
    const whole = this.#wholeBytes(this.#partial, 0);
    const after = this.#hold(bytes, at, end, whole - this.#held);
    if (this.#held === whole) {
      this.#held = 0;
      this.#emit(this.#partial, 0, whole, sink);
    }
    return after;
  }

  #hold(bytes: Uint8Array, at: number, end: number, wanted: number): number {
    const count = Math.min(wanted, end - at);
    this.#reserve(this.#held + count);
    this.#partial.set(bytes.subarray(at, at + count), this.#held);
    this.#held += count;
    return at + count;
  }

  /**
   * What has arrived is stored, so memory grows with what a peer sends, never with what it
   * announces.
   */
  #reserve(count: number): void {
    if (count <= this.#partial.length) return;
    let size = this.#partial.length;
    while (size < count) size *= 2;
    const larger = new Uint8Array(size);
    larger.set(this.#partial.subarray(0, this.#held));
    this.#partial = larger;
  }

  #emit(bytes: Uint8Array, at: number, whole: number, sink: FrameSink): void {
    const type = bytes[at + lengthBytes]!;
    if (type !== MessageType.DATA) {
      sink.message(type, bytes, at, at + whole);
      return;
    }
    this.#dataLeft = getU32(bytes, at) + lengthBytes - dataHeaderBytes;
    sink.data(bytes, at, this.#dataLeft);
  }

  /** Bytes up to the end of the message, or of the envelope of a DATA message; all checked. */
  #wholeBytes(bytes: Uint8Array, at: number): number {
    const type = bytes[at + lengthBytes]!;
    const range = lengths[type];
    if (range === undefined) throw invalid(`unknown message type ${type}`);
    if (!this.#expected.includes(type)) throw invalid(`message type ${type} is out of turn`);
    const length = getU32(bytes, at) + lengthBytes;
    if (length < range[0] || length > range[1]) {
      throw invalid(`a message of type ${type} cannot be ${length} bytes long`);
    }
    return type === MessageType.DATA ? dataHeaderBytes : length;
  }
}
