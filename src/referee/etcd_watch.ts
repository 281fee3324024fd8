import { setTimeout as sleep } from 'node:timers/promises';
import { CallSignal } from './call_signal.js';
import type { EtcdClient, Json } from './etcd_client.js';

/** What one event may take; longer lines are dropped, since only that there is one counts. */
const maxLineBytes = 1 << 16;

/** A watch that ends at once is not opened again sooner. */
const reopenMs = 1000;

/** From one hint to the next, whatever comes. */
const leastMs = 20;

/** The stream ends when nobody has asked for so long. */
const defaultIdleMs = 5000;

/**
 * A watch over the keys of a group, as a hint to look. It is opened when it is first asked for and
 * anew when it ends, so it needs no revision to go on from, and no compaction harms it: that it has
 * begun is a hint too. A connection that hangs costs the hints, not the looks.
 */
export class EtcdWatch {
  readonly #client: EtcdClient;
  readonly #keys: Json;
  readonly #idleMs: number;
  readonly #closing = new AbortController();
  /** Ends the stream alone. */
  #stream: AbortController | undefined;
  #openedAt = Number.NEGATIVE_INFINITY;
  #isChanged = false;
  #wake: (() => void) | undefined;
  #hintedAt = Number.NEGATIVE_INFINITY;
  #idle: NodeJS.Timeout | undefined;

  constructor(client: EtcdClient, keys: Json, idleMs = defaultIdleMs) {
    this.#idleMs = idleMs;
    this.#client = client;
    this.#keys = keys;
  }

  /** One at a time. */
  async changed(timeoutMs: number, signal?: AbortSignal): Promise<void> {
    clearTimeout(this.#idle);
    this.#open();
    await this.#pause(signal);
    if (!this.#isChanged) await this.#wait(timeoutMs, signal);
    this.#isChanged = false;
    this.#hintedAt = performance.now();
    this.#idle = setTimeout(() => this.#stream?.abort(), this.#idleMs).unref();
  }

  /** A stream that says something all the time is not looked after all the time. */
  async #pause(signal: AbortSignal | undefined): Promise<void> {
    const waitMs = this.#hintedAt + leastMs - performance.now();
    if (!(waitMs > 0)) return;
    const call = new CallSignal([signal, this.#closing.signal]);
    await sleep(waitMs, undefined, { signal: call.signal }).catch(() => undefined);
    call.done();
  }

  close(): void {
    clearTimeout(this.#idle);
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
    if (this.#stream !== undefined || this.#closing.signal.aborted) return;
    const now = performance.now();
    if (now - this.#openedAt < reopenMs) return;
    this.#openedAt = now;
    this.#stream = new AbortController();
    const ends = new CallSignal([this.#closing.signal, this.#stream.signal]);
    this.#follow(ends.signal)
      // It is opened again by the next that asks, who looks meanwhile.
      .catch(() => undefined)
      .finally(() => {
        ends.done();
        this.#stream = undefined;
      });
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const question = { create_request: this.#keys };
    const stream = await this.#client.stream('/v3/watch', question, signal);
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
