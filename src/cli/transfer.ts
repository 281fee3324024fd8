import { progressBar } from './damage.js';
import { count, size } from './terminal.js';

/** What was moved less than so long ago says how fast it goes. */
const WINDOW_MS = 5_000;

/** How far something that comes over the network is: how fast, and how long it takes yet. */
export class Transfer {
  readonly #now: () => number;
  #what = '';
  #all = 0;
  #marks: { readonly at: number; readonly done: number }[] = [];

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  moved(what: 'snapshot' | 'records', done: number, all: number): void {
    if (what !== this.#what) this.#marks = [];
    this.#what = what;
    this.#all = all;
    const at = this.#now();
    this.#marks.push({ at, done });
    // The first of them is the one before the window.
    while (this.#marks.length > 2 && this.#marks[1]!.at < at - WINDOW_MS) this.#marks.shift();
  }

  describe(): string {
    const last = this.#marks.at(-1);
    const first = this.#marks[0];
    if (last === undefined || first === undefined) return 'waiting for the primary';
    const { done, at } = last;
    if (this.#what === 'records') return `log: LSN ${count(done)} of ${count(this.#all)}`;
    const rate = at > first.at ? ((done - first.done) * 1000) / (at - first.at) : 0;
    const bar = `snapshot: ${progressBar(done, this.#all)}`;
    if (rate === 0) return bar;
    return `${bar}, ${size(rate)}/s, ${left((this.#all - done) / rate)} left`;
  }
}

function left(seconds: number): string {
  const whole = Math.ceil(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${whole % 60} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
