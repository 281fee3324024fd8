import { WalError } from '../api/errors.js';
import type { RefereeMemory } from '../referee/memory.js';
import type { MemoryStore } from '../referee/memory_store.js';
import type { RecordName } from '../referee/records.js';
import type { Seen } from '../referee/seen.js';
import type { Expected, RefereeStore, Snapshot, StoreLease, Write } from '../referee/store.js';

/** What a machine is to its way to the referee. */
export interface AskingMachine {
  readonly life: number;
  readonly isOn: boolean;
  /** Another with each life; what was asked in an earlier one is answered to nobody. */
  after(ms: number, run: () => void): void;
  schedule(ms: number, run: () => void): { cancel(): void };
  /** Runs it when this life of it ends; what it gives back calls that off. */
  atEnd(run: () => void): () => void;
}

/** The way there and back, as it is at the moment. */
export interface Way {
  readonly store: MemoryStore;
  /** Whether a question that is sent now arrives. */
  readonly isReached: boolean;
  /** Whether an answer that is sent now does. */
  readonly isAnswered: boolean;
  /** Whether changes are told. */
  readonly tells: boolean;
  /** Milliseconds, drawn for each message. */
  delay(): number;
  /** Runs it at the referee, which runs whatever becomes of machines. */
  there(ms: number, run: () => void): void;
  note(what: string, detail: number): void;
}

/** The store as one machine reaches it, or does not: SAFETY 4.3 counts from the sending. */
export class RefereePath implements RefereeStore {
  readonly #machine: AskingMachine;
  readonly #way: Way;
  readonly #callTimeoutMs: number;
  readonly #life: number;

  constructor(machine: AskingMachine, way: Way, callTimeoutMs: number) {
    this.#machine = machine;
    this.#life = machine.life;
    this.#way = way;
    this.#callTimeoutMs = callTimeoutMs;
  }

  read(signal?: AbortSignal): Promise<Snapshot> {
    return this.#ask(signal, (store) => store.read());
  }

  commit(
    expected: Expected,
    writes: Partial<Record<RecordName, Write>>,
    signal?: AbortSignal,
  ): Promise<{ readonly applied: boolean; readonly snapshot: Snapshot }> {
    return this.#ask(signal, (store) => store.commit(expected, writes));
  }

  grant(ttlMs: number, signal?: AbortSignal): Promise<StoreLease> {
    return this.#ask(signal, (store) => store.grant(ttlMs));
  }

  renew(
    lease: string,
    signal?: AbortSignal,
  ): Promise<{ readonly ttlMs: number; readonly snapshot: Snapshot } | undefined> {
    return this.#ask(signal, (store) => store.renew(lease));
  }

  revoke(lease: string, signal?: AbortSignal): Promise<void> {
    return this.#ask(signal, (store) => store.revoke(lease));
  }

  changed(timeoutMs: number, signal?: AbortSignal): Promise<void> {
    if (this.#isOver) return never();
    return new Promise((resolve) => {
      const done = (): void => {
        late.cancel();
        unheard();
        resolve();
      };
      const unheard = onAbort(signal, this.#machine, done);
      const late = this.#machine.schedule(timeoutMs, done);
      void this.#way.store.nextChange.then(() => {
        if (this.#way.tells && this.#way.isAnswered) this.#machine.after(this.#way.delay(), done);
      });
    });
  }

  close(): void {}

  /** Who asks went with its machine: nothing that it asks is sent, nothing reaches it. */
  get #isOver(): boolean {
    return this.#machine.life !== this.#life || !this.#machine.isOn;
  }

  #ask<Result>(
    signal: AbortSignal | undefined,
    question: (store: MemoryStore) => Promise<Result>,
  ): Promise<Result> {
    const way = this.#way;
    if (this.#isOver) return never();
    return new Promise((resolve, reject) => {
      if (signal?.aborted === true) {
        reject(signal.reason);
        return;
      }
      const over = (settle: () => void): void => {
        timer.cancel();
        unheard();
        settle();
      };
      const unheard = onAbort(signal, this.#machine, () => over(() => reject(signal?.reason)));
      const late = new WalError('WAL_REFEREE_AWAY', `no answer within ${this.#callTimeoutMs} ms`);
      const timer = this.#machine.schedule(this.#callTimeoutMs, () => over(() => reject(late)));
      if (!way.isReached) return;
      way.there(way.delay(), () => {
        way.note('referee', 0);
        // It is answered in this turn: the store only looks at its memory.
        question(way.store).then(
          (answer) => {
            if (!way.isAnswered || this.#isOver) return;
            this.#machine.after(way.delay(), () => over(() => resolve(answer)));
          },
          (error: unknown) => {
            if (this.#isOver) return;
            this.#machine.after(way.delay(), () => over(() => reject(error)));
          },
        );
      });
    });
  }
}

/**
 * Runs it when the signal is aborted, which Node keeps while somebody listens: on a machine that
 * has gone off nobody would ever stop, so that all of it would stay in memory.
 */
function onAbort(
  signal: AbortSignal | undefined,
  machine: AskingMachine,
  run: () => void,
): () => void {
  if (signal === undefined) return () => undefined;
  signal.addEventListener('abort', run, { once: true });
  const unheard = (): void => signal.removeEventListener('abort', run);
  const forget = machine.atEnd(unheard);
  return () => {
    forget();
    unheard();
  };
}

/** What a machine has seen of the referee, on its disk: it outlives restarts. */
export class DiskMemory implements RefereeMemory {
  #seen: Seen | undefined;
  readonly #flush: () => Promise<void>;

  constructor(flush: () => Promise<void>) {
    this.#flush = flush;
  }

  async load(): Promise<Seen | undefined> {
    return this.#seen;
  }

  async store(seen: Seen): Promise<void> {
    await this.#flush();
    this.#seen = seen;
  }

  async clear(): Promise<void> {
    this.#seen = undefined;
  }
}

function never(): Promise<never> {
  return new Promise(() => undefined);
}
