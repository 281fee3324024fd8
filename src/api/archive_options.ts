import { DirectoryStore } from '../archive/directory_store.js';
import type { ArchiveStore } from '../archive/store.js';
import { WalError } from './errors.js';
import * as check from './validate.js';

/** The option `archive` of `Log.open`, where more than the store is said. */
export interface ArchiveOptions {
  /** Where the archive lies: a path for a `DirectoryStore`, or a store. */
  readonly store: string | ArchiveStore;
  /**
   * Bytes of the log that are kept while they are not archived. Past that the oldest are let go of
   * as `retention` and `trim` say, and the archive has a gap. Raised to four segments. Default
   * 16 GiB.
   */
  readonly maxBytes?: number;
  /**
   * Bytes of the log a second that are archived at most, 64 KiB or more, while less than half of
   * `maxBytes` waits; past that it goes as fast as it can. Default 32 MiB.
   */
  readonly rate?: number;
}

export interface ResolvedArchive {
  readonly store: ArchiveStore;
  readonly maxBytes: number;
  readonly rate: number;
}

const MIB = 1024 * 1024;
const most = Number.MAX_SAFE_INTEGER;
const calls = ['put', 'get', 'list', 'delete'] as const;

/** Checks the option `archive`. undefined: the log has none. */
export function resolveArchive(raw: Record<string, unknown>): ResolvedArchive | undefined {
  const { archive, replicationThread } = raw;
  if (archive === undefined) return undefined;
  if (replicationThread === 'worker') {
    const text = "archive is not for a log with replicationThread: 'worker'";
    throw new WalError('WAL_UNSUPPORTED', text, {
      hint: 'Leave out replicationThread, or archive on a standby that has none.',
    });
  }
  if (typeof archive === 'string' || isStore(archive)) return resolveOf({ store: archive });
  if (typeof archive !== 'object' || archive === null) throw noStore('archive', archive);
  return resolveOf(check.optionsObject(archive, 'archive', ['store', 'maxBytes', 'rate']));
}

function resolveOf(raw: Record<string, unknown>): ResolvedArchive {
  const { store, maxBytes, rate } = raw;
  return {
    store: storeOf(store),
    maxBytes:
      maxBytes === undefined
        ? 16 * 1024 * MIB
        : check.integer(maxBytes, 'archive.maxBytes', 1, most),
    rate:
      rate === undefined
        ? 32 * MIB
        : check.integer(rate, 'archive.rate (bytes a second)', 64 * 1024, most),
  };
}

function storeOf(value: unknown): ArchiveStore {
  if (typeof value === 'string') return new DirectoryStore(value);
  if (isStore(value)) return value;
  throw noStore('archive.store', value);
}

function isStore(value: unknown): value is ArchiveStore {
  const store = value as Partial<Record<string, unknown>> | null | undefined;
  return calls.every((name) => typeof store?.[name] === 'function');
}

function noStore(what: string, value: unknown): TypeError {
  const text = `${what} takes the path of a directory, or a store; got ${check.shown(value)}`;
  return new TypeError(text);
}
