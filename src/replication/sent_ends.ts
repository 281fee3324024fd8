/**
 * Where batches end that were sent to one standby and that it has not flushed yet, with the LSNs
 * there: what its acknowledgements are measured by. Bounded: where there are too many, only every
 * second, fourth, ... one is kept, and the last always. An acknowledgement of another one counts up
 * to the one before it, so that a standby that is far behind still moves.
 */
export class SentEnds {
  readonly #positions: Float64Array;
  readonly #lsns: Float64Array;
  #first = 0;
  #end = 0;
  /** One of so many is kept, and how many the last one stands for. */
  #stride = 1;
  #run = 0;

  constructor(capacity = 1024) {
    this.#positions = new Float64Array(capacity);
    this.#lsns = new Float64Array(capacity);
  }

  /** Positions rise. */
  push(position: number, lsn: number): void {
    if (this.#run === this.#stride || this.#first === this.#end) this.#append();
    this.#positions[this.#end - 1] = position;
    this.#lsns[this.#end - 1] = lsn;
    this.#run += 1;
  }

  /** Index of the last known end that is not past `position`; -1 where all are. */
  find(position: number): number {
    let low = this.#first;
    let high = this.#end;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#positions[middle]! <= position) low = middle + 1;
      else high = middle;
    }
    return low === this.#first ? -1 : low - 1;
  }

  positionAt(index: number): number {
    return this.#positions[index]!;
  }

  lsnAt(index: number): number {
    return this.#lsns[index]!;
  }

  /** Whether a batch that ends at `position` may be the one of this LSN, as far as is known. */
  agrees(position: number, lsn: number): boolean {
    const at = this.find(position);
    if (at >= 0 && this.#positions[at] === position) return lsn === this.#lsns[at];
    const next = at < 0 ? this.#first : at + 1;
    if (at >= 0 && lsn < this.#lsns[at]!) return false;
    return next < this.#end && lsn <= this.#lsns[next]!;
  }

  /** Nothing below this one is asked for any more. */
  forgetBelow(index: number): void {
    this.#first = index;
  }

  #append(): void {
    const capacity = this.#positions.length;
    const count = this.#end - this.#first;
    if (this.#end === capacity) this.#keep(count > capacity / 2 ? 2 : 1);
    else if (count < capacity / 8 && this.#stride > 1) this.#stride /= 2;
    this.#end += 1;
    this.#run = 0;
  }

  /** Keeps the last one and, before it, one of `step`. */
  #keep(step: 1 | 2): void {
    let to = 0;
    for (let from = this.#first; from < this.#end; from += 1) {
      if ((this.#end - 1 - from) % step !== 0) continue;
      this.#positions[to] = this.#positions[from]!;
      this.#lsns[to] = this.#lsns[from]!;
      to += 1;
    }
    this.#first = 0;
    this.#end = to;
    this.#stride *= step;
  }
}
