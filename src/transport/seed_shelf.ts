import type { SnapshotId } from '../wire/seed_messages.js';

/** A snapshot that is open. */
export interface SeedFile {
  readonly id: SnapshotId;
  readonly fileBytes: number;
  /** Of the batch from which the log is read on. */
  readonly position: number;
  /** How many bytes were read: fewer than asked for only at the end of the file. */
  read(buffer: Uint8Array, offset: number): Promise<number>;
  close(): Promise<void>;
}

/** What a node has of the application's state, for standbys that need it. */
export interface SeedShelf {
  /** The one that a standby has the beginning of, if it can still be loaded; else the newest. */
  open(have: SnapshotId | undefined): Promise<SeedFile | undefined>;
  /** At most so many bytes a second for each of them; 0: as fast as it goes. */
  readonly bytesPerSecond: number;
}
