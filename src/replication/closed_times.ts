/** Samples that are kept: enough for a month at the resolution below. */
const capacity = 512;
/** Batches that are closed within so many milliseconds share a sample. */
const leastSpan = 10;
/** A sample may span this part of its age: so far off a lag may be. */
const spanOfAge = 1 / 16;

interface Sample {
  /** When its first batch was closed, monotone milliseconds. */
  readonly at: number;
  /** The end of its last batch. */
  position: number;
  lsn: number;
}

/**
 * When batches were closed, in bounded memory: the older, the coarser. So a lag can be told in
 * time, as the age of the first record that is missing, also while nothing happens.
 */
export class ClosedTimes {
  #samples: Sample[];

  /** Of what was there before `nowMs` it is only known that it is at least as old. */
  constructor(position: number, lsn: number, nowMs: number) {
    this.#samples = [{ at: nowMs, position, lsn }];
  }

  /** A batch was closed, which ends at this place. */
  closed(position: number, lsn: number, nowMs: number): void {
    const last = this.#samples.at(-1)!;
    if (position <= last.position) return;
    if (this.#samples.length > 1 && nowMs - last.at < leastSpan) {
      last.position = position;
      last.lsn = lsn;
      return;
    }
    if (this.#samples.length === capacity) this.#thin(nowMs);
    this.#samples.push({ at: nowMs, position, lsn });
  }

  /** Milliseconds since the first record after `lsn` was closed; 0 if there is none. */
  age(lsn: number, nowMs: number): number {
    const sample = this.#samples[this.#firstPast(lsn)];
    return sample === undefined ? 0 : Math.max(0, nowMs - sample.at);
  }

  /** A place in the log at or a little before the end of the record `lsn`, in log bytes. */
  positionOf(lsn: number): number {
    const index = this.#firstPast(lsn);
    return index === 0 ? 0 : this.#samples[index - 1]!.position;
  }

  get size(): number {
    return this.#samples.length;
  }

  #firstPast(lsn: number): number {
    let low = 0;
    let high = this.#samples.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#samples[middle]!.lsn > lsn) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #thin(nowMs: number): void {
    const kept: Sample[] = [];
    for (const sample of this.#samples) {
      const last = kept.at(-1);
      // The first one stands for all that was there before, and stays what it is.
      const merges = kept.length > 1 && sample.at - last!.at <= (nowMs - sample.at) * spanOfAge;
      if (merges) {
        last!.position = sample.position;
        last!.lsn = sample.lsn;
      } else kept.push({ ...sample });
    }
    // A clock that jumps could leave all of them: then the oldest go into one.
    while (kept.length >= capacity) {
      const [oldest, next] = kept.splice(1, 2);
      kept.splice(1, 0, { at: oldest!.at, position: next!.position, lsn: next!.lsn });
    }
    this.#samples = kept;
  }
}
