import type { LogCore } from './core.js';
import type { ReadPlan } from './reader.js';
import * as check from './validate.js';

/** Options of `read`. */
export interface ReadOptions {
  /** First LSN. Default 1: a log whose beginning was trimmed rejects with WAL_LSN_GONE. */
  readonly from?: number;
  /** Last LSN. Default: none. */
  readonly to?: number;
  /**
   * `commit` (default): what the log's policy lets be seen. `flush`: all that is on this disk, for
   * the replay of a primary that starts; only on a primary, and with `live: false`.
   */
  readonly upTo?: 'commit' | 'flush';
  /** true (default): waits for records to come. false: ends where the log ended at the call. */
  readonly live?: boolean;
  /**
   * true: one buffer is used over and over, instead of a new one for each piece of the log. A batch
   * and the bytes of its records are valid until the next `next()`, or the end of the reading; copy
   * what is kept longer. With WALMIRROR_DEBUG=1 in the environment they are then overwritten with
   * 0xdb, so that a mistake shows.
   */
  readonly borrow?: boolean;
  readonly signal?: AbortSignal;
}

export const readKeys = ['from', 'to', 'upTo', 'live', 'borrow', 'signal'] as const;

/** `ReadOptions` checked and with every default filled in. */
export interface ReadRequest {
  readonly from: number;
  /** Infinite for none. */
  readonly to: number;
  readonly upTo: 'commit' | 'flush';
  readonly live: boolean;
  readonly borrow: boolean;
  readonly signal: AbortSignal | undefined;
}

/** Checks the options of a reading. */
export function readRequest(raw: Record<string, unknown>): ReadRequest {
  const max = Number.MAX_SAFE_INTEGER;
  const upTo =
    raw.upTo === undefined ? 'commit' : check.oneOf(raw.upTo, 'upTo', ['commit', 'flush'] as const);
  const live = raw.live === undefined ? true : check.boolean(raw.live, 'live');
  const from = raw.from === undefined ? 1 : check.integer(raw.from, 'from', 1, max);
  const to = raw.to === undefined ? Number.POSITIVE_INFINITY : lastLsn(raw.to);
  const borrow = raw.borrow === undefined ? false : check.boolean(raw.borrow, 'borrow');
  const signal = check.abortSignal(raw.signal, 'signal');
  if (upTo === 'flush' && live) {
    throw new RangeError("upTo: 'flush' is for a replay, not for following: pass live: false");
  }
  return { from, to, upTo, live, borrow, signal };
}

/** Checks that a reading may begin now, and says how far it goes. */
export function readPlan(core: LogCore, request: ReadRequest): ReadPlan {
  const { live, ...plan } = request;
  core.requireOpen();
  // Records that may still be lost are for nobody but the primary that starts (SAFETY.md 1.3).
  if (plan.upTo === 'flush' && core.driver.commits === undefined) throw core.driver.refusal();
  return { ...plan, end: live ? undefined : core.visible(plan.upTo) };
}

/** The last LSN of a reading: a number, or Infinity for none. */
function lastLsn(value: unknown): number {
  if (value === Number.POSITIVE_INFINITY) return value;
  return check.integer(value, 'to', 0, Number.MAX_SAFE_INTEGER);
}
