import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import {
  type HistoryEntry,
  type NativeBinding,
  type NativeLog,
  type NativeOpenOptions,
  type Place,
  State,
} from '../../src/native/native_log.js';
import { encodeRecords } from '../format/encode.js';

/** The addon itself, without the package around it; or another build of it, as the loader does. */
const built = process.env.WALMIRROR_PREBUILD ?? resolve(import.meta.dirname, '../..');
export const binding = createRequire(import.meta.url)(
  resolve(built, 'build/Release/walmirror.node'),
) as NativeBinding;

/** Small in every dimension, so that a few kilobytes roll, wrap and fill. */
export const small = {
  create: true,
  role: 'primary',
  name: 'a',
  segmentBytes: 65536,
  padded: false,
  maxRecordBytes: 4096,
  ringBytes: 131072,
  maxBatchBytes: 16384,
  maxBatchDelayMs: 1,
  sharedRing: true,
} as const satisfies Omit<NativeOpenOptions, 'dir'>;

export type OpenOptions = Partial<NativeOpenOptions> & { readonly dir: string };

/** A native log, and the part of the package that a test of it needs: appending and waiting. */
export class TestLog {
  readonly native: NativeLog;
  #payload = 0;
  #count = 0;
  #waiters: (() => void)[] = [];

  private constructor(native: NativeLog) {
    this.native = native;
    native.onProgress(() => this.#wake());
  }

  static async open(options: OpenOptions): Promise<TestLog> {
    return new TestLog(await binding.open({ ...small, ...options }));
  }

  /** Opened, and its term too: ready for appends. */
  static async openPrimary(options: OpenOptions): Promise<TestLog> {
    const log = await TestLog.open(options);
    const { term, nodeId } = log.native.info();
    const again = term.opener === nodeId && term.epoch > 0;
    const epoch = again ? term.epoch : term.epoch + 1;
    const incarnation = again ? term.incarnation + 1 : 1;
    await log.native.openTerm({ epoch, opener: nodeId, incarnation });
    return log;
  }

  static openStandby(of: NativeLog, options: OpenOptions): Promise<TestLog> {
    const { logId, salt, segmentBytes, padded, maxRecordBytes } = of.info();
    const fixed = { logId, salt, segmentBytes, padded, maxRecordBytes };
    return TestLog.open({ role: 'standby', name: 'b', ...fixed, ...options });
  }

  get closed(): Place {
    const state = this.native.state;
    return { position: state[State.CLOSED_POSITION] ?? 0, lsn: state[State.CLOSED_LSN] ?? 0 };
  }

  get flushed(): Place {
    const state = this.native.state;
    return { position: state[State.FLUSH_POSITION] ?? 0, lsn: state[State.FLUSH_LSN] ?? 0 };
  }

  get crc(): number {
    return this.native.state[State.LAST_CRC] ?? 0;
  }

  /** The record's LSN; undefined where the ring is full. */
  append(data: Uint8Array): number | undefined {
    const bytes = 4 + Math.ceil(data.length / 4) * 4;
    if (this.#payload + bytes > this.#capacity()) {
      if (this.native.reserve(this.#payload, this.#count, bytes) !== 0) {
        // The batch before was closed, although no new one could be opened.
        this.#payload = 0;
        this.#count = 0;
        return undefined;
      }
      this.#payload = 0;
      this.#count = 0;
    }
    const { ring } = this.native;
    if (ring === undefined) this.native.put(this.#payload, data);
    else {
      const cursor = (this.native.state[State.CURSOR] ?? 0) + this.#payload;
      new Uint8Array(ring, cursor, bytes).set(encodeRecords([data]));
    }
    this.#payload += bytes;
    this.#count += 1;
    return this.closed.lsn + this.#count;
  }

  closeBatch(): void {
    this.native.closeBatch(this.#payload, this.#count);
    this.#payload = 0;
    this.#count = 0;
  }

  /** Appends, waiting for room; the batch stays open. */
  async appendWhenItFits(data: Uint8Array): Promise<number> {
    for (;;) {
      const lsn = this.append(data);
      if (lsn !== undefined) return lsn;
      await this.progress();
    }
  }

  /** One batch of these records, closed. */
  async batch(...records: readonly (Uint8Array | string)[]): Promise<Place> {
    for (const record of records) {
      await this.appendWhenItFits(typeof record === 'string' ? Buffer.from(record) : record);
    }
    this.closeBatch();
    return this.closed;
  }

  /** Waits until all that is closed is flushed. */
  async settled(): Promise<Place> {
    while (this.flushed.position < this.closed.position) await this.progress();
    return this.flushed;
  }

  /**
   * The next news from the engine; looks again after a while, should news have come before the
   * call.
   */
  async progress(): Promise<void> {
    const failure = this.native.failure();
    if (failure !== undefined) throw failure;
    await new Promise<void>((wake) => {
      const timer = setTimeout(wake, 20);
      this.#waiters.push(() => {
        clearTimeout(timer);
        wake();
      });
    });
  }

  close(): Promise<void> {
    return this.native.close();
  }

  #capacity(): number {
    return this.native.state[State.CAPACITY] ?? 0;
  }

  #wake(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const wake of waiters) wake();
  }
}

/** Takes bytes into a standby, waiting for its ring where it is full. */
export async function ingestAll(
  log: TestLog,
  bytes: Uint8Array,
  chunk: () => number,
): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const end = Math.min(bytes.length, at + chunk());
    const taken = log.native.ingest(bytes, at, end);
    at += taken;
    if (taken === 0) await log.progress();
  }
}

/** The log's bytes [from, to) through `readInto`, batch by batch as a sender would. */
export async function readBytes(log: TestLog, from: number, to: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let buffer = binding.allocateAligned(65536);
  for (let at = from; at < to; ) {
    const { offset, length, next, need } = await log.native.readInto(buffer, at, to);
    if (length === 0) {
      if (need === 0) throw new Error(`nothing to read at ${at} of ${to}`);
      buffer = binding.allocateAligned(need);
      continue;
    }
    parts.push(Buffer.from(buffer.subarray(offset, offset + length)));
    at = next;
  }
  return Buffer.concat(parts);
}

export function historyOf(log: TestLog): readonly HistoryEntry[] {
  return log.native.info().history;
}

/** Bytes that no other call with another seed or length gives. */
export function payload(seed: number, length: number): Buffer {
  const parts: Buffer[] = [];
  for (let made = 0, i = 0; made < length; made += 32, i++) {
    parts.push(createHash('sha256').update(`${seed}:${i}`).digest());
  }
  return Buffer.concat(parts).subarray(0, length);
}

/** A small generator of random numbers that a failing test can repeat from its seed. */
export function randomFrom(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}
