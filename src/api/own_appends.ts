/** So many turns are told apart; of more, neighbours count from the earlier one. */
const mostTurns = 64;

/** Records from `first` on were appended at this time or later. */
interface Turn {
  readonly first: number;
  readonly at: number;
}

/**
 * Since when a thread has records in the log that no commit of its own has met. The log may have
 * been cut since, and have others at their LSNs: only the time tells (`Appender.requireSameLife`).
 */
export class OwnAppends {
  #turns: Turn[] = [];
  #last = 0;
  #isTold = false;

  /** When the first of them was appended, by `sharedClock`; undefined: all are met. */
  get since(): number | undefined {
    return this.#turns[0]?.at;
  }

  /** `at`: from before it; undefined: of the same turn as the one before. */
  appended(first: number, last: number, at: number | undefined): void {
    this.#last = last;
    if (at === undefined) return;
    if (this.#isTold) this.#turns = [];
    this.#isTold = false;
    this.#turns.push({ first, at });
    if (this.#turns.length > mostTurns) this.#turns = this.#turns.filter((_, i) => i % 2 === 0);
  }

  /** A commit that was asked for at that time has met all up to this LSN. */
  met(lsn: number, asked: number): void {
    for (let turn = this.#turns[0]; turn !== undefined; turn = this.#turns[0]) {
      const next = this.#turns[1];
      const last = next === undefined ? this.#last : next.first - 1;
      if (turn.at > asked || last > lsn) return;
      this.#turns.shift();
    }
  }

  /**
   * Who has appended was told that the outcome is unknown. The last turn may be of the life that
   * the log has now; if not, that holds until more is appended.
   */
  unknown(): void {
    this.#turns = this.#turns.slice(-1);
    this.#isTold = true;
  }
}
