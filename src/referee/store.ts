import type { RecordName } from './records.js';

/** One record as a store holds it. */
export interface Entry {
  readonly value: string;
  /** Another with each write: what a compare-and-swap compares. Never '0'. */
  readonly version: string;
  /** The lease with which it goes; '' for one that stays. */
  readonly lease: string;
}

/** All records at one moment; read after whatever was asked for before. */
export interface Snapshot {
  /** Which store this is: another one has other contents. */
  readonly origin: string;
  /** Counts the writes of the store, also those of others. Never falls, unless it was restored. */
  readonly revision: bigint;
  readonly entries: ReadonlyMap<RecordName, Entry>;
}

export interface StoreLease {
  readonly id: string;
  /** As granted. */
  readonly ttlMs: number;
}

/** Written under a lease, written to stay, or deleted (null). */
export type Write = { readonly value: string; readonly lease?: string } | null;

/** Versions that must be there still; '0': there must be none. */
export type Expected = Partial<Record<RecordName, string>>;

/**
 * Where a referee keeps its records: leases, and a compare-and-swap over all records. Every call
 * takes its own time out from `signal` and the store's timing, and rejects with WAL_REFEREE_AWAY
 * when nothing is known of the outcome, WAL_REFEREE_REFUSED when asking again is of no use.
 */
export interface RefereeStore {
  read(signal?: AbortSignal): Promise<Snapshot>;
  /**
   * Writes all or nothing, durably. `applied` is false where a version was another, but also where
   * an answer was lost and the attempt repeated: who must know looks for what it wrote.
   */
  commit(
    expected: Expected,
    writes: Partial<Record<RecordName, Write>>,
    signal?: AbortSignal,
  ): Promise<{ readonly applied: boolean; readonly snapshot: Snapshot }>;
  grant(ttlMs: number, signal?: AbortSignal): Promise<StoreLease>;
  /**
   * Makes a lease last for its time to live from now on. undefined: it has ended. The snapshot is
   * from afterwards, and proves that whoever renewed the lease was in charge of leases then.
   */
  renew(
    lease: string,
    signal?: AbortSignal,
  ): Promise<{ readonly ttlMs: number; readonly snapshot: Snapshot } | undefined>;
  /** Ends a lease, and deletes what was written under it. One that has ended is none. */
  revoke(lease: string, signal?: AbortSignal): Promise<void>;
  /**
   * Resolves when something may have changed since the call before, after `timeoutMs` at the
   * latest. A hint: what counts is `read`.
   */
  changed(timeoutMs: number, signal?: AbortSignal): Promise<void>;
  /** Ends connections; what is under way rejects. */
  close(): void;
}

export const absent = '0';

export function versionOf(snapshot: Snapshot, name: RecordName): string {
  return snapshot.entries.get(name)?.version ?? absent;
}
