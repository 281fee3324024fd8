import type { Socket } from 'node:net';
import { type NativeLog, type Place, type ReadResult, State } from '../native/native_log.js';
import { assert } from '../replication/assert.js';
import type { BatchEnds } from '../replication/batch_ends.js';
import type { Progress } from '../replication/progress.js';
import { dataHeaderBytes, putDataHeader, type SessionTag } from '../wire/stream_messages.js';

/**
 * Up to this many bytes are copied into one write with their envelope: cheaper than a reference.
 */
const copyBytes = 16 * 1024;
/** Log bytes in one message; also how finely progress shows. */
const messageBytes = 512 * 1024;
/** Bytes under way in socket writes of a live standby. SAFETY 5.5 allows 4 MiB of the ring. */
const liveBytes = 2 * 1024 * 1024;
/** Small writes under way, so that a peer that reads nothing costs no more memory than that. */
const liveWrites = 1024;
/** A standby in catch-up that is this close to the end goes live. */
const liveLag = 1024 * 1024;
const copyBufferBytes = 4 * 1024 * 1024;
/** Smaller ones are not worth having: the next copy would want another. */
const leastBufferBytes = 64 * 1024;
/** One being read, two on their way. */
const copyBuffers = 3;
const block = 4096;

export interface FeederOptions {
  readonly native: NativeLog;
  /** The whole ring, or undefined where memory cannot be shared. */
  readonly ring: Uint8Array | undefined;
  readonly ringBytes: number;
  readonly socket: Socket;
  readonly progress: Progress;
  readonly tag: SessionTag;
  readonly batchEnds: BatchEnds;
  readonly allocateAligned: (bytes: number) => Uint8Array;
  readonly commit: () => Place;
  readonly writeAcks: () => boolean;
  /** Something was sent: no heartbeat is due, and the commit place went with it. */
  readonly onSent: () => void;
  /** The log cannot be read: the connection has to end. */
  readonly onFailure: (error: unknown) => void;
}

interface Write {
  /** Start of the ring bytes that the write refers to; -1 if it refers to none. */
  readonly from: number;
  readonly bytes: number;
  /** Given back when this write is over. */
  readonly buffer: Uint8Array | undefined;
}

/** Batches that are being read. */
interface Copy {
  readonly from: number;
  readonly buffer: Uint8Array;
  readonly read: ReadResult | Promise<ReadResult>;
}

/** What a stall is told by. */
export interface FeedMark {
  /** Log bytes in writes that are over. */
  readonly done: number;
  readonly queued: number;
  readonly heard: number;
}

/**
 * Of the writes under way, what the kernel has not taken. One write may be all that is under way,
 * and take a slow link longer than a stall may last; nothing public tells how far it is. Under TLS
 * that is what is encrypted, and of it what the connection below has not passed on.
 */
function queuedBytes(socket: Socket): number {
  const { _handle } = socket as { readonly _handle?: SocketHandle | null };
  return (_handle?.writeQueueSize ?? 0) + (_handle?._parent?.writeQueueSize ?? 0);
}

interface SocketHandle {
  readonly writeQueueSize?: number;
  readonly _parent?: { readonly writeQueueSize?: number };
}

/**
 * Sends the log to one standby, in order and without a gap.
 *
 * Live: what was closed is written to the socket at once, as a view of the ring, pinned until the
 * write is over. Catch-up: whole batches are copied, from the ring or else from the segments,
 * into a few buffers of its own. A standby falls from live to catch-up when more is closed than may
 * be under way, or when the ring is wanted; it comes back when it is close to the end.
 * `sentPosition` is always the end of a batch.
 */
export class Feeder {
  readonly #o: FeederOptions;
  readonly #writes: Write[] = [];
  readonly #onWritten = (error?: Error | null): void => this.#written(error);
  #bytesUnderWay = 0;
  #free: Uint8Array[] = [];
  #allocated = 0;
  #buffers = 0;
  #pin = -1;
  #avoidRing = false;
  #reading = false;
  /** The copy that follows the one being sent. */
  #ahead: Copy | undefined;
  #stopped = false;
  #ended = false;
  #bytesDone = 0;

  constructor(options: FeederOptions) {
    this.#o = options;
  }

  /** Whether nothing has left and nothing was acknowledged since `mark`, and something should. */
  hasStalled(mark: FeedMark): boolean {
    if (this.#bytesUnderWay === 0) return false;
    const now = this.mark();
    return now.done === mark.done && now.queued === mark.queued && now.heard === mark.heard;
  }

  mark(): FeedMark {
    const { socket, progress } = this.#o;
    return { done: this.#bytesDone, queued: queuedBytes(socket), heard: progress.heard };
  }

  /** The lowest position of the ring that a write under way refers to; infinite without one. */
  get holdsFrom(): number {
    for (const write of this.#writes) if (write.from >= 0) return write.from;
    return Number.POSITIVE_INFINITY;
  }

  /** Memory of its own. */
  get bufferBytes(): number {
    return this.#allocated;
  }

  /** More was closed, or flushed: sends what can be sent. */
  feed(): void {
    if (this.#isOver()) return;
    if (this.#o.progress.state === 'live' && !this.#copies) this.#feedLive();
    if (this.#copies) this.#feedCopies();
  }

  /** The ring is wanted: refers to no more of it until the standby has caught up. */
  avoidRing(): void {
    this.#avoidRing = true;
  }

  /** Sends nothing more; what is under way goes on. */
  stop(): void {
    this.#stopped = true;
  }

  /** The socket is closed: nothing refers to the ring any more. */
  end(): void {
    this.#stopped = true;
    this.#ended = true;
    this.#writes.length = 0;
    this.#ahead = undefined;
    this.#free = [];
    this.#releasePin();
  }

  /** Nothing more can be sent; writes under way may still refer to the ring. */
  #isOver(): boolean {
    return this.#stopped || !this.#o.socket.writable;
  }

  /** Whether it is fed from copies: without a ring to send from a live one is too. */
  get #copies(): boolean {
    return this.#o.progress.state === 'catchup' || this.#o.ring === undefined;
  }

  #feedLive(): void {
    const { native, progress } = this.#o;
    const closed = native.state[State.CLOSED_POSITION]!;
    const closedLsn = native.state[State.CLOSED_LSN]!;
    while (progress.sentPosition < closed) {
      if (this.#writes.length >= liveWrites) return;
      const budget = liveBytes - this.#bytesUnderWay;
      if (budget <= 0) return;
      const from = progress.sentPosition;
      const end =
        closed - from <= budget
          ? { position: closed, lsn: closedLsn }
          : this.#o.batchEnds.lastWithin(from, from + budget);
      const lost = from < native.state[State.RING_FLOOR]!;
      if (lost || this.#avoidRing || (end === undefined && this.#writes.length === 0)) {
        progress.state = 'catchup';
        return;
      }
      if (end === undefined) return;
      // Other threads may append, over what is not held, while this one looks at it.
      const isLarge = end.position - from > copyBytes;
      if ((isLarge || native.state[State.SHARED] === 1) && !this.#hold(from)) {
        progress.state = 'catchup';
        return;
      }
      this.#sendRing(from, end.position);
      if (!isLarge && this.holdsFrom === Number.POSITIVE_INFINITY) this.#releasePin();
      progress.sent(end.position, end.lsn);
      this.#o.onSent();
    }
  }

  #sendRing(from: number, end: number): void {
    const { ring, ringBytes, socket } = this.#o;
    assert(ring !== undefined, 'only a shared ring is sent from');
    const at = from % ringBytes;
    if (end - from <= copyBytes) {
      const message = Buffer.allocUnsafe(dataHeaderBytes + end - from);
      message.set(ring.subarray(at, at + end - from), dataHeaderBytes);
      this.#putEnvelope(message, from, end - from);
      this.#begin({ from: -1, bytes: end - from, buffer: undefined });
      socket.write(message, this.#onWritten);
    } else {
      socket.cork();
      for (let start = from; start < end; start += messageBytes) {
        const stop = Math.min(end, start + messageBytes);
        this.#begin({ from: start, bytes: stop - start, buffer: undefined });
        socket.write(this.#envelope(start, stop - start));
        socket.write(ring.subarray(at + start - from, at + stop - from), this.#onWritten);
      }
      socket.uncork();
    }
  }

  #feedCopies(): void {
    if (this.#reading) return;
    void this.#copyLoop();
  }

  async #copyLoop(): Promise<void> {
    this.#reading = true;
    try {
      while (!this.#stopped && this.#copies) {
        if (this.#ahead === undefined && this.#goLive()) return;
        const copy = this.#ahead ?? this.#beginCopy(this.#o.progress.sentPosition);
        if (copy === undefined) return;
        this.#ahead = undefined;
        const more = this.#sendCopy(copy, await copy.read);
        if (!more) return;
      }
    } catch (error) {
      if (!this.#stopped) this.#o.onFailure(error);
    } finally {
      this.#reading = false;
    }
  }

  /** Hands over from copies to the ring, in one step: nothing can be closed in between. */
  #goLive(): boolean {
    const { native, progress, ring } = this.#o;
    const lag = native.state[State.CLOSED_POSITION]! - progress.sentPosition;
    if (ring === undefined) progress.state = lag > liveLag ? 'catchup' : 'live';
    if (lag > liveLag || ring === undefined) return false;
    if (progress.sentPosition < native.state[State.RING_FLOOR]!) return false;
    progress.state = 'live';
    this.#avoidRing = false;
    this.#feedLive();
    return progress.state === 'live';
  }

  /** Reads whole batches into a buffer. undefined: there is none. */
  #beginCopy(from: number): Copy | undefined {
    const { native } = this.#o;
    const closed = native.state[State.CLOSED_POSITION]!;
    const buffer = this.#takeBuffer(closed - from);
    if (buffer === undefined) return undefined;
    const read =
      native.readRing(buffer, from, closed) ??
      native.readInto(buffer, from, native.state[State.FLUSH_POSITION]!);
    return { from, buffer, read };
  }

  /** The disk reads the next copy while this one leaves. */
  #readAhead(from: number): void {
    if (this.#o.native.state[State.FLUSH_POSITION]! - from <= liveLag) return;
    const ahead = this.#beginCopy(from);
    // What fails is told when its turn comes, if it comes.
    if (ahead?.read instanceof Promise) ahead.read.catch(() => undefined);
    this.#ahead = ahead;
  }

  /** False: there is nothing to send now. */
  #sendCopy({ buffer, from }: Copy, read: ReadResult): boolean {
    if (this.#isOver()) return false;
    if (read.length === 0) {
      this.#dropOrGive(buffer, read.need);
      return read.need > 0;
    }
    assert(read.next === from + read.length, 'what was read is contiguous');
    this.#readAhead(read.next);
    this.#writeCopy(buffer, read.offset, from, read.length);
    const { progress } = this.#o;
    // The standby acknowledges parts of it.
    for (let i = 0; i < read.ends.length; i += 2) progress.sent(read.ends[i]!, read.ends[i + 1]!);
    progress.sent(read.next, read.lsn);
    this.#o.onSent();
    return true;
  }

  #writeCopy(buffer: Uint8Array, offset: number, from: number, length: number): void {
    const { socket } = this.#o;
    socket.cork();
    for (let done = 0; done < length; done += messageBytes) {
      const bytes = Math.min(messageBytes, length - done);
      const isLast = done + bytes === length;
      this.#begin({ from: -1, bytes, buffer: isLast ? buffer : undefined });
      socket.write(this.#envelope(from + done, bytes));
      socket.write(buffer.subarray(offset + done, offset + done + bytes), this.#onWritten);
    }
    socket.uncork();
  }

  /** One that takes so many bytes of the log, or as many as a copy may have. */
  #takeBuffer(logBytes: number): Uint8Array | undefined {
    const bytes = bufferBytesFor(logBytes);
    const given = this.#free.pop();
    if (given !== undefined && given.length >= bytes) return given;
    if (given !== undefined) {
      this.#drop(given);
    } else if (this.#buffers >= copyBuffers || this.#allocated >= copyBuffers * copyBufferBytes) {
      return undefined;
    }
    this.#buffers += 1;
    this.#allocated += bytes;
    return this.#o.allocateAligned(bytes);
  }

  #drop(buffer: Uint8Array): void {
    this.#buffers -= 1;
    this.#allocated -= buffer.length;
  }

  /** Nothing was read into the buffer: back it goes, or away for one that takes the next batch. */
  #dropOrGive(buffer: Uint8Array, need: number): void {
    if (need === 0) {
      this.#free.push(buffer);
      return;
    }
    const bytes = Math.ceil(need / block) * block + 2 * block;
    assert(bytes > buffer.length, 'a batch that does not fit is larger than the buffer');
    this.#allocated += bytes - buffer.length;
    this.#free.push(this.#o.allocateAligned(bytes));
  }

  #begin(write: Write): void {
    this.#writes.push(write);
    this.#bytesUnderWay += write.bytes;
  }

  /**
   * Keeps the ring from `from` on for the writes to come. False: it is not there any more, or the
   * engine has no pin left.
   */
  #hold(from: number): boolean {
    if (this.#pin >= 0) return true;
    try {
      this.#pin = this.#o.native.pin(from);
      return true;
    } catch {
      return false;
    }
  }

  #written(error: Error | null | undefined): void {
    const write = this.#writes.shift();
    // After an error the socket closes, and `end` gives everything back.
    if (write === undefined || error || this.#ended) return;
    this.#bytesUnderWay -= write.bytes;
    this.#bytesDone += write.bytes;
    if (write.from >= 0) this.#movePin();
    if (write.buffer !== undefined) this.#giveBack(write.buffer);
    this.feed();
  }

  /** A buffer that grew for one large batch is not kept. */
  #giveBack(buffer: Uint8Array): void {
    if (buffer.length > copyBufferBytes) this.#drop(buffer);
    else this.#free.push(buffer);
  }

  #movePin(): void {
    const from = this.holdsFrom;
    if (from === Number.POSITIVE_INFINITY) this.#releasePin();
    else this.#o.native.movePin(this.#pin, from);
  }

  #releasePin(): void {
    if (this.#pin >= 0) this.#o.native.unpin(this.#pin);
    this.#pin = -1;
  }

  #envelope(position: number, bytes: number): Uint8Array {
    const envelope = Buffer.allocUnsafe(dataHeaderBytes);
    this.#putEnvelope(envelope, position, bytes);
    return envelope;
  }

  #putEnvelope(into: Uint8Array, position: number, bytes: number): void {
    const { tag, commit, writeAcks } = this.#o;
    putDataHeader(into, tag, position, commit(), bytes, writeAcks());
  }
}

/** With the blocks that a direct read takes around what is asked for; a power of two. */
function bufferBytesFor(logBytes: number): number {
  const wanted = logBytes + 2 * block;
  if (wanted > copyBufferBytes / 2) return copyBufferBytes;
  return Math.max(leastBufferBytes, 2 ** Math.ceil(Math.log2(wanted)));
}
