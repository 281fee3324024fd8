import { type NativeLog, type Place, State } from '../native/native_log.js';
import { maxSlots, type StoredSlot, type ToldSlot } from '../replication/slot.js';
import type { SlotKeeper } from '../transport/retention.js';
import type { SmallFiles } from '../transport/small_files.js';
import type { AgeMarks } from './age_marks.js';
import { WalError } from './errors.js';
import { closedError } from './failure.js';
import { type FoundSlots, type SlotContent, slotPath, writeSlots } from './slot_file.js';

/**
 * `active`: its standby is connected to the primary; `away`: it is not; `lost`: it was away for too
 * long, and the log that it has not flushed is not kept any more.
 *
 *   away --standby comes--> active --leaves--> away --bounds--> lost --comes in time--> active
 */
export type SlotState = 'active' | 'away' | 'lost';

/** A durable claim on the log: what the standby of its name has not flushed is kept for it. */
export interface SlotStatus {
  /** Of the standby. */
  readonly name: string;
  /** Of the node that used it last; null: none has. */
  readonly nodeId: string | null;
  readonly state: SlotState;
  /** Last record that its standby is known to have flushed: what comes after it is kept. */
  readonly flushLsn: number;
  /** Bytes of the log from there on; 0 for one that is lost. */
  readonly heldBytes: number;
  /** ISO 8601 by the clock of the primary then. */
  readonly createdAt: string;
  /** When its standby was last connected; null: it never was. */
  readonly lastSeenAt: string | null;
  /** Milliseconds that it was away, by a clock that never jumps, while there was a primary. */
  readonly awayMs: number;
}

/** What has become of a slot. */
export interface SlotChange {
  readonly name: string;
  /** `warning`: half, or four fifths, of what an absent standby may hold. */
  readonly change: 'created' | 'dropped' | 'active' | 'away' | 'warning' | 'lost';
  readonly heldBytes: number;
  readonly awayMs: number;
}

/** A standby that is connected. */
export interface SlotUser {
  readonly nodeId: string;
  readonly flush: Place;
}

/** What slots need of their log. */
export interface SlotsHost {
  readonly native: NativeLog;
  readonly files: SmallFiles;
  /** Those that are in. */
  dirs(): readonly string[];
  readonly logId: string;
  readonly nodeId: string;
  readonly name: string;
  readonly maxSlotBytes: number;
  readonly maxSlotAge: number;
  readonly ages: AgeMarks | undefined;
  /** Monotone milliseconds. */
  now(): number;
  wallClock(): number;
  /** Rejects with an error of this text where it takes longer. */
  within<T>(work: Promise<T>, ms: number, text: string): Promise<T>;
  isPrimary(): boolean;
  changed(change: SlotChange): void;
  /** What is wrong with the storing; null: nothing any more. */
  fault(text: string | null): void;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

interface Slot {
  readonly now: Mutable<StoredSlot>;
  /** As it is on stable storage; undefined: it is not yet. */
  stored: StoredSlot | undefined;
  /** Of the engine. */
  claim: number | undefined;
  /** What it claims. */
  heldFrom: number;
  isConnected: boolean;
  /** It is about to be no more. */
  isDropped: boolean;
  /** The part of its bounds that was warned of. */
  warned: number;
}

const warnings = [0.8, 0.5];
/** A process that was stopped for longer has seen nobody go. */
const maxElapsedMs = 10_000;
/** Time that was counted and not stored is lost by a crash. */
const longestStepMs = 60_000;
const longestWriteMs = 10_000;

/**
 * The slots of a log. What a slot holds is what the *stored* one says: a pin moves in the engine
 * only once it is on stable storage where it moves to (a crash would bring it back to where the log
 * is gone). Downwards it moves at once.
 */
export class Slots implements SlotKeeper {
  readonly #host: SlotsHost;
  readonly #slots = new Map<string, Slot>();
  readonly #segmentBytes: number;
  #sequence: number;
  /** Of what is stored. */
  #epoch: number;
  #dirs = '';
  /** Why it is not known what is claimed: all of the log is kept. */
  #unknown: string | undefined;
  #fault: string | null = null;
  #keepsAll: number | undefined;
  /** Directories that are being written. */
  readonly #hanging = new Set<string>();
  #running: Promise<void> = Promise.resolve();
  #next: Promise<void> | undefined;
  #mustStore: boolean;
  #tickedAt: number;
  #isClosed = false;
  /** There is something to tell standbys. */
  onNews: (() => void) | undefined;

  constructor(host: SlotsHost, found: FoundSlots) {
    this.#host = host;
    this.#segmentBytes = host.native.info().segmentBytes;
    this.#tickedAt = host.now();
    const { content, damaged, complete } = found;
    this.#sequence = content?.sequence ?? 0;
    this.#epoch = content?.epoch ?? 0;
    this.#mustStore = !complete && content !== undefined;
    if (content === undefined && damaged.length > 0) {
      this.#unknown = damaged.join('; ');
      this.#keepsAll = host.native.retain(0);
    }
    for (const stored of content?.slots ?? []) {
      const slot = newSlot(stored);
      slot.stored = stored;
      this.#slots.set(stored.name, slot);
      this.#settle(slot);
    }
    this.#dirs = this.#directories();
  }

  get maxSlotBytes(): number {
    return this.#host.maxSlotBytes;
  }

  get maxSlotAge(): number {
    return this.#host.maxSlotAge;
  }

  /** Whether there is something to look after from time to time. */
  get isNeeded(): boolean {
    return this.#slots.size > 0 || this.#mustStore || this.#unknown !== undefined;
  }

  /** Why slots are not known, or cannot be stored; null: all is well. */
  get fault(): string | null {
    return this.#unknown === undefined ? this.#fault : `slots are not known: ${this.#unknown}`;
  }

  status(): SlotStatus[] {
    return this.#listed().map((slot) => {
      const { name, nodeId, lsn, createdAt, lastSeenAt, awayMs } = slot.now;
      return {
        ...{ name, nodeId, state: this.#stateOf(slot) },
        flushLsn: lsn,
        heldBytes: this.#held(slot),
        createdAt: new Date(createdAt).toISOString(),
        lastSeenAt: lastSeenAt === null ? null : new Date(lastSeenAt).toISOString(),
        awayMs: Math.round(awayMs),
      };
    });
  }

  /** As they are stored: what standbys are told; undefined: it is not known what they are. */
  get toTell(): readonly ToldSlot[] | undefined {
    if (this.#unknown !== undefined) return undefined;
    return this.#listed().flatMap((slot) => {
      const { stored } = slot;
      if (stored === undefined) return [];
      return [{ ...stored, isActive: this.#stateOf(slot) === 'active' }];
    });
  }

  // -- by whoever operates the group --

  /**
   * Durable here when it resolves. What `standby`, which is connected, has not flushed is kept; all
   * of the log that there is, where it is not. One that is there stays as it is, unless it is lost.
   */
  async create(name: string, standby: SlotUser | undefined): Promise<SlotStatus> {
    this.#requireKnown();
    const before = this.#slots.get(name);
    if (before !== undefined && !before.isDropped && !before.now.lost) {
      if (before.stored === undefined) await this.#store();
      return this.#statusOf(name);
    }
    if (before === undefined && this.#slots.size >= maxSlots) {
      throw new RangeError(`a log has at most ${maxSlots} slots: drop one that is not needed`);
    }
    const { native } = this.#host;
    const claim = native.retain(standby?.flush.position ?? 0);
    const position = native.state[State.START_POSITION] ?? 0;
    const slot = newSlot({
      ...{ name, nodeId: standby?.nodeId ?? null },
      ...{ position, lsn: native.state[State.START_LSN] ?? 0 },
      ...{ createdAt: this.#host.wallClock(), lastSeenAt: null, awayMs: 0, lost: false },
    });
    slot.claim = claim;
    if (standby !== undefined) {
      this.#place(slot.now, standby.flush);
      slot.now.lastSeenAt = this.#host.wallClock();
      slot.isConnected = true;
    }
    this.#slots.set(name, slot);
    try {
      await this.#store();
    } catch (error) {
      if (this.#slots.get(name) === slot) {
        if (before === undefined) this.#slots.delete(name);
        else this.#slots.set(name, before);
      }
      this.#release(slot);
      throw error;
    }
    if (before !== undefined) this.#release(before);
    this.#tell(slot, 'created');
    return this.#statusOf(name);
  }

  /** Whether there was one. What it held is let go of once it is durably none. */
  async drop(name: string): Promise<boolean> {
    this.#requireKnown();
    const slot = this.#slots.get(name);
    if (slot === undefined || slot.isDropped) return false;
    slot.isDropped = true;
    try {
      await this.#store();
    } catch (error) {
      slot.isDropped = false;
      throw error;
    }
    this.#tell(slot, 'dropped');
    return true;
  }

  // -- by the links to standbys --

  /**
   * A standby of that name was let in, which has the log up to this place: maybe in memory only, so
   * that the slot goes no further before it says so.
   */
  came(name: string, nodeId: string, place: Place): void {
    const slot = this.#slots.get(name);
    if (slot === undefined) return;
    const { now } = slot;
    now.nodeId = nodeId;
    const start = this.#host.native.state[State.START_POSITION] ?? 0;
    const goesBack = place.position < now.position || now.lost;
    if (place.position < now.position) this.#place(now, place);
    else if (now.position < start) now.position = start;
    now.lost = false;
    now.awayMs = 0;
    now.lastSeenAt = this.#host.wallClock();
    slot.isConnected = true;
    slot.warned = 0;
    this.#settle(slot);
    this.#tell(slot, 'active');
    // A crash before that would let go of what it needs.
    if (goesBack) this.#store().catch(() => undefined);
  }

  /** It has flushed so much more. */
  moved(name: string, nodeId: string, place: Place): void {
    const slot = this.#slots.get(name);
    if (slot === undefined || slot.now.nodeId !== nodeId) return;
    if (place.position > slot.now.position) this.#place(slot.now, place);
  }

  away(name: string, nodeId: string): boolean {
    const slot = this.#slots.get(name);
    if (slot === undefined || slot.now.nodeId !== nodeId || !slot.isConnected) return false;
    slot.isConnected = false;
    slot.now.lastSeenAt = this.#host.wallClock();
    this.#tell(slot, 'away');
    // One that is not stored yet may come to nothing.
    return slot.stored !== undefined && !slot.isDropped;
  }

  // -- by the log --

  /**
   * This node is the primary from now on. A standby may have more of an earlier term than this log,
   * and is cut where that was left; what is stored may be of before an opening that no process saw
   * as a role.
   */
  leads(): void {
    const { history } = this.#host.native.info();
    const left = history.find(({ epoch }) => epoch > this.#epoch) ?? history.at(-1);
    if (left !== undefined) this.cut(left);
    for (const slot of this.#slots.values()) slot.isConnected = false;
    this.#tickedAt = this.#host.now();
  }

  /** What lay past it is of another history, for everybody. */
  cut({ position, lsn }: Place): void {
    for (const slot of this.#slots.values()) {
      if (slot.now.position <= position) continue;
      slot.now.position = position;
      slot.now.lsn = Math.min(slot.now.lsn, lsn);
      this.#settle(slot);
    }
    this.#host.ages?.cut(position);
  }

  /**
   * On a standby: what its primary has. The log is kept for it here too, so that whoever is the
   * primary next has it.
   */
  told(slots: readonly ToldSlot[]): void {
    if (this.#isClosed || this.#host.isPrimary()) return;
    if (slots.length === 0 && !this.isNeeded) return;
    this.#unknown = undefined;
    const gone = new Set(this.#slots.keys());
    for (const { isActive, ...told } of slots) {
      gone.delete(told.name);
      let slot = this.#slots.get(told.name);
      if (slot === undefined) {
        slot = newSlot(told);
        this.#slots.set(told.name, slot);
      } else {
        Object.assign(slot.now, told);
        slot.isDropped = false;
      }
      this.#settle(slot);
      slot.isConnected = isActive;
    }
    for (const name of gone) this.#slots.get(name)!.isDropped = true;
    this.#mustStore = true;
    this.#store().catch(() => undefined);
  }

  /** Time has passed, or the log has grown. Stores what has changed by enough, and then moves. */
  async tick(): Promise<void> {
    if (this.#isClosed || this.#unknown !== undefined) return;
    const elapsed = Math.min(maxElapsedMs, this.#host.now() - this.#tickedAt);
    this.#tickedAt = this.#host.now();
    if (this.#host.isPrimary()) for (const slot of this.#slots.values()) this.#age(slot, elapsed);
    const lost = this.#listed().filter(({ now, stored }) => now.lost && stored?.lost !== true);
    if (!this.#isDirty()) return;
    await this.#store().catch(() => undefined);
    for (const slot of lost) if (slot.stored?.lost === true) this.#tell(slot, 'lost');
  }

  /**
   * Nothing is written when it resolves, nor will be. How long slots were away, and how old the log
   * is, is stored once more: a process that never runs for long is to reach their bounds as well.
   */
  async close(): Promise<void> {
    const isKnown = this.#unknown === undefined && this.#fault === null;
    const counts = this.#host.ages !== undefined || this.#listed().some((slot) => isLate(slot));
    if (!this.#isClosed && isKnown && counts) await this.#store().catch(() => undefined);
    this.#isClosed = true;
    await Promise.allSettled([this.#next, this.#running]);
  }

  // -- inside --

  /** Which are in, and since which change: one that was emptied meanwhile has to be written. */
  #directories(): string {
    const { native } = this.#host;
    return [...this.#host.dirs(), native.state[State.COPY_NEWS] ?? 0].join('\n');
  }

  #listed(): Slot[] {
    return [...this.#slots.values()].filter(({ isDropped }) => !isDropped);
  }

  #statusOf(name: string): SlotStatus {
    const found = this.status().find((each) => each.name === name);
    if (found === undefined) throw new WalError('WAL_CLOSED', `slot ${name} was dropped meanwhile`);
    return found;
  }

  #stateOf({ now, isConnected }: Slot): SlotState {
    if (now.lost) return 'lost';
    const isOwn = this.#isOwn(now) && this.#host.isPrimary();
    return isConnected || isOwn ? 'active' : 'away';
  }

  #held({ now }: Slot): number {
    if (now.lost) return 0;
    return Math.max(0, (this.#host.native.state[State.CLOSED_POSITION] ?? 0) - now.position);
  }

  /** A standby may have flushed what this log has not: that may still be lost here. */
  #place(now: Mutable<StoredSlot>, { position, lsn }: Place): void {
    const { state } = this.#host.native;
    const flushed = state[State.FLUSH_POSITION] ?? 0;
    now.position = Math.min(position, flushed);
    now.lsn = Math.min(lsn, state[State.FLUSH_LSN] ?? 0);
  }

  #age(slot: Slot, elapsed: number): void {
    const { now } = slot;
    if (this.#isOwn(now)) {
      // It is for the time when this node is none any more.
      now.nodeId = this.#host.nodeId;
      now.lost = false;
      now.awayMs = 0;
      this.#place(now, { position: Number.MAX_SAFE_INTEGER, lsn: Number.MAX_SAFE_INTEGER });
      return;
    }
    if (slot.isConnected || slot.isDropped || now.lost) return;
    now.awayMs += elapsed;
    const { maxSlotBytes, maxSlotAge } = this.#host;
    const part = Math.max(this.#held(slot) / maxSlotBytes, now.awayMs / maxSlotAge);
    const warning = warnings.find((each) => part >= each) ?? 0;
    if (part > 1) now.lost = true;
    else if (warning > slot.warned) this.#tell(slot, 'warning');
    slot.warned = warning;
  }

  /** Whether so much has changed that it is worth a store; what is new always is. */
  #isDirty(): boolean {
    const { ages, maxSlotAge } = this.#host;
    if (this.#mustStore || ages?.isNewAt(this.#host.now()) === true) return true;
    if (this.#directories() !== this.#dirs) return true;
    const segment = (position: number): number => Math.floor(position / this.#segmentBytes);
    return this.#listed().some(({ now, stored }) => {
      if (stored === undefined) return true;
      return (
        stored.nodeId !== now.nodeId ||
        stored.lost !== now.lost ||
        now.position < stored.position ||
        segment(now.position) > segment(stored.position) ||
        Math.abs(now.awayMs - stored.awayMs) > Math.min(maxSlotAge / 32, longestStepMs)
      );
    });
  }

  /** One at a time; those who ask meanwhile share the next. */
  #store(): Promise<void> {
    this.#next ??= this.#running.then(() => {
      this.#next = undefined;
      const storing = this.#storeNow();
      this.#running = storing.catch(() => undefined);
      return storing;
    });
    return this.#next;
  }

  async #storeNow(): Promise<void> {
    if (this.#isClosed) throw closedError();
    const { logId, ages } = this.#host;
    const [dirs, directories] = [this.#host.dirs(), this.#directories()];
    const listed = this.#listed().map((slot) => ({ slot, stored: { ...slot.now } }));
    const dropped = [...this.#slots].filter(([, { isDropped }]) => isDropped);
    this.#sequence += 1;
    this.#mustStore = true;
    const content = {
      ...{ logId, sequence: this.#sequence, epoch: lastEpoch(this.#host.native) },
      slots: listed.map(({ stored }) => stored),
      ages: ages?.take(this.#host.now()) ?? [],
    };
    try {
      for (const dir of dirs) await this.#write(dir, content);
    } catch (error) {
      const text = `the slots cannot be stored: ${(error as Error).message}`;
      this.#setFault(text);
      throw new WalError('WAL_IO', text, { cause: error });
    }
    this.#setFault(null);
    this.#dirs = directories;
    this.#epoch = content.epoch;
    // One that could not be dropped is there again, and one that could not be made is not.
    const names = (slots: readonly Slot[]): string => slots.map(({ now }) => now.name).join('\n');
    this.#mustStore = names(listed.map(({ slot }) => slot)) !== names(this.#listed());
    if (this.#isClosed) return;
    for (const { slot, stored } of listed) {
      slot.stored = stored;
      if (this.#slots.get(stored.name) === slot) this.#settle(slot);
    }
    for (const [name, slot] of dropped) {
      if (!slot.isDropped || this.#slots.get(name) !== slot) continue;
      this.#slots.delete(name);
      this.#release(slot);
    }
    if (this.#unknown === undefined && this.#keepsAll !== undefined) {
      this.#host.native.release(this.#keepsAll);
      this.#keepsAll = undefined;
    }
    this.onNews?.();
  }

  /** A disk on which it hangs fails, and is not written again before that has ended. */
  async #write(dir: string, content: SlotContent): Promise<void> {
    if (this.#hanging.has(dir)) throw new Error(`${dir}: the last write has not ended`);
    this.#hanging.add(dir);
    const written = writeSlots(this.#host.files, [dir], content).finally(() => {
      this.#hanging.delete(dir);
    });
    written.catch(() => undefined);
    await this.#host.within(written, longestWriteMs, `${dir}: the write takes too long`);
  }

  #setFault(text: string | null): void {
    if (text === this.#fault) return;
    this.#fault = text;
    this.#host.fault(text);
  }

  /** The engine keeps what the stored slot says, or more where it has gone back since. */
  #settle(slot: Slot): void {
    const { now, stored } = slot;
    const { native } = this.#host;
    if (this.#isOwn(now) || (now.lost && stored?.lost !== false)) {
      this.#release(slot);
      return;
    }
    const position = Math.min(now.position, stored?.position ?? slot.heldFrom);
    slot.heldFrom = position;
    if (slot.claim === undefined) slot.claim = native.retain(position);
    else native.moveRetain(slot.claim, position);
  }

  /** Its own log is its own. Another node may have the same name. */
  #isOwn({ name, nodeId }: StoredSlot): boolean {
    const { name: ownName, nodeId: ownId } = this.#host;
    return name === ownName && (nodeId === null || nodeId === ownId);
  }

  #release(slot: Slot): void {
    if (slot.claim !== undefined && !this.#isClosed) this.#host.native.release(slot.claim);
    slot.claim = undefined;
  }

  #tell(slot: Slot, change: SlotChange['change']): void {
    const { name, awayMs } = slot.now;
    const heldBytes = this.#held(slot);
    this.#host.changed({ name, change, heldBytes, awayMs: Math.round(awayMs) });
    if (change === 'active' || change === 'away') this.onNews?.();
  }

  #requireKnown(): void {
    if (this.#unknown === undefined) return;
    const file = slotPath(this.#host.dirs()[0] ?? '');
    throw new WalError('WAL_CORRUPT', `slots are not known: ${this.#unknown}`, {
      file,
      hint:
        'All of the log is kept meanwhile. Close the log, delete that file in each of its ' +
        'directories, open it again, and create the slots anew.',
    });
  }
}

function isLate({ now, stored }: Slot): boolean {
  return stored !== undefined && stored.awayMs !== now.awayMs;
}

function lastEpoch(native: NativeLog): number {
  return native.info().history.at(-1)?.epoch ?? 0;
}

function newSlot(stored: StoredSlot): Slot {
  return {
    ...{ now: { ...stored }, stored: undefined, claim: undefined, heldFrom: stored.position },
    ...{ isConnected: false, isDropped: false, warned: 0 },
  };
}

/** In words, for the log of the application. */
export function describeChange({ name, change, heldBytes, awayMs }: SlotChange): string {
  const held = `${heldBytes} bytes of the log are kept for it`;
  const away = `away for ${Math.round(awayMs / 1000)} s`;
  if (change === 'created') return `slot ${name} was created`;
  if (change === 'dropped') return `slot ${name} was dropped`;
  if (change === 'active') return `slot ${name}: its standby is here`;
  if (change === 'away') return `slot ${name}: its standby is away, ${held}`;
  if (change === 'warning') return `slot ${name} will be lost: ${away}, ${held}`;
  return `slot ${name} is lost, ${away}: nothing is kept for it any more`;
}
