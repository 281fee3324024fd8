import { closeSync, fstatSync, openSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { UsageError } from './failure.js';

const others = 0o077;
/** Root may share a file with a group, such as the one of a service: as PostgreSQL has it. */
const othersOfRoot = 0o037;
const writableByOthers = 0o022;
const writableByAll = 0o002;
const sticky = 0o1000;

/** Of a file or a directory, what says who may change or read it. */
export interface Ownership {
  readonly mode: number;
  readonly uid: number;
}

/** Reads a file that an option names. `option` as it is typed. */
export function readNamedFile(option: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw unreadable(option, error);
  }
}

/**
 * The same for one that holds a secret: refused where others can read it, or put another one in its
 * place.
 */
export function readPrivateFile(option: string, path: string): Buffer {
  return readGuardedFile(option, path, fileFault);
}

/** The same, without the end of its line. */
export function readSecret(option: string, path: string): Buffer {
  const content = readPrivateFile(option, path);
  const end = /\r?\n$/.exec(content.toString('latin1'))?.[0].length ?? 0;
  return content.subarray(0, content.length - end);
}

/** The same for one that says whom to trust: all may read it, but nobody else write it. */
export function readTrustedFile(option: string, path: string): Buffer {
  return readGuardedFile(option, path, writingFault);
}

function readGuardedFile(option: string, path: string, faultOf: typeof fileFault): Buffer {
  const { content, file } = readWithOwner(option, path);
  const own = process.geteuid?.() ?? 0;
  const fault = faultOf(file, own) ?? directoryFault(directoryOf(option, path), own);
  if (fault === undefined) return content;
  throw new UsageError(`${option}: ${path}: ${fault}`);
}

/** What is looked at is what was read, whatever has the name by then. */
function readWithOwner(option: string, path: string): { content: Buffer; file: Ownership } {
  try {
    const fd = openSync(path, 'r');
    try {
      return { content: readFileSync(fd), file: fstatSync(fd) };
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw unreadable(option, error);
  }
}

function directoryOf(option: string, path: string): Ownership {
  try {
    return statSync(dirname(realpathSync(path)));
  } catch (error) {
    throw unreadable(option, error);
  }
}

function ownerFault(uid: number, own: number): string | undefined {
  if (uid === own || uid === 0) return undefined;
  return `its owner is user ${uid}, neither root nor the one who runs this: chown it`;
}

/** Why others than the user `own` or root may write a file; undefined: nobody may. */
export function writingFault({ mode, uid }: Ownership, own: number): string | undefined {
  const fault = ownerFault(uid, own);
  if (fault !== undefined || (mode & writableByOthers) === 0) return fault;
  return `others than its owner can write it (mode ${shownMode(mode)}): chmod go-w it`;
}

/** Why a file is not private to the user `own`; undefined: it is. */
export function fileFault({ mode, uid }: Ownership, own: number): string | undefined {
  const fault = ownerFault(uid, own);
  if (fault !== undefined) return fault;
  if ((mode & (uid === 0 && own !== 0 ? othersOfRoot : others)) === 0) return undefined;
  return `others than its owner can read it (mode ${shownMode(mode)}): chmod 600 it`;
}

/** The same of its directory: who may write there may put another file in its place. */
export function directoryFault({ mode, uid }: Ownership, own: number): string | undefined {
  if (uid !== own && uid !== 0) {
    return `the owner of its directory is user ${uid}, neither root nor the one who runs this`;
  }
  if ((mode & writableByAll) === 0 || (mode & sticky) !== 0) return undefined;
  return `everybody can write its directory (mode ${shownMode(mode)}): chmod o-w it`;
}

function shownMode(mode: number): string {
  return (mode & 0o7777).toString(8).padStart(4, '0');
}

function unreadable(option: string, error: unknown): UsageError {
  return new UsageError(`${option}: cannot read it: ${(error as Error).message}`);
}
