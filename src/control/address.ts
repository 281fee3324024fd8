import { closeSync, constants, openSync } from 'node:fs';
import { join } from 'node:path';

/** Name of the control socket in a log directory. */
export const CONTROL_SOCKET = 'control.sock';

/** A request is one JSON line of at most this many bytes, without its newline. */
export const MAX_REQUEST_BYTES = 64 * 1024;

/** An answer is one JSON line of at most this many bytes, without its newline. */
export const MAX_ANSWER_BYTES = 4 * 1024 * 1024;

/** `sun_path` of Linux holds 108 bytes, the closing zero included. */
const MAX_ADDRESS_BYTES = 107;

export interface SocketAddress {
  readonly path: string;
  /** Lets go of the directory; the address means nothing afterwards. */
  release(): void;
}

/**
 * An address for `name` in `dir` that surely fits a socket address. Node 20 cuts a longer one
 * without a word, and would then bind or reach another file; so a long one goes through an opened
 * directory.
 */
export function socketAddress(dir: string, name: string): SocketAddress {
  const path = join(dir, name);
  if (Buffer.byteLength(path) <= MAX_ADDRESS_BYTES) return { path, release: () => {} };
  const fd = openSync(dir, constants.O_RDONLY | constants.O_DIRECTORY);
  let open = true;
  return {
    path: `/proc/self/fd/${fd}/${name}`,
    release: () => {
      if (open) closeSync(fd);
      open = false;
    },
  };
}
