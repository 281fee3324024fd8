import type { SmallFiles } from '../transport/small_files.js';

/** Told of each step before it is done; what it throws, the step rejects with. */
export type BeforeStep = (step: 'read' | 'write' | 'rename' | 'flush', path: string) => unknown;

/**
 * Small files in memory, with what a power loss does to them: a file that was written is flushed,
 * but its name, and what was renamed, are there for good only once the directory was flushed.
 */
export class SimulatedFiles implements SmallFiles {
  #names = new Map<string, Uint8Array>();
  #durable = new Map<string, Uint8Array>();
  before: BeforeStep = () => undefined;

  read = async (path: string): Promise<Uint8Array | undefined> => {
    await this.before('read', path);
    return this.#names.get(path);
  };

  write = async (path: string, bytes: Uint8Array): Promise<void> => {
    await this.before('write', path);
    this.#names.set(path, Uint8Array.from(bytes));
  };

  rename = async (from: string, to: string): Promise<void> => {
    await this.before('rename', from);
    const file = this.#names.get(from);
    if (file === undefined) throw new Error(`there is no ${from}`);
    this.#names.delete(from);
    this.#names.set(to, file);
  };

  flushDirectory = async (path: string): Promise<void> => {
    await this.before('flush', path);
    const inside = (name: string): boolean => name.slice(0, name.lastIndexOf('/')) === path;
    for (const name of [...this.#durable.keys()]) if (inside(name)) this.#durable.delete(name);
    for (const [name, file] of this.#names) if (inside(name)) this.#durable.set(name, file);
  };

  /** `lost`: nothing that was not flushed is left; else all of it is. */
  goOff(lost: boolean): void {
    if (lost) this.#names = new Map(this.#durable);
    else this.#durable = new Map(this.#names);
  }

  /** Of a test: what lies there, whoever wrote it. */
  put(path: string, bytes: Uint8Array | undefined): void {
    for (const names of [this.#names, this.#durable]) {
      if (bytes === undefined) names.delete(path);
      else names.set(path, bytes);
    }
  }

  get(path: string): Uint8Array | undefined {
    return this.#names.get(path);
  }
}
