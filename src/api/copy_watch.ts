import { type NativeLog, State } from '../native/native_log.js';
import type { LogEmitter } from './events.js';

/** Tells when a directory of a log that has several is dropped, or is in again. */
export class CopyWatch {
  readonly #native: NativeLog;
  readonly #events: LogEmitter;
  readonly #in = new Map<string, boolean>();
  #news: number;

  constructor(native: NativeLog, events: LogEmitter) {
    this.#native = native;
    this.#events = events;
    this.#news = native.state[State.COPY_NEWS] ?? 0;
    for (const { dir, state } of native.info().copies) this.#in.set(dir, state === 'in');
  }

  look(): void {
    const news = this.#native.state[State.COPY_NEWS] ?? 0;
    if (news === this.#news) return;
    this.#news = news;
    for (const { dir, state, reason } of this.#native.info().copies) {
      const now = state === 'in';
      if (this.#in.get(dir) === now) continue;
      this.#in.set(dir, now);
      if (now) this.#events.emit('copyRestored', { dir });
      else this.#events.emit('copyDropped', { dir, reason });
    }
  }
}
