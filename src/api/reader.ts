import { loadBinding } from '../native/binding.js';
import { type NativeInfo, type NativeLog, type Place, State } from '../native/native_log.js';
import { Batch, BatchField, KIND_DATA, KIND_FILLER, readU64 } from './batch.js';
import type { LogCore } from './core.js';
import { WalError } from './errors.js';
import type { KeepAlive } from './keep_alive.js';
import { type ReadRequest, readPlan } from './read_options.js';
import type { Wakeups } from './wakeup.js';

/** What a reader needs of the log that it reads. */
export interface ReaderHost {
  readonly native: NativeLog;
  readonly info: Pick<NativeInfo, 'segmentBytes'>;
  readonly keepAlive: KeepAlive;
  /** Settled whenever a visible place may have moved, and when the log ends. */
  readonly moved: Wakeups;
  /** Throws when the log is closed or has failed. */
  requireReadable(): void;
  /** An error of the engine as callers see it. */
  explain(error: unknown): unknown;
  /** The cuts of this log since it was opened. */
  readonly cuts: Cuts;
  /** Who reads from behind it has state that has to be rebuilt, and was not told so yet. */
  readonly rebuildFrom: number;
  /** How far records may be shown (SAFETY.md 1.3). */
  visible(upTo: 'commit' | 'flush'): Place;
}

/** Where the log was cut: what lay past that is of another history now. */
export interface Cuts {
  readonly count: number;
  /** Of the last cut, and of the one furthest back. */
  readonly latest: Place;
  readonly lowest: Place;
  /** The same of those that took what may have been read; infinite LSN: not such a one, or none. */
  readonly latestSeenLsn: number;
  readonly lowestSeenLsn: number;
}

export interface ReadPlan {
  readonly from: number;
  /** Last LSN to hand out; infinite for none. */
  readonly to: number;
  readonly upTo: 'commit' | 'flush';
  /** undefined: live. Otherwise the place where the reading ends. */
  readonly end: Place | undefined;
  readonly signal: AbortSignal | undefined;
  /** One buffer for all chunks; a batch is valid until the next is asked for. */
  readonly borrow: boolean;
  /** Told each time that it begins to wait for records to come. */
  readonly onWaiting?: () => void;
}

const FIRST_CHUNK_BYTES = 64 * 1024;
const MAX_CHUNK_BYTES = 1024 * 1024;
const PAGE = 4096;
/** What a borrowed batch is overwritten with when its time is over, if WALMIRROR_DEBUG says so. */
const POISON = 0xdb;

/**
 * A claim on segments, held apart from its reader so that it can be let go after the reader is
 * gone. It refers to no more than it needs: what it refers to is kept while the reader is there,
 * and a log has readers of its own.
 */
interface Claim {
  readonly native: NativeLog;
  id: number | undefined;
}

function letGo(claim: Claim): void {
  const id = claim.id;
  claim.id = undefined;
  // A log that is closed has let go of every claim, and does not mind.
  if (id !== undefined) claim.native.release(id);
}

/** Readers that were dropped in the middle, without `return()`. */
const dropped = new FinalizationRegistry<Claim>(letGo);

/**
 * Reads batches in LSN order, from memory where they are still there, else from the segments, and
 * keeps those from being recycled meanwhile. Not an async generator: `return()` has to end a
 * `next()` that waits for records to come.
 */
export class BatchReader implements AsyncIterableIterator<Batch> {
  readonly #host: ReaderHost;
  readonly #plan: ReadPlan;
  readonly #claim: Claim;
  readonly #abandoned = new AbortController();
  readonly #signal: AbortSignal;
  #position = -1;
  #chunk: Buffer = Buffer.alloc(0);
  #at = 0;
  #chunkBytes = FIRST_CHUNK_BYTES;
  /** The one buffer, and the batch that was lent out of it. */
  #own: Buffer = Buffer.alloc(0);
  #lent: { readonly batch: Batch; readonly bytes: Buffer } | undefined;
  readonly #poisons: boolean;
  #done = false;
  #busy: Promise<unknown> | undefined;
  #cutsSeen: number;
  /** Where the reading ends: at most where it was asked to. */
  #end: Place | undefined;
  /** The last record that was handed out. */
  #lastLsn = 0;

  constructor(host: ReaderHost, plan: ReadPlan) {
    this.#host = host;
    this.#cutsSeen = host.cuts.count;
    this.#plan = plan;
    this.#end = plan.end;
    this.#claim = { native: host.native, id: undefined };
    this.#poisons = plan.borrow && process.env.WALMIRROR_DEBUG === '1';
    const own = this.#abandoned.signal;
    this.#signal = plan.signal === undefined ? own : AbortSignal.any([own, plan.signal]);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Calls that overlap are answered in order, as those of an async generator are. */
  next(): Promise<IteratorResult<Batch, undefined>> {
    const step = this.#busy === undefined ? this.#step() : this.#busy.then(() => this.#step());
    const settled = step.catch(() => undefined);
    this.#busy = settled;
    void settled.then(() => {
      if (this.#busy === settled) this.#busy = undefined;
    });
    return step;
  }

  /** The next batch, where it has been read already. Not while a `next()` is under way. */
  ready(): Batch | undefined {
    if (this.#done || this.#plan.borrow) return undefined;
    // What is left of a history that was cut `next` finds out.
    if (this.#host.cuts.count !== this.#cutsSeen) return undefined;
    const batch = this.#parse();
    if (batch === undefined || batch.firstLsn > this.#plan.to) return undefined;
    this.#lastLsn = batch.lastLsn;
    if (batch.lastLsn >= this.#plan.to) this.#finish();
    return batch;
  }

  /** How many cuts what it hands out has seen: it may be of a history that was cut since. */
  get cutsSeen(): number {
    return this.#cutsSeen;
  }

  /** Lets the segments go, and ends a pending `next()`. */
  async return(): Promise<IteratorResult<Batch, undefined>> {
    this.#takeBack();
    this.#finish();
    return { done: true, value: undefined };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#takeBack();
    this.#finish();
  }

  async #step(): Promise<IteratorResult<Batch, undefined>> {
    this.#takeBack();
    if (this.#done) return { done: true, value: undefined };
    try {
      this.#plan.signal?.throwIfAborted();
      this.#host.requireReadable();
      const batch = await this.#nextBatch();
      if (batch !== undefined && !this.#done) {
        this.#lastLsn = batch.lastLsn;
        // A live reading too is over then: whether anything follows is not waited for.
        if (batch.lastLsn >= this.#plan.to) this.#finish();
        return { done: false, value: batch };
      }
      this.#finish();
      return { done: true, value: undefined };
    } catch (error) {
      const abandoned = this.#done;
      this.#finish();
      if (abandoned) return { done: true, value: undefined };
      throw this.#host.explain(error);
    }
  }

  #finish(): void {
    if (this.#done) return;
    this.#done = true;
    this.#chunk = Buffer.alloc(0);
    this.#own = Buffer.alloc(0);
    this.#at = 0;
    dropped.unregister(this);
    letGo(this.#claim);
    this.#abandoned.abort();
  }

  #takeBack(): void {
    if (this.#lent === undefined) return;
    const { batch, bytes } = this.#lent;
    this.#lent = undefined;
    batch.expire();
    if (this.#poisons) bytes.fill(POISON);
  }

  /** undefined at the end of what was asked for. */
  async #nextBatch(): Promise<Batch | undefined> {
    const { from, to } = this.#plan;
    if (from > to || (this.#end !== undefined && from > this.#end.lsn)) return undefined;
    if (this.#position < 0) await this.#open(from);
    for (;;) {
      this.#followCuts();
      const batch = this.#parse();
      if (batch !== undefined) return batch.firstLsn > to ? undefined : batch;
      const end = this.#end;
      if (end !== undefined && this.#position >= end.position) return undefined;
      if (this.#done) return undefined;
      const visible = end ?? (await this.#untilVisible());
      if (visible.position > this.#position) await this.#fill(visible.position);
    }
  }

  /**
   * What was read ahead of a history that was cut is dropped, and the reading goes on at the cut.
   * Throws WAL_REBUILD where some of what went was handed out. Returns whether there was a cut.
   */
  #followCuts(): boolean {
    const { cuts } = this.#host;
    const { count } = cuts;
    if (count === this.#cutsSeen) return false;
    const isOne = count === this.#cutsSeen + 1;
    const fork = isOne ? cuts.latest : cuts.lowest;
    const seenLsn = isOne ? cuts.latestSeenLsn : cuts.lowestSeenLsn;
    this.#cutsSeen = count;
    const { from } = this.#plan;
    const end = this.#end;
    // Who begins behind what may have been read has read that before.
    if (from - 1 > seenLsn) throw rebuildError(seenLsn + 1);
    if (this.#lastLsn > fork.lsn || (end !== undefined && end.lsn > fork.lsn)) {
      throw rebuildError(fork.lsn + 1);
    }
    // It ended behind an opening or a filler that went: others have records in that place.
    if (end !== undefined && end.position > fork.position) this.#end = fork;
    if (this.#position < 0) return true;
    const isRead = this.#at >= this.#chunk.length;
    const at = isRead ? this.#position : readU64(this.#chunk, this.#at + BatchField.POSITION);
    this.#position = Math.min(at, fork.position);
    this.#chunk = Buffer.alloc(0);
    this.#at = 0;
    this.#moveClaim();
    return true;
  }

  /** The next data batch of the chunk; system batches are stepped over. */
  #parse(): Batch | undefined {
    const { from, to } = this.#plan;
    while (this.#at < this.#chunk.length) {
      const start = this.#at;
      const chunk = this.#chunk;
      const length = chunk.readUInt32LE(start + BatchField.LENGTH);
      const kind = chunk.readUInt8(start + BatchField.KIND);
      if (length < BatchField.PAYLOAD) throw new Error(`no batch at position ${this.#position}`);
      // Behind a filler lie zeros and the next segment's header, to the end of the chunk.
      this.#at = kind === KIND_FILLER ? chunk.length : start + length;
      const count = chunk.readUInt32LE(start + BatchField.COUNT);
      const last = readU64(chunk, start + BatchField.FIRST_LSN) + count - 1;
      if (kind !== KIND_DATA || count === 0 || last < from) continue;
      const bytes = chunk.subarray(start, start + length);
      const batch = new Batch(bytes, from, to);
      if (this.#plan.borrow) this.#lent = { batch, bytes };
      return batch;
    }
    return undefined;
  }

  /** Finds where `from` starts, once it is visible, and claims the segments from there on. */
  async #open(from: number): Promise<void> {
    const { native, rebuildFrom } = this.#host;
    if (from > rebuildFrom) throw rebuildError(rebuildFrom);
    if (this.#plan.end === undefined) {
      // A record to come may be asked for; its place is known when the one before it is visible.
      await this.#until(() => {
        this.#followCuts();
        return this.#host.visible(this.#plan.upTo).lsn >= from - 1;
      });
    }
    this.#requireKept(from);
    // Everything is claimed first: a trim could otherwise fall between the look-up and the claim.
    this.#claim.id = native.retain(native.state[State.START_POSITION] ?? 0);
    dropped.register(this, this.#claim, this);
    let position = await this.#start(from);
    while (this.#followCuts()) position = await this.#start(from);
    if (this.#done) return;
    this.#host.requireReadable();
    this.#position = position;
    this.#moveClaim();
  }

  /**
   * Never past what is visible: what lies beyond may still be cut, system batches before the record
   * to come too, and its place be taken by another that starts elsewhere.
   */
  async #start(from: number): Promise<number> {
    const { native, keepAlive } = this.#host;
    const seen = this.#host.visible(this.#plan.upTo);
    if (from <= seen.lsn) return keepAlive.during(native.locate(from));
    return Math.max(seen.position, native.state[State.START_POSITION] ?? 0);
  }

  #requireKept(from: number): void {
    const first = (this.#host.native.state[State.START_LSN] ?? 0) + 1;
    if (from >= first) return;
    throw new WalError('WAL_LSN_GONE', `LSN ${from} was trimmed; the first one is ${first}`, {
      lsn: first,
    });
  }

  async #untilVisible(): Promise<Place> {
    const { upTo } = this.#plan;
    await this.#until(() => {
      this.#followCuts();
      return this.#host.visible(upTo).position > this.#position;
    });
    return this.#host.visible(upTo);
  }

  async #until(isThere: () => boolean): Promise<void> {
    const met = (): boolean => {
      this.#host.requireReadable();
      return isThere();
    };
    if (this.#plan.onWaiting !== undefined && !met()) this.#plan.onWaiting();
    await this.#host.moved.until(met, this.#signal);
  }

  /** Reads the next chunk, up to a batch boundary. */
  async #fill(upTo: number): Promise<void> {
    const { native, keepAlive } = this.#host;
    const from = this.#position;
    const wanted = chunkSize(from, upTo, this.#chunkBytes);
    // A reading goes no further than a segment does, with the header of the next one.
    const { segmentBytes } = this.#host.info;
    const rest = segmentBytes - (from % segmentBytes) + PAGE;
    const bytes = Math.min(wanted, chunkSize(from, from + rest, rest));
    let result =
      from >= (native.state[State.RING_FLOOR] ?? 0)
        ? this.#fromRing(this.#borrowed(bytes) ?? Buffer.allocUnsafeSlow(bytes), from, upTo)
        : undefined;
    if (result === undefined) {
      const buffer = this.#borrowed(bytes) ?? loadBinding().allocateAligned(bytes);
      const read = await this.#unlessCut(keepAlive.during(native.readInto(buffer, from, upTo)));
      if (this.#done) return;
      this.#host.requireReadable();
      if (read === undefined) return;
      result = { buffer, read };
    }
    const { buffer, read } = result;
    if (read.length === 0 && read.need > 0) {
      this.#chunkBytes = read.need + PAGE;
      return;
    }
    if (read.next <= from) throw new Error(`the engine read nothing at position ${from}`);
    this.#chunk = buffer.subarray(read.offset, read.offset + read.length);
    this.#at = 0;
    this.#position = read.next;
    this.#chunkBytes = Math.min(MAX_CHUNK_BYTES, Math.max(wanted, FIRST_CHUNK_BYTES) * 2);
    this.#moveClaim();
  }

  /** undefined: the log was cut meanwhile, and the answer is of what it was. */
  async #unlessCut<T>(work: Promise<T>): Promise<T | undefined> {
    try {
      const result = await work;
      return this.#followCuts() ? undefined : result;
    } catch (error) {
      if (this.#followCuts()) return undefined;
      throw error;
    }
  }

  /** undefined: every chunk has a buffer of its own. */
  #borrowed(bytes: number): Buffer | undefined {
    if (!this.#plan.borrow) return undefined;
    if (this.#own.length < bytes) this.#own = loadBinding().allocateAligned(bytes);
    return this.#own.subarray(0, bytes);
  }

  #fromRing(buffer: Buffer, from: number, upTo: number): Filled | undefined {
    const read = this.#host.native.readRing(buffer, from, upTo);
    return read === undefined ? undefined : { buffer, read };
  }

  #moveClaim(): void {
    if (this.#claim.id !== undefined) this.#host.native.moveRetain(this.#claim.id, this.#position);
  }
}

/** A reading of this log that may begin now. */
export function beginReading(
  core: LogCore,
  request: ReadRequest,
  onWaiting?: () => void,
): BatchReader {
  const plan = readPlan(core, request);
  return new BatchReader(core, onWaiting === undefined ? plan : { ...plan, onWaiting });
}

/** Of whoever has built state from records that another history has other ones for. */
export function rebuildError(lsn: number): WalError {
  const text = `the records from LSN ${lsn} on are not what they were: a new primary replaced them`;
  return new WalError('WAL_REBUILD', text, { lsn });
}

interface Filled {
  readonly buffer: Buffer;
  readonly read: ReturnType<NativeLog['readRing']> & object;
}

/** Whole pages that hold [from, upTo), but not more than `most`. */
function chunkSize(from: number, upTo: number, most: number): number {
  const wanted = (from % PAGE) + Math.min(upTo - from, most);
  return Math.ceil(wanted / PAGE) * PAGE + PAGE;
}
