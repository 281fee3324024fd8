/**
 * Where an archive lies. `DirectoryStore` is one; object storage fits as well. Names are made by
 * the engine, of hexadecimal digits, `-`, `/` and a suffix, and mean nothing to the store.
 *
 * A store is used by several nodes at once. No call is given another one's time: each ends soon
 * after its signal is aborted, whatever the store is at.
 */
export interface ArchiveStore {
  /** For messages and the status: which store it is. Holds no secret. */
  readonly description: string;
  /**
   * Stores an object, unless there is one of that name: whole or not at all, and never over
   * another. When it resolves with 'stored' the object is durable, and every later `get` and
   * `list` finds it; with 'exists' the one that is there is. The content is read once, in order,
   * as fast as it can be stored, and not necessarily to its end where the object exists. A piece
   * is to be used before the next one is asked for: its memory is used again. An error of the
   * content is what it rejects with, and nothing of that name is left.
   */
  put(
    name: string,
    content: AsyncIterable<Uint8Array>,
    options: PutOptions,
  ): Promise<'stored' | 'exists'>;
  /** The content of an object, piece by piece. Rejects with WAL_NOT_FOUND where there is none. */
  get(name: string, options: StoreCallOptions): Promise<AsyncIterable<Uint8Array>>;
  /**
   * Names that begin with `prefix` and come behind `after`, by the order of their bytes: a page of
   * them, of a length that the store chooses. Objects that are not whole are not among them.
   */
  list(prefix: string, options: ListOptions): Promise<ListPage>;
  /** Removes an object; nothing where there is none. Durable when it resolves. */
  delete(name: string, options: StoreCallOptions): Promise<void>;
}

export interface StoreCallOptions {
  readonly signal: AbortSignal;
}

export interface PutOptions extends StoreCallOptions {
  /**
   * Id of the node that stores it, 32 hexadecimal digits. What an earlier `put` of that node left
   * unfinished may be removed: it has one at a time.
   */
  readonly by: string;
}

export interface ListOptions extends StoreCallOptions {
  /** A text, not necessarily a name that exists. Default: from the first one on. */
  readonly after?: string | undefined;
}

export interface ListPage {
  readonly names: readonly string[];
  /** What to pass as `after` for the next page; undefined: this was the last one. */
  readonly next: string | undefined;
}
