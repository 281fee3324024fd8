import { WalError } from '../../src/index.js';
import type { RecordName } from '../../src/referee/records.js';
import {
  absent,
  type Entry,
  type Expected,
  type RefereeStore,
  type Snapshot,
  type StoreLease,
  type Write,
} from '../../src/referee/store.js';

interface State {
  readonly revision: number;
  readonly entries: ReadonlyMap<RecordName, Entry>;
  readonly leases: ReadonlyMap<string, { readonly ttlMs: number; readonly endsMs: number }>;
}

/** A store in memory, on a clock of the test, which fails when it is told to. */
export class MemoryStore implements RefereeStore {
  origin = 'memory';
  /** What the next calls come to: nothing is done; or it is done, and the answer is lost. */
  readonly faults: ('refused' | 'lost' | undefined)[] = [];
  /** Called once, before the next commit: another node comes in between. */
  beforeCommit: (() => Promise<void>) | undefined;
  /** Called while a question is on its way, and again while its answer is. */
  onWay: () => void = () => undefined;
  calls = 0;
  readonly #clock: () => number;
  #state: State = { revision: 1, entries: new Map(), leases: new Map() };
  #nextLease = 1;

  constructor(clock: () => number) {
    this.#clock = clock;
  }

  /** How many live, or have not been looked for since they ended. */
  get leases(): number {
    return this.#state.leases.size;
  }

  /** To be put back with `restore`. */
  backup(): State {
    return this.#state;
  }

  restore(state: State): void {
    this.#state = state;
  }

  read(): Promise<Snapshot> {
    return this.#do(() => this.#snapshot());
  }

  async commit(expected: Expected, writes: Partial<Record<RecordName, Write>>) {
    const between = this.beforeCommit;
    this.beforeCommit = undefined;
    await between?.();
    return await this.#do(() => {
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
    return this.#do(() => {
      const id = `${this.#nextLease}`;
      this.#nextLease += 1;
      this.#setLease(id, ttlMs);
      return { id, ttlMs };
    });
  }

  renew(lease: string) {
    return this.#do(() => {
      const known = this.#state.leases.get(lease);
      if (known === undefined) return undefined;
      this.#setLease(lease, known.ttlMs);
      return { ttlMs: known.ttlMs, snapshot: this.#snapshot() };
    });
  }

  revoke(lease: string): Promise<void> {
    return this.#do(() => this.#end(lease));
  }

  changed(): Promise<void> {
    return new Promise((resolve) => setImmediate(resolve));
  }

  close(): void {}

  async #do<Result>(body: () => Result): Promise<Result> {
    this.calls += 1;
    const fault = this.faults.shift();
    this.onWay();
    if (fault === 'refused') throw new WalError('WAL_REFEREE_AWAY', 'as the test wants it');
    this.#expire();
    const result = body();
    await undefined;
    this.onWay();
    if (fault === 'lost') throw new WalError('WAL_REFEREE_AWAY', 'the answer is lost');
    return result;
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
    this.#state = { ...this.#state, revision, entries };
  }

  #expire(): void {
    for (const [id, { endsMs }] of this.#state.leases) if (endsMs <= this.#clock()) this.#end(id);
  }

  #end(id: string): void {
    const leases = new Map(this.#state.leases);
    if (!leases.delete(id)) return;
    const entries = new Map([...this.#state.entries].filter(([, { lease }]) => lease !== id));
    this.#state = { revision: this.#state.revision + 1, entries, leases };
  }
}
