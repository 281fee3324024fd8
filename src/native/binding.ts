import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { WalError } from '../api/errors.js';
import type { NativeBinding } from './native_log.js';

let loaded: NativeBinding | undefined;

/**
 * The addon, loaded at the first call and not at import, so that importing the package works on
 * every platform. Throws WAL_UNSUPPORTED where there is none.
 */
export function loadBinding(): NativeBinding {
  if (loaded === undefined) {
    const require = createRequire(import.meta.url);
    const load = require('node-gyp-build') as (root: string) => NativeBinding;
    try {
      loaded = load(fileURLToPath(new URL('../..', import.meta.url)));
    } catch (error) {
      throw unsupported(error);
    }
  }
  return loaded;
}

function unsupported(cause: unknown): WalError {
  const here = `${process.platform}-${process.arch}, Node ${process.versions.node}`;
  return new WalError(
    'WAL_UNSUPPORTED',
    `walmirror's native part does not load here (${here}): ${reason(cause)}. ` +
      'Supported are Linux on x64 and arm64, with Node 20.19 or later',
    {
      cause,
      hint:
        process.platform === 'linux'
          ? 'Run `npm rebuild walmirror`; it needs Python 3 and a C++20 compiler.'
          : 'Run it on Linux, for instance in a container.',
    },
  );
}

function reason(cause: unknown): string {
  return (cause instanceof Error ? cause.message : String(cause)).split('\n')[0] ?? '';
}
