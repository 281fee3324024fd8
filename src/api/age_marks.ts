import { maxAges, type StoredAge } from './slot_file.js';

interface Mark {
  readonly position: number;
  /** Of the clock. */
  readonly at: number;
}

/** Marks are so many in the age that is asked for: what is kept is that much more at most. */
const marksInAge = 32;

/**
 * How old the log is, where: by a clock that never jumps, which runs while the log is open. What
 * was there when it was first looked at counts as new then.
 */
export class AgeMarks {
  readonly #ageMs: number;
  #marks: Mark[];
  #isNew = false;

  constructor(ageMs: number, stored: readonly StoredAge[], now: number) {
    this.#ageMs = ageMs;
    this.#marks = stored.map(({ position, ageMs: age }) => ({ position, at: now - age }));
  }

  /** All before `position` is committed by now. */
  note(position: number, now: number): void {
    const last = this.#marks.at(-1);
    if (last !== undefined) {
      if (position <= last.position || now - last.at < this.#ageMs / marksInAge) return;
    }
    this.#marks.push({ position, at: now });
    // Of those that are old enough only the newest says anything.
    const old = this.#marks.findLastIndex((mark) => now - mark.at >= this.#ageMs);
    if (old > 0) this.#marks.splice(0, old);
    if (this.#marks.length > maxAges) this.#marks.splice(1, 1);
    this.#isNew = true;
  }

  /** What lies before it was committed `ageMs` ago, or more. */
  old(now: number): number {
    return this.#marks.findLast((mark) => now - mark.at >= this.#ageMs)?.position ?? 0;
  }

  /** What lay past it is of another history. */
  cut(position: number): void {
    const before = this.#marks.length;
    this.#marks = this.#marks.filter((mark) => mark.position <= position);
    if (this.#marks.length !== before) this.#isNew = true;
  }

  /** Whether there are marks that were not stored. */
  get isNew(): boolean {
    return this.#isNew;
  }

  /** To be stored now. */
  take(now: number): readonly StoredAge[] {
    this.#isNew = false;
    return this.#marks.map(({ position, at }) => ({ position, ageMs: Math.max(0, now - at) }));
  }
}
