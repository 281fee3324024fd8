import type { Batch } from './batch.js';
import type { ReadRequest } from './read_options.js';
import { rebuildError } from './reader.js';
import { receivedBatches } from './sent_batches.js';
import type { SentBatches } from './thread_calls.js';
import type { ThreadClient } from './thread_client.js';

interface Claim {
  readonly client: ThreadClient;
  readonly id: number;
}

function letGo({ client, id }: Claim): void {
  client.tell({ letGo: id });
}

/** Readings that were dropped in the middle, without `return()`. */
const dropped = new FinalizationRegistry<Claim>(letGo);

/** A reading of the thread of the log. `return()` ends a `next()` that waits. */
export class ThreadedReader implements AsyncIterableIterator<Batch> {
  readonly #claim: Claim;
  readonly #request: ReadRequest;
  readonly #abandoned = new AbortController();
  readonly #signal: AbortSignal;
  #here: Iterator<Batch, undefined> | undefined;
  /** How many cuts that has seen. */
  #cuts = 0;
  #done = false;
  #last: Promise<unknown> = Promise.resolve();

  constructor(client: ThreadClient, request: ReadRequest) {
    const { signal, ...sent } = request;
    this.#request = request;
    const own = this.#abandoned.signal;
    this.#signal = signal === undefined ? own : AbortSignal.any([own, signal]);
    this.#claim = { client, id: client.newId() };
    client.tell({ read: this.#claim.id, request: sent });
    dropped.register(this, this.#claim, this);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** Calls that overlap are answered in order. */
  next(): Promise<IteratorResult<Batch, undefined>> {
    const step = this.#last.then(() => this.#step());
    this.#last = step.catch(() => undefined);
    return step;
  }

  /** Lets the segments go, and ends a pending `next()`. */
  async return(): Promise<IteratorResult<Batch, undefined>> {
    this.#finish();
    return { done: true, value: undefined };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#finish();
  }

  async #step(): Promise<IteratorResult<Batch, undefined>> {
    if (this.#done) return { done: true, value: undefined };
    try {
      this.#request.signal?.throwIfAborted();
      const value = this.#here?.next().value ?? (await this.#ask());
      if (value !== undefined) this.#requireUncut(value);
      if (value !== undefined && !this.#done) return { done: false, value };
      this.#finish();
      return { done: true, value: undefined };
    } catch (error) {
      const abandoned = this.#done;
      this.#finish();
      if (abandoned) return { done: true, value: undefined };
      throw error;
    }
  }

  async #ask(): Promise<Batch | undefined> {
    const { client, id } = this.#claim;
    const ask = { call: 'next', reading: id } as const;
    const sent = (await client.ask(ask, { signal: this.#signal })) as SentBatches | undefined;
    if (sent === undefined) return undefined;
    this.#cuts = sent.cuts;
    this.#here = receivedBatches(sent, this.#request);
    return this.#here.next().value;
  }

  /** What was read ahead counts as handed out: that it is gone has to be heard. */
  #requireUncut(batch: Batch): void {
    const last = this.#claim.client.lastOf(this.#cuts);
    if (batch.lastLsn > last) throw rebuildError(last + 1);
  }

  #finish(): void {
    if (this.#done) return;
    this.#done = true;
    this.#here = undefined;
    dropped.unregister(this);
    letGo(this.#claim);
    this.#abandoned.abort();
  }
}
