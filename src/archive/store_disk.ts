import { constants, type Stats } from 'node:fs';
import { type FileHandle, link, lstat, mkdir, open, readdir, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';

/** An open file of an archive. */
export interface StoreFile {
  /** All of the bytes, or an error. */
  write(bytes: Uint8Array, position: number): Promise<void>;
  /** How many were read: fewer than asked for only at the end of the file. */
  read(buffer: Uint8Array, position: number): Promise<number>;
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** The calls of the file system that a `DirectoryStore` makes: a test gives one that fails. */
export interface StoreDisk {
  /** Makes the directory where there is none. Refuses what is none, and what others may write. */
  prepare(directory: string): Promise<void>;
  /** What has that name. Refuses what is neither, a link to one too. */
  look(path: string): Promise<'file' | 'directory' | 'nothing'>;
  /** Names in it. */
  list(directory: string): Promise<readonly string[]>;
  /** A new file that only this user may read. Fails where there is anything of that name. */
  create(path: string): Promise<StoreFile>;
  /** For reading: a plain file, not a link to one; undefined where there is nothing. */
  open(path: string): Promise<StoreFile | undefined>;
  /** A second name for the file. false: there is something of that name. */
  link(from: string, to: string): Promise<boolean>;
  /** Nothing where there is none. */
  remove(path: string): Promise<void>;
  syncDirectory(directory: string): Promise<void>;
}

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_WRONLY } = constants;

/** The real one. */
export const processStoreDisk: StoreDisk = {
  async prepare(directory) {
    try {
      await mkdir(directory, { mode: 0o700 });
    } catch (error) {
      if (!isCode(error, 'EEXIST')) throw error;
      requirePrivate(await lstat(directory), directory);
    }
    // Also where it was there: whoever made it may have been lost before.
    await syncDirectory(dirname(directory));
  },
  async look(path) {
    try {
      const stats = await lstat(path);
      if (stats.isFile()) return 'file';
      if (stats.isDirectory()) return 'directory';
    } catch (error) {
      if (isCode(error, 'ENOENT')) return 'nothing';
      throw error;
    }
    throw new Error(`${path} is neither a plain file nor a directory`);
  },
  list: (directory) => readdir(directory),
  async create(path) {
    return fileOf(await open(path, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY, 0o600));
  },
  async open(path) {
    let handle: FileHandle;
    try {
      // Of what is no plain file an opening could wait for ever.
      handle = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    } catch (error) {
      if (isCode(error, 'ENOENT')) return undefined;
      throw error;
    }
    if ((await handle.stat()).isFile()) return fileOf(handle);
    await handle.close();
    throw new Error(`${path} is no plain file`);
  },
  async link(from, to) {
    try {
      await link(from, to);
      return true;
    } catch (error) {
      if (isCode(error, 'EEXIST')) return false;
      throw error;
    }
  },
  async remove(path) {
    try {
      await unlink(path);
    } catch (error) {
      if (!isCode(error, 'ENOENT')) throw error;
    }
  },
  syncDirectory,
};

function requirePrivate(stats: Stats, directory: string): void {
  if (!stats.isDirectory()) throw new Error(`${directory} is no directory`);
  if ((stats.mode & 0o022) === 0) return;
  throw new Error(`others may write ${directory}: run \`chmod go-w\` on it`);
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, O_RDONLY | O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function fileOf(handle: FileHandle): StoreFile {
  return {
    async write(bytes, position) {
      for (let done = 0; done < bytes.length; ) {
        const rest = bytes.length - done;
        const { bytesWritten } = await handle.write(bytes, done, rest, position + done);
        if (bytesWritten === 0) throw new Error('the file system writes nothing');
        done += bytesWritten;
      }
    },
    async read(buffer, position) {
      let done = 0;
      while (done < buffer.length) {
        const rest = buffer.length - done;
        const { bytesRead } = await handle.read(buffer, done, rest, position + done);
        if (bytesRead === 0) break;
        done += bytesRead;
      }
      return done;
    },
    sync: () => handle.sync(),
    close: () => handle.close(),
  };
}

function isCode(error: unknown, code: string): boolean {
  return (error as { code?: unknown } | null)?.code === code;
}
