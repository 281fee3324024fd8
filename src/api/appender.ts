import { type NativeLog, State, Word } from '../native/native_log.js';
import type { Environment, Timer } from '../transport/environment.js';
import { type AppendedRange, appendMany, type Measured, requireFits } from './append_many.js';
import { sharedClock } from './attached_calls.js';
import { WalError } from './errors.js';
import { isNoMemory, withOutcome } from './failure.js';
import { type RecordData, recordBytes, recordSize, tooLarge } from './record.js';
import { batchBytes, type Layout, recordSpace, ringSpace } from './ring_space.js';
import { Room } from './room.js';
import { SharedAppends, spaceOf } from './shared_appends.js';
import { integer, shown } from './validate.js';

/** What the appender tells the log that it belongs to. */
export interface AppenderHost {
  readonly environment: Environment;
  /** Why nothing can be appended now. */
  refusal(): Error;
  /** A batch was closed: it can be sent, and its commits have a place to wait for. */
  batchClosed(): void;
  /** Position up to which the log's own policy is met. */
  committedPosition(): number;
  /** Somebody wants ring space that is not there. */
  ringWanted(): void;
  /** The engine contradicted itself; the log must stop. */
  broken(error: unknown): void;
  /** What an append throws that the engine refused with this error. */
  refusedBy(error: unknown): unknown;
  /** An error of the engine as callers see it. */
  explain(error: unknown): unknown;
}

/** Up to here a loop copies faster than the built-in functions, whose call costs more. */
const SHORT_BYTES = 8;
const SHORT_TEXT = 16;

/** How long a batch may wait for the acknowledgement of the one before it. */
const STANDBY_WAIT_MS = 2;

/**
 * Writes records into the open batch, in memory that it shares with the engine. One native call a
 * batch (`reserve`, `closeBatch`), none a record. Nothing here is durable, or visible to anybody,
 * before its batch is closed; that happens at its size limit, at the end of the turn, when a commit
 * asks, and at the first append after the tick.
 *
 * `#limit` is -1 whenever an append has to take the slow path, whatever the reason: no open
 * batch, a standby, a failed or closed log, no shared memory, a running `appendInto`. So the hot
 * path compares once.
 */
export class Appender {
  readonly #native: NativeLog;
  readonly #host: AppenderHost;
  readonly #layout: Layout;
  readonly room: Room;
  /** Largest record, in bytes. */
  readonly maxRecord: number;
  readonly #state: Float64Array;
  readonly #tick: Int32Array;
  readonly #shared: boolean;
  readonly #bytes: Uint8Array;
  readonly #words: Uint32Array;
  readonly #text: Buffer;

  /** Where the open batch's payload starts, where its next record goes, and where its room ends. */
  #start = 0;
  #at = 0;
  #room = 0;
  #limit = -1;
  /** The memory of the open batch, as an encoder gets it. */
  #open: Buffer | undefined;
  /** LSN of the last closed record, and records in the open batch. */
  #base = 0;
  #count = 0;
  #accepting = false;
  #paused = false;
  #inCallback = false;
  #inGroup = false;
  #endOfTurn = false;
  /** A batch is to be closed when the round under way is over. */
  #due = false;
  /** It has outlived a tick for that. */
  #spared = false;
  #standbyWait: Timer | undefined;
  #refused: readonly number[] | undefined;
  /** When it began to take appends, by `sharedClock`. */
  #startedAt = 0;
  /** Once other threads append too: the open batch is the engine's then, and `#count` stays 0. */
  #sharing: SharedAppends | undefined;
  /** Where what was closed ends, as far as the host was told. */
  #told = 0;

  constructor(native: NativeLog, layout: Layout, maxRecord: number, host: AppenderHost) {
    this.#native = native;
    this.#host = host;
    this.#layout = layout;
    this.room = new Room(native, layout);
    this.maxRecord = maxRecord;
    this.#state = native.state;
    this.#tick = native.words;
    const ring = native.ring ?? new ArrayBuffer(0);
    this.#shared = native.ring !== undefined;
    this.#bytes = new Uint8Array(ring);
    this.#words = new Uint32Array(ring);
    this.#text = Buffer.from(ring);
  }

  /** LSN of the last record that was appended. */
  get lsn(): number {
    return this.#sharing === undefined ? this.#base + this.#count : this.#native.lastAppended();
  }

  /** LSN of the last record of a closed batch. */
  get closedLsn(): number {
    return this.#base;
  }

  /** Whether a commit of this LSN (undefined: of the last one) waits for the open batch. */
  isOpen(lsn: number | undefined): boolean {
    if (this.#inCallback) return false;
    return lsn === undefined || (lsn > this.#base && lsn <= this.#base + this.#count);
  }

  get inCallback(): boolean {
    return this.#inCallback;
  }

  /** Takes appends from now on: the log is a primary, and its opening is in the log. */
  start(): void {
    this.#base = this.#state[State.CLOSED_LSN] ?? 0;
    this.#told = this.#state[State.CLOSED_POSITION] ?? 0;
    this.#accepting = true;
    // One that was only paused has had the same role all along.
    if (!this.#paused) this.#startedAt = sharedClock();
    this.#paused = false;
    this.#tellAccepting();
  }

  /** The same as `stop`, and it may be started again: who waits for room waits on. */
  pause(): void {
    this.stop();
    this.#paused = true;
  }

  /** Whether what takes no appends now may take some again, as what it is. */
  get isPaused(): boolean {
    return this.#paused;
  }

  /**
   * Of a commit that another thread asks for, of what it has appended since that time of
   * `sharedClock`: it may have been cut since, and others have that LSN.
   */
  requireSameLife(since: number): void {
    if (since >= this.#startedAt) return;
    const text = 'this log has had another role since what is to be committed was appended';
    throw new WalError('WAL_FENCED', text, { outcome: 'unknown' });
  }

  /** Closes the open batch and takes no more. */
  stop(): void {
    // Nobody's append comes in between.
    this.#tellAccepting(false);
    this.#close(true);
    this.abandon();
  }

  /** Takes no more; the open batch is dropped (after a failure it can not be written any more). */
  abandon(): void {
    this.#host.environment.clearTimer(this.#standbyWait);
    this.#standbyWait = undefined;
    this.#accepting = false;
    this.#paused = false;
    this.#limit = -1;
    this.#room = this.#at;
    this.#tellAccepting();
  }

  // -- with other threads --

  get isAccepting(): boolean {
    return this.#accepting;
  }

  get isShared(): boolean {
    return this.#sharing !== undefined;
  }

  /** From now on other threads append too, and each append of this one is a call of the engine. */
  share(): void {
    if (this.#sharing !== undefined) return;
    this.close();
    this.#sealed();
    this.#native.share();
    this.#told = this.#state[State.CLOSED_POSITION] ?? 0;
    this.#sharing = new SharedAppends(this.#native, this.maxRecord);
    this.#refused = undefined;
    this.#tellAccepting();
  }

  /** What other threads have appended since is in the open batch, and in the state from now on. */
  lookAgain(): void {
    if (this.#sharing !== undefined) this.#native.share();
  }

  /** Batches may have been closed, by whatever thread. */
  noteClosed(): void {
    const closed = this.#state[State.CLOSED_POSITION] as number;
    if (this.#sharing === undefined || !this.#accepting || closed === this.#told) return;
    this.#told = closed;
    this.#base = this.#state[State.CLOSED_LSN] as number;
    this.#host.batchClosed();
  }

  appendShared(group: Measured): AppendedRange {
    requireFits(this.#layout, group);
    const first = this.#share((sharing) => sharing.appendGroup(group), group.sizes);
    return { first, last: first + group.records.length - 1 };
  }

  #share(take: (sharing: SharedAppends) => number, sizes: readonly number[]): number {
    this.refuseUnlessAccepting();
    let lsn: number;
    try {
      lsn = take(this.#sharing as SharedAppends);
    } catch (error) {
      throw this.#host.refusedBy(error);
    } finally {
      this.noteClosed();
    }
    if (lsn === 0) throw this.full(ringSpace(this.#layout, this.room.closed, sizes), sizes);
    this.#refused = undefined;
    this.#closeAtEndOfTurn();
    return lsn;
  }

  #tellAccepting(accepting = this.#accepting): void {
    if (this.#sharing === undefined) return;
    if (accepting) {
      this.#native.refuseAppends();
      return;
    }
    const why = this.#host.refusal();
    const { code, hint } = why instanceof WalError ? why : { code: 'WAL_CLOSED', hint: '' };
    this.#native.refuseAppends(code, why.message, hint);
  }

  append(data: RecordData): number {
    if (data instanceof Uint8Array) {
      const length = data.length;
      const at = this.#at;
      if (
        length <= this.#limit - at - 4 &&
        length <= this.maxRecord &&
        this.#tick[Word.TICK] === 1 &&
        length !== 0
      ) {
        const words = this.#words;
        const end = at + ((length + 7) & -4);
        // The padding first: the copy then overwrites what is not padding.
        words[(end >> 2) - 1] = 0;
        words[at >> 2] = length;
        if (length <= SHORT_BYTES) {
          const bytes = this.#bytes;
          for (let i = 0, to = at + 4; i < length; i++, to++) bytes[to] = data[i] as number;
        } else {
          this.#bytes.set(data, at + 4);
        }
        this.#at = end;
        return this.#base + ++this.#count;
      }
    } else if (typeof data === 'string') {
      return this.#appendText(data);
    }
    return this.#appendBytes(recordBytes(data, 'append'));
  }

  appendMany(items: Iterable<RecordData>): AppendedRange {
    return appendMany(this, items);
  }

  appendInto(maxBytes: number, encode: (buffer: Buffer, offset: number) => number): number {
    integer(maxBytes, 'appendInto(maxBytes)', 0, Number.MAX_SAFE_INTEGER);
    if (maxBytes > this.maxRecord) throw tooLarge(maxBytes, this.maxRecord, 'appendInto');
    if (this.#sharing !== undefined) this.refuseUnlessAccepting();
    else this.#makeRoom(recordSize(maxBytes));
    if (!this.#shared || this.#sharing !== undefined) return this.#appendScratch(maxBytes, encode);
    const at = this.#at;
    // One for the whole batch: encoders keep a DataView, or more, with a buffer that they know.
    this.#open ??= this.#text.subarray(this.#start, this.#room);
    const offset = at + 4 - this.#start;
    const end = this.#callback(encode, this.#open, offset, maxBytes);
    const length = end - offset;
    const size = recordSize(length);
    this.#bytes.fill(0, at + 4 + length, at + size);
    this.#words[at >> 2] = length;
    this.#at = at + size;
    return this.#base + ++this.#count;
  }

  /** Publishes the open batch, if it has records. Costs one native call. */
  close(): void {
    this.#close(false);
  }

  #close(isLast: boolean): void {
    this.#due = false;
    if (this.#sharing === undefined ? this.#count === 0 : !this.#accepting) return;
    const payload = this.#at - this.#start;
    const count = this.#count;
    this.#sealed();
    try {
      this.#native.closeBatch(payload, count);
    } catch (error) {
      // Shared, the engine has kept them: they are closed in a turn that has memory for it.
      if (this.#sharing !== undefined && !isLast && isNoMemory(error)) {
        this.#closeAtEndOfTurn();
        return;
      }
      // Records with LSNs already given out would be missing: nothing after them may be written.
      this.#host.broken(error);
      return;
    }
    if (this.#sharing === undefined) this.#published();
    else this.noteClosed();
  }

  /** Closes the open batch if its time is over. */
  closeIfDue(): void {
    if (this.#tick[Word.TICK] === 2) this.close();
  }

  /** Whether one batch, the open one or else the one reserved next, takes so many payload bytes. */
  hasRoom(payload: number): boolean {
    return payload <= (this.#count === 0 ? this.reserved : this.#room - this.#at);
  }

  /** Payload bytes that the engine has reserved for the open batch. */
  get reserved(): number {
    return this.#state[State.CAPACITY] as number;
  }

  /** Log bytes that the open batch will take as it is. */
  get openSpace(): number {
    if (this.#sharing !== undefined) return this.#state[State.OPEN_BYTES] as number;
    return this.#count === 0 ? 0 : batchBytes(this.#layout, this.#at - this.#start);
  }

  /** Whether the engine reserves a batch of this payload now; the open one is closed. */
  ready(payload: number): boolean {
    this.close();
    this.refuseUnlessAccepting();
    return this.reserved >= payload || this.#native.reserve(0, 0, payload) === 0;
  }

  /** Payload bytes of the records of an `appendMany` that was refused and not followed by any. */
  get refused(): readonly number[] | undefined {
    return this.#refused;
  }

  /**
   * Appends records for which there is room. No tick closes a batch in between: that would cost
   * some of it.
   */
  appendGroup(records: readonly (Uint8Array | string)[]): void {
    this.#inGroup = true;
    try {
      for (const record of records) this.append(record);
    } finally {
      this.#inGroup = false;
    }
  }

  /**
   * Somebody waits for room: what is in the open batch frees none before it is closed and
   * flushed.
   */
  wantRing(): void {
    this.close();
    this.#host.ringWanted();
  }

  explain(error: unknown): unknown {
    return this.#host.explain(error);
  }

  refuseUnlessAccepting(): void {
    if (this.#inCallback) throw reentrant();
    if (!this.#accepting) throw this.#host.refusal();
  }

  /** Nothing may follow what was taken of a group. */
  broken(error: unknown): unknown {
    this.#host.broken(error);
    return error instanceof WalError ? withOutcome(error, 'unknown') : error;
  }

  /** What a call throws that the engine refused with this error. */
  refusedBy(error: unknown): unknown {
    return this.#host.refusedBy(error);
  }

  /** WAL_RING_FULL, after telling whoever holds on to the ring. */
  full(space: number, sizes?: readonly number[]): WalError {
    this.#refused = sizes;
    this.#host.ringWanted();
    const free = this.#state[State.RING_FREE] ?? 0;
    const what =
      free >= space
        ? 'the next segment is not ready yet'
        : `the log memory is full (${free} of ${this.#layout.ringBytes} bytes are free)`;
    return new WalError('WAL_RING_FULL', `${what}: nothing was taken`, { outcome: 'refused' });
  }

  /**
   * Closes the open batch now or, while one before it is being flushed or acknowledged, when that
   * is over. It would wait for the flush anyway; this way those whom the end of it wakes are in the
   * same batch, so that many committers share one round instead of falling into groups that wait
   * for each other's. A standby that is far away is waited for no longer than `STANDBY_WAIT_MS`.
   */
  closeWhenIdle(): void {
    const state = this.#state;
    const closed = state[State.CLOSED_POSITION] as number;
    if (this.#host.committedPosition() >= closed) {
      this.close();
      return;
    }
    this.#due = true;
    if (state[State.FLUSH_POSITION] === closed) this.#waitForStandbys();
  }

  /** A flush or a commit moved, and everybody whom that wakes was told. */
  progressed(): void {
    if (!this.#due) return;
    const state = this.#state;
    const closed = state[State.CLOSED_POSITION] as number;
    if (this.#host.committedPosition() >= closed) {
      // Behind those who were woken.
      queueMicrotask(this.#closeDue);
    } else if ((state[State.FLUSH_POSITION] as number) >= closed) {
      this.#waitForStandbys();
    }
  }

  #waitForStandbys(): void {
    this.#standbyWait ??= this.#host.environment.setTimeout(() => {
      this.#standbyWait = undefined;
      this.#closeDue();
    }, STANDBY_WAIT_MS);
  }

  #appendText(text: string): number {
    const worst = text.length * 3;
    // Room for the worst case saves the pass over the string that measures it.
    if (
      !(worst <= this.#limit - this.#at - 4 && this.#tick[Word.TICK] === 1) ||
      worst > this.maxRecord
    ) {
      const length = Buffer.byteLength(text);
      if (length > this.maxRecord) throw tooLarge(length, this.maxRecord, 'append');
      if (this.#sharing !== undefined) return this.#appendToShared(text);
      this.#makeRoom(recordSize(length));
      if (!this.#shared) return this.#put(Buffer.from(text));
    }
    const at = this.#at;
    let length = text.length <= SHORT_TEXT ? this.#ascii(text, at + 4) : -1;
    if (length < 0) length = this.#text.write(text, at + 4, this.#room - at - 4, 'utf8');
    const end = at + recordSize(length);
    for (let i = at + 4 + length; i < end; i++) this.#bytes[i] = 0;
    this.#words[at >> 2] = length;
    this.#at = end;
    return this.#base + ++this.#count;
  }

  /** Writes short ASCII text; -1 if it is not ASCII. */
  #ascii(text: string, to: number): number {
    const bytes = this.#bytes;
    const length = text.length;
    for (let i = 0; i < length; i++) {
      const unit = text.charCodeAt(i);
      if (unit > 127) return -1;
      bytes[to + i] = unit;
    }
    return length;
  }

  #appendBytes(data: Uint8Array): number {
    const length = data.byteLength;
    if (length > this.maxRecord) throw tooLarge(length, this.maxRecord, 'append');
    if (this.#sharing !== undefined) return this.#appendToShared(data);
    const size = recordSize(length);
    this.#makeRoom(size);
    if (!this.#shared) return this.#put(data);
    const at = this.#at;
    this.#words[((at + size) >> 2) - 1] = 0;
    this.#words[at >> 2] = length;
    this.#bytes.set(data, at + 4);
    this.#at = at + size;
    return this.#base + ++this.#count;
  }

  #appendToShared(data: Uint8Array | string): number {
    return this.#share((sharing) => sharing.append(data), [spaceOf(data)]);
  }

  /** The same without shared memory. */
  #put(data: Uint8Array): number {
    try {
      this.#native.put(this.#at - this.#start, data);
    } catch (error) {
      // It has failed, and that has not been heard of here.
      throw this.#host.refusedBy(error);
    }
    this.#at += recordSize(data.byteLength);
    return this.#base + ++this.#count;
  }

  #appendScratch(maxBytes: number, encode: (buffer: Buffer, offset: number) => number): number {
    const scratch = Buffer.alloc(maxBytes);
    const record = scratch.subarray(0, this.#callback(encode, scratch, 0, maxBytes));
    return this.#sharing === undefined ? this.#put(record) : this.#appendToShared(record);
  }

  /** Runs the encoder with the log shut, and checks what it says. A throw appends nothing. */
  #callback(
    encode: (buffer: Buffer, offset: number) => number,
    buffer: Buffer,
    offset: number,
    maxBytes: number,
  ): number {
    const limit = this.#limit;
    this.#limit = -1;
    this.#inCallback = true;
    let end: number;
    try {
      end = encode(buffer, offset);
    } finally {
      this.#inCallback = false;
      this.#limit = limit;
    }
    requireEnd(end, offset, maxBytes);
    return end;
  }

  /** Makes the open batch have room for `size` payload bytes, opening or closing what it must. */
  #makeRoom(size: number): void {
    this.refuseUnlessAccepting();
    const tick = this.#tick[Word.TICK];
    if (tick === 0) this.#native.wakeTicker();
    if (size > this.#room - this.#at || (tick === 2 && this.#mayClose())) this.#openBatch(size);
  }

  /**
   * Whether the open batch is closed now or at the next tick. One that waits for the round under
   * way is spared once: those whom the end of that round wakes are to be in it.
   */
  #mayClose(): boolean {
    const spared = this.#due && !this.#spared;
    this.#spared = spared || this.#spared;
    if (!spared && !this.#inGroup && this.room.allowsSplit(recordSize(this.maxRecord))) return true;
    Atomics.compareExchange(this.#tick, Word.TICK, 2, 1);
    return false;
  }

  #openBatch(size: number): void {
    const count = this.#count;
    if (count > 0 || (this.#state[State.CAPACITY] as number) < size) {
      const payload = this.#at - this.#start;
      if (count > 0) this.#sealed();
      let full: number;
      try {
        full = this.#native.reserve(payload, count, size);
      } catch (error) {
        throw this.#reserveFailed(count, error);
      }
      if (count > 0) this.#published();
      // Publishing may have found the log failed.
      this.refuseUnlessAccepting();
      if (full !== 0) throw this.full(recordSpace(this.#layout, this.room.closed, size));
    }
    this.#open = undefined;
    this.#start = this.#shared ? (this.#state[State.CURSOR] as number) : 0;
    this.#at = this.#start;
    this.#room = this.#start + (this.#state[State.CAPACITY] as number);
    this.#limit = this.#shared ? this.#room : -1;
    this.#refused = undefined;
    // A tick that found no open batch says nothing about this one.
    if (this.#tick[Word.TICK] === 2) Atomics.compareExchange(this.#tick, Word.TICK, 2, 1);
    this.#closeAtEndOfTurn();
  }

  #closeAtEndOfTurn(): void {
    if (this.#endOfTurn) return;
    this.#endOfTurn = true;
    this.#host.environment.setImmediate(this.#turnEnded);
  }

  readonly #turnEnded = (): void => {
    this.#endOfTurn = false;
    this.closeWhenIdle();
  };

  readonly #closeDue = (): void => {
    if (this.#due) this.close();
  };

  /** The open batch is no longer ours: the next append opens another. */
  #sealed(): void {
    this.#spared = false;
    this.#base += this.#count;
    this.#count = 0;
    this.#start = 0;
    this.#at = 0;
    this.#room = 0;
    this.#limit = -1;
  }

  #published(): void {
    if (this.#state[State.CLOSED_LSN] !== this.#base) {
      const engine = this.#state[State.CLOSED_LSN];
      this.#host.broken(new Error(`the engine closed LSN ${engine}, expected ${this.#base}`));
      return;
    }
    this.#host.batchClosed();
  }

  #reserveFailed(count: number, error: unknown): unknown {
    if (this.#state[State.CLOSED_LSN] !== this.#base) this.#host.broken(error);
    else if (count > 0) this.#host.batchClosed();
    return this.#host.refusedBy(error);
  }
}

/** Throws where what an `appendInto` callback returned is not the end of a record. */
export function requireEnd(end: unknown, offset: number, maxBytes: number): asserts end is number {
  if (typeof end !== 'number') {
    throw new TypeError(
      `the appendInto callback returns the offset after its last byte, got ${shown(end)}`,
    );
  }
  if (!Number.isInteger(end) || end < offset || end > offset + maxBytes) {
    throw new RangeError(
      `the appendInto callback returned ${end}; it may end from ${offset} to ` +
        `${offset + maxBytes}. Nothing was appended`,
    );
  }
}

export function reentrant(): WalError {
  return new WalError('WAL_REENTRANT', 'the log was called from inside its appendInto callback', {
    outcome: 'refused',
  });
}
