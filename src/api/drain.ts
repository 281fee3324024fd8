import { type NativeLog, State } from '../native/native_log.js';
import type { Appender } from './appender.js';
import { Wakeups } from './wakeup.js';

/** Below this part of the ring `needsDrain` says so; `drain()` waits for twice as much. */
const LOW = 0.25;

/** Back-pressure: waits for room in the log memory. */
export class Drains {
  readonly #native: NativeLog;
  readonly #appender: Appender;
  readonly #ringBytes: number;
  readonly waits = new Wakeups();

  constructor(native: NativeLog, appender: Appender, ringBytes: number) {
    this.#native = native;
    this.#appender = appender;
    this.#ringBytes = ringBytes;
  }

  get needed(): boolean {
    return this.#free() < this.#ringBytes * LOW;
  }

  /** Resolves when records of `bytes` in all fit; without it, when there is comfortable room. */
  async wait(bytes: number | undefined, signal: AbortSignal | undefined): Promise<void> {
    const target = bytes === undefined ? this.#ringBytes * LOW * 2 : this.#space(bytes);
    if (this.#free() < target) this.#appender.close();
    await this.waits.until(() => this.#free() >= target, signal);
  }

  #free(): number {
    return this.#native.state[State.RING_FREE] as number;
  }

  #space(bytes: number): number {
    const space = this.#appender.space(bytes + 8, bytes + 8);
    if (space <= this.#ringBytes) return space;
    throw new RangeError(
      `drain(${bytes}) could never resolve: the log memory (ringBytes) is ${this.#ringBytes} ` +
        'bytes, and the layout needs some of it',
    );
  }
}
