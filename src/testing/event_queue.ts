/** What happens at a moment of simulated time. */
export interface SimulatedEvent {
  /** Milliseconds. */
  at: number;
  readonly order: number;
  run: (() => void) | undefined;
}

/** A binary heap by time; events of one moment come in the order in which they were added. */
export class EventQueue {
  readonly #heap: SimulatedEvent[] = [];
  #order = 0;

  get size(): number {
    return this.#heap.length;
  }

  get next(): SimulatedEvent | undefined {
    return this.#heap[0];
  }

  add(at: number, run: () => void): SimulatedEvent {
    const event = { at, order: this.#order++, run };
    this.#heap.push(event);
    this.#up(this.#heap.length - 1);
    return event;
  }

  take(): SimulatedEvent | undefined {
    const heap = this.#heap;
    const first = heap[0];
    const last = heap.pop();
    if (first !== undefined && last !== undefined && first !== last) {
      heap[0] = last;
      this.#down(0);
    }
    return first;
  }

  #up(at: number): void {
    const heap = this.#heap;
    const event = heap[at]!;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(event, heap[parent]!)) break;
      heap[at] = heap[parent]!;
      at = parent;
    }
    heap[at] = event;
  }

  #down(at: number): void {
    const heap = this.#heap;
    const event = heap[at]!;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child += 1;
      if (!isBefore(heap[child]!, event)) break;
      heap[at] = heap[child]!;
      at = child;
    }
    heap[at] = event;
  }
}

function isBefore(a: SimulatedEvent, b: SimulatedEvent): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
