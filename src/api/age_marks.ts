import { maxAges, type StoredAge } from './slot_file.js';

interface Mark {
  readonly position: number;
  /** Of the clock. */
  readonly at: number;
}

/** Marks are so many in the age that is asked for: what is kept is that much more at most. */
const marksInAge = 32;
/** What has passed and is not stored is lost by a crash. */
const longestStepMs = 60_000;

/**
 * How old the log is, where: by a clock that never jumps, which runs while the log is open. What
 * was there when it was first looked at counts as new then.
 */
export class AgeMarks {
  readonly #ageMs: number;
  #takenAt: number;
  #marks: Mark[];
  #isNew = false;

  constructor(ageMs: number, stored: readonly StoredAge[], now: number) {
    this.#ageMs = ageMs;
    this.#takenAt = now;
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

  /** Whether there are marks that were not stored, or time has passed that was not. */
  isNewAt(now: number): boolean {
    const step = Math.min(this.#ageMs / marksInAge, longestStepMs);
    return this.#isNew || (this.#marks.length > 0 && now - this.#takenAt >= step);
  }

  /** To be stored now. */
  take(now: number): readonly StoredAge[] {
    this.#isNew = false;
    this.#takenAt = now;
    return this.#marks.map(({ position, at }) => ({ position, ageMs: Math.max(0, now - at) }));
  }
}
