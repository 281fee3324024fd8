import { type NativeLog, State } from '../native/native_log.js';

/** How old the time of the last contact may be that a crash leaves in the control file. */
const contactPeriod = 10_000;

/** When a standby last heard of its primary, for an operator to decide by (SAFETY 3.5). */
export class LastContact {
  readonly #native: NativeLog;
  #at: number | null;
  /** It is stored, or on its way. */
  #isStored = true;

  constructor(native: NativeLog) {
    this.#native = native;
    this.#at = native.info().lastContact;
  }

  /** Milliseconds since 1970; null: never. */
  get at(): number | null {
    return this.#at;
  }

  /** A link has ended. Not stored at once: what comes next may be a promotion. */
  ended(at: number): void {
    this.#at = at;
    this.#isStored = false;
  }

  /** A link is up. */
  heard(at: number): void {
    // Also where the clock was set back.
    if (Math.abs(at - (this.#at ?? 0)) >= contactPeriod) this.#storeAt(at);
  }

  store(): void {
    if (!this.#isStored && this.#at !== null) this.#storeAt(this.#at);
  }

  /** A failure is the log's own to tell. */
  #storeAt(at: number): void {
    this.#at = at;
    this.#isStored = true;
    if (this.#native.state[State.FAILED] !== 0) return;
    this.#native.storeContact(at).catch(() => undefined);
  }
}
