import type { NativeLog } from '../native/native_log.js';

/**
 * Whether this log keeps the process alive: only while somebody waits for it. A count of waits, so
 * that the native handle is referenced once however many there are.
 */
export class KeepAlive {
  readonly #native: Pick<NativeLog, 'ref' | 'unref'>;
  #waits = 0;
  #released = false;

  constructor(native: Pick<NativeLog, 'ref' | 'unref'>) {
    this.#native = native;
    native.unref();
  }

  acquire(): void {
    this.#waits += 1;
    if (this.#waits === 1 && !this.#released) this.#native.ref();
  }

  release(): void {
    this.#waits -= 1;
    if (this.#waits === 0 && !this.#released) this.#native.unref();
  }

  /** Holds the process for as long as the promise is pending. */
  async during<T>(work: Promise<T>): Promise<T> {
    this.acquire();
    try {
      return await work;
    } finally {
      this.release();
    }
  }

  /** The native handle is gone: nothing may touch it any more. */
  detach(): void {
    this.#released = true;
  }
}
