import type { LogStatus } from '../../api/status.js';

/** How many looks are remembered: as many as a wide terminal can show. */
const MOST = 240;

export interface Look {
  readonly atMs: number;
  readonly status: LogStatus;
}

/** What was seen of a log, look by look; what is between two looks is a rate. */
export class History {
  readonly #looks: Look[] = [];

  note(status: LogStatus, atMs: number): void {
    const last = this.#looks.at(-1);
    // Another log under the same path, or one that was opened anew, has counted from 0 again.
    if (last !== undefined && isOther(last.status, status)) this.#looks.length = 0;
    this.#looks.push({ atMs, status });
    if (this.#looks.length > MOST) this.#looks.shift();
  }

  get last(): LogStatus | undefined {
    return this.#looks.at(-1)?.status;
  }

  /** Growth a second between each two looks, the newest last. */
  rates(counter: (status: LogStatus) => number): number[] {
    return this.#pairs(({ status }, before, seconds) => {
      return Math.max(0, counter(status) - counter(before.status)) / seconds;
    });
  }

  values(gauge: (status: LogStatus) => number): number[] {
    return this.#looks.map(({ status }) => gauge(status));
  }

  #pairs(of: (look: Look, before: Look, seconds: number) => number): number[] {
    return this.#looks.slice(1).map((look, i) => {
      const before = this.#looks[i]!;
      return of(look, before, Math.max(0.001, (look.atMs - before.atMs) / 1000));
    });
  }
}

function isOther(before: LogStatus, now: LogStatus): boolean {
  return (
    before.logId !== now.logId ||
    now.flushes.count < before.flushes.count ||
    now.appendLsn < before.appendLsn
  );
}
