import type { EtcdClient, Json } from './etcd_client.js';

/** What one event may take; longer lines are dropped, since only that there is one counts. */
const maxLineBytes = 1 << 16;

/** A watch that ends at once is not opened again sooner. */
const reopenMs = 1000;

/**
 * A watch over the keys of a group, as a hint to look. It is opened when it is first asked for and
 * anew when it ends, so it needs no revision to go on from, and no compaction harms it: that it has
 * begun is a hint too. A connection that hangs costs the hints, not the looks.
 */
export class EtcdWatch {
  readonly #client: EtcdClient;
  readonly #keys: Json;
  readonly #closing = new AbortController();
  #isOpen = false;
  #openedAt = Number.NEGATIVE_INFINITY;
  #isChanged = false;
  #wake: (() => void) | undefined;

  constructor(client: EtcdClient, keys: Json) {
    this.#client = client;
    this.#keys = keys;
  }

  /** One at a time. */
  async changed(timeoutMs: number, signal?: AbortSignal): Promise<void> {
    this.#open();
    if (!this.#isChanged) await this.#wait(timeoutMs, signal);
    this.#isChanged = false;
  }

  close(): void {
    this.#closing.abort();
    this.#wake?.();
  }

  #wait(timeoutMs: number, signal: AbortSignal | undefined): Promise<void> {
    if (signal?.aborted === true || this.#closing.signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', wake);
        this.#wake = undefined;
        resolve();
      };
      const timer = setTimeout(wake, timeoutMs);
      signal?.addEventListener('abort', wake);
      this.#wake = wake;
    });
  }

  #open(): void {
    if (this.#isOpen || this.#closing.signal.aborted) return;
    const now = performance.now();
    if (now - this.#openedAt < reopenMs) return;
    this.#openedAt = now;
    this.#isOpen = true;
    this.#follow()
      // It is opened again by the next that asks, who looks meanwhile.
      .catch(() => undefined)
      .finally(() => {
        this.#isOpen = false;
      });
  }

  async #follow(): Promise<void> {
    const question = { create_request: this.#keys };
    const stream = await this.#client.stream('/v3/watch', question, this.#closing.signal);
    let line = '';
    for await (const part of stream as AsyncIterable<Buffer>) {
      line += part.toString('latin1');
      if (line.length > maxLineBytes || line.includes('\n')) {
        line = line.slice(line.lastIndexOf('\n') + 1).slice(-maxLineBytes);
        this.#isChanged = true;
        this.#wake?.();
      }
    }
  }
}
