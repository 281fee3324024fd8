import { setTimeout as sleep } from 'node:timers/promises';
import { bootTime } from './clock.js';
import type { RecordName } from './records.js';
import {
  absent,
  type Entry,
  type Expected,
  type RefereeStore,
  type Snapshot,
  type StoreLease,
  type Write,
} from './store.js';

interface State {
  readonly revision: number;
  readonly entries: ReadonlyMap<RecordName, Entry>;
  readonly leases: ReadonlyMap<string, { readonly ttlMs: number; readonly endsMs: number }>;
}

/**
 * A store in memory, for tests: as lasting as this process. `clock`: milliseconds, for the leases;
 * default `bootTime`.
 */
export class MemoryStore implements RefereeStore {
  /** Which store this is: another value makes it another one. */
  origin = 'memory';
  readonly #clock: () => number;
  #state: State = { revision: 1, entries: new Map(), leases: new Map() };
  #nextLease = 1;
  #changed = resolvers();

  constructor(clock: () => number = bootTime) {
    this.#clock = clock;
  }

  /** How many live, or have not been looked for since they ended. */
  get leases(): number {
    return this.#state.leases.size;
  }

  /** To be put back with `restore`. */
  backup(): unknown {
    return this.#state;
  }

  /** As a referee that was restored to the past. */
  restore(backup: unknown): void {
    this.#state = backup as State;
  }

  read(): Promise<Snapshot> {
    return this.ask(() => this.#snapshot());
  }

  commit(
    expected: Expected,
    writes: Partial<Record<RecordName, Write>>,
  ): Promise<{ readonly applied: boolean; readonly snapshot: Snapshot }> {
    return this.ask(() => {
      const applied =
        Object.entries(expected).every(([name, version]) => this.#version(name) === version) &&
        Object.values(writes).every(
          (write) => write?.lease === undefined || this.#state.leases.has(write.lease),
        );
      if (applied) this.#apply(writes);
      return { applied, snapshot: this.#snapshot() };
    });
  }

  grant(ttlMs: number): Promise<StoreLease> {
    return this.ask(() => {
      const id = `${this.#nextLease}`;
      this.#nextLease += 1;
      this.#setLease(id, ttlMs);
      return { id, ttlMs };
    });
  }

  renew(
    lease: string,
  ): Promise<{ readonly ttlMs: number; readonly snapshot: Snapshot } | undefined> {
    return this.ask(() => {
      const known = this.#state.leases.get(lease);
      if (known === undefined) return undefined;
      this.#setLease(lease, known.ttlMs);
      return { ttlMs: known.ttlMs, snapshot: this.#snapshot() };
    });
  }

  revoke(lease: string): Promise<void> {
    return this.ask(() => this.#end(lease));
  }

  /** All that it holds; leases that have ended may be there until somebody asks. */
  get now(): State {
    return this.#state;
  }

  /** Resolves with the next change. */
  get nextChange(): Promise<void> {
    return this.#changed.promise;
  }

  async changed(timeoutMs: number, signal?: AbortSignal): Promise<void> {
    const ends = new AbortController();
    const either = signal === undefined ? ends.signal : AbortSignal.any([signal, ends.signal]);
    const late = sleep(timeoutMs, undefined, { signal: either, ref: false }).catch(() => undefined);
    await Promise.race([this.#changed.promise, late]);
    ends.abort();
  }

  close(): void {}

  /** Every question comes through here: what overrides it may lose the question or the answer. */
  protected async ask<Result>(body: () => Result): Promise<Result> {
    this.#expire();
    return body();
  }

  #version(name: string): string {
    return this.#state.entries.get(name as RecordName)?.version ?? absent;
  }

  #snapshot(): Snapshot {
    const { revision, entries } = this.#state;
    return { origin: this.origin, revision: BigInt(revision), entries };
  }

  #setLease(id: string, ttlMs: number): void {
    const leases = new Map(this.#state.leases);
    leases.set(id, { ttlMs, endsMs: this.#clock() + ttlMs });
    this.#state = { ...this.#state, leases };
  }

  #apply(writes: Partial<Record<RecordName, Write>>): void {
    const revision = this.#state.revision + 1;
    const entries = new Map(this.#state.entries);
    for (const [key, write] of Object.entries(writes)) {
      const name = key as RecordName;
      if (write === null) entries.delete(name);
      else
        entries.set(name, { value: write.value, lease: write.lease ?? '', version: `${revision}` });
    }
    this.#set({ ...this.#state, revision, entries });
  }

  #expire(): void {
    for (const [id, { endsMs }] of this.#state.leases) if (endsMs <= this.#clock()) this.#end(id);
  }

  #end(id: string): void {
    const leases = new Map(this.#state.leases);
    if (!leases.delete(id)) return;
    const entries = new Map([...this.#state.entries].filter(([, { lease }]) => lease !== id));
    this.#set({ revision: this.#state.revision + 1, entries, leases });
  }

  #set(state: State): void {
    this.#state = state;
    this.#changed.resolve();
    this.#changed = resolvers();
  }
}

function resolvers(): { readonly promise: Promise<void>; resolve(): void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}
