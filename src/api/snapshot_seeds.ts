import { createHash } from 'node:crypto';
import type { SeedFile, SeedShelf } from '../transport/seed_shelf.js';
import { isSameSnapshot, type SnapshotId } from '../wire/seed_messages.js';
import { WalError } from './errors.js';
import { lookAtSnapshot } from './snapshot_file.js';
import { CHECKSUM_AT, type SnapshotHeader, snapshotFormat } from './snapshot_format.js';
import type { SnapshotEntry, SnapshotShelf } from './snapshot_shelf.js';

const { headerBytes, trailerBytes } = snapshotFormat;

/**
 * A node's good snapshots, as standbys are given them. Each was verified when it was taken, and is
 * by whoever gets it; one that was given before is verified again as it is read.
 */
export class SnapshotSeeds implements SeedShelf {
  readonly bytesPerSecond: number;
  readonly #shelf: SnapshotShelf;
  readonly #good: () => readonly SnapshotEntry[];
  /** Those that were given whole: whoever asks for one again has found that its bytes differ. */
  readonly #given = new Set<string>();

  /** `good`: those that count, the newest first. */
  constructor(shelf: SnapshotShelf, bytesPerSecond: number, good: () => readonly SnapshotEntry[]) {
    this.#shelf = shelf;
    this.bytesPerSecond = bytesPerSecond;
    this.#good = good;
  }

  async open(have: SnapshotId | undefined): Promise<SeedFile | undefined> {
    for (;;) {
      const entries = this.#good();
      const same = entries.find(({ header }) => have !== undefined && isOf(header, have));
      const entry = same ?? entries[0];
      if (entry?.header === undefined) return undefined;
      try {
        return await this.#open(entry, entry.header);
      } catch (error) {
        // Told in the status; the one before it is as good.
        this.#shelf.noteDamage(entry, (error as Error).message);
      }
    }
  }

  async #open(entry: SnapshotEntry, header: SnapshotHeader): Promise<SeedFile> {
    const { disk } = this.#shelf;
    const { trailer } = await lookAtSnapshot(disk, entry.path);
    const file = await disk.open(entry.path);
    const fileBytes = headerBytes + trailer.bytes + trailerBytes;
    const covered = headerBytes + trailer.bytes + CHECKSUM_AT;
    const hash = this.#given.has(entry.name) ? createHash('sha256') : undefined;
    let hashed = 0;
    return {
      id: header,
      fileBytes,
      position: trailer.position,
      read: async (buffer, offset) => {
        const read = await file.read(buffer, offset);
        if (offset + read === fileBytes) this.#given.add(entry.name);
        if (hash === undefined || offset !== hashed) return read;
        hash.update(buffer.subarray(0, Math.max(0, Math.min(read, covered - offset))));
        hashed += read;
        if (hashed < fileBytes || hash.digest().equals(trailer.sha256)) return read;
        this.#shelf.noteDamage(entry, `the snapshot ${entry.path} is damaged: its bytes differ`);
        throw new WalError('WAL_CORRUPT', 'the snapshot of the peer is damaged');
      },
      close: () => file.close(),
    };
  }
}

function isOf(header: SnapshotHeader | undefined, id: SnapshotId): boolean {
  return header !== undefined && isSameSnapshot(header, id);
}
