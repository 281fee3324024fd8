import { constants } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Larger ones are none of ours. */
const maxBytes = 1024 * 1024;

/** What it takes to replace a small file so that a crash leaves the old one or the new one. */
export interface SmallFiles {
  /** Follows no symbolic link in place of the file. undefined: there is none. */
  read(path: string): Promise<Uint8Array | undefined>;
  /** Makes a file that nobody but its owner may read, in place of what has the name, flushed. */
  write(path: string, bytes: Uint8Array): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  /** What was renamed in this directory stays so. */
  flushDirectory(path: string): Promise<void>;
}

/** Durable when it resolves; when it rejects, the file is the old one or the new one. */
export async function replaceFile(
  files: SmallFiles,
  path: string,
  bytes: Uint8Array,
): Promise<void> {
  const fresh = `${path}.new`;
  await files.write(fresh, bytes);
  await files.rename(fresh, path);
  await files.flushDirectory(dirname(path));
}

export const realFiles: SmallFiles = {
  read: async (path) => {
    let file: Awaited<ReturnType<typeof open>>;
    try {
      file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    } catch (error) {
      if ((error as { code?: unknown }).code === 'ENOENT') return undefined;
      throw error;
    }
    try {
      const stat = await file.stat();
      if (!stat.isFile()) throw new Error(`${path} is no file`);
      const { size } = stat;
      if (size > maxBytes) throw new Error(`${path} is too large: ${size} bytes`);
      return await file.readFile();
    } finally {
      await file.close();
    }
  },
  write: async (path, bytes) => {
    // Of a crash, or a link that somebody has put there.
    await rm(path, { force: true });
    const file = await open(path, 'wx', 0o600);
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
  },
  rename: (from, to) => rename(from, to),
  flushDirectory: async (path) => {
    const names = await open(path, 'r');
    try {
      await names.sync();
    } finally {
      await names.close();
    }
  },
};
