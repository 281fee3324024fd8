import type { Applier, ApplyFunction } from './applier.js';
import { sentError } from './attached_calls.js';
import type { Batch } from './batch.js';
import type { ReadRequest } from './read_options.js';
import { rebuildError } from './reader.js';
import { receivedBatches } from './sent_batches.js';
import type { SentBatches } from './thread_calls.js';
import type { ThreadClient } from './thread_client.js';

/**
 * The applier of a log that has a thread of its own. It is sent what was read there in one go,
 * feeds the callback batch by batch, and says how far it is; the next comes when all is applied.
 */
export class ThreadedApplier implements Applier {
  readonly id: number;
  readonly done: Promise<void>;
  readonly #client: ThreadClient;
  readonly #request: ReadRequest;
  readonly #apply: ApplyFunction;
  readonly #isClosing: () => boolean;
  #appliedLsn: number;
  /** How many cuts that has seen. */
  #cuts: number;
  #running: Promise<void> | undefined;
  #reporting: NodeJS.Immediate | undefined;
  #stopped = false;
  #ended = false;
  #failure: { readonly error: unknown } | undefined;

  constructor(
    client: ThreadClient,
    request: ReadRequest,
    apply: ApplyFunction,
    isClosing: () => boolean,
  ) {
    this.id = client.newId();
    this.#client = client;
    this.#request = request;
    this.#apply = apply;
    this.#isClosing = isClosing;
    this.#appliedLsn = request.from - 1;
    this.#cuts = client.cutCount;
    this.done = this.#run();
  }

  get appliedLsn(): number {
    return Math.min(this.#appliedLsn, this.#client.lastOf(this.#cuts));
  }

  get ended(): boolean {
    return this.#ended;
  }

  async stop(): Promise<void> {
    this.#stopNow();
    await this.done.catch(() => undefined);
  }

  /** What was read comes. */
  heard(batches: SentBatches): void {
    // What the callback does is its own affair.
    this.#client.rest(this.id);
    this.#running = this.#applyAll(batches).finally(() => this.#client.hold(this.id));
  }

  async #run(): Promise<void> {
    const { signal, ...request } = this.#request;
    const onAbort = (): void => this.#stopNow();
    const ended = this.#client.ask({ call: 'apply', request }, { id: this.id });
    if (signal?.aborted === true) onAbort();
    else signal?.addEventListener('abort', onAbort, { once: true });
    try {
      await ended;
    } catch (error) {
      await this.#running;
      if (this.#failure !== undefined) throw this.#failure.error;
      if (!this.#stopped && !this.#isClosing()) throw error;
    } finally {
      this.#ended = true;
      signal?.removeEventListener('abort', onAbort);
    }
  }

  #stopNow(): void {
    if (this.#stopped || this.#ended) return;
    this.#stopped = true;
    this.#client.tell({ stop: this.id });
    this.#client.holdToTheEnd(this.id);
  }

  async #applyAll(sent: SentBatches): Promise<void> {
    for (const batch of receivedBatches(sent, this.#request)) {
      if (this.#stopped || this.#isClosing()) {
        this.#report({ error: undefined });
        return;
      }
      if (this.#isCut(batch, sent)) return;
      try {
        await this.#apply(batch);
      } catch (error) {
        this.#failure = { error };
        this.#report({ error: sentError(error) });
        return;
      }
      if (this.#isCut(batch, sent)) return;
      this.#appliedLsn = batch.lastLsn;
      this.#cuts = sent.cuts;
      this.#reporting ??= setImmediate(() => this.#report());
    }
    this.#report(this.#stopped ? { error: undefined } : undefined);
  }

  /** Then the log, which waits for this, hears that nothing of it is being applied any more. */
  #isCut({ lastLsn }: Batch, { cuts }: SentBatches): boolean {
    const last = this.#client.lastOf(cuts);
    if (lastLsn <= last) return false;
    this.#report({ error: sentError(rebuildError(last + 1)) });
    return true;
  }

  #report(ended?: { readonly error: ReturnType<typeof sentError> | undefined }): void {
    clearImmediate(this.#reporting);
    this.#reporting = undefined;
    const told = { applied: this.id, lsn: this.#appliedLsn };
    this.#client.tell(ended === undefined ? told : { ...told, ended });
  }
}
