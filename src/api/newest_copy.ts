import { loadBinding } from '../native/binding.js';
import type { NativeReader } from '../native/native_log.js';

export interface NewestCopy {
  readonly dir: string;
  readonly reader: NativeReader;
}

/**
 * Opens, to read it, the directory whose copy of the log counts: of the newest generation the
 * longest. Directories that cannot be read are passed over while one can. The caller closes the
 * reader.
 */
export async function openNewest(dirs: readonly string[]): Promise<NewestCopy> {
  const binding = loadBinding();
  const [only] = dirs;
  if (dirs.length === 1 && only !== undefined) {
    return { dir: only, reader: await binding.openReader(only) };
  }
  let newest: (NewestCopy & { readonly rank: readonly [number, number] }) | undefined;
  let failure: unknown;
  for (const dir of dirs) {
    let reader: NativeReader | undefined;
    try {
      reader = await binding.openReader(dir);
      const rank = [reader.info().generation ?? 0, (await reader.refresh()).position] as const;
      if (newest !== undefined && !isNewer(rank, newest.rank)) {
        reader.close();
        continue;
      }
      newest?.reader.close();
      newest = { dir, reader, rank };
    } catch (error) {
      reader?.close();
      failure ??= error;
    }
  }
  if (newest === undefined) throw failure;
  return newest;
}

function isNewer(
  [generation, position]: readonly [number, number],
  [other, otherPosition]: readonly [number, number],
): boolean {
  return generation === other ? position > otherPosition : generation > other;
}
