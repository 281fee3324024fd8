import { dirname, join, resolve } from 'node:path';
import { WalError } from '../api/errors.js';
import * as check from '../api/validate.js';
import type { ArchiveStore, ListOptions, ListPage, PutOptions, StoreCallOptions } from './store.js';
import { processStoreDisk, type StoreDisk } from './store_disk.js';

const readBytes = 256 * 1024;
const pageNames = 1000;
/** One folder and a file in it: no dot begins a part, none is empty, none leads elsewhere. */
const namePattern = /^[0-9a-z][0-9a-z_-]{0,63}\/[0-9a-z][0-9a-z_-]{0,127}\.[a-z]{1,16}$/;
const prefixPattern = /^[0-9a-z][0-9a-z_-]{0,63}\/[0-9a-z_-]{0,127}$/;

/**
 * An archive in a directory, on another disk or of another machine: each object is a file of mode
 * 0600, in a folder for each log. The directory is made with mode 0700 where there is none, its
 * parent not; one that others may write is refused. Its file system must have hard links. An object
 * is written under a name that ends in `.part`, flushed, given its name by a link, which replaces
 * nothing, and the folder flushed: it is there whole or not at all, whenever the power goes.
 *
 * Calls of a file system cannot be cancelled: one that hangs stays behind when its signal aborts.
 */
export class DirectoryStore implements ArchiveStore {
  readonly description: string;
  readonly #directory: string;
  readonly #disk: StoreDisk;
  /** Folders in which this store looked for what was left unfinished, by whom. */
  readonly #cleaned = new Set<string>();

  /** `directory`: its path. Nothing is touched before the first call. */
  constructor(directory: string);
  /** @internal */
  constructor(directory: string, disk: StoreDisk);
  constructor(directory: string, disk: StoreDisk = processStoreDisk) {
    const path = check.string(directory, 'DirectoryStore(directory)');
    if (path === '' || path.includes('\0')) {
      throw new RangeError("DirectoryStore takes the path of a directory, such as './archive'");
    }
    this.#directory = resolve(path);
    this.#disk = disk;
    this.description = this.#directory;
  }

  async put(
    name: string,
    content: AsyncIterable<Uint8Array>,
    { by, signal }: PutOptions,
  ): Promise<'stored' | 'exists'> {
    const path = this.#pathOf(name);
    if (!/^[0-9a-f]{32}$/.test(by)) throw new TypeError('by takes 32 hexadecimal digits');
    signal.throwIfAborted();
    const folder = dirname(path);
    await this.#prepare(folder, by);
    if (await this.#has(path)) return this.#exists(folder);
    const part = `${path}.${by}.part`;
    try {
      await this.#write(part, content, signal);
      if (!(await this.#io((disk) => disk.link(part, path)))) return await this.#exists(folder);
      await this.#io((disk) => disk.syncDirectory(folder));
    } finally {
      // What cannot be removed now is by the next call, or by the node's next process.
      await this.#io((disk) => disk.remove(part)).catch(() => this.#cleaned.clear());
    }
    return 'stored';
  }

  async get(name: string, { signal }: StoreCallOptions): Promise<AsyncIterable<Uint8Array>> {
    const path = this.#pathOf(name);
    signal.throwIfAborted();
    if (!(await this.#has(path))) throw notFound(path);
    return this.#read(path, signal);
  }

  async list(prefix: string, { after = '', signal }: ListOptions): Promise<ListPage> {
    if (!prefixPattern.test(prefix)) throw invalidName(prefix);
    signal.throwIfAborted();
    const folder = prefix.slice(0, prefix.indexOf('/') + 1);
    const path = join(this.#directory, folder);
    if (!(await this.#isFolder(path))) return { names: [], next: undefined };
    const names = (await this.#io((disk) => disk.list(path)))
      .map((file) => `${folder}${file}`)
      .filter((name) => namePattern.test(name) && name.startsWith(prefix) && name > after)
      .sort();
    const page = names.slice(0, pageNames);
    return { names: page, next: page.length < names.length ? page.at(-1) : undefined };
  }

  async delete(name: string, { signal }: StoreCallOptions): Promise<void> {
    const path = this.#pathOf(name);
    signal.throwIfAborted();
    if (!(await this.#has(path))) return;
    await this.#io((disk) => disk.remove(path));
    await this.#io((disk) => disk.syncDirectory(dirname(path)));
  }

  /** Whoever has put it there may have been lost before its name was durable. */
  async #exists(folder: string): Promise<'exists'> {
    await this.#io((disk) => disk.syncDirectory(folder));
    return 'exists';
  }

  async #prepare(folder: string, by: string): Promise<void> {
    await this.#io((disk) => disk.prepare(this.#directory));
    await this.#io((disk) => disk.prepare(folder));
    const what = `${folder} ${by}`;
    if (this.#cleaned.has(what)) return;
    const left = (await this.#io((disk) => disk.list(folder))).filter((name) =>
      name.endsWith(`.${by}.part`),
    );
    for (const name of left) await this.#io((disk) => disk.remove(join(folder, name)));
    this.#cleaned.add(what);
  }

  async #write(
    part: string,
    content: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<void> {
    const file = await this.#io((disk) => disk.create(part));
    try {
      let at = 0;
      for await (const bytes of content) {
        signal.throwIfAborted();
        await this.#io(() => file.write(bytes, at));
        at += bytes.length;
      }
      signal.throwIfAborted();
      await this.#io(() => file.sync());
    } finally {
      await this.#io(() => file.close());
    }
  }

  async *#read(path: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const file = await this.#io((disk) => disk.open(path));
    if (file === undefined) throw notFound(path);
    try {
      for (let at = 0; ; ) {
        signal.throwIfAborted();
        const piece = Buffer.allocUnsafeSlow(readBytes);
        const length = await this.#io(() => file.read(piece, at));
        if (length > 0) yield piece.subarray(0, length);
        if (length < readBytes) return;
        at += length;
      }
    } finally {
      await this.#io(() => file.close());
    }
  }

  /** Nothing is looked for behind a link. */
  async #isFolder(path: string): Promise<boolean> {
    const isThere = async (one: string): Promise<boolean> => {
      const found = await this.#io((disk) => disk.look(one));
      if (found === 'file') throw this.#failed(new Error(`${one} is no directory`));
      return found === 'directory';
    };
    return (await isThere(this.#directory)) && (await isThere(path));
  }

  async #has(path: string): Promise<boolean> {
    if (!(await this.#isFolder(dirname(path)))) return false;
    const found = await this.#io((disk) => disk.look(path));
    if (found === 'directory') throw this.#failed(new Error(`${path} is no plain file`));
    return found === 'file';
  }

  #pathOf(name: string): string {
    if (!namePattern.test(name)) throw invalidName(name);
    return join(this.#directory, name);
  }

  async #io<T>(work: (disk: StoreDisk) => Promise<T>): Promise<T> {
    try {
      return await work(this.#disk);
    } catch (error) {
      throw this.#failed(error);
    }
  }

  #failed(error: unknown): WalError {
    const { code, message = String(error) } = error as { code?: unknown; message?: string };
    const isFull = code === 'ENOSPC' || code === 'EDQUOT';
    return new WalError(
      isFull ? 'WAL_NO_SPACE' : 'WAL_IO',
      `the archive ${this.#directory}: ${message}`,
      { cause: error, hint: 'Look at that directory: its disk, its mount and its permissions.' },
    );
  }
}

function notFound(path: string): WalError {
  return new WalError('WAL_NOT_FOUND', `there is no ${path}`, {
    file: path,
    hint: 'Look at the archive: it may be another one, or the file was taken out of it.',
  });
}

function invalidName(name: string): TypeError {
  return new TypeError(`a store takes names such as 'log/0a-1b.segment', got ${check.shown(name)}`);
}
