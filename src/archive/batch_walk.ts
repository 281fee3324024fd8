import type { Term } from '../native/native_log.js';
import { getU64, type SegmentFacts } from './object_format.js';

const batchHeaderBytes = 128;
const batchMagic = 0x54424d57;
const fillerKind = 5;

/** What is known of a batch by its header: docs/format.md. */
export interface BatchHead {
  readonly position: number;
  readonly length: number;
  readonly isFiller: boolean;
  readonly term: Term;
  readonly firstLsn: number;
  readonly count: number;
  /** Microseconds since 1970. */
  readonly time: number;
  readonly crc: number;
  readonly previousCrc: number;
}

/** What every batch of a log has in common. */
export type WalkedLog = Pick<SegmentFacts, 'logId' | 'salt' | 'segmentBytes'>;

/**
 * Goes along the batches of one segment, from any of them to its end, and holds that each continues
 * the one before. Their own checksums are for others to verify: the engine did as it read them, and
 * the SHA-256 of an archived segment covers them. Throws an Error that says what is wrong.
 */
export class BatchWalk {
  readonly #log: WalkedLog;
  readonly #logId: Buffer;
  readonly #salt: Buffer;
  readonly #partial = Buffer.alloc(batchHeaderBytes);
  #filled = 0;
  /** Bytes of the batch, or of the end of the segment, that are still to come. */
  #skip = 0;
  #opener = Buffer.alloc(16);
  #openerText = '';
  #position: number;
  #first: BatchHead | undefined;
  #last: BatchHead | undefined;

  constructor(log: WalkedLog, position: number) {
    this.#log = log;
    this.#logId = Buffer.from(log.logId, 'hex');
    this.#salt = Buffer.from(log.salt, 'hex').reverse();
    this.#position = position;
  }

  /** undefined: none yet. */
  get first(): BatchHead | undefined {
    return this.#first;
  }

  get last(): BatchHead | undefined {
    return this.#last;
  }

  /** Whether the segment was seen to its end, and not a byte more. */
  get hasEnded(): boolean {
    return this.#last?.isFiller === true && this.#skip === 0;
  }

  /** The bytes that follow. */
  push(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      if (this.#skip > 0) {
        const step = Math.min(this.#skip, bytes.length - at);
        this.#skip -= step;
        at += step;
        continue;
      }
      if (this.hasEnded) throw new Error('bytes follow the end of the segment');
      if (this.#filled === 0 && bytes.length - at >= batchHeaderBytes) {
        this.#take(bytes, at);
        at += batchHeaderBytes;
        continue;
      }
      const step = bytes.copy(this.#partial, this.#filled, at);
      this.#filled += step;
      at += step;
      if (this.#filled < batchHeaderBytes) continue;
      this.#filled = 0;
      this.#take(this.#partial, 0);
    }
  }

  #take(bytes: Buffer, at: number): void {
    const head = this.#decode(bytes, at);
    const last = this.#last;
    if (last !== undefined) {
      if (head.previousCrc !== last.crc) this.#refuse('does not continue the one before');
      if (head.firstLsn !== last.firstLsn + last.count) this.#refuse('has another first LSN');
      if (isOlder(head.term, last.term)) this.#refuse('is of an older term');
      if (head.time < last.time) this.#refuse('is earlier than the one before');
    }
    this.#first ??= head;
    this.#last = head;
    const { segmentBytes } = this.#log;
    const segmentEnd = (Math.floor(head.position / segmentBytes) + 1) * segmentBytes;
    // Behind a filler come the zeros to the end and the header of the next segment.
    const end = head.isFiller ? segmentEnd + 4096 : head.position + head.length;
    if (!head.isFiller && end >= segmentEnd) this.#refuse('passes the end of its segment');
    if (head.position + head.length > segmentEnd) this.#refuse('passes the end of its segment');
    this.#skip = end - head.position - batchHeaderBytes;
    this.#position = end;
  }

  #decode(bytes: Buffer, at: number): BatchHead {
    const isOfLog =
      bytes.readUInt32LE(at) === batchMagic &&
      bytes.compare(this.#logId, 0, 16, at + 16, at + 32) === 0 &&
      bytes.compare(this.#salt, 0, 8, at + 32, at + 40) === 0;
    if (!isOfLog) this.#refuse('is none of this log');
    const position = getU64(bytes, at + 40);
    if (position !== this.#position) this.#refuse('says that it lies elsewhere');
    const length = bytes.readUInt32LE(at + 8);
    if (length < batchHeaderBytes) this.#refuse('is shorter than its header');
    if (this.#openerText === '' || bytes.compare(this.#opener, 0, 16, at + 64, at + 80) !== 0) {
      bytes.copy(this.#opener, 0, at + 64, at + 80);
      this.#openerText = this.#opener.toString('hex');
    }
    return {
      position,
      length,
      isFiller: bytes[at + 13] === fillerKind,
      term: {
        epoch: getU64(bytes, at + 48),
        opener: this.#openerText,
        incarnation: bytes.readUInt32LE(at + 80),
      },
      firstLsn: getU64(bytes, at + 56),
      count: bytes.readUInt32LE(at + 84),
      time: getU64(bytes, at + 96),
      crc: bytes.readUInt32LE(at + 4),
      previousCrc: bytes.readUInt32LE(at + 112),
    };
  }

  #refuse(what: string): never {
    throw new Error(`the batch at position ${this.#position} ${what}`);
  }
}

function isOlder(term: Term, than: Term): boolean {
  if (term.epoch !== than.epoch) return term.epoch < than.epoch;
  return term.opener !== than.opener || term.incarnation < than.incarnation;
}

/** Throws unless the whole segment that was walked is the one that is described. */
export function requireFacts(walk: BatchWalk, facts: SegmentFacts): void {
  const { first, last } = walk;
  const isIt =
    walk.hasEnded &&
    first !== undefined &&
    last !== undefined &&
    first.position === facts.start &&
    first.firstLsn === facts.firstLsn &&
    first.time === facts.firstTime &&
    first.previousCrc === facts.previousCrc &&
    last.firstLsn - 1 === facts.lastLsn &&
    last.time === facts.lastTime &&
    last.crc === facts.lastCrc &&
    last.term.epoch === facts.term.epoch &&
    last.term.opener === facts.term.opener &&
    last.term.incarnation === facts.term.incarnation;
  if (!isIt) throw new Error('its batches are not those that its header describes');
}
