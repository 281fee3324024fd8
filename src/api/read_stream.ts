import { addAbortSignal, Readable } from 'node:stream';
import type { LogRecord } from './batch.js';
import { type ReadOptions, type ReadRequest, readKeys, readRequest } from './read_options.js';
import { type Reading, RecordSource, type StreamMode } from './record_source.js';
import * as check from './validate.js';

/** Options of `createReadStream`. */
export interface ReadStreamOptions extends ReadOptions {
  /**
   * `object` (default): chunks are records, `{ lsn, data }`. `bytes`: the records' bytes one after
   * the other, with nothing that tells where one ends (`frameEncoder` keeps that).
   */
  readonly mode?: StreamMode;
  /**
   * How far it reads ahead of its consumer: records (default 16), or bytes (default 65,536, and at
   * most one record more). With `borrow` it reads nothing ahead.
   */
  readonly highWaterMark?: number;
}

export interface SourcePlan {
  readonly source: RecordSource;
  readonly mode: StreamMode;
  readonly highWaterMark: number;
  readonly signal: AbortSignal | undefined;
}

const AHEAD = { object: 16, bytes: 64 * 1024 } as const;

export const readStreamKeys = [...readKeys, 'mode', 'highWaterMark'];

/** The options of a stream, checked, with its reading. The signal is the stream's own affair. */
export function sourcePlan(
  raw: Record<string, unknown>,
  begin: (request: ReadRequest) => Reading,
): SourcePlan {
  const mode = streamMode(raw.mode);
  const { signal, ...request } = readRequest(raw);
  if (request.borrow) refuseBorrowing(raw, mode);
  const highWaterMark = request.borrow ? 0 : waterMark(raw.highWaterMark, AHEAD[mode]);
  const reading = begin({ ...request, signal: undefined });
  return { source: new RecordSource(reading, request.from), mode, highWaterMark, signal };
}

export function streamMode(value: unknown): StreamMode {
  if (value === undefined) return 'object';
  return check.oneOf(value, 'mode', ['object', 'bytes'] as const);
}

export function waterMark(value: unknown, otherwise: number): number {
  if (value === undefined) return otherwise;
  return check.integer(value, 'highWaterMark', 0, 2 ** 31 - 1);
}

function refuseBorrowing(raw: Record<string, unknown>, mode: StreamMode): void {
  if (mode !== 'object') throw new RangeError("borrow takes mode: 'object'");
  if (raw.highWaterMark !== undefined) {
    throw new RangeError('borrow reads nothing ahead: leave out highWaterMark');
  }
}

/**
 * A reading as a Node stream (`log.createReadStream`). Destroying it, and its end, lets go of the
 * segments at once. What ends a reading with an error destroys the stream with that error; the
 * signal does so with Node's AbortError.
 */
export class LogReadStream extends Readable {
  readonly #source: RecordSource;
  readonly #mode: StreamMode;

  /** @internal */
  constructor({ source, mode, highWaterMark, signal }: SourcePlan) {
    super({ objectMode: mode === 'object', highWaterMark });
    this.#source = source;
    this.#mode = mode;
    // Not an option of Readable: one that has fired already would destroy what is not made yet.
    if (signal !== undefined) addAbortSignal(signal, this);
  }

  /**
   * LSN of the last record that was put into the stream: what lies in its buffer counts. `from - 1`
   * before the first.
   */
  get lastLsn(): number {
    return this.#source.lastLsn;
  }

  /** @internal */
  override _read(): void {
    if (!this.#pushHere()) void this.#pull();
  }

  /** @internal */
  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#source.close();
    callback(error);
  }

  /** Puts in what is here while it is wanted; false if nothing was. */
  #pushHere(): boolean {
    for (let pushed = false; ; pushed = true) {
      const chunk = this.#take();
      if (chunk === undefined) return pushed;
      if (!this.push(chunk) || this.destroyed) return true;
    }
  }

  #take(): LogRecord | Buffer | undefined {
    if (this.#mode === 'object') return this.#source.take();
    return this.#source.takeBytes(this.readableHighWaterMark - this.readableLength);
  }

  async #pull(): Promise<void> {
    try {
      // A batch of empty records has no bytes: on to the next.
      do {
        if (!(await this.#source.pull())) {
          this.push(null);
          return;
        }
      } while (!this.destroyed && !this.#pushHere());
    } catch (error) {
      this.destroy(error as Error);
    }
  }
}
