import { WalError } from '../api/errors.js';
import { refusalError } from '../replication/standby_session.js';
import { invalid } from '../wire/bytes.js';
import type { SessionTag } from '../wire/stream_messages.js';
import {
  decodeCannot,
  decodePiece,
  encodeWant,
  maxPieceBytes,
  maxWanted,
  pieceHeaderBytes,
} from '../wire/want_messages.js';
import { type Environment, processEnvironment, type Timer } from './environment.js';

/** The standby has the batch there, and it takes an answer of so many bytes. */
export class LargerWanted extends Error {
  readonly need: number;

  constructor(need: number) {
    super(`the batch takes ${need} bytes`);
    this.need = need;
  }
}

/** What was asked for and is not answered to its end. */
interface Asked {
  readonly from: number;
  readonly most: number;
  size: number;
  pieces: Uint8Array[];
  /** undefined: it came too late, and what still comes is for nobody. */
  waiter: { resolve(bytes: Uint8Array): void; reject(error: Error): void } | undefined;
  readonly timer: Timer;
}

/**
 * What a primary asks of one standby: one range at a time, within a time limit for each piece. A
 * standby that is late is not asked again before its answer has come to its end. What is not the
 * answer to what was asked throws WAL_PEER_INVALID.
 */
export class RangeAsk {
  readonly #send: (message: Uint8Array) => void;
  readonly #tag: SessionTag;
  readonly #deadMs: number;
  readonly #environment: Environment;
  #number = 0;
  #asked: Asked | undefined;

  constructor(
    send: (message: Uint8Array) => void,
    tag: SessionTag,
    deadMs: number,
    environment = processEnvironment,
  ) {
    this.#send = send;
    this.#tag = tag;
    this.#deadMs = deadMs;
    this.#environment = environment;
  }

  /** Whether an answer is under way. */
  get isOpen(): boolean {
    return this.#asked !== undefined;
  }

  /** Whole batches from `from` on, not verified. Rejects with why there are none. */
  async ask(from: number, most: number): Promise<Uint8Array> {
    if (this.#asked !== undefined) {
      throw new WalError('WAL_IO', 'it has not answered an earlier request yet');
    }
    this.#number = (this.#number + 1) >>> 0;
    return new Promise((resolve, reject) => {
      const timer = this.#environment.setTimeout(() => this.#late(), this.#deadMs);
      timer.unref();
      this.#asked = { from, most, size: 0, pieces: [], waiter: { resolve, reject }, timer };
      this.#send(encodeWant(this.#tag, { number: this.#number, from, most }));
    });
  }

  piece(bytes: Uint8Array, start: number, end: number): void {
    const piece = decodePiece(bytes, start);
    const asked = this.#answered(piece.number);
    const size = end - start - pieceHeaderBytes;
    if (piece.position !== asked.from + asked.size) throw invalid('log bytes that do not follow');
    if (!piece.isLast && size !== maxPieceBytes) throw invalid('a piece that is not full');
    asked.size += size;
    if (asked.size > asked.most) throw invalid('more log bytes than were wanted');
    asked.timer.refresh();
    if (asked.waiter !== undefined) {
      asked.pieces.push(bytes.slice(start + pieceHeaderBytes, end));
    }
    if (!piece.isLast) return;
    this.#asked = undefined;
    this.#environment.clearTimer(asked.timer);
    asked.waiter?.resolve(Buffer.concat(asked.pieces, asked.size));
  }

  cannot(bytes: Uint8Array, start: number, end: number): void {
    const { number, need, code, message } = decodeCannot(bytes, start, end);
    const asked = this.#answered(number);
    if (asked.size > 0) throw invalid('an answer that was begun is not refused');
    if (need !== 0 && (need <= asked.most || need > maxWanted)) {
      throw invalid(`no batch takes an answer of ${need} bytes`);
    }
    const refusal = { code, message, term: undefined };
    this.end(need === 0 ? refusalError(refusal) : new LargerWanted(need));
  }

  /** Nothing more comes. */
  end(error: Error): void {
    const asked = this.#asked;
    this.#asked = undefined;
    this.#environment.clearTimer(asked?.timer);
    asked?.waiter?.reject(error);
  }

  #answered(number: number): Asked {
    if (this.#asked === undefined || number !== this.#number) {
      throw invalid('an answer to what was not asked');
    }
    return this.#asked;
  }

  /**
   * An event loop that was held up comes to its timers before it reads what has arrived meanwhile:
   * what counts is whether there is still nothing after that.
   */
  #late(): void {
    const asked = this.#asked;
    if (asked === undefined) return;
    const { size } = asked;
    this.#environment.setImmediate(() => {
      if (this.#asked === asked && asked.size === size) giveUp(asked);
    });
  }
}

function giveUp(asked: Asked): void {
  asked.waiter?.reject(new WalError('WAL_IO', 'it did not answer in time'));
  asked.waiter = undefined;
  asked.pieces = [];
}
