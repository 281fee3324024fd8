import type { Environment } from '../transport/environment.js';
import type { Appender } from './appender.js';
import { WalError } from './errors.js';
import { withOutcome } from './failure.js';
import { recordSize } from './record.js';
import { canEverFit, ringSpace } from './ring_space.js';
import type { Room } from './room.js';
import { Wakeups } from './wakeup.js';

/** Below this part of the ring `needsDrain` says so; `drain()` waits for twice as much. */
const LOW = 0.25;
/** What callers count for a record beside its bytes. */
const FRAMING = 8;

/**
 * Back-pressure: waits for room in the log memory and in the segments. What it promises holds until
 * the end of the turn in which a wait resolved, for whoever asked for it (`Room`).
 */
export class Drains {
  readonly waits = new Wakeups();
  /** What threads that attached were refused, as `Appender.refused`, by who they are. */
  readonly refusedElsewhere = new Map<number, readonly number[]>();
  readonly #appender: Appender;
  readonly #environment: Environment;
  readonly #room: Room;
  readonly #low: number;
  /** The largest record's payload. */
  readonly #largest: number;
  #endOfTurn = false;

  constructor(appender: Appender, environment: Environment) {
    this.#appender = appender;
    this.#environment = environment;
    this.#room = appender.room;
    this.#low = this.#room.layout.ringBytes * LOW;
    this.#largest = recordSize(appender.maxRecord);
  }

  /**
   * False: the next record is taken, whatever its size, and leaves what `drain(bytes)` promised to
   * others.
   */
  get needed(): boolean {
    const room = this.#room;
    const open = this.#appender.openSpace;
    const taken = room.takenByGroups(open);
    if (room.ringFree - taken < this.#low) return true;
    if (taken > open) return !room.passRecord(this.#largest, open);
    return taken + room.mostForRecord(this.#largest, open, taken) > room.free;
  }

  /** Whether somebody waits for room, or was refused for want of it and would be again. */
  get wanted(): boolean {
    if (this.waits.waiting) return true;
    const { refused } = this.#appender;
    if (refused !== undefined && this.#lacks(refused)) return true;
    for (const sizes of this.refusedElsewhere.values()) if (this.#lacks(sizes)) return true;
    return false;
  }

  #lacks(sizes: readonly number[]): boolean {
    const room = this.#room;
    const open = this.#appender.openSpace;
    return ringSpace(room.layout, room.closed + open, sizes) > room.ringFree - open;
  }

  /**
   * Resolves when records of `bytes` in all fit; without it, when there is comfortable room, and
   * for what was refused last.
   */
  async wait(
    bytes: number | undefined,
    signal: AbortSignal | undefined,
    refused = () => this.#appender.refused,
  ): Promise<void> {
    const met = bytes === undefined ? () => this.#comfortable(refused()) : this.#fits(bytes);
    try {
      await this.waits.until(() => this.#isMet(met), signal);
    } catch (error) {
      const known = this.#appender.explain(error);
      const isFull = known instanceof WalError && known.code === 'WAL_NO_SPACE';
      throw isFull ? withOutcome(known, 'refused') : known;
    }
  }

  #isMet(met: () => boolean): boolean {
    if (this.#appender.isPaused) return false;
    this.#appender.refuseUnlessAccepting();
    this.#appender.closeIfDue();
    this.#appender.lookAgain();
    if (!met()) return false;
    if (!this.#endOfTurn) {
      this.#endOfTurn = true;
      this.#environment.setImmediate(this.#turnEnded);
    }
    return true;
  }

  #comfortable(refused: readonly number[] | undefined): boolean {
    const appender = this.#appender;
    const room = this.#room;
    const open = appender.openSpace;
    const space = Math.max(
      room.mostForRecord(this.#largest, open, room.taken(open)),
      refused === undefined ? 0 : ringSpace(room.layout, room.closed + open, refused),
    );
    // Behind an open batch that is larger than that too, or `needed` would say so again at once.
    const enough = Math.max(2 * this.#low - room.taken(open), this.#low, space);
    return this.#ringHas(open, enough) && room.promise(open, space, false);
  }

  #fits(bytes: number): () => boolean {
    const appender = this.#appender;
    const room = this.#room;
    const { ringBytes } = room.layout;
    if (bytes > ringBytes) throw never(bytes, ringBytes);
    // What fits one batch can always be had: a batch of its own.
    const isOne = bytes <= appender.maxRecord + FRAMING;
    const payload = isOne ? Math.min(recordSize(bytes), this.#largest) : recordSize(bytes);
    const group = { payload, largest: Math.min(payload, this.#largest) };
    if (!isOne && !canEverFit(room.layout, group)) throw never(bytes, ringBytes);
    return () => {
      const open = appender.openSpace;
      const space = room.mostFor(group, open);
      if (isOne && room.taken(open) + space > room.free) {
        return this.#reserved(payload);
      }
      return this.#ringHas(open, space) && room.promise(open, space, true);
    };
  }

  /** One batch that takes it all, reserved by the engine: needs no room for the unforeseen. */
  #reserved(payload: number): boolean {
    const appender = this.#appender;
    const room = this.#room;
    if (room.taken(0) > 0) return false;
    if (appender.ready(payload)) {
      room.promiseReserved(payload);
      return true;
    }
    appender.wantRing();
    return false;
  }

  /** Asks for what is missing: the open batch frees none before it is closed and flushed. */
  #ringHas(open: number, space: number): boolean {
    const room = this.#room;
    if (room.taken(open) + space <= room.ringFree) return true;
    if (open + space > room.ringFree) this.#appender.wantRing();
    return false;
  }

  readonly #turnEnded = (): void => {
    this.#endOfTurn = false;
    this.#room.release();
    this.waits.settle();
  };
}

function never(bytes: number, ringBytes: number): RangeError {
  return new RangeError(
    `drain(${bytes}) could never resolve: the log memory (ringBytes) is ${ringBytes} bytes, ` +
      'and the layout needs some of it',
  );
}
