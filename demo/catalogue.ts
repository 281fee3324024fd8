import { createHash } from 'node:crypto';
import { keyOf } from './places.js';

interface Entry {
  readonly version: number;
  readonly row: string;
}

/**
 * The master's state: the newest row of each place. Built from records, on whatever node they
 * arrive.
 */
export class Catalogue {
  readonly #entries: Map<number, Entry>;

  constructor(entries: Iterable<readonly [number, Entry]> = []) {
    this.#entries = new Map(entries);
  }

  /** As it is now. */
  copy(): Catalogue {
    return new Catalogue(this.#entries);
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Takes a row, unless it knows a newer one of that place. */
  put(row: string): void {
    const { id, version } = keyOf(row);
    const known = this.#entries.get(id);
    if (known === undefined || known.version <= version) this.#entries.set(id, { version, row });
  }

  get(id: number): Entry | undefined {
    return this.#entries.get(id);
  }

  /** All rows, by place. */
  rows(): string[] {
    return [...this.#entries].sort(([a], [b]) => a - b).map(([, { row }]) => row);
  }

  /** SHA-256 of all rows: equal catalogues have equal digests, however they came to be. */
  digest(): string {
    return createHash('sha256').update(this.rows().join('\n')).digest('hex');
  }
}
