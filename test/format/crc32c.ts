import { createRequire } from 'node:module';

/** `crc-32/crc32c` carries no types, and its main export is another polynomial. */
interface Crc32cModule {
  readonly buf: (data: Uint8Array, seed?: number) => number;
}

const oracle = createRequire(import.meta.url)('crc-32/crc32c') as Crc32cModule;

/** CRC32C of the bytes, unsigned; `seed` is the crc of the bytes before them. */
export function crc32c(data: Uint8Array, seed = 0): number {
  return oracle.buf(data, seed | 0) >>> 0;
}
