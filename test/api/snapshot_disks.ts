import { copyFileSync, existsSync, renameSync, rmSync, statSync, truncateSync } from 'node:fs';
import { processDisk, type SnapshotDisk, type SnapshotFile } from '../../src/api/snapshot_disk.js';

/**
 * What happens at a step. `fail`: that call fails, half done; those behind it do not. `kill`: that
 * one is half done, and nothing comes after it. `power`: the same, and what was not flushed is
 * lost, names included; `names kept`: names are there, and what was not flushed in files is not.
 */
export const faults = ['fail', 'kill', 'power', 'names kept'] as const;
export type Fault = (typeof faults)[number];

/** A disk on which the call number `at` goes wrong. */
export class FaultyDisk implements SnapshotDisk {
  /** The calls so far. */
  readonly calls: string[] = [];
  /** Each byte that is written at this place of a file comes out wrong. */
  flips = -1;
  readonly #at: number;
  readonly #fault: Fault | undefined;
  readonly #unsynced = new Set<string>();
  /** How to take back what happened to names since the directory was flushed. */
  #undo: (() => void)[] = [];
  #isDown = false;

  constructor(at = -1, fault?: Fault) {
    this.#at = at;
    this.#fault = fault;
  }

  get happened(): boolean {
    return this.calls.length > this.#at;
  }

  prepare(directory: string): Promise<void> {
    return this.#step('prepare', () => processDisk.prepare(directory));
  }

  list(directory: string): Promise<readonly string[]> {
    return processDisk.list(directory);
  }

  async create(path: string): Promise<SnapshotFile> {
    const file = await this.#step('create', () => processDisk.create(path));
    this.#unsynced.add(path);
    this.#undo.push(() => rmSync(path, { force: true }));
    return this.#wrap(file, path);
  }

  async open(path: string): Promise<SnapshotFile> {
    return this.#wrap(await this.#step('open', () => processDisk.open(path)), path);
  }

  async reopen(path: string): Promise<SnapshotFile> {
    return this.#wrap(await this.#step('reopen', () => processDisk.reopen(path)), path);
  }

  rename(from: string, to: string): Promise<void> {
    return this.#step('rename', async () => {
      await processDisk.rename(from, to);
      if (this.#unsynced.delete(from)) this.#unsynced.add(to);
      this.#undo.push(() => renameSync(to, from));
    });
  }

  remove(path: string): Promise<void> {
    return this.#step('remove', async () => {
      const kept = `${path}.kept-by-test`;
      copyFileSync(path, kept);
      await processDisk.remove(path);
      this.#undo.push(() => copyFileSync(kept, path));
    });
  }

  syncDirectory(directory: string): Promise<void> {
    return this.#step('syncDirectory', async () => {
      await processDisk.syncDirectory(directory);
      this.#undo = [];
    });
  }

  /** What a restart finds. */
  losePower(): void {
    this.#isDown = true;
    if (this.#fault !== 'power' && this.#fault !== 'names kept') return;
    for (const path of this.#unsynced) if (existsSync(path)) cut(path);
    if (this.#fault === 'power') for (const undo of this.#undo.reverse()) undo();
  }

  async #step<T>(name: string, work: (isHalf: boolean) => Promise<T>): Promise<T> {
    if (this.#isDown) throw new Error('the machine is down');
    const isHere = this.calls.length === this.#at && this.#fault !== undefined;
    this.calls.push(name);
    if (!isHere) return work(false);
    if (this.#fault !== 'fail') this.#isDown = true;
    if (name === 'write') await work(true);
    throw Object.assign(new Error('EIO: i/o error'), { code: 'EIO' });
  }

  #wrap(file: SnapshotFile, path: string): SnapshotFile {
    return {
      write: (bytes, position) =>
        this.#step('write', (isHalf) => {
          const given = Buffer.from(isHalf ? bytes.subarray(0, bytes.length / 2) : bytes);
          const at = this.flips - position;
          if (at >= 0 && at < given.length) given[at]! ^= 4;
          return file.write(given, position);
        }),
      read: (buffer, position) => this.#step('read', () => file.read(buffer, position)),
      size: () => file.size(),
      sync: () =>
        this.#step('sync', async () => {
          await file.sync();
          this.#unsynced.delete(path);
        }),
      // The descriptor is let go of in any case.
      close: () => this.#step('close', async () => undefined).finally(() => file.close()),
    };
  }
}

/** What is left of a file that was not flushed: some of it. */
function cut(path: string): void {
  truncateSync(path, Math.floor(statSync(path).size / 2));
}
