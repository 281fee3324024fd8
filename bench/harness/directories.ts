import { rmSync } from 'node:fs';
import { mkdir, mkdtemp, rm, rmdir } from 'node:fs/promises';
import path from 'node:path';

/**
 * Where the benchmarks write: a real disk, so never the system's temporary directory, which is
 * memory on many machines. Everything in it is removed at the end.
 */
export class Directories {
  readonly #base: string;
  readonly #own: boolean;
  #root: string | undefined;

  constructor(repository: string) {
    const asked = process.env.WALMIRROR_BENCH_DIR;
    this.#own = asked === undefined;
    this.#base = asked ?? path.join(repository, '.tmp-bench');
  }

  async make(name: string): Promise<string> {
    await mkdir(this.#base, { recursive: true });
    this.#root ??= await this.#makeRoot();
    return await mkdtemp(path.join(this.#root, `${name}-`));
  }

  async #makeRoot(): Promise<string> {
    const root = await mkdtemp(path.join(this.#base, 'run-'));
    // Also when the run is cut short.
    process.once('exit', () => rmSync(root, { recursive: true, force: true }));
    return root;
  }

  async remove(directory: string): Promise<void> {
    await rm(directory, { recursive: true, force: true });
  }

  async removeAll(): Promise<void> {
    if (this.#root === undefined) return;
    await this.remove(this.#root);
    this.#root = undefined;
    // Another run may still use the base.
    if (this.#own) await rmdir(this.#base).catch(() => undefined);
  }
}
