import type { CommitResult } from '../replication/commit_waiters.js';
import type { CommitLevel } from '../replication/level.js';
import { type AttachedClient, sharedClock } from './attached_calls.js';
import { WalError } from './errors.js';
import { asUnknown } from './failure.js';
import type { OwnAppends } from './own_appends.js';
import { isRemote } from './policy_options.js';

export type AskedLevel = CommitLevel | 'own';

/**
 * The commits of one who attached. Those of one turn for its own records are asked for together; an
 * LSN that others have appended, or nobody has, is asked for alone, and so is one that is known to
 * be met. When the last who waits for one has gone, it is cancelled at the owner.
 */
export class AttachedCommits {
  readonly #client: AttachedClient;
  readonly #own: OwnAppends;
  /** Those of this turn. */
  readonly #rounds = new Map<AskedLevel, Round>();
  readonly #met = new Map<AskedLevel, number>();
  #flushed = 0;

  constructor(client: AttachedClient, own: OwnAppends) {
    this.#client = client;
    this.#own = own;
  }

  /** LSN up to which a commit has said that all is flushed. */
  get flushed(): number {
    return this.#flushed;
  }

  /** `last`: the last LSN of this thread's own. */
  commit(
    level: AskedLevel,
    lsn: number,
    last: number,
    signal: AbortSignal | undefined,
  ): Promise<CommitResult> {
    if (signal?.aborted) return Promise.reject(abortedError(lsn, signal));
    const isMet = lsn <= (this.#met.get(level) ?? 0);
    if (!isMet && lsn <= last) return this.#roundOf(level, lsn).join(lsn, signal);
    const alone = new Round(lsn);
    const wait = alone.join(lsn, signal);
    this.#ask(level, alone, isMet ? 'met' : `commit ${level}`);
    return wait;
  }

  /** Asks at once for what this turn has gathered. */
  send(): void {
    for (const [level, round] of this.#rounds) this.#ask(level, round, `commit ${level}`);
    this.#rounds.clear();
  }

  /** What was not asked for ends; the client ends the others. */
  end(error: WalError): void {
    for (const round of this.#rounds.values()) round.reject(error);
    this.#rounds.clear();
  }

  #roundOf(level: AskedLevel, lsn: number): Round {
    const known = this.#rounds.get(level);
    if (known !== undefined && !known.signal.aborted) {
      if (lsn > known.lsn) known.lsn = lsn;
      return known;
    }
    const round = new Round(lsn);
    this.#rounds.set(level, round);
    queueMicrotask(() => {
      if (this.#rounds.get(level) !== round) return;
      this.#rounds.delete(level);
      this.#ask(level, round, `commit ${level}`);
    });
    return round;
  }

  #ask(level: AskedLevel, round: Round, lane: string): void {
    const named = level === 'own' ? undefined : level;
    const { lsn, since } = round;
    const about = { lsn, level: named, since, appended: this.#own.since };
    this.#client.ask('commit', about, round.signal, lane).then(
      (result) => {
        this.#noteMet(level, result);
        noteMet(this.#own, level, result, since);
        round.resolve(result);
      },
      (error: unknown) => {
        noteUnknown(this.#own, error);
        round.reject(unknownEnd(error));
      },
    );
  }

  #noteMet(level: AskedLevel, { lsn, level: reached }: CommitResult): void {
    this.#met.set(level, Math.max(lsn, this.#met.get(level) ?? 0));
    if (reached !== 'off') this.#flushed = Math.max(this.#flushed, lsn);
  }
}

/** One commit at the owner, for all who wait for it here. */
class Round {
  lsn: number;
  readonly since = sharedClock();
  readonly promise: Promise<CommitResult>;
  resolve!: (result: CommitResult) => void;
  reject!: (error: unknown) => void;
  readonly #gone = new AbortController();
  #waiting = 0;

  constructor(lsn: number) {
    this.lsn = lsn;
    this.promise = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }

  /** Aborted when nobody waits any more. */
  get signal(): AbortSignal {
    return this.#gone.signal;
  }

  join(lsn: number, signal: AbortSignal | undefined): Promise<CommitResult> {
    this.#waiting += 1;
    if (signal === undefined) return this.promise;
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        reject(abortedError(lsn, signal));
        this.#waiting -= 1;
        if (this.#waiting === 0) this.#gone.abort();
      };
      const done = (): void => signal.removeEventListener('abort', onAbort);
      signal.addEventListener('abort', onAbort, { once: true });
      this.promise.then(resolve, reject).finally(done);
    });
  }
}

/** What is met below the level of the log may be cut yet, without a word. */
export function noteMet(
  own: OwnAppends,
  asked: AskedLevel,
  { lsn, level }: CommitResult,
  askedAt: number,
): void {
  const isKept = level !== 'off' && (asked === 'own' || isRemote(level));
  if (isKept) own.met(lsn, askedAt);
}

export function noteUnknown(own: OwnAppends, error: unknown): void {
  if (error instanceof WalError && error.code === 'WAL_FENCED') own.unknown();
}

/** Of a commit: the record that it is for may be in the log. */
export function unknownEnd(error: unknown): unknown {
  return error instanceof WalError ? asUnknown(error) : error;
}

function abortedError(lsn: number, signal: AbortSignal): WalError {
  return new WalError('WAL_COMMIT_ABORTED', `the wait for the commit of LSN ${lsn} was cancelled`, {
    lsn,
    outcome: 'unknown',
    cause: signal.reason,
  });
}
