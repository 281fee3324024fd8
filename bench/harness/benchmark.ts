import type { Floors } from '../floors/floors.js';
import type { Directories } from './directories.js';
import type { Plan } from './plan.js';
import type { Row } from './row.js';

export interface Context {
  readonly plan: Plan;
  readonly floors: Floors;
  readonly directories: Directories;
}

/** Measures one row or several that fall out of the same run. */
export interface Benchmark {
  readonly rows: readonly string[];
  run(context: Context): Promise<readonly Row[]>;
}

/** Runs with a fresh directory that is gone afterwards. */
export async function withDirectory<T>(
  { directories }: Context,
  name: string,
  run: (directory: string) => Promise<T>,
): Promise<T> {
  const directory = await directories.make(name);
  try {
    return await run(directory);
  } finally {
    await directories.remove(directory);
  }
}
