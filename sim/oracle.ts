/** What must hold does not. */
export class Violation extends Error {
  override readonly name = 'Violation';
}

export function demand(holds: boolean, what: () => string): asserts holds {
  if (!holds) throw new Violation(what());
}

interface Appended {
  readonly lsn: number;
  /** By whom. */
  readonly where: string;
  outcome: 'under way' | 'acknowledged' | 'refused' | 'unknown';
}

/**
 * All that clients did and all that anybody was shown, and what has to be so of it
 * (docs/invariants.md). LSNs give the order, and payloads are unique, so that each look is one
 * comparison.
 */
export class Oracle {
  /** By payload. */
  readonly #appended = new Map<string, Appended>();
  /** What was shown, by LSN: the same for ever, on every node. */
  readonly #shown: string[] = [];
  /** What was acknowledged as safe against the loss of the primary, by LSN. */
  readonly #kept = new Map<number, string>();
  #highestKept = 0;
  /** In which something was acknowledged as safe, and by whom. */
  #keptEpoch = 0;
  #keptBy = '';
  /** Who acknowledged in an epoch, and who did so by the word of standbys. */
  readonly #acknowledgers = new Map<number, Set<string>>();
  readonly #confirmed = new Map<number, string>();
  /** How often the referee has forgotten that it granted an epoch. */
  readonly #forgotten = new Map<number, number>();
  appends = 0;
  acknowledged = 0;
  rebuilds = 0;

  /** A primary gave out this LSN. One that was replaced, and does not know, may give it too. */
  appendedAs(payload: string, lsn: number, epoch: number, where: string): void {
    this.appends += 1;
    demand(!this.#appended.has(payload), () => `${payload} was appended twice`);
    demand(
      lsn > this.#highestKept || this.mayLack(epoch, where),
      () =>
        `${payload} was given LSN ${lsn}, and up to ${this.#highestKept} is acknowledged already`,
    );
    this.#appended.set(payload, { lsn, where, outcome: 'under way' });
  }

  refused(payload: string): void {
    demand(!this.#appended.has(payload), () => `${payload} has an LSN, and was refused`);
    this.#appended.set(payload, { lsn: 0, where: '', outcome: 'refused' });
  }

  settled(
    payload: string,
    outcome: 'acknowledged' | 'unknown',
    isKept: boolean,
    epoch: number,
  ): void {
    const appended = this.#appended.get(payload);
    demand(appended?.outcome === 'under way', () => `the commit of ${payload} settled twice`);
    appended.outcome = outcome;
    if (outcome !== 'acknowledged') return;
    this.acknowledged += 1;
    if (!isKept) return;
    const kept = this.#kept.get(appended.lsn);
    demand(
      kept === undefined,
      () => `${payload} is acknowledged as LSN ${appended.lsn}, where ${kept} was before`,
    );
    this.#kept.set(appended.lsn, payload);
    this.#highestKept = Math.max(this.#highestKept, appended.lsn);
    if (epoch < this.#keptEpoch) return;
    this.#keptEpoch = epoch;
    this.#keptBy = appended.where;
  }

  /** Whether it was replaced and cannot know: what was acknowledged since it need not have. */
  mayLack(epoch: number, where: string): boolean {
    if (epoch !== this.#keptEpoch) return epoch < this.#keptEpoch;
    return where !== this.#keptBy && this.wasForgotten(epoch);
  }

  /** The referee was put back: it may grant each epoch after `from` once more, up to `to`. */
  forgets(from: number, to: number): void {
    for (let epoch = from + 1; epoch <= to; epoch++) {
      this.#forgotten.set(epoch, (this.#forgotten.get(epoch) ?? 0) + 1);
    }
  }

  wasForgotten(epoch: number): boolean {
    return this.#forgotten.has(epoch);
  }

  /**
   * At most one node acknowledges in an epoch: one more, of its own disk alone, each time that the
   * referee has forgotten the epoch, since who has seen no more than the referee was put back to
   * cannot know (docs/failover.md). Standbys have stored whose epoch it is.
   */
  acknowledgedIn(epoch: number, where: string, byStandbys: boolean): void {
    const all = this.#acknowledgers.get(epoch) ?? new Set();
    this.#acknowledgers.set(epoch, all.add(where));
    const most = 1 + (this.#forgotten.get(epoch) ?? 0);
    demand(
      all.size <= most,
      () => `${[...all].join(' and ')} acknowledge, all in epoch ${epoch}, granted ${most} times`,
    );
    if (!byStandbys) return;
    const other = this.#confirmed.get(epoch) ?? where;
    demand(
      other === where,
      () => `standbys confirm what ${where} and ${other} acknowledge, both in epoch ${epoch}`,
    );
    this.#confirmed.set(epoch, where);
  }

  get highestKept(): number {
    return this.#highestKept;
  }

  get keptEpoch(): number {
    return this.#keptEpoch;
  }

  /** A node showed this record. `isStable`: a quorum committed it, so that it is never another. */
  saw(where: string, lsn: number, payload: string, isStable: boolean): void {
    const appended = this.#appended.get(payload);
    demand(
      appended !== undefined && appended.lsn === lsn,
      () =>
        `${where} shows ${payload} as LSN ${lsn}; it was appended as ${appended?.lsn ?? 'none'}`,
    );
    demand(appended.outcome !== 'refused', () => `${where} shows ${payload}, which was refused`);
    const kept = this.#kept.get(lsn);
    demand(
      kept === undefined || kept === payload,
      () => `${where} shows ${payload} as LSN ${lsn}, where ${kept} was acknowledged`,
    );
    const before = this.#shown[lsn];
    demand(
      before === undefined || before === payload,
      () => `${where} shows ${payload} as LSN ${lsn}, where ${before} was shown before`,
    );
    if (isStable) this.#shown[lsn] = payload;
  }

  /** The application of a node applies this record, or finds it as it had it. */
  applies(where: string, applied: string[], lsn: number, payload: string): void {
    const had = applied[lsn];
    demand(
      had === undefined || had === payload,
      () => `${where} shows ${payload} as LSN ${lsn}, had ${had} there, and was told of no rebuild`,
    );
    applied[lsn] = payload;
  }

  /** The application of a node is told that what it had from this LSN on is not in the log. */
  removed(where: string, applied: readonly string[], from: number, isStable: boolean): void {
    this.rebuilds += 1;
    for (let lsn = from; lsn < applied.length; lsn++) {
      const had = applied[lsn];
      if (had === undefined) continue;
      demand(
        this.#kept.get(lsn) !== had,
        () => `${where} removes LSN ${lsn}, ${had}, which was acknowledged`,
      );
      demand(!isStable, () => `${where} removes LSN ${lsn}, ${had}, which a quorum committed`);
    }
  }

  /** The log as a primary has it in the end. */
  found(where: string, records: ReadonlyMap<number, string>): void {
    const [first = 1] = records.keys();
    for (const [lsn, payload] of this.#kept) {
      if (lsn < first) continue; // Trimmed.
      demand(
        records.get(lsn) === payload,
        () => `${where} has ${records.get(lsn) ?? 'nothing'} as LSN ${lsn}, not ${payload}`,
      );
    }
    const seen = new Set<string>();
    let expected = 0;
    for (const [lsn, payload] of records) {
      expected = expected === 0 ? lsn : expected + 1;
      demand(lsn === expected, () => `${where} has a hole before LSN ${lsn}`);
      demand(!seen.has(payload), () => `${where} has ${payload} twice`);
      seen.add(payload);
      this.saw(where, lsn, payload, false);
    }
  }
}
