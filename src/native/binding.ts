import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { WalError } from '../api/errors.js';
import type { NativeBinding } from './native_log.js';

/** What `node-gyp-build` gives: it knows where an addon lies in a package, built or prebuilt. */
interface Finder {
  resolve(root: string): string;
}

let loaded: NativeBinding | undefined;

/**
 * The addon, loaded at the first call and not at import, so that importing the package works on
 * every platform. Throws WAL_UNSUPPORTED where there is none.
 */
export function loadBinding(): NativeBinding {
  loaded ??= loadFrom(fileURLToPath(new URL('../..', import.meta.url)));
  return loaded;
}

/** The addon of the package in this folder. Throws WAL_UNSUPPORTED: where it looked, or why not. */
export function loadFrom(root: string): NativeBinding {
  const require = createRequire(import.meta.url);
  if (process.platform !== 'linux') {
    throw unsupported('it is for Linux only', 'Run it on Linux, for instance in a container.');
  }
  let file: string;
  try {
    file = (require('node-gyp-build') as Finder).resolve(root);
  } catch (cause) {
    throw unsupported(`there is neither ${places(root).join(' nor ')}`, compile, cause);
  }
  try {
    return require(file) as NativeBinding;
  } catch (cause) {
    const [reason] = (cause instanceof Error ? cause.message : String(cause)).split('\n');
    // A message of the dynamic loader names the file, one of Node may not.
    throw unsupported(reason?.includes(file) ? reason : `${file}: ${reason}`, compile, cause);
  }
}

const compile =
  'Type `npm rebuild walmirror --ignore-scripts=false`: it compiles that part, with Python 3, ' +
  'make and a C++20 compiler (Debian, Ubuntu: `apt-get install python3 make g++`).';

/** Where an addon that fits is looked for. */
function places(root: string): string[] {
  const prebuilt = `walmirror.${libc()}.node`;
  return [
    join(root, 'build/Release/walmirror.node'),
    join(root, `prebuilds/linux-${process.arch}`, prebuilt),
  ];
}

/** By node-gyp-build's rule, so that the message names what it has looked for. */
function libc(): string {
  return process.env.LIBC ?? (glibcVersion() === undefined ? 'musl' : 'glibc');
}

function glibcVersion(): string | undefined {
  const report = process.report?.getReport() as
    | { readonly header?: { readonly glibcVersionRuntime?: string } }
    | undefined;
  return report?.header?.glibcVersionRuntime;
}

function unsupported(reason: string, hint: string, cause?: unknown): WalError {
  const here = [`${process.platform}-${process.arch}`, `Node ${process.versions.node}`];
  if (process.platform === 'linux') {
    const version = glibcVersion();
    here.push(version === undefined ? 'without glibc' : `glibc ${version}`);
  }
  return new WalError(
    'WAL_UNSUPPORTED',
    `walmirror's native part does not load here (${here.join(', ')}): ${reason}. ` +
      'Supported are Linux on x64 and arm64, with Node 20.19 or later; ' +
      'what is prebuilt needs glibc 2.34 or later',
    { cause, hint },
  );
}
