import { WalError } from '../api/errors.js';
import { refusalError } from '../replication/standby_session.js';
import { invalid } from '../wire/bytes.js';
import { FrameReader, type FrameSink } from '../wire/frame_reader.js';
import { decodeRefusal } from '../wire/handshake_messages.js';
import { MessageType, maxProtocol, minProtocol } from '../wire/message_type.js';
import { decodeRangeHeader, encodeFetch, rangeHeaderBytes } from '../wire/range_messages.js';
import { dial, receiveBytes } from './dial.js';
import { type Endpoint, showEndpoint } from './endpoint.js';
import { type Environment, processEnvironment } from './environment.js';
import { checkFollowHost } from './plaintext.js';
import type { Security } from './security.js';
import { type ReplicationTiming, withDefaults } from './timing.js';

export interface FetchRangeOptions extends Endpoint, Security {
  /** The log of which it is. */
  readonly logId: string;
  readonly salt: string;
  /** Where a batch begins. */
  readonly from: number;
  readonly signal?: AbortSignal | undefined;
  readonly timing?: Partial<ReplicationTiming> | undefined;
  readonly environment?: Environment | undefined;
}

/** For all of an answer, as a multiple of how long a peer may be silent: also of one that drips. */
const deadTimes = 12;

/** The largest batch and the longest end of a segment fit. */
export const maxAnswerBytes = 40 * 1024 * 1024;

/**
 * Fetches whole batches from a peer, from a batch boundary on: at least one, about 1 MiB at most
 * where that is not larger. They are not verified: whoever uses them does that.
 */
export async function fetchRange(options: FetchRangeOptions): Promise<Uint8Array> {
  checkFollowHost(options.host, options);
  options.signal?.throwIfAborted();
  const { dead } = withDefaults(options.timing);
  const { environment = processEnvironment } = options;
  return new Promise((resolve, reject) => {
    const buffer = new Uint8Array(receiveBytes);
    const reader = new FrameReader([MessageType.RANGE, MessageType.REFUSAL]);
    const answer = new Answer(options.from);
    const finish = (settle: () => void): void => {
      environment.clearTimer(timer);
      environment.clearTimer(limit);
      options.signal?.removeEventListener('abort', onAbort);
      settle();
      socket.destroy();
    };
    const onAbort = (): void => finish(() => reject(options.signal?.reason));
    const socket = dial(options, buffer, {
      onConnect: () => {
        const { logId, salt, from } = options;
        const versions = { minVersion: minProtocol, maxVersion: maxProtocol };
        socket.write(encodeFetch({ ...versions, logId, salt, from }));
      },
      onRead: (count) => {
        timer.refresh();
        try {
          reader.push(buffer, 0, count, answer);
          if (answer.done) finish(() => resolve(answer.bytes()));
        } catch (error) {
          finish(() => reject(error));
        }
        return !socket.destroyed;
      },
      onClose: (error) => finish(() => reject(error)),
    });
    const late = new WalError('WAL_IO', `${showEndpoint(options)} did not answer in time`);
    const timer = environment.setTimeout(() => finish(() => reject(late)), dead);
    const limit = environment.setTimeout(() => finish(() => reject(late)), deadTimes * dead);
    options.signal?.addEventListener('abort', onAbort, { once: true });
  });
}

/** Puts the pieces together. */
class Answer implements FrameSink {
  readonly #pieces: Uint8Array[] = [];
  #next: number;
  #size = 0;
  done = false;

  constructor(from: number) {
    this.#next = from;
  }

  bytes(): Uint8Array {
    return Buffer.concat(this.#pieces, this.#size);
  }

  message(type: number, bytes: Uint8Array, start: number, end: number): void {
    if (type === MessageType.REFUSAL) throw refusalError(decodeRefusal(bytes, start, end));
    const { position, isLast } = decodeRangeHeader(bytes, start);
    if (this.done || position !== this.#next) throw invalid('log bytes that do not follow');
    const piece = bytes.slice(start + rangeHeaderBytes, end);
    this.#size += piece.length;
    this.#next += piece.length;
    if (this.#size > maxAnswerBytes) throw invalid('more log bytes than any batch has');
    this.#pieces.push(piece);
    this.done = isLast;
  }

  data(): void {
    throw invalid('a message out of turn');
  }

  dataBytes(): number {
    throw invalid('a message out of turn');
  }
}
