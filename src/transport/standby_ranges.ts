import { WalError } from '../api/errors.js';
import type { RefusedRange } from '../native/native_log.js';
import { maxWanted } from '../wire/want_messages.js';
import { LargerWanted } from './range_ask.js';

/** A standby that can be asked for a range of its log. */
export interface RangeHolder {
  readonly name: string;
  readonly nodeId: string;
  /** Up to here its log is flushed; 0 where it cannot be asked. */
  readonly holdsTo: number;
  askRange(from: number, most: number): Promise<Uint8Array>;
  /** What it gave was wrong: ends its connection. */
  rejectRange(reason: string): void;
}

/** What is asked for at once, unless one batch is larger. */
const askedBytes = 256 * 1024;
const slack = 8 * 1024;

/**
 * The log as the connected standbys hold it, for a primary that repairs its own copy: asked one
 * after the other, whoever gave the last range first. Whoever uses the bytes verifies them.
 */
export class StandbyRanges {
  readonly #holders: () => Iterable<RangeHolder>;
  #gave: RangeHolder | undefined;
  /** Node ids of those whose bytes from `passedAt` on were of no use, until that is over. */
  readonly #passedOver = new Set<string>();
  #passedAt = -1;

  constructor(holders: () => Iterable<RangeHolder>) {
    this.#holders = holders;
  }

  /**
   * Whole batches from the batch boundary `from` on: at least `need` bytes, where a standby has as
   * many. What was given last and is `wrong` ends the connection of the standby that gave it; for
   * what is `unfit` another one is asked. Rejects with WAL_LSN_GONE where none gives any.
   */
  async fetch(from: number, need: number, refused: RefusedRange): Promise<Uint8Array> {
    const reasons = this.#refuse(from, refused);
    const most = Math.min(maxWanted, Math.max(askedBytes, need + slack));
    for (const holder of this.#inTurn()) {
      if (holder.holdsTo < from + need) continue;
      if (this.#passedOver.has(holder.nodeId)) continue;
      try {
        const bytes = await askOnce(holder, from, most);
        this.#gave = holder;
        return bytes;
      } catch (error) {
        const text = error instanceof Error ? error.message : String(error);
        reasons.push(`${holder.name}: ${text}`);
      }
    }
    // Whoever asked gives up: what comes next is begun anew.
    this.#passedOver.clear();
    const none = `no standby is connected that has flushed position ${from}`;
    throw new WalError('WAL_LSN_GONE', reasons.length > 0 ? reasons.join('; ') : none);
  }

  #inTurn(): RangeHolder[] {
    const all = [...this.#holders()];
    const first = this.#gave;
    if (first === undefined || !all.includes(first)) return all;
    return [first, ...all.filter((each) => each !== first)];
  }

  /** Returns what there is to say of the one that gave it. */
  #refuse(from: number, refused: RefusedRange): string[] {
    const isSamePlace = this.#passedAt === from;
    const isAnew = refused === 'no' && isSamePlace;
    const isOther = refused === 'unfit' && !isSamePlace;
    if (isAnew || isOther) this.#passedOver.clear();
    if (refused === 'unfit') this.#passedAt = from;
    if (refused === 'no') return [];
    const holder = this.#gave;
    this.#gave = undefined;
    if (holder === undefined) return [];
    if (refused === 'unfit') {
      this.#passedOver.add(holder.nodeId);
      return [`${holder.name}: what it gave for position ${from} cannot be compared: damage here`];
    }
    holder.rejectRange('log bytes that do not verify, or do not continue the log');
    return [`${holder.name}: what it gave for position ${from} does not verify`];
  }
}

async function askOnce(holder: RangeHolder, from: number, most: number): Promise<Uint8Array> {
  try {
    return await holder.askRange(from, most);
  } catch (error) {
    if (!(error instanceof LargerWanted)) throw error;
    return await holder.askRange(from, error.need);
  }
}
