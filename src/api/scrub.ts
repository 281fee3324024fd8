import {
  type DamagedRange,
  type NativeLog,
  type NativeScrub,
  State,
} from '../native/native_log.js';
import type { LogEmitter } from './events.js';
import * as check from './validate.js';
import { Wakeups } from './wakeup.js';

/** How often, and how fast, the sealed segments of an open log are read and verified. */
export interface ScrubOptions {
  /** Bytes that are read a second, 1 at least. Default 8 MiB. */
  readonly bytesPerSecond?: number;
  /** Hours from the end of one scrub to the next, 1 to 8,760. Default 24. */
  readonly everyHours?: number;
}

export interface ResolvedScrub {
  readonly bytesPerSecond: number;
  readonly everyMs: number;
}

/** What the scrub of an open log knows. */
export interface ScrubStatus {
  readonly running: boolean;
  /** Bytes of sealed segments that are verified, of how many. */
  readonly done: number;
  readonly of: number;
  /** When the last one ended, ISO 8601; null: none yet since this log was opened. */
  readonly finished: string | null;
  /** What is known to be damaged now; the first 1,000 ranges of `damagedRanges`. */
  readonly damage: readonly DamagedRange[];
  readonly damagedRanges: number;
  /** Ranges that were found, and repaired, since this log was opened. */
  readonly found: number;
  readonly repaired: number;
  /** Why damage was not repaired, or why the last scrub did not end; null otherwise. */
  readonly reason: string | null;
}

const MIB = 1024 * 1024;
const HOUR_MS = 3_600_000;
/** The first one begins this long after the log was opened: what starts has other work. */
const FIRST_MS = 600_000;

/** Checks the `scrub` option of `Log.open`. undefined: there is none in the background. */
export function resolveScrub(value: unknown): ResolvedScrub | undefined {
  if (value === false) return undefined;
  if (value !== undefined && (typeof value !== 'object' || value === null)) {
    throw new TypeError(
      `scrub takes an object such as { everyHours: 24 }, or false; got ${check.shown(value)}`,
    );
  }
  const raw = check.optionsObject(value, 'scrub', ['bytesPerSecond', 'everyHours']);
  const { bytesPerSecond, everyHours } = raw;
  const rate =
    bytesPerSecond === undefined
      ? 8 * MIB
      : check.integer(bytesPerSecond, 'scrub.bytesPerSecond', 1, Number.MAX_SAFE_INTEGER);
  const hours =
    everyHours === undefined ? 24 : check.integer(everyHours, 'scrub.everyHours', 1, 24 * 365);
  return { bytesPerSecond: rate, everyMs: hours * HOUR_MS };
}

/** The scrub of one open log: starts it, hears of its news, and tells them. */
export class LogScrub {
  readonly #native: NativeLog;
  readonly #events: LogEmitter;
  readonly waits = new Wakeups();
  #news = 0;
  #found = 0;
  #repaired = 0;

  constructor(native: NativeLog, events: LogEmitter, options: ResolvedScrub | undefined) {
    this.#native = native;
    this.#events = events;
    if (options !== undefined) native.setScrub({ ...options, firstMs: FIRST_MS });
  }

  /** Verifies every sealed segment now, as fast as the disk gives them. */
  async run(signal?: AbortSignal): Promise<ScrubStatus> {
    const pass = this.#native.scrubNow(false);
    await this.waits.until(() => this.#native.scrubStatus().passes >= pass, signal);
    return this.status();
  }

  status(): ScrubStatus {
    const { passes: _, finished, reason, ...known } = this.#native.scrubStatus();
    return {
      ...known,
      finished: finished === null ? null : new Date(finished).toISOString(),
      reason: reason === '' ? null : reason,
    };
  }

  /** A read met damage: all is looked at, without hurry. */
  suspect(): void {
    const { running, damagedRanges } = this.#native.scrubStatus();
    if (!running && damagedRanges === 0) this.#native.scrubNow(true);
  }

  /** From now on damage is repaired with what `fetch` gets from a peer; `others`: from several. */
  repairFrom(peer: string, fetch: NativeScrub['fetch'] | undefined, others = false): void {
    this.#native.repairFrom(peer, fetch, others);
  }

  /** To be called when the engine has news. */
  progressed(): void {
    const news = this.#native.state[State.SCRUB_NEWS]!;
    if (news === this.#news) return;
    this.#news = news;
    const status = this.status();
    if (status.found > this.#found) this.#events.emit('damage', status);
    if (status.repaired > this.#repaired) this.#events.emit('repaired', status);
    this.#found = status.found;
    this.#repaired = status.repaired;
    this.waits.settle();
  }
}
