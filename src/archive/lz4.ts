/** The part of lz4-napi that is used: LZ4 blocks, with the raw length before them, in a thread. */
interface Lz4 {
  compress(data: Uint8Array): Promise<Buffer>;
  uncompress(data: Uint8Array): Promise<Buffer>;
}

let loaded: Promise<Lz4> | undefined;

/** Loaded at the first call and not at import. */
function load(): Promise<Lz4> {
  loaded ??= import('lz4-napi').then(
    (module) => ('default' in module ? module.default : module) as Lz4,
  );
  return loaded;
}

/** Bytes before a block, in which lz4-napi keeps its raw length. */
export const lengthBytes = 4;

/** One LZ4 block of these bytes, which must not change meanwhile. */
export async function compressBlock(raw: Uint8Array): Promise<Buffer> {
  const { compress } = await load();
  return (await compress(raw)).subarray(lengthBytes);
}

/**
 * The raw bytes of a block. `framed` has room for the length before the block: what lz4-napi finds
 * there it allocates, so that nothing but a checked length may ever stand there. Rejects where the
 * block is not one of exactly `rawBytes`.
 */
export async function uncompressBlock(framed: Buffer, rawBytes: number): Promise<Buffer> {
  const { uncompress } = await load();
  framed.writeUInt32LE(rawBytes, 0);
  const raw = await uncompress(framed);
  if (raw.length !== rawBytes) throw new Error('a block is shorter than it says');
  return raw;
}
