import type { Place } from '../native/native_log.js';

/**
 * The commit place as a standby knows it. What it was told may lie past the end of its own log;
 * what it shows and remembers is cut to that end, so that a later term's records at the same
 * places are never taken for committed ones.
 *
 * Invariant: neither `told` nor what `within` answers ever falls, but for `told` at a new session.
 */
export class KnownCommit {
  #position: number;
  #lsn: number;

  constructor(known: Place) {
    this.#position = known.position;
    this.#lsn = known.lsn;
  }

  get told(): Place {
    return { position: this.#position, lsn: this.#lsn };
  }

  /** A new session goes on from `start`: past it, another term's records may come. */
  sessionFrom(start: Place): void {
    if (this.#position <= start.position) return;
    this.#position = start.position;
    this.#lsn = start.lsn;
  }

  /** Returns whether it is news. A primary that was restarted may know less for a while. */
  tell(position: number, lsn: number): boolean {
    if (position <= this.#position || lsn < this.#lsn) return false;
    this.#position = position;
    this.#lsn = lsn;
    return true;
  }

  /** The commit place within a log that ends at `end`. */
  within(end: Place): Place {
    return this.#position <= end.position ? this.told : end;
  }
}
