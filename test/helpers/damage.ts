import { cpSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { decodeBatchHeader } from '../format/decode.js';
import { mendCrc } from '../format/encode.js';
import { type ReadLog, readLog } from '../format/read_log.js';

/** A place in a file of a log directory. */
export interface Spot {
  readonly file: string;
  readonly offset: number;
}

/** The file and offset at which a position of the log lies. */
export function spotOf(log: ReadLog, position: number): Spot {
  const start = Math.floor(position / log.control.segmentBytes) * log.control.segmentBytes;
  const file = log.files.find(({ header }) => header.ok && header.value.start === start);
  if (file === undefined) throw new Error(`no segment holds position ${position}`);
  return { file: file.name, offset: position - start };
}

/** Damage to a log directory, each method named for it. For closed logs, best on a copy. */
export class Damage {
  readonly dir: string;

  constructor(dir: string) {
    this.dir = dir;
  }

  /** Copies a log directory (not its lock or socket) and damages the copy. */
  static copyOf(from: string, to: string): Damage {
    cpSync(from, to, {
      recursive: true,
      filter: (path) => path === from || /\.(wal|spare)$|\/control$/.test(path),
    });
    return new Damage(to);
  }

  removed(): void {
    rmSync(this.dir, { recursive: true, force: true });
  }

  read(): ReadLog {
    return readLog(this.dir);
  }

  flippedBit({ file, offset }: Spot, bit = 0): this {
    return this.#edit(file, (bytes) => {
      bytes.writeUInt8(bytes.readUInt8(offset) ^ (1 << bit), offset);
    });
  }

  zeroedRange({ file, offset }: Spot, length: number): this {
    return this.#edit(file, (bytes) => bytes.fill(0, offset, offset + length));
  }

  /** Other bytes where a write went astray, or where a recycled file's old bytes shine through. */
  plantedBytes({ file, offset }: Spot, planted: Uint8Array): this {
    return this.#edit(file, (bytes) => bytes.set(planted, offset));
  }

  swappedSectors(file: string, a: number, b: number, sector = 512): this {
    return this.#edit(file, (bytes) => {
      const kept = Buffer.from(bytes.subarray(a, a + sector));
      bytes.copyWithin(a, b, b + sector);
      bytes.set(kept, b);
    });
  }

  /** Changes a batch and makes its crc fit again: what only the checks behind the crc can find. */
  mendedBatch({ file, offset }: Spot, change: (batch: Buffer) => void): this {
    return this.#edit(file, (bytes) => {
      const { length } = decodeBatchHeader(bytes, offset);
      const batch = bytes.subarray(offset, offset + length);
      change(batch);
      mendCrc(batch);
    });
  }

  mendedSegmentHeader(file: string, change: (header: Buffer) => void): this {
    return this.#edit(file, (bytes) => {
      const header = bytes.subarray(0, 4096);
      change(header);
      mendCrc(header);
    });
  }

  mendedControlCopy(copy: 0 | 1, change: (control: Buffer) => void): this {
    return this.#edit('control', (bytes) => {
      const control = bytes.subarray(copy * 16384, (copy + 1) * 16384);
      change(control);
      mendCrc(control);
    });
  }

  truncatedFile(file: string, length: number): this {
    truncateSync(join(this.dir, file), length);
    return this;
  }

  deletedFile(file: string): this {
    rmSync(join(this.dir, file));
    return this;
  }

  renamedFile(file: string, name: string): this {
    renameSync(join(this.dir, file), join(this.dir, name));
    return this;
  }

  duplicatedFile(file: string, name: string): this {
    cpSync(join(this.dir, file), join(this.dir, name));
    return this;
  }

  /** Two files under each other's name: a rename gone wrong, or a misdirected restore. */
  swappedNames(a: string, b: string): this {
    return this.renamedFile(a, 'swap.tmp').renamedFile(b, a).renamedFile('swap.tmp', b);
  }

  #edit(file: string, change: (bytes: Buffer) => unknown): this {
    const path = join(this.dir, file);
    const bytes = readFileSync(path);
    change(bytes);
    writeFileSync(path, bytes);
    return this;
  }
}
