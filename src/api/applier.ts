import type { Batch } from './batch.js';
import type { LogCore } from './core.js';
import { WalError } from './errors.js';
import { type ReadRequest, readRequest } from './read_options.js';
import type { Reading } from './record_source.js';
import * as check from './validate.js';

/** The running applier of a log, as `Log.apply` returns it. */
export interface Applier {
  /**
   * Resolves when the applier was stopped or the log was closed; not while a snapshot waits for the
   * first piece of the state. Rejects with what the callback threw, or with the failure of the log.
   */
  readonly done: Promise<void>;
  /** LSN of the last record that was applied. */
  readonly appliedLsn: number;
  /** Takes no further batch; resolves as `done` does, when a running callback has ended. */
  stop(): Promise<void>;
}

export type ApplyFunction = (batch: Batch) => unknown;

/** Options of `apply`. */
export interface ApplyOptions {
  /** First LSN that the application has not got yet. Default: behind the loaded snapshot, or 1. */
  readonly from?: number;
  readonly signal?: AbortSignal;
}

/** Checks the arguments of `apply`: what it reads. */
export function applyRequest(
  options: unknown,
  apply: unknown,
  snapshots?: { readonly readFrom: number | undefined },
): ReadRequest {
  const raw = check.optionsObject(options, 'apply', ['from', 'signal']);
  check.callback(apply, 'apply(options, fn)');
  return readRequest({ ...raw, from: raw.from ?? snapshots?.readFrom });
}

export function hasApplier(): TypeError {
  return new TypeError('the log has an applier already; await its stop() first');
}

/** The applier of this log from now on. */
export function startApplier(
  core: LogCore,
  reading: Reading,
  apply: ApplyFunction,
  { from, signal }: ReadRequest,
): RunningApplier {
  const onApplied = (): void => core.appliedMoved();
  core.applier = new RunningApplier(reading, from, apply, onApplied, signal);
  core.appliedMoved();
  return core.applier;
}

/** Feeds a callback, one batch after the other: a batch is applied when its promise resolves. */
export class RunningApplier implements Applier {
  readonly done: Promise<void>;
  readonly #reader: Reading;
  readonly #signal: AbortSignal | undefined;
  readonly #onApplied: () => void;
  #appliedLsn: number;
  #stopped = false;
  #ended = false;
  #error: unknown;
  /** A batch past it, which is being applied, is of a history that was cut. */
  #bound = Number.POSITIVE_INFINITY;
  #wasCut = false;
  #takenLsn: number;
  #isApplying = false;
  /** The end of the batch that is being applied, where somebody waits for it. */
  #applied: { readonly ends: Promise<void>; readonly end: () => void } | undefined;
  /** Others that are let in between two batches; the last one of them. */
  #visit: Promise<unknown> | undefined;

  constructor(
    reader: Reading,
    from: number,
    apply: ApplyFunction,
    onApplied: () => void,
    signal: AbortSignal | undefined,
  ) {
    this.#reader = reader;
    this.#appliedLsn = from - 1;
    this.#takenLsn = from - 1;
    this.#onApplied = onApplied;
    this.#signal = signal;
    this.done = this.#run(apply);
  }

  get appliedLsn(): number {
    return this.#appliedLsn;
  }

  /** Whether it takes no more. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Why it ended, unless it was asked to. */
  get error(): unknown {
    return this.#error;
  }

  /** The log was cut behind this record: what lies past it is not what was applied. */
  cutAt(lsn: number): void {
    this.#wasCut = true;
    this.#bound = Math.min(this.#bound, lsn);
    this.#appliedLsn = Math.min(this.#appliedLsn, lsn);
  }

  /** Where it has had a record past this one, which was cut: when it has ended over that. */
  async endOf(lsn: number): Promise<void> {
    const taken = Math.max(this.#takenLsn, this.#reader.sentLsn ?? 0);
    // One that was begun since has had nothing of what went: it goes on.
    if (this.#wasCut && taken > lsn) await this.done.catch(() => undefined);
  }

  /** Does this while no batch is being applied; the next one waits for what it returns. */
  between<T>(work: () => Promise<T>): Promise<T> {
    if (this.#isApplying) this.#applied ??= ending();
    const free = this.#visit ?? this.#applied?.ends ?? Promise.resolve();
    const visit = free.then(() => {
      // Of the batch that it failed in, some may be applied.
      if (this.#error !== undefined) throw this.#error;
      return work();
    });
    const settled = visit.then(noop, noop);
    this.#visit = settled;
    void settled.then(() => {
      if (this.#visit === settled) this.#visit = undefined;
    });
    return visit;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#reader.return();
    await this.done.catch(() => undefined);
  }

  async #run(apply: ApplyFunction): Promise<void> {
    try {
      for (;;) {
        const { done, value: batch } = await this.#reader.next();
        if (done === true) return;
        this.#bound = Number.POSITIVE_INFINITY;
        this.#takenLsn = batch.lastLsn;
        const isHeldUp = this.#visit !== undefined;
        while (this.#visit !== undefined) await this.#visit;
        if (isHeldUp && this.#stopped) return;
        // Cut away meanwhile: the next reading tells.
        if (batch.lastLsn > this.#bound) continue;
        this.#isApplying = true;
        await apply(batch);
        if (batch.lastLsn <= this.#bound) this.#appliedLsn = batch.lastLsn;
        this.#endApplying();
        if (batch.lastLsn <= this.#bound) this.#onApplied();
      }
    } catch (error) {
      if (this.#expected(error)) return;
      this.#error = error;
      throw error;
    } finally {
      this.#endApplying();
      void this.#reader.return();
      // Whoever is let in has the state to himself, also where another applier would begin.
      while (this.#visit !== undefined) await this.#visit;
      this.#ended = true;
      this.#onApplied();
    }
  }

  #endApplying(): void {
    this.#isApplying = false;
    this.#applied?.end();
    this.#applied = undefined;
  }

  /** The ends that were asked for: by `stop`, by the signal, by closing the log. */
  #expected(error: unknown): boolean {
    if (this.#stopped) return true;
    if (this.#signal?.aborted === true && error === this.#signal.reason) return true;
    return error instanceof WalError && error.code === 'WAL_CLOSED';
  }
}

function ending(): { readonly ends: Promise<void>; readonly end: () => void } {
  let end: () => void = noop;
  const ends = new Promise<void>((resolve) => {
    end = resolve;
  });
  return { ends, end };
}

function noop(): void {}
