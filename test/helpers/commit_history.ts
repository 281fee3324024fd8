interface Acknowledged {
  readonly text: string;
  /** Nanoseconds of a clock that all clients share. */
  readonly began: bigint;
  readonly ended: bigint;
}

/**
 * What clients and readers of a group were told, whoever the primary was. Each record is appended
 * once, with a text of its own; the LSNs give the order.
 */
export class CommitHistory {
  readonly #acknowledged = new Map<number, Acknowledged>();
  readonly #read = new Map<number, string>();
  readonly #refused = new Set<string>();
  readonly errors: string[] = [];
  reads = 0;

  get acknowledged(): number {
    return this.#acknowledged.size;
  }

  told(lsn: number, text: string, began: bigint, ended: bigint): void {
    const before = this.#acknowledged.get(lsn)?.text;
    if (before !== undefined) this.errors.push(`LSN ${lsn} was acknowledged as ${before}, ${text}`);
    this.#acknowledged.set(lsn, { text, began, ended });
  }

  /** Its append was refused: it must never be there. */
  refused(text: string): void {
    this.#refused.add(text);
  }

  read(lsn: number, text: string): void {
    this.reads += 1;
    const before = this.#read.get(lsn);
    if (before !== undefined && before !== text) {
      this.errors.push(`LSN ${lsn} was read as ${before}, and as ${text}`);
    }
    this.#read.set(lsn, text);
  }

  /** What is wrong with a log that should hold all of it. */
  compare(records: readonly string[]): string[] {
    const found = [...this.errors, ...this.#outOfOrder()];
    for (const [lsn, { text }] of this.#acknowledged) {
      const there = records[lsn - 1];
      if (there !== text) found.push(`LSN ${lsn} was acknowledged as ${text} and is ${there}`);
    }
    for (const [lsn, text] of this.#read) {
      const there = records[lsn - 1];
      if (there !== text) found.push(`LSN ${lsn} was read as ${text} and is ${there}`);
    }
    const all = new Set(records);
    if (all.size !== records.length) found.push('a record is there twice');
    for (const text of this.#refused) if (all.has(text)) found.push(`${text} was refused`);
    return found;
  }

  /** Of two appends, where one was over before the other began, it has the lower LSN. */
  #outOfOrder(): string[] {
    const found: string[] = [];
    const inOrder = [...this.#acknowledged].sort(([a], [b]) => a - b);
    let latest = 0n;
    for (const [lsn, { text, began, ended }] of inOrder) {
      if (ended < latest) found.push(`LSN ${lsn}, ${text}, was over before a lower one began`);
      if (began > latest) latest = began;
    }
    return found;
  }
}
