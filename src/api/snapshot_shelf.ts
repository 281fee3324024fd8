import { join } from 'node:path';
import type { HistoryEntry, Term } from '../native/native_log.js';
import { compareTerms, firstPosition } from '../replication/history.js';
import { WalError } from './errors.js';
import type { SnapshotDisk } from './snapshot_disk.js';
import { lookAtSnapshot } from './snapshot_file.js';
import { isPartName, isSnapshotName, type SnapshotHeader } from './snapshot_format.js';

/** A snapshot of the directory. */
export interface SnapshotEntry {
  readonly name: string;
  readonly path: string;
  /** undefined: the file does not tell. */
  readonly header: SnapshotHeader | undefined;
  /** What the application wrote. */
  readonly bytes: number;
  /** What is wrong with the file; undefined: nothing that is known of. */
  readonly damage: string | undefined;
}

/** The term in which a record was appended; undefined: the history does not reach back so far. */
export function termAt(history: readonly HistoryEntry[], lsn: number): Term | undefined {
  return history.findLast((entry) => entry.lsn < lsn);
}

/**
 * Whether the state is one of this log: the record that it ends with has the same term here, and so
 * is the same, with all before it. After a cut it has another one, or is not there.
 */
export function isOfHistory(
  { lsn, term }: SnapshotHeader,
  history: readonly HistoryEntry[],
): boolean {
  const found = termAt(history, lsn);
  if (found !== undefined) return compareTerms(found, term) === 'same';
  // A history of which the oldest entries were dropped: hundreds of terms came after it.
  const [first] = history;
  if (first === undefined || first.position === firstPosition) return false;
  return compareTerms(term, first) === 'older';
}

/** The snapshots of a log: files of the directory `snapshots` in its own. */
export class SnapshotShelf {
  readonly directory: string;
  readonly disk: SnapshotDisk;
  #entries: readonly SnapshotEntry[] = [];

  constructor(logDirectory: string, disk: SnapshotDisk) {
    this.directory = join(logDirectory, 'snapshots');
    this.disk = disk;
  }

  /** By falling LSN. */
  get entries(): readonly SnapshotEntry[] {
    return this.#entries;
  }

  /** Finds what there is. `tidy`: removes what was never finished, and nothing else. */
  async find(tidy: boolean): Promise<void> {
    const { directory, disk } = this;
    try {
      const names = await disk.list(directory);
      const parts = tidy ? names.filter(isPartName) : [];
      for (const name of parts) await disk.remove(join(directory, name));
      if (parts.length > 0) await disk.syncDirectory(directory);
      const found: SnapshotEntry[] = [];
      for (const name of names.filter(isSnapshotName)) found.push(await this.#look(name));
      this.#entries = found.sort((a, b) => (a.name < b.name ? 1 : -1));
    } catch (error) {
      throw asWalError(error, directory);
    }
  }

  /** One that is durable and verified. */
  add(entry: SnapshotEntry): void {
    const others = this.#entries.filter(({ name }) => name !== entry.name);
    this.#entries = [entry, ...others].sort((a, b) => (a.name < b.name ? 1 : -1));
  }

  /** It was read, and is not what it was. */
  noteDamage(entry: SnapshotEntry, damage: string): void {
    this.#entries = this.#entries.map((each) =>
      each.name === entry.name ? { ...each, header: undefined, damage } : each,
    );
  }

  /** For good: it is not of this log as it is now, and must never look as if it were. */
  async setAside(entries: readonly SnapshotEntry[]): Promise<void> {
    if (entries.length === 0) return;
    try {
      for (const { name, path } of entries) {
        await this.disk.rename(path, `${path}.foreign`);
        this.#entries = this.#entries.filter((each) => each.name !== name);
      }
      await this.disk.syncDirectory(this.directory);
    } catch (error) {
      throw asWalError(error, this.directory);
    }
  }

  /** Removes those that are not to be kept. */
  async keepOnly(kept: readonly SnapshotEntry[]): Promise<void> {
    const names = new Set(kept.map(({ name }) => name));
    const others = this.#entries.filter(({ name }) => !names.has(name));
    if (others.length === 0) return;
    for (const { name, path } of others) {
      await this.disk.remove(path);
      this.#entries = this.#entries.filter((each) => each.name !== name);
    }
    await this.disk.syncDirectory(this.directory);
  }

  async #look(name: string): Promise<SnapshotEntry> {
    const path = join(this.directory, name);
    try {
      const { header, trailer } = await lookAtSnapshot(this.disk, path);
      return { name, path, header, bytes: trailer.bytes, damage: undefined };
    } catch (error) {
      const damage = error instanceof Error ? error.message : String(error);
      return { name, path, header: undefined, bytes: 0, damage };
    }
  }
}

/** An error of the file system as callers see it; others pass through. */
export function asWalError(error: unknown, file: string): unknown {
  if (error instanceof WalError || !(error instanceof Error)) return error;
  const { code } = error as NodeJS.ErrnoException;
  const isFull = code === 'ENOSPC' || code === 'EDQUOT';
  const text = `a snapshot could not be written or read: ${error.message}`;
  return new WalError(isFull ? 'WAL_NO_SPACE' : 'WAL_IO', text, { file, cause: error });
}
