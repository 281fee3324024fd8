import { type NativeLog, State } from '../native/native_log.js';
import type { Appender } from './appender.js';
import { recordSize } from './record.js';
import { canEverFit, type Layout, ringSpace } from './ring_space.js';
import { Wakeups } from './wakeup.js';

/** Below this part of the ring `needsDrain` says so; `drain()` waits for twice as much. */
const LOW = 0.25;

/** Back-pressure: waits for room in the log memory. */
export class Drains {
  readonly waits = new Wakeups();
  readonly #state: Float64Array;
  readonly #appender: Appender;
  readonly #layout: Layout;
  readonly #low: number;

  constructor(native: NativeLog, appender: Appender, layout: Layout) {
    this.#state = native.state;
    this.#appender = appender;
    this.#layout = layout;
    this.#low = layout.ringBytes * LOW;
  }

  get needed(): boolean {
    return (this.#state[State.RING_FREE] as number) < this.#low;
  }

  /** Resolves when records of `bytes` in all fit; without it, when there is comfortable room. */
  async wait(bytes: number | undefined, signal: AbortSignal | undefined): Promise<void> {
    const met = bytes === undefined ? () => this.#comfortable() : this.#fits(bytes);
    try {
      if (!met()) this.#appender.wantRing();
      await this.waits.until(met, signal);
    } catch (error) {
      throw this.#appender.explain(error);
    }
  }

  /**
   * Also enough for what was refused last, or who drains after a refusal could be refused for
   * ever.
   */
  #comfortable(): boolean {
    const appender = this.#appender;
    return this.#free() >= Math.max(this.#low * 2, appender.refusedSpace) && appender.ready();
  }

  #fits(bytes: number): () => boolean {
    const appender = this.#appender;
    const { maxBatchBytes, ringBytes } = this.#layout;
    if (bytes > ringBytes) throw never(bytes, ringBytes);
    const size = recordSize(bytes);
    const one = bytes <= appender.maxRecord;
    // Of several records no more is known than their sum: batches are taken to be full.
    const largest = one ? size : Math.min(maxBatchBytes, recordSize(appender.maxRecord));
    const sizes = one ? [size] : new Array<number>(Math.ceil(size / largest)).fill(largest);
    if (!canEverFit(this.#layout, sizes, largest)) throw never(bytes, ringBytes);
    return () => {
      if (appender.hasRoom(size)) return true;
      const at = this.#state[State.CLOSED_POSITION] as number;
      return this.#free() >= ringSpace(this.#layout, at, sizes) && appender.ready(largest);
    };
  }

  #free(): number {
    return this.#state[State.RING_FREE] as number;
  }
}

function never(bytes: number, ringBytes: number): RangeError {
  return new RangeError(
    `drain(${bytes}) could never resolve: the log memory (ringBytes) is ${ringBytes} bytes, ` +
      'and the layout needs some of it',
  );
}
