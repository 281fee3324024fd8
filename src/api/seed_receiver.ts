import { createHash, type Hash } from 'node:crypto';
import { join } from 'node:path';
import { firstPosition } from '../replication/history.js';
import type { SeedSink } from '../transport/fetch_seed.js';
import { isSameSnapshot, type SeedAsk, type SeedOffer } from '../wire/seed_messages.js';
import { WalError } from './errors.js';
import type { SnapshotDisk, SnapshotFile } from './snapshot_disk.js';
import { lookAtSnapshot, readHeader } from './snapshot_file.js';
import {
  CHECKSUM_AT,
  isSeedName,
  seedName,
  snapshotFormat,
  snapshotName,
} from './snapshot_format.js';
import { asWalError, type SnapshotEntry, type SnapshotShelf } from './snapshot_shelf.js';

/** Bytes of the file that its checksum does not cover. */
const uncovered = snapshotFormat.trailerBytes - CHECKSUM_AT;
const hashBytes = 1024 * 1024;

/** What a seed has to be of. */
export interface SeedLog {
  readonly logId: string;
  readonly segmentBytes: number;
}

/**
 * Stores the snapshot that a standby is given, beside those it has, under its name and `.seed`.
 * What was stored when it was cut off is gone on from. It gets its name when all of it is there,
 * verified and flushed.
 */
export class SeedReceiver implements SeedSink {
  readonly #shelf: SnapshotShelf;
  readonly #log: SeedLog;
  readonly #onProgress: (bytes: number, all: number) => void;
  #file: SnapshotFile | undefined;
  #path = '';
  #hash: Hash = createHash('sha256');
  #offer: SeedOffer | undefined;

  constructor(
    shelf: SnapshotShelf,
    log: SeedLog,
    onProgress: (bytes: number, all: number) => void,
  ) {
    this.#shelf = shelf;
    this.#log = log;
    this.#onProgress = onProgress;
  }

  /** The snapshot of which there is a beginning, if there is one. */
  async found(): Promise<SeedAsk['have']> {
    const { disk, directory } = this.#shelf;
    for (const name of (await disk.list(directory)).filter(isSeedName)) {
      const path = join(directory, name);
      const found = await readHeader(disk, path).catch(() => undefined);
      if (found === undefined || found.header.logId !== this.#log.logId) continue;
      const { header, bytes } = found;
      if (seedName(snapshotName(header)) !== name) continue;
      return { lsn: header.lsn, term: header.term, takenAt: header.takenAt, bytes };
    }
    return undefined;
  }

  async offered(offer: SeedOffer): Promise<void> {
    this.#offer = offer;
    const { disk, directory } = this.#shelf;
    const name = seedName(snapshotName(offer.snapshot));
    this.#path = join(directory, name);
    try {
      await disk.prepare(directory);
      // Two would take twice the room.
      for (const other of (await disk.list(directory)).filter(isSeedName)) {
        if (other !== name || offer.from === 0) await disk.remove(join(directory, other));
      }
      if (offer.from === 0) this.#file = await disk.create(this.#path);
      else await this.#goOn(await disk.reopen(this.#path), offer.from);
    } catch (error) {
      throw asWalError(error, this.#path);
    }
    this.#onProgress(offer.from, offer.fileBytes);
  }

  /** What is there already is in the checksum too. */
  async #goOn(file: SnapshotFile, from: number): Promise<void> {
    this.#file = file;
    const buffer = Buffer.allocUnsafeSlow(hashBytes);
    for (let at = 0; at < from; ) {
      const size = Math.min(buffer.length, from - at);
      const piece = buffer.subarray(0, size);
      if ((await file.read(piece, at)) < size) throw new Error(`${this.#path} has become shorter`);
      this.#cover(piece, at);
      at += size;
    }
  }

  async write(bytes: Uint8Array, offset: number): Promise<void> {
    this.#cover(bytes, offset);
    try {
      await this.#file!.write(bytes, offset);
    } catch (error) {
      throw asWalError(error, this.#path);
    }
    this.#onProgress(offset + bytes.length, this.#offer!.fileBytes);
  }

  #cover(bytes: Uint8Array, offset: number): void {
    const covered = this.#offer!.fileBytes - uncovered - offset;
    if (covered > 0) this.#hash.update(bytes.subarray(0, covered));
  }

  /**
   * All of it is stored: durable under its own name when this resolves. One that is not what it
   * says is removed, and is asked for again from its beginning: WAL_PEER_INVALID.
   */
  async finish(): Promise<SnapshotEntry> {
    const { disk, directory } = this.#shelf;
    const offer = this.#offer!;
    const name = snapshotName(offer.snapshot);
    const path = join(directory, name);
    try {
      await this.#file!.sync();
      await this.close();
      const wrong = await this.#wrong(offer);
      if (wrong !== undefined) {
        await disk.remove(this.#path);
        throw new WalError('WAL_PEER_INVALID', `the snapshot that came is none: ${wrong}`);
      }
      await disk.rename(this.#path, path);
      await disk.syncDirectory(directory);
      return await lookAt(disk, name, path);
    } catch (error) {
      throw asWalError(error, path);
    }
  }

  async #wrong(offer: SeedOffer): Promise<string | undefined> {
    let content: Awaited<ReturnType<typeof lookAtSnapshot>>;
    try {
      content = await lookAtSnapshot(this.#shelf.disk, this.#path);
    } catch (error) {
      return (error as Error).message;
    }
    const { header, trailer } = content;
    if (!this.#hash.digest().equals(trailer.sha256)) return 'its bytes differ';
    if (header.logId !== this.#log.logId) return 'it is of another log';
    if (!isSameSnapshot(header, offer.snapshot)) return 'it is another one';
    const { segmentBytes } = this.#log;
    const segment = Math.floor(trailer.position / segmentBytes) * segmentBytes;
    const { start } = offer;
    if (segment + firstPosition !== start.position || start.lsn > header.lsn) {
      return 'the log is to begin elsewhere than it is read on';
    }
    return undefined;
  }

  /** Whatever became of it. */
  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }
}

async function lookAt(disk: SnapshotDisk, name: string, path: string): Promise<SnapshotEntry> {
  const { header, trailer } = await lookAtSnapshot(disk, path);
  return { name, path, header, bytes: trailer.bytes, damage: undefined };
}
