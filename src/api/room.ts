import { type NativeLog, State } from '../native/native_log.js';
import {
  batchBytes,
  type Group,
  type Layout,
  leftInSegment,
  mostSpace,
  recordSpace,
  splitSpace,
} from './ring_space.js';

/**
 * Room for appends: what is free of the ring and of the segments that are ready, and how much of
 * it was promised in this turn of the event loop to drains that have resolved. Callers that were
 * woken together append one after the other: each is promised room behind that of the others.
 * Amounts are log bytes from the closed position on; `open` is what the open batch takes of them.
 */
export class Room {
  readonly layout: Layout;
  readonly #native: NativeLog;
  readonly #state: Float64Array;
  /** Log positions up to which there are promises: all, and those for more than one record. */
  #until = 0;
  #groupsUntil = 0;

  constructor(native: NativeLog, layout: Layout) {
    this.#native = native;
    this.#state = native.state;
    this.layout = layout;
  }

  get closed(): number {
    return this.#state[State.CLOSED_POSITION] as number;
  }

  get ringFree(): number {
    return this.#state[State.RING_FREE] as number;
  }

  get free(): number {
    return Math.min(this.ringFree, this.#state[State.SEGMENT_FREE] as number);
  }

  /** What the open batch takes, or all that is promised, whichever reaches further. */
  taken(open: number): number {
    return Math.max(open, this.#until - this.closed);
  }

  /** The same without what was promised to `drain()`, of which nobody said what it is for. */
  takenByGroups(open: number): number {
    return Math.max(open, this.#groupsUntil - this.closed);
  }

  /** The most that these records take, wherever they are appended behind what is taken. */
  mostFor(group: Group, open: number): number {
    const taken = this.taken(open);
    const left = taken > open ? 0 : leftInSegment(this.layout, this.closed + open);
    return mostSpace(this.layout, group, left);
  }

  /** The same for one record of this size behind `taken`. */
  mostForRecord(size: number, open: number, taken: number): number {
    if (taken > open) {
      return mostSpace(this.layout, { payload: size, largest: size, count: 1 });
    }
    return recordSpace(this.layout, this.closed + open, size);
  }

  /**
   * Promises `space` behind what is taken. False: it is not there yet; segments that are missing
   * were asked for. Throws WAL_NO_SPACE of the engine.
   */
  promise(open: number, space: number, isGroup: boolean): boolean {
    const end = this.taken(open) + space;
    if (!this.hold(end)) return false;
    // What anybody appends moves the closed position, also past what was promised to a group.
    const counts = isGroup || this.#groupsUntil > this.closed;
    this.#until = this.closed + end;
    if (counts) this.#groupsUntil = this.#until;
    return true;
  }

  /**
   * Whether a record may pass before the groups that have promises. It is counted as one of them,
   * or its bytes would be taken for theirs.
   */
  passRecord(size: number, open: number): boolean {
    const taken = this.taken(open);
    const end = taken + this.mostForRecord(size, open, taken);
    if (end > this.free) return false;
    this.#until = this.closed + end;
    this.#groupsUntil = this.#until;
    return true;
  }

  /** The same for appends that follow at once. */
  hold(space: number): boolean {
    return this.#native.promise(space) === 0;
  }

  /** The engine has reserved a batch of this payload, which is promised now. */
  promiseReserved(payload: number): void {
    this.#until = this.closed + batchBytes(this.layout, payload);
    this.#groupsUntil = this.#until;
  }

  /**
   * Whether a batch may be closed before it is full. It costs room, of which a promise to a group
   * counted none for that.
   */
  allowsSplit(largest: number): boolean {
    if (this.#groupsUntil <= this.closed) return true;
    const split = splitSpace(this.layout, Math.min(largest, this.#groupsUntil - this.closed));
    return this.taken(0) + split <= this.free && this.promise(0, split, true);
  }

  /** The turn is over: who was promised room and has not used it has to ask again. */
  release(): void {
    this.#until = 0;
    this.#groupsUntil = 0;
  }
}
