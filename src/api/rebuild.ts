import { type Place, State } from '../native/native_log.js';
import type { LogCore } from './core.js';

/**
 * Records that an application may have seen, and that are not in the log any more: a new primary
 * has others there, or none. State that holds none of them is as good as it was.
 */
export interface Rebuild {
  /** First LSN from which state has to be rebuilt; what lies before is as it was. */
  readonly from: number;
  /** Last LSN of what went. */
  readonly to: number;
  /** Where it was set aside; null where it is told again after a restart: see the directory. */
  readonly file: string | null;
}

/** Told of that before anything which took its place is shown; `signal`: the log closes. */
export type RebuildHook = (rebuild: Rebuild, signal: AbortSignal) => unknown;

/**
 * Tells the application from where its state has to be rebuilt, and holds back what lies behind
 * until it was told. It is in the control file from the cut on: whatever crash comes in between,
 * the next opening tells it (SAFETY.md 3.8).
 */
export class RebuildNotice {
  readonly #core: LogCore;
  readonly #closed = new AbortController();
  #pending: Rebuild | null;
  #hold: Place | undefined;
  #isOpen = false;
  #isTelling = false;

  constructor(core: LogCore) {
    this.#core = core;
    const { rebuild } = core.info;
    this.#pending = rebuild === null ? null : { ...rebuild, file: null };
  }

  /** What was not told yet. */
  get pending(): Rebuild | null {
    return this.#pending;
  }

  /** `place`, but nothing past what has to be rebuilt. */
  bound(place: Place): Place {
    const hold = this.#hold;
    return hold === undefined || place.position <= hold.position ? place : hold;
  }

  /** At the opening, before anything is shown. */
  async find(): Promise<void> {
    if (this.#pending === null) return;
    const { native } = this.#core;
    const { from } = this.#pending;
    const start = {
      position: native.state[State.START_POSITION] ?? 0,
      lsn: native.state[State.START_LSN] ?? 0,
    };
    this.#hold = from <= start.lsn ? start : { position: await native.locate(from), lsn: from - 1 };
  }

  /** Of a primary, which may append at once: its application is told before it is open. */
  async tellFirst(): Promise<void> {
    // Without a hook nobody can be told yet, and a replay of the log must find all of it.
    if (this.#core.options.onRebuild !== undefined) await this.#tell();
  }

  /** Whoever listens does so from now on. */
  opened(): void {
    this.#core.environment.setImmediate(() => {
      this.#isOpen = true;
      void this.#tell();
    });
  }

  /** The log was cut at `fork`, and has noted what was shown of that. Returns whether any was. */
  wasCut(fork: Place, file: string): boolean {
    const { rebuild } = this.#core.native.info();
    if (rebuild === null) return false;
    this.#pending = { ...rebuild, file };
    if (this.#hold === undefined || fork.position < this.#hold.position) this.#hold = fork;
    if (this.#isOpen) void this.#tell();
    return true;
  }

  /** The log begins at `start` now: what an application has of the one before does not go on. */
  wasReplaced(start: Place): void {
    const { rebuild } = this.#core.native.info();
    if (rebuild === null) return;
    this.#pending = { ...rebuild, file: null };
    this.#hold = start;
    if (this.#isOpen) void this.#tell();
  }

  /** Resolves when nothing is left to tell. */
  told(signal: AbortSignal | undefined): Promise<void> {
    const core = this.#core;
    return core.moved.until(() => {
      core.requireReadable();
      return this.#pending === null;
    }, signal);
  }

  close(): void {
    this.#closed.abort();
  }

  async #tell(): Promise<void> {
    if (this.#isTelling) return;
    this.#isTelling = true;
    const core = this.#core;
    try {
      while (this.#pending !== null && core.state === 'open' && core.failure === undefined) {
        await this.#tellOnce(this.#pending);
      }
    } catch (error) {
      // What the state is now nobody knows: nothing behind it is shown.
      if (core.state === 'open') core.fail(error);
    } finally {
      this.#isTelling = false;
    }
  }

  async #tellOnce(rebuild: Rebuild): Promise<void> {
    const core = this.#core;
    // Of a log that was seeded there is state once it reaches the snapshot.
    await core.snapshots?.seeding.reached(this.#closed.signal);
    // What is being applied of the old history is through first.
    await core.applier?.endOf(rebuild.from - 1);
    core.events.emit('rebuild', rebuild);
    const { signal } = this.#closed;
    await core.options.onRebuild?.(rebuild, signal);
    // Another cut came meanwhile, or the end: it is told again.
    if (this.#pending !== rebuild || signal.aborted || core.state !== 'open') return;
    await core.native.storeRebuilt();
    if (this.#pending !== rebuild) return;
    this.#pending = null;
    this.#hold = undefined;
    core.moved.settle();
  }
}
