import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as decode from './decode.js';
import * as layout from './layout.js';

export interface SegmentFile {
  readonly name: string;
  readonly bytes: Buffer;
  readonly header: layout.Decoded<layout.SegmentHeader>;
}

export interface Damage {
  readonly file: string;
  readonly offset: number;
  /** The first LSN that cannot be read. */
  readonly lsn: number;
  readonly reason: string;
}

export interface End {
  readonly position: number;
  readonly lsn: number;
  readonly crc: number;
  /** Why no batch follows: `zeros`, `no segment`, or what is wrong with the bytes there. */
  readonly reason: string;
}

export interface ReadLog {
  readonly control: layout.Control;
  readonly controlFile: decode.ControlFile;
  readonly files: readonly SegmentFile[];
  readonly start: { readonly position: number; readonly lsn: number };
  readonly batches: readonly layout.Batch[];
  readonly records: readonly Uint8Array[];
  readonly end: End;
  readonly term: layout.Term | undefined;
  readonly history: readonly layout.HistoryEntry[];
  /** Set where the end is not an end but bytes that were once durable and do not verify. */
  readonly damage: Damage | undefined;
  /** Sealed segments whose bytes after the filler are not all zero. */
  readonly dirtySeals: readonly string[];
}

/** Reads all of a log directory as docs/format.md says, trusting nothing, changing nothing. */
export function readLog(dir: string): ReadLog {
  const controlFile = decode.decodeControl(readFileSync(join(dir, 'control')));
  const control = controlFile.current;
  if (control === undefined) throw new Error(`${dir}: no valid control copy`);
  const files = readSegments(dir);
  const walk = new Walk(control, files);
  walk.run();
  return { control, controlFile, files, ...walk.result() };
}

function readSegments(dir: string): SegmentFile[] {
  const names = readdirSync(dir).filter((name) => name.endsWith('.wal') || name.endsWith('.spare'));
  return names.sort().map((name) => {
    const bytes = readFileSync(join(dir, name));
    return { name, bytes, header: decode.decodeSegmentHeader(bytes) };
  });
}

/** The start position that is stored may be that of the segment, or of the first batch in it. */
function firstBatch({ start, segmentBytes }: layout.Control): number {
  return start.position - (start.position % segmentBytes) + layout.SEGMENT_HEADER_BYTES;
}

/** The history's entry for a term that begins with this batch. */
function beginning(batch: layout.Batch): layout.HistoryEntry {
  const { epoch, opener, incarnation, position, firstLsn } = batch;
  return { epoch, opener, incarnation, position, lsn: firstLsn - 1 };
}

class Walk {
  readonly #log: layout.Control;
  readonly #files: readonly SegmentFile[];
  readonly #batches: layout.Batch[] = [];
  readonly #dirty: string[] = [];
  #position: number;
  #lsn: number;
  #crc = 0;
  #term: layout.Term | undefined;
  #termFrom = 0;
  #history: readonly layout.HistoryEntry[] = [];
  #reason = '';
  #file = '';
  /** Where the bytes that do not verify lie: a segment's start when its header is what is wrong. */
  #bad = 0;

  constructor(log: layout.Control, files: readonly SegmentFile[]) {
    this.#log = log;
    this.#files = files;
    this.#position = firstBatch(log);
    this.#lsn = log.start.lsn;
  }

  run(): void {
    let first = true;
    for (;;) {
      const start = Math.floor(this.#position / this.#log.segmentBytes) * this.#log.segmentBytes;
      const segment = this.#segment(start, first);
      this.#bad = start;
      if (segment === undefined) return;
      if (first && segment.header.ok) this.#crc = segment.header.value.prevCrc;
      first = false;
      this.#file = segment.name;
      if (!this.#walkSegment(segment, start)) return;
    }
  }

  /** The file whose header continues the log at `start`. */
  #segment(start: number, first: boolean): SegmentFile | undefined {
    let seen = 'no segment';
    for (const file of this.#files) {
      if (!file.header.ok || file.header.value.start !== start) continue;
      const header = file.header.value;
      const log = this.#log;
      if (header.logId !== log.logId || header.salt !== log.salt) seen = 'foreign segment';
      else if (header.segmentBytes !== log.segmentBytes || header.align !== log.align)
        seen = 'segment header';
      else if (header.firstLsn !== this.#lsn + 1) seen = 'segment first LSN';
      else if (!first && header.prevCrc !== this.#crc) seen = 'segment prev crc';
      else return file;
    }
    this.#reason = seen;
    this.#file = layout.segmentName(this.#lsn + 1, start);
    return undefined;
  }

  /** True when the segment is sealed and the walk goes on in the next one. */
  #walkSegment(segment: SegmentFile, start: number): boolean {
    for (;;) {
      const at = this.#position - start;
      const batch = this.#next(segment.bytes, at, start);
      if (batch === undefined) {
        this.#bad = this.#position;
        return false;
      }
      if (this.#begins(batch)) {
        this.#termFrom = batch.position;
        this.#history = [...this.#history, beginning(batch)];
      }
      if (batch.kind === layout.Kind.TERM_OPENED) this.#history = batch.history;
      this.#batches.push(batch);
      this.#position = batch.end;
      this.#lsn = batch.lastLsn;
      this.#crc = batch.crc;
      this.#term = { epoch: batch.epoch, opener: batch.opener, incarnation: batch.incarnation };
      if (batch.kind === layout.Kind.FILLER) {
        const rest = segment.bytes.subarray(at + batch.length);
        if (segment.bytes.length !== this.#log.segmentBytes || !layout.allZero(rest)) {
          this.#dirty.push(segment.name);
        }
        return true;
      }
    }
  }

  #next(bytes: Buffer, at: number, start: number): layout.Batch | undefined {
    const decoded = decode.decodeAlone(bytes, at, start, this.#log);
    if (!decoded.ok) {
      const header = bytes.subarray(at, at + layout.BATCH_HEADER_BYTES);
      this.#reason = header.length > 0 && layout.allZero(header) ? 'zeros' : decoded.reason;
      return undefined;
    }
    const batch = decoded.value;
    const wrong = this.#misfit(batch);
    if (wrong !== undefined) this.#reason = wrong;
    return wrong === undefined ? batch : undefined;
  }

  /** What keeps a batch that stands alone from being the next one of this log. */
  #misfit(batch: layout.Batch): string | undefined {
    if (batch.firstLsn !== this.#lsn + 1) return 'first LSN';
    if (batch.prevCrc !== this.#crc) return 'prev crc';
    if (this.#term === undefined) return undefined;
    const order = layout.compareTerms(batch, this.#term);
    if (order === undefined || order < 0) return 'term';
    // A term begins with its opening, or with the filler that made room for it.
    const from = batch.history.at(-1)?.position ?? 0;
    if (batch.kind !== layout.Kind.TERM_OPENED) return undefined;
    return from === (order === 0 ? this.#termFrom : batch.position) ? undefined : 'history place';
  }

  #begins(batch: layout.Batch): boolean {
    return this.#term !== undefined && layout.compareTerms(batch, this.#term) !== 0;
  }

  result(): Omit<ReadLog, 'control' | 'controlFile' | 'files'> {
    return {
      start: { position: firstBatch(this.#log), lsn: this.#log.start.lsn },
      batches: this.#batches,
      records: this.#batches.flatMap((batch) => batch.records),
      end: { position: this.#position, lsn: this.#lsn, crc: this.#crc, reason: this.#reason },
      term: this.#term,
      history: this.#history,
      damage: this.#damage(),
      dirtySeals: this.#dirty,
    };
  }

  #damage(): Damage | undefined {
    const reason = this.#proof();
    if (reason === undefined) return undefined;
    const offset = this.#bad % this.#log.segmentBytes;
    return { file: this.#file, offset, lsn: this.#lsn + 1, reason };
  }

  /** Why the first bad place is corruption and not a torn tail. */
  #proof(): string | undefined {
    // Strictly below: an end exactly at the watermark misses nothing that was durable.
    if (this.#position < this.#log.watermark.position)
      return `below the watermark: ${this.#reason}`;
    if (this.#log.clean || this.#log.cutUnderWay) return undefined;
    for (const file of this.#files) {
      const starts = file.header.ok ? [file.header.value.start] : this.#missing(file);
      if (starts.some((start) => this.#covers(file.bytes, start)))
        return `a later batch's watermark covers it: ${this.#reason}`;
    }
    return undefined;
  }

  /** The segments that a file without a valid header may be. */
  #missing({ name, bytes }: SegmentFile): number[] {
    if (name.endsWith('.spare')) return [];
    const { segmentBytes } = this.#log;
    const starts = new Set<number>();
    for (let at = layout.SEGMENT_HEADER_BYTES; at + 128 <= bytes.length; at += 8) {
      if (bytes.readUInt32LE(at) !== layout.BATCH_MAGIC) continue;
      const start = decode.decodeBatchHeader(bytes, at).position - at;
      if (start >= 0 && start % segmentBytes === 0) starts.add(start);
    }
    const there = this.#files.map(({ header }) => (header.ok ? header.value.start : -1));
    return [...starts].filter((start) => !there.includes(start));
  }

  #covers(bytes: Buffer, start: number): boolean {
    const framer = this.#log.nodeId.slice(0, 16);
    const from = Math.max(this.#position - start, layout.SEGMENT_HEADER_BYTES);
    for (let at = from; at + layout.BATCH_HEADER_BYTES <= bytes.length; at += 8) {
      if (bytes.readUInt32LE(at) !== layout.BATCH_MAGIC) continue;
      const batch = decode.decodeAlone(bytes, at, start, this.#log);
      if (!batch.ok || batch.value.framer !== framer) continue;
      if (batch.value.firstLsn > this.#lsn && batch.value.watermark > this.#position) return true;
    }
    return false;
  }
}
