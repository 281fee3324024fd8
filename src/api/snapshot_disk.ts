import { constants, type Stats } from 'node:fs';
import { type FileHandle, lstat, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** An open file of a snapshot. */
export interface SnapshotFile {
  /** All of the bytes, or an error. */
  write(bytes: Uint8Array, position: number): Promise<void>;
  /** How many were read: fewer than asked for only at the end of the file. */
  read(buffer: Uint8Array, position: number): Promise<number>;
  size(): Promise<number>;
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** The calls of the file system that snapshots need: a test gives one that fails. */
export interface SnapshotDisk {
  /** Makes the directory where there is none. Refuses what is no directory, or a link to one. */
  prepare(directory: string): Promise<void>;
  /** Names in it; none where there is no directory. */
  list(directory: string): Promise<readonly string[]>;
  /** A new file that only this user may read. Fails where there is anything of that name. */
  create(path: string): Promise<SnapshotFile>;
  /** For reading: a plain file, not a link to one. */
  open(path: string): Promise<SnapshotFile>;
  /** For reading and writing: a plain file that is there, not a link to one. */
  reopen(path: string): Promise<SnapshotFile>;
  rename(from: string, to: string): Promise<void>;
  /** It may be gone already. */
  remove(path: string): Promise<void>;
  syncDirectory(directory: string): Promise<void>;
}

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY } =
  constants;

/** The real one. */
export const processDisk: SnapshotDisk = {
  async prepare(directory) {
    try {
      await mkdir(directory, { mode: 0o700 });
    } catch (error) {
      if (!isCode(error, 'EEXIST')) throw error;
      requireDirectory(await lstat(directory), directory);
    }
    // Also where it was there: whoever made it may have been lost before.
    await syncDirectory(dirname(directory));
  },
  async list(directory) {
    try {
      requireDirectory(await lstat(directory), directory);
    } catch (error) {
      if (isCode(error, 'ENOENT')) return [];
      throw error;
    }
    return readdir(directory);
  },
  async create(path) {
    return fileOf(await open(path, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY, 0o600));
  },
  async open(path) {
    // Of what is no plain file an opening could wait for ever.
    return plainFile(await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK), path);
  },
  async reopen(path) {
    return plainFile(await open(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK), path);
  },
  rename: (from, to) => rename(from, to),
  remove: (path) => rm(path, { force: true }),
  syncDirectory,
};

async function plainFile(handle: FileHandle, path: string): Promise<SnapshotFile> {
  if ((await handle.stat()).isFile()) return fileOf(handle);
  await handle.close();
  throw new Error(`${path} is no plain file`);
}

function requireDirectory(stats: Stats, directory: string): void {
  if (!stats.isDirectory()) throw new Error(`${directory} is no directory`);
}

async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, O_RDONLY | O_DIRECTORY);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function fileOf(handle: FileHandle): SnapshotFile {
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
    size: async () => (await handle.stat()).size,
    sync: () => handle.sync(),
    close: () => handle.close(),
  };
}

function isCode(error: unknown, code: string): boolean {
  return (error as { code?: unknown } | null)?.code === code;
}
