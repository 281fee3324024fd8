import { constants } from 'node:fs';
import { mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { WalError } from '../api/errors.js';
import type { Seen, SeenRecord } from './seen.js';

/** Keeps what was seen of a referee over restarts of this process. */
export interface RefereeMemory {
  load(): Promise<Seen | undefined>;
  /** Durable when it resolves. */
  store(seen: Seen): Promise<void>;
  clear(): Promise<void>;
}

/**
 * In a file of this node, which is replaced as a whole. Its directory is created, mode 0700. The
 * calls must not overlap.
 */
export class FileMemory implements RefereeMemory {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  /** Throws WAL_CORRUPT for a file that does not read: what was seen must not be forgotten so. */
  async load(): Promise<Seen | undefined> {
    let text: string;
    try {
      text = await readWhole(this.#path);
    } catch (error) {
      if ((error as { code?: unknown }).code === 'ENOENT') return undefined;
      throw io(error, this.#path);
    }
    const seen = parse(text);
    if (seen !== undefined) return seen;
    throw new WalError('WAL_CORRUPT', `${this.#path} does not hold what was seen of a referee`, {
      file: this.#path,
      hint: 'Look at who the primary is, then delete that file.',
    });
  }

  async store(seen: Seen): Promise<void> {
    // Their numbers have 64 bits.
    const text = JSON.stringify(seen, (_, value: unknown) =>
      typeof value === 'bigint' ? `${value}` : value,
    );
    try {
      await replaceFile(this.#path, `${text}\n`);
    } catch (error) {
      throw io(error, this.#path);
    }
  }

  async clear(): Promise<void> {
    await rm(this.#path, { force: true });
  }
}

/** Follows no symbolic link in place of the file. */
export async function readWhole(path: string): Promise<string> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW);
  try {
    return await file.readFile('utf8');
  } finally {
    await file.close();
  }
}

/**
 * Creates a directory with mode 0700, durably. Rejects for one in which others may write, and
 * replace what is in it.
 */
export async function privateDirectory(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true, mode: 0o700 });
  if (first !== undefined) {
    let made = path;
    for (;;) {
      await flushDirectory(dirname(made));
      if (made === first || made === dirname(made)) break;
      made = dirname(made);
    }
  }
  const { mode } = await stat(path);
  // In a sticky one, such as /tmp, others replace nothing.
  const areOthers = (mode & 0o022) !== 0 && (mode & 0o1000) === 0;
  if (areOthers) throw new Error(`others may write in ${path}: take their permission away`);
}

/** Writes a file anew so that a crash leaves the old one or the new one, and flushes it. */
export async function replaceFile(path: string, text: string): Promise<void> {
  const directory = dirname(path);
  await privateDirectory(directory);
  const fresh = `${path}.new`;
  // Of a crash, or a link that somebody has put there.
  await rm(fresh, { force: true });
  const file = await open(fresh, 'wx', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(fresh, path);
  await flushDirectory(directory);
}

async function flushDirectory(path: string): Promise<void> {
  const names = await open(path, 'r');
  try {
    await names.sync();
  } finally {
    await names.close();
  }
}

function parse(text: string): Seen | undefined {
  try {
    const raw = JSON.parse(text) as Record<keyof Seen, unknown>;
    const { origin, epoch } = raw;
    if (typeof origin !== 'string' || !Number.isSafeInteger(epoch)) return undefined;
    return {
      origin,
      revision: number(raw.revision),
      epoch: epoch as number,
      leader: record(raw.leader),
      rule: record(raw.rule),
    };
  } catch {
    return undefined;
  }
}

function record(value: unknown): SeenRecord {
  const { version, digest } = value as Record<keyof SeenRecord, unknown>;
  if (typeof digest !== 'string') throw new TypeError('no digest');
  return { version: number(version), digest };
}

function number(value: unknown): bigint {
  if (typeof value !== 'string' || !/^\d+$/.test(value)) throw new TypeError('no number');
  return BigInt(value);
}

function io(cause: unknown, file: string): WalError {
  return new WalError('WAL_IO', `${file}: ${(cause as Error).message}`, { cause, file });
}
