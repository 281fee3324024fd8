import { execFile } from 'node:child_process';
import { stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

export interface DurableWrites {
  readonly path: string;
  readonly fileBytes: number;
  readonly blockBytes: number;
  /** One pwritev2 with RWF_DSYNC; else pwrite, then fdatasync. */
  readonly dsync: boolean;
  /** Every block was written before the clock starts; else the file is only allocated. */
  readonly written: boolean;
  /** Ends at whichever comes first; with `written: false` at the end of the file at the latest. */
  readonly seconds: number;
  readonly writes: number;
}

export interface FloorsAddon {
  /** Blocks the calling thread. */
  durableWrites(options: DurableWrites): {
    readonly direct: boolean;
    readonly seconds: number;
    readonly micros: Float32Array;
  };
  empty(): void;
}

/** From bench/dist/floors to bench. */
const directory = fileURLToPath(new URL('../../', import.meta.url));
const binary = `${directory}build/Release/floors.node`;
const sources = ['native/floors.cc', 'binding.gyp'];

/** Builds the addon if it is not there or older than its source. */
export async function loadFloors(): Promise<FloorsAddon> {
  if (!(await isFresh())) await build();
  return createRequire(import.meta.url)(binary) as FloorsAddon;
}

async function isFresh(): Promise<boolean> {
  const built = await stat(binary).catch(() => undefined);
  if (built === undefined) return false;
  const changed = await Promise.all(sources.map((source) => stat(directory + source)));
  return changed.every(({ mtimeMs }) => mtimeMs <= built.mtimeMs);
}

async function build(): Promise<void> {
  // Through npm, so that its configuration (where the Node headers are) reaches node-gyp.
  const command = ['exec', '--no', '--', 'node-gyp', 'rebuild', '-C', directory];
  try {
    await promisify(execFile)('npm', command, { cwd: directory, maxBuffer: 16 * 2 ** 20 });
  } catch (error) {
    const { stderr } = error as { stderr?: string };
    throw new Error(`cannot build bench/native/floors.cc\n${stderr ?? ''}`, { cause: error });
  }
}
