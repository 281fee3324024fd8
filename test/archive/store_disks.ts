import { processStoreDisk, type StoreDisk, type StoreFile } from '../../src/archive/store_disk.js';

/** What becomes of the calls of a file system, by their number. */
export type Fate = 'done' | 'refused' | 'done, and reported as failed';

export interface CountedDisk extends StoreDisk {
  /** So far, in their order. */
  readonly calls: readonly string[];
}

/** The real one, but that `fate` decides of each call. */
export function countedDisk(fate: (call: number, name: string) => Fate): CountedDisk {
  const calls: string[] = [];
  const real = processStoreDisk;

  async function made<T>(name: string, call: () => Promise<T>): Promise<T> {
    calls.push(name);
    const what = fate(calls.length, name);
    if (what === 'refused') throw new Error(`${name} was refused`);
    const result = await call();
    if (what === 'done') return result;
    throw new Error(`${name} failed`);
  }

  function fileOf(file: StoreFile): StoreFile {
    return {
      write: (bytes, position) => made('write', () => file.write(bytes, position)),
      read: (buffer, position) => made('read', () => file.read(buffer, position)),
      sync: () => made('sync', () => file.sync()),
      // A process that is killed closes its files too.
      close: () => file.close().then(() => made('close', async () => undefined)),
    };
  }

  return {
    calls,
    prepare: (directory) => made('prepare', () => real.prepare(directory)),
    look: (path) => made('look', () => real.look(path)),
    list: (directory) => made('list', () => real.list(directory)),
    create: async (path) => {
      let file: StoreFile | undefined;
      try {
        return await made('create', async () => {
          file = await real.create(path);
          return fileOf(file);
        });
      } catch (error) {
        await file?.close();
        throw error;
      }
    },
    open: async (path) => {
      const file = await made('open', () => real.open(path));
      return file && fileOf(file);
    },
    link: (from, to) => made('link', () => real.link(from, to)),
    remove: (path) => made('remove', () => real.remove(path)),
    syncDirectory: (directory) => made('syncDirectory', () => real.syncDirectory(directory)),
  };
}
