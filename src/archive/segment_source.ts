import { WalError } from '../api/errors.js';
import type { NativeInfo, NativeLog, Place, Term } from '../native/native_log.js';
import { type BatchHead, BatchWalk } from './batch_walk.js';
import type { SegmentFacts } from './object_format.js';

const block = 4096;
/** Bytes read at once; more where a single batch is longer, fewer where segments are smaller. */
const chunkBytes = 4 * 1024 * 1024;

export interface SegmentSourceHost {
  readonly native: Pick<NativeLog, 'info' | 'readInto' | 'locate'>;
  readonly allocateAligned: (bytes: number) => Buffer;
  /** Grows with each cut of the log. */
  cuts(): number;
  /** An error of the engine, as it is told. */
  explain(error: unknown): unknown;
}

/** The log was cut while a segment was read: what was read of it is not used. */
export class CutMeanwhile extends Error {}

/**
 * Reads sealed segments of an open log, piece by piece. The engine verifies each batch as it reads
 * it. Whoever reads keeps the log from being let go of (`retain`).
 */
export class SegmentSource {
  readonly #host: SegmentSourceHost;
  readonly #info: NativeInfo;
  #buffer: Buffer;
  /** A call of the engine that is under way. */
  #reading: Promise<unknown> = Promise.resolve();
  #isClosed = false;
  #head: BatchHead | undefined;

  constructor(host: SegmentSourceHost) {
    this.#host = host;
    this.#info = host.native.info();
    const { segmentBytes } = this.#info;
    this.#buffer = host.allocateAligned(Math.min(chunkBytes, segmentBytes));
  }

  /** The engine is not called any more when it resolves: whoever reads on is refused. */
  async close(): Promise<void> {
    this.#isClosed = true;
    await this.#reading.catch(() => undefined);
  }

  /** What was remembered of the log before a cut does not hold any more. */
  forget(): void {
    this.#head = undefined;
  }

  /** The segment whose first batch is at `start`; a batch must follow behind its end. */
  async facts(start: number): Promise<SegmentFacts> {
    const cuts = this.#host.cuts();
    const { logId, salt, segmentBytes, maxRecordBytes, padded } = this.#info;
    const end = start + segmentBytes;
    const first = await this.head(start);
    const next = await this.head(end);
    const last = await this.#lastOf(first, next.firstLsn - 1, end);
    this.#requireSame(cuts);
    this.#head = next;
    return {
      ...{ logId, salt, segmentBytes, maxRecordBytes, align: padded ? 4096 : 8 },
      ...{ term: last.term, start, end, firstLsn: first.firstLsn, lastLsn: next.firstLsn - 1 },
      ...{ firstTime: first.time, lastTime: last.time },
      ...{ previousCrc: first.previousCrc, lastCrc: last.crc },
    };
  }

  /** The batch that begins at this position. */
  async head(position: number): Promise<BatchHead> {
    if (this.#head?.position === position) return this.#head;
    const walk = new BatchWalk(this.#info, position);
    walk.push(await this.#read(position, position + this.#info.segmentBytes));
    return walk.first!;
  }

  /**
   * The bytes of the log from one batch on to where another one begins, in the same segment. Each
   * piece is to be used before the next one is asked for, and before anything else is read.
   */
  async *bytes(from: number, to: number): AsyncGenerator<Buffer> {
    const cuts = this.#host.cuts();
    for (let at = from; at < to; ) {
      const piece = await this.#read(at, to);
      this.#requireSame(cuts);
      at += piece.length;
      yield piece;
    }
  }

  /** Its filler, which ends it: looked for from the last record on. */
  async #lastOf(first: BatchHead, lastLsn: number, end: number): Promise<BatchHead> {
    const from =
      lastLsn < first.firstLsn
        ? first.position
        : await this.#call(() => this.#host.native.locate(lastLsn));
    const walk = new BatchWalk(this.#info, from);
    for (let at = from; at < end; ) {
      const piece = await this.#read(at, end);
      walk.push(piece);
      at += piece.length;
    }
    if (!walk.hasEnded) throw new Error(`no segment ends at position ${end}`);
    return walk.last!;
  }

  /** Whole batches from there on: at least one. */
  async #read(from: number, upTo: number): Promise<Buffer> {
    for (;;) {
      const { native, allocateAligned } = this.#host;
      const found = await this.#call(() => native.readInto(this.#buffer, from, upTo));
      if (found.length > 0) {
        return this.#buffer.subarray(found.offset, found.offset + found.length);
      }
      if (found.need === 0) throw new CutMeanwhile(`the log ends before position ${from}`);
      // A batch of one long record, or the zeros that it has left behind.
      this.#buffer = allocateAligned(Math.ceil(found.need / block) * block);
    }
  }

  async #call<T>(call: () => Promise<T>): Promise<T> {
    if (this.#isClosed)
      throw new WalError('WAL_CLOSED', 'the log was closed while it was archived');
    const made = call();
    this.#reading = made;
    try {
      return await made;
    } catch (error) {
      throw this.#host.explain(error);
    }
  }

  #requireSame(cuts: number): void {
    if (this.#host.cuts() === cuts) return;
    throw new CutMeanwhile('the log was cut while it was read');
  }
}

/** The term of the batch that ends the segment at `end`; undefined: of before the history. */
export function termAt(
  history: readonly (Term & Pick<Place, 'position'>)[],
  end: number,
): Term | undefined {
  const entry = history.findLast(({ position }) => position < end - block);
  if (entry === undefined) return undefined;
  const { epoch, opener, incarnation } = entry;
  return { epoch, opener, incarnation };
}
