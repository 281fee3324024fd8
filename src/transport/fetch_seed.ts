import { WalError } from '../api/errors.js';
import { refusalError } from '../replication/standby_session.js';
import { invalid } from '../wire/bytes.js';
import { FrameReader, type FrameSink } from '../wire/frame_reader.js';
import { decodeRefusal } from '../wire/handshake_messages.js';
import { MessageType, maxProtocol, seedProtocol } from '../wire/message_type.js';
import {
  decodeSeedOffer,
  decodeSeedPiece,
  encodeSeedAsk,
  isSameSnapshot,
  maxSeedPieceBytes,
  type SeedAsk,
  type SeedOffer,
  seedPieceHeaderBytes,
} from '../wire/seed_messages.js';
import { type DialTarget, dial, receiveBytes } from './dial.js';
import { showEndpoint } from './endpoint.js';
import { processEnvironment } from './environment.js';
import { type ReplicationTiming, withDefaults } from './timing.js';

/** Where a snapshot goes that comes piece by piece. */
export interface SeedSink {
  /** Once, before any piece; what it had of another snapshot may go. */
  offered(offer: SeedOffer): Promise<void>;
  /** The bytes are the caller's again when it resolves. One at a time, in order. */
  write(bytes: Uint8Array, offset: number): Promise<void>;
}

export interface FetchSeedOptions {
  readonly target: DialTarget;
  readonly ask: Omit<SeedAsk, 'minVersion' | 'maxVersion'>;
  readonly signal: AbortSignal;
  readonly timing?: Partial<ReplicationTiming> | undefined;
}

/** From so much on it is stored. As much again is received meanwhile. */
const storeBytes = 512 * 1024;
/** What one read may bring: all of it, and the piece of which the rest was held. */
const readBytes = receiveBytes + maxSeedPieceBytes;

/**
 * Asks a peer for a snapshot and stores it, once: resolves when all of it was given to the sink,
 * and rejects with why not. What was stored before it failed need not come again.
 */
export async function fetchSeed(options: FetchSeedOptions, sink: SeedSink): Promise<SeedOffer> {
  const { target, ask, signal } = options;
  signal.throwIfAborted();
  const { dead } = withDefaults(options.timing);
  const { environment = processEnvironment } = target;
  return new Promise((resolve, reject) => {
    const buffer = new Uint8Array(receiveBytes);
    let isOver = false;
    const finish = (settle: () => void): void => {
      if (isOver) return;
      isOver = true;
      environment.clearTimer(timer);
      signal.removeEventListener('abort', onAbort);
      socket.destroy();
      // Nothing of it is under way then.
      void answer.end().then(settle);
    };
    const fail = (error: unknown): void => finish(() => reject(error));
    const onAbort = (): void => fail(signal.reason);
    const answer = new Answer(ask, sink, {
      failed: fail,
      taken: () => {
        timer.refresh();
        if (!isOver && held > 0 && take(held)) socket.resume();
      },
      done: (offer) => finish(() => resolve(offer)),
    });
    /** Bytes that were read, and not looked at yet: what came before them is being stored. */
    let held = 0;
    const take = (count: number): boolean => {
      try {
        const isTaken = answer.take(buffer, 0, count);
        held = isTaken ? 0 : count;
        return isTaken && !isOver;
      } catch (error) {
        fail(error);
        return false;
      }
    };
    const socket = dial(target, buffer, {
      onConnect: () => {
        const versions = { minVersion: seedProtocol, maxVersion: maxProtocol };
        socket.write(encodeSeedAsk({ ...ask, ...versions }));
      },
      onRead: (count) => {
        timer.refresh();
        return !isOver && take(count);
      },
      onClose: (error) => {
        // The peer has done its part; the rest is between this node and its disk.
        if (!answer.isComplete) fail(error);
      },
    });
    const late = new WalError('WAL_IO', `${showEndpoint(target)} did not answer in time`);
    const timer = environment.setTimeout(() => {
      // Its own disk may take as long as it likes.
      if (answer.isStoring) timer.refresh();
      else fail(late);
    }, dead);
    signal.addEventListener('abort', onAbort, { once: true });
  });
}

interface AnswerEvents {
  failed(error: unknown): void;
  /** More can be taken. */
  taken(): void;
  done(offer: SeedOffer): void;
}

/** Puts pieces together, and has them stored while more are received: two buffers, in turn. */
class Answer implements FrameSink {
  readonly #reader = new FrameReader([MessageType.SEED_OFFER, MessageType.REFUSAL]);
  readonly #ask: FetchSeedOptions['ask'];
  readonly #sink: SeedSink;
  readonly #events: AnswerEvents;
  #offer: SeedOffer | undefined;
  #filling = Buffer.allocUnsafeSlow(storeBytes + readBytes);
  #spare = Buffer.allocUnsafeSlow(storeBytes + readBytes);
  #filled = 0;
  #at = 0;
  #isLast = false;
  isStoring = false;
  #hasEnded = false;
  #hasFailed = false;
  /** Resolves when nothing is being stored. */
  #stored: Promise<void> = Promise.resolve();

  constructor(ask: FetchSeedOptions['ask'], sink: SeedSink, events: AnswerEvents) {
    this.#ask = ask;
    this.#sink = sink;
    this.#events = events;
  }

  /** Nothing more comes. Resolves when what has come is stored, as far as that goes. */
  async end(): Promise<void> {
    this.#hasEnded = true;
    await this.#stored;
    if (this.#filled === 0 || this.#hasFailed) return;
    const bytes = this.#filling.subarray(0, this.#filled);
    await this.#sink.write(bytes, this.#at - this.#filled).catch(() => undefined);
  }

  /** All of it has come. */
  get isComplete(): boolean {
    return this.#offer !== undefined && this.#at === this.#offer.fileBytes;
  }

  /** false: nothing of it was taken, since there is no room for it as yet. */
  take(bytes: Uint8Array, from: number, to: number): boolean {
    if (this.isStoring && this.#filled > storeBytes) return false;
    this.#reader.push(bytes, from, to, this);
    if (!this.isStoring && (this.#isLast || this.#filled >= storeBytes)) this.#store();
    return true;
  }

  message(type: number, bytes: Uint8Array, start: number, end: number): void {
    if (type === MessageType.REFUSAL) throw refusalError(decodeRefusal(bytes, start, end));
    if (type === MessageType.SEED_OFFER) {
      this.#offered(decodeSeedOffer(bytes, start, end));
      return;
    }
    const { offset, isLast } = decodeSeedPiece(bytes, start);
    const size = end - start - seedPieceHeaderBytes;
    const { fileBytes } = this.#offer!;
    if (this.#isLast || offset !== this.#at) throw invalid('bytes that do not follow');
    this.#at += size;
    if (this.#at > fileBytes) throw invalid('a snapshot that is longer than was said');
    if (isLast !== (this.#at === fileBytes)) throw invalid('a snapshot ends elsewhere than said');
    this.#filling.set(bytes.subarray(start + seedPieceHeaderBytes, end), this.#filled);
    this.#filled += size;
    this.#isLast = isLast;
  }

  #offered(offer: SeedOffer): void {
    const { have } = this.#ask;
    const isRest = have !== undefined && isSameSnapshot(have, offer.snapshot);
    if (offer.from > (isRest ? have.bytes : 0)) throw invalid('a snapshot without its beginning');
    if (offer.fileBytes === 0) throw invalid('an empty snapshot');
    this.#offer = offer;
    this.#at = offer.from;
    this.#reader.expect([MessageType.SEED_PIECE, MessageType.REFUSAL]);
    this.#wait(this.#sink.offered(offer));
  }

  #wait(work: Promise<void>): void {
    this.isStoring = true;
    this.#stored = work.then(
      () => this.#goOn(),
      (error: unknown) => {
        this.#hasFailed = true;
        this.#events.failed(error);
      },
    );
  }

  #store(): void {
    const bytes = this.#filling.subarray(0, this.#filled);
    const offset = this.#at - this.#filled;
    [this.#filling, this.#spare] = [this.#spare, this.#filling];
    this.#filled = 0;
    this.#wait(this.#sink.write(bytes, offset));
  }

  #goOn(): void {
    this.isStoring = false;
    if (this.#hasEnded) return;
    // It may have been whole before.
    const isWhole = this.isComplete;
    if (this.#filled > 0 && (isWhole || this.#filled >= storeBytes)) this.#store();
    else if (isWhole) this.#events.done(this.#offer!);
    this.#events.taken();
  }

  data(): void {
    throw invalid('a message out of turn');
  }

  dataBytes(): number {
    throw invalid('a message out of turn');
  }
}
