import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LogIdentity } from './decode.js';
import * as encode from './encode.js';
import * as layout from './layout.js';

export interface BuilderOptions extends LogIdentity {
  readonly nodeId: string;
  readonly maxRecordBytes: number;
}

export interface BatchOverrides {
  readonly watermark?: number;
  readonly wallClock?: number;
  readonly flags?: number;
  readonly framer?: string;
}

const defaults: BuilderOptions = {
  logId: '11'.repeat(16),
  salt: 0x5a17n,
  align: 8,
  segmentBytes: 65536,
  nodeId: 'aa'.repeat(16),
  maxRecordBytes: 4096,
};

/**
 * Writes logs by docs/format.md, in memory: to feed a standby, to plant stale or foreign bytes, and
 * to damage what no sound engine would write.
 */
export class LogBuilder {
  readonly log: BuilderOptions;
  readonly #segments: Buffer[] = [];
  readonly #ends: number[] = [];
  #history: layout.HistoryEntry[] = [];
  #term: layout.Term | undefined;
  #position = 0;
  #lsn = 0;
  #crc = 0;
  #wallClock = 1_700_000_000_000_000;

  constructor(options: Partial<BuilderOptions> = {}) {
    this.log = { ...defaults, ...options };
    this.#startSegment();
  }

  get position(): number {
    return this.#position;
  }

  get lsn(): number {
    return this.#lsn;
  }

  get crc(): number {
    return this.#crc;
  }

  get history(): readonly layout.HistoryEntry[] {
    return this.#history;
  }

  get segments(): readonly Buffer[] {
    return this.#segments;
  }

  /** Ends of all batches so far, in order; a filler's is where the next segment's batches start. */
  get ends(): readonly number[] {
    return this.#ends;
  }

  openTerm(epoch: number, incarnation = 1, opener = this.log.nodeId): this {
    const term = { epoch, opener, incarnation };
    // The history says where the batch lies, so that a roll must happen before it is written.
    const entries = Math.min(this.#history.length + 1, layout.HISTORY_LIMIT);
    this.#makeRoom(8 + entries * layout.HISTORY_ENTRY_BYTES);
    this.#term = term;
    this.#history.push({ ...term, position: this.#position, lsn: this.#lsn });
    this.#history = this.#history.slice(-layout.HISTORY_LIMIT);
    return this.#frame(layout.Kind.TERM_OPENED, encode.encodeHistory(this.#history), 0, {});
  }

  data(records: readonly (Uint8Array | string)[], overrides: BatchOverrides = {}): this {
    const bytes = records.map((record) =>
      typeof record === 'string' ? Buffer.from(record) : record,
    );
    const payload = encode.encodeRecords(bytes);
    this.#makeRoom(payload.length);
    return this.#frame(layout.Kind.DATA, payload, bytes.length, overrides);
  }

  system(kind: number, payload: Uint8Array, overrides: BatchOverrides = {}): this {
    this.#makeRoom(payload.length);
    return this.#frame(kind, payload, 0, overrides);
  }

  /** Ends the segment with a filler and starts the next one. */
  fill(): this {
    return this.#frame(layout.Kind.FILLER, Buffer.alloc(0), 0, {});
  }

  /** The log's bytes from position 0 to `to`, as they cross the wire. */
  bytes(to = this.#position): Buffer {
    return Buffer.concat(this.#segments).subarray(0, to);
  }

  /** Names of the segment files, in order. */
  names(): string[] {
    return this.#segments.map((segment, i) => {
      return layout.segmentName(Number(segment.readBigUInt64LE(48)), i * this.log.segmentBytes);
    });
  }

  control(changes: Partial<layout.Control> = {}): layout.Control {
    const term = this.#term ?? { epoch: 0, opener: '00'.repeat(16), incarnation: 0 };
    const { logId, salt, align, segmentBytes, nodeId, maxRecordBytes } = this.log;
    return {
      ...term,
      logId,
      salt,
      align,
      segmentBytes,
      nodeId,
      maxRecordBytes,
      sequence: 2,
      role: 'primary',
      clean: true,
      cutUnderWay: false,
      commitExact: false,
      watermark: { position: this.#position, lsn: this.#lsn, crc: this.#crc },
      commit: { position: this.#position, lsn: this.#lsn },
      start: { position: 0, lsn: 0 },
      forkPosition: 0,
      lastWallClock: this.#wallClock,
      name: 'built',
      primaryName: '',
      primaryAddress: '',
      lastContact: 0,
      rebuildFrom: 0,
      rebuildTo: 0,
      quorumLsn: 0,
      quorumMostLsn: 0,
      rule: undefined,
      membership: undefined,
      history: this.#history,
      ...changes,
    };
  }

  /** Writes the whole log into a fresh directory. */
  writeTo(dir: string, changes: Partial<layout.Control> = {}): void {
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    writeFileSync(join(dir, 'control'), encode.encodeControl(this.control(changes)), {
      mode: 0o600,
    });
    this.names().forEach((name, i) => {
      writeFileSync(join(dir, name), this.#segments[i] ?? Buffer.alloc(0), { mode: 0o600 });
    });
  }

  #makeRoom(payloadBytes: number): void {
    const { align, segmentBytes } = this.log;
    const length = layout.roundUp(layout.BATCH_HEADER_BYTES + payloadBytes, align);
    const room = segmentBytes - layout.fillerBytes(align);
    if (layout.SEGMENT_HEADER_BYTES + length > room) throw new Error('the batch fits no segment');
    if ((this.#position % segmentBytes) + length > room) this.fill();
  }

  #frame(kind: number, payload: Uint8Array, count: number, overrides: BatchOverrides): this {
    const { logId, salt, align, nodeId, segmentBytes } = this.log;
    const term = this.#term ?? { epoch: 0, opener: '00'.repeat(16), incarnation: 0 };
    this.#wallClock += 1000;
    const fields: encode.BatchFields = {
      ...term,
      kind,
      flags: align === layout.BLOCK ? layout.Flag.PADDED : 0,
      logId,
      salt,
      position: this.#position,
      firstLsn: this.#lsn + 1,
      count,
      wallClock: this.#wallClock,
      watermark: 0,
      prevCrc: this.#crc,
      framer: nodeId.slice(0, 16),
      ...overrides,
    };
    const batch = encode.encodeBatch(fields, payload, align);
    batch.copy(this.#segments.at(-1) ?? batch, this.#position % segmentBytes);
    this.#crc = batch.readUInt32LE(4);
    this.#lsn += count;
    this.#position += batch.length;
    if (kind === layout.Kind.FILLER) this.#startSegment();
    this.#ends.push(this.#position);
    return this;
  }

  #startSegment(): void {
    const { logId, salt, align, segmentBytes } = this.log;
    const start = this.#segments.length * segmentBytes;
    const header = {
      align,
      logId,
      salt,
      start,
      firstLsn: this.#lsn + 1,
      segmentBytes,
      prevCrc: this.#crc,
    };
    const segment = Buffer.alloc(segmentBytes);
    encode.encodeSegmentHeader(header).copy(segment);
    this.#segments.push(segment);
    this.#position = start + layout.SEGMENT_HEADER_BYTES;
  }
}
