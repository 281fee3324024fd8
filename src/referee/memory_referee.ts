import * as check from '../api/validate.js';
import type { RefereeMemory } from './memory.js';
import { MemoryStore } from './memory_store.js';
import type { Referee } from './referee.js';
import type { Seen } from './seen.js';
import { StoreReferee } from './store_referee.js';
import { fileTiming, type RefereeTiming, resolveTiming } from './timing.js';

export interface MemoryRefereeOptions {
  /** What the nodes of one group share; default: one of its own. */
  readonly store?: MemoryStore;
  readonly timing?: Partial<RefereeTiming>;
}

/** A referee in this process, for tests: each log of the group gets one over the same store. */
export function memoryReferee(options: MemoryRefereeOptions = {}): Referee {
  const what = 'memoryReferee';
  const raw = check.optionsObject(options, what, ['store', 'timing']);
  const { store } = raw;
  if (store !== undefined && !(store instanceof MemoryStore)) {
    throw new TypeError(`${what}.store takes a MemoryStore`);
  }
  const timing = resolveTiming(raw.timing, `${what}.timing`, fileTiming, 'file');
  return new StoreReferee({ store: store ?? new MemoryStore(), timing, memory: new Remembered() });
}

/** What this log saw of the store, as long as it is open. */
class Remembered implements RefereeMemory {
  #seen: Seen | undefined;

  async load(): Promise<Seen | undefined> {
    return this.#seen;
  }

  async store(seen: Seen): Promise<void> {
    this.#seen = seen;
  }

  async clear(): Promise<void> {
    this.#seen = undefined;
  }
}
