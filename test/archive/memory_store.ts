import { WalError } from '../../src/api/errors.js';
import type {
  ArchiveStore,
  ListOptions,
  ListPage,
  PutOptions,
  StoreCallOptions,
} from '../../src/archive/store.js';
import { gathered } from './objects.js';

export type StoreCall = 'put' | 'get' | 'list' | 'delete';

/** What object storage does, in memory; `before` is asked at each call, and may fail or hang. */
export class MemoryStore implements ArchiveStore {
  readonly description = 'memory';
  readonly objects = new Map<string, Buffer>();
  readonly calls: string[] = [];
  /** Names on a page. */
  pageNames = 3;
  before: (call: StoreCall, name: string, signal: AbortSignal) => unknown = () => undefined;
  /** Of what is put, after it was stored. */
  after: (name: string) => unknown = () => undefined;

  async put(
    name: string,
    content: AsyncIterable<Uint8Array>,
    { signal }: PutOptions,
  ): Promise<'stored' | 'exists'> {
    await this.#begin('put', name, signal);
    if (this.objects.has(name)) return 'exists';
    const bytes = await gathered(content);
    signal.throwIfAborted();
    if (this.objects.has(name)) return 'exists';
    this.objects.set(name, bytes);
    await this.after(name);
    return 'stored';
  }

  async get(name: string, { signal }: StoreCallOptions): Promise<AsyncIterable<Uint8Array>> {
    await this.#begin('get', name, signal);
    const bytes = this.objects.get(name);
    if (bytes === undefined) throw new WalError('WAL_NOT_FOUND', `there is no ${name}`);
    return (async function* () {
      for (let at = 0; at < bytes.length; at += 1000) yield bytes.subarray(at, at + 1000);
    })();
  }

  async list(prefix: string, { after = '', signal }: ListOptions): Promise<ListPage> {
    await this.#begin('list', prefix, signal);
    const all = [...this.objects.keys()].filter((name) => name.startsWith(prefix) && name > after);
    const names = all.sort().slice(0, this.pageNames);
    return { names, next: names.length < all.length ? names.at(-1) : undefined };
  }

  async delete(name: string, { signal }: StoreCallOptions): Promise<void> {
    await this.#begin('delete', name, signal);
    this.objects.delete(name);
  }

  async #begin(call: StoreCall, name: string, signal: AbortSignal): Promise<void> {
    this.calls.push(`${call} ${name}`);
    signal.throwIfAborted();
    await this.before(call, name, signal);
  }
}
