import { randomBytes } from 'node:crypto';
import { readFile, readlink } from 'node:fs/promises';
import { WalError } from '../api/errors.js';
import { type RecordName, recordNames } from './records.js';
import type { Entry, Snapshot } from './store.js';

/** A lease as the file has it. */
export interface FileLease {
  readonly ttlMs: number;
  /** Milliseconds of `bootTime()`, in the boot that the file names. */
  readonly endsMs: number;
}

/** All that the file holds. */
export interface FileState {
  readonly origin: string;
  revision: number;
  /** The boot in which times are counted. */
  boot: string;
  readonly entries: Partial<Record<RecordName, Entry>>;
  readonly leases: Record<string, FileLease>;
}

export function newState(boot: string): FileState {
  const origin = randomBytes(16).toString('hex');
  return { origin, revision: 1, boot, entries: {}, leases: {} };
}

/**
 * Which count of `bootTime` this process has: another one after each boot, and in each time
 * namespace.
 */
export async function bootId(): Promise<string> {
  const id = (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
  // Kernels before 5.6 have no time namespaces.
  const namespace = await readlink('/proc/self/ns/time').catch(() => 'time:[]');
  return `${id} ${namespace}`;
}

/** Throws WAL_CORRUPT. */
export function parseState(path: string, text: string): FileState {
  try {
    const state = JSON.parse(text) as FileState;
    const { origin, revision, boot, entries, leases } = state;
    const isWhole =
      typeof origin === 'string' &&
      Number.isSafeInteger(revision) &&
      typeof boot === 'string' &&
      Object.entries(entries).every(([name, entry]) => isEntry(name, entry)) &&
      Object.values(leases).every(({ ttlMs, endsMs }) => ttlMs > 0 && Number.isFinite(endsMs));
    if (isWhole) return state;
  } catch {
    // Told below.
  }
  throw new WalError('WAL_CORRUPT', `${path} does not hold the records of a referee`, {
    file: path,
    hint: 'Look at who the primary is, then delete that file while no node runs.',
  });
}

function isEntry(name: string, { value, version, lease }: Entry): boolean {
  const isKnown = (recordNames as readonly string[]).includes(name);
  return isKnown && [value, version, lease].every((each) => typeof each === 'string');
}

/**
 * Lets go of the leases that have ended, with what was written under them. Returns whether there
 * were any. Those of an earlier boot have: nobody who held one runs.
 */
export function expire(state: FileState, boot: string, nowMs: number): boolean {
  const isNewBoot = state.boot !== boot;
  if (isNewBoot && state.boot.split(' ')[0] === boot.split(' ')[0]) {
    throw new WalError(
      'WAL_REFEREE_REFUSED',
      'the file is used from two time namespaces of this machine, whose clocks cannot be compared',
      { hint: 'Run all nodes in one time namespace, or use etcd.' },
    );
  }
  state.boot = boot;
  const ended = Object.entries(state.leases).filter(
    ([, { endsMs }]) => isNewBoot || !(nowMs < endsMs),
  );
  for (const [id] of ended) endLease(state, id);
  return isNewBoot || ended.length > 0;
}

export function endLease(state: FileState, id: string): void {
  delete state.leases[id];
  for (const name of recordNames) {
    if (state.entries[name]?.lease === id) delete state.entries[name];
  }
  state.revision += 1;
}

export function snapshotOf({ origin, revision, entries }: FileState): Snapshot {
  const all = Object.entries(entries) as [RecordName, Entry][];
  return { origin, revision: BigInt(revision), entries: new Map(all) };
}
