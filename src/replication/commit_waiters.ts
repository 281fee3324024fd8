import { WalError } from '../api/errors.js';
import { assert } from './assert.js';
import type { CommitKind } from './commit_place.js';
import { type CommitLevel, commitLevels } from './level.js';

/** What was reached when a commit resolved: `lsn` is at least the one asked for. */
export interface CommitResult {
  readonly lsn: number;
  /** What was asked for; where no level was named, what the log's own policy asked for by then. */
  readonly level: CommitLevel;
  /** Names of the standbys that had met the level for `lsn` by then. */
  readonly standbys: readonly string[];
}

/** Where the waiters look up how far things are; `PrimaryHub` is one. */
export interface CommitSource {
  /** LSN up to which the level is met now. For `off`: the end of the last closed batch. */
  reached(kind: CommitKind): number;
  /** What `own` stands for now; `local` while the log is degraded. */
  ownLevel(): CommitLevel;
  standbysAt(level: CommitKind, lsn: number): readonly string[];
}

export interface CommitWaitersOptions {
  /** A wait for standbys is rejected after this long. undefined: it blocks. */
  readonly timeoutMs?: number | undefined;
  /** What a commit lacks now, in words, for the message of one that took too long. */
  readonly missing?: (() => string | null) | undefined;
}

interface Waiter {
  /** Time at which it began, or of the first tick that saw it; -1 before. */
  since: number;
  readonly resolve: (result: CommitResult) => void;
  readonly reject: (error: unknown) => void;
}

interface SharedWaiter extends Waiter {
  readonly promise: Promise<CommitResult>;
}

/**
 * All waits at one level for records of one batch. They end together, since a batch is flushed and
 * acknowledged as a whole. Invariant: floor < target <= end.
 */
interface Group {
  /** End LSN of the batch before. */
  floor: number;
  /** End LSN of the batch; infinite while the batch is open. */
  end: number;
  /** Highest LSN asked for. */
  target: number;
  /**
   * Made at the first wait without a signal: a promise nobody took must never reject. No tick has
   * seen it: who comes after one has a time-out of its own.
   */
  shared: SharedWaiter | undefined;
  /** Waits that can be cancelled one by one, and those that were shared before the last tick. */
  others: Set<Waiter> | undefined;
}

const kinds: readonly CommitKind[] = ['own', ...commitLevels];

/** The groups of one level, by rising floor; at most the last one is open. */
class LevelQueue {
  readonly groups: Group[] = [];
  open: Group | undefined;
}

/**
 * Everyone who waits for a commit. Pure: the owner calls `closed` after a batch was closed,
 * `settle` when flushes or acknowledgements moved, `tick` now and then. Each wait ends exactly
 * once: resolved by `closed` or `settle`; rejected, outcome unknown, by its signal, by `tick`
 * (time-out) or by `rejectAll`, after which nothing is waited for any more.
 */
export class CommitWaiters {
  readonly #source: CommitSource;
  readonly #queues: Record<CommitKind, LevelQueue>;
  /** Of waits at a remote level that was named, and of those at the log's own level. */
  #timeoutMs: number | undefined;
  #ownTimeoutMs: number | undefined;
  readonly #missing: () => string | null;
  #ended: { readonly error: unknown } | undefined;

  constructor(source: CommitSource, options: CommitWaitersOptions = {}) {
    this.#source = source;
    this.#missing = options.missing ?? (() => null);
    this.limitWaits(options.timeoutMs, options.timeoutMs);
    this.#queues = {
      own: new LevelQueue(),
      off: new LevelQueue(),
      local: new LevelQueue(),
      remote_write: new LevelQueue(),
      remote_flush: new LevelQueue(),
      remote_apply: new LevelQueue(),
    };
  }

  /** For waits at a level that was named, and at the log's own level; undefined: they block. */
  limitWaits(named: number | undefined, own: number | undefined): void {
    this.#timeoutMs = named;
    this.#ownTimeoutMs = own;
  }

  /** Number of batches that are waited for, over all levels: what memory is proportional to. */
  get groups(): number {
    let sum = 0;
    for (const level of kinds) sum += this.#queues[level].groups.length;
    return sum;
  }

  /** Whether anybody waits; the owner need not tick otherwise. */
  get waiting(): boolean {
    return this.groups > 0;
  }

  /**
   * Resolves when `lsn`, at most the last one appended, has met `level`. Waits for one batch
   * share a promise.
   */
  wait(level: CommitKind, lsn: number): Promise<CommitResult> {
    const open = this.#queues[level].open;
    if (open !== undefined && lsn > open.floor && open.shared !== undefined) {
      if (lsn > open.target) open.target = lsn;
      return open.shared.promise;
    }
    const reached = this.#source.reached(level);
    if (lsn <= reached) return Promise.resolve(this.#result(level, reached));
    if (this.#ended !== undefined) return Promise.reject(this.#ended.error);
    const group = this.#groupFor(level, lsn);
    group.shared ??= newSharedWaiter();
    return group.shared.promise;
  }

  /**
   * The same, but the wait alone can be cancelled: WAL_COMMIT_ABORTED, with the signal's reason
   * as cause. `since`: when it began, where that is not the first tick that sees it.
   */
  waitWithSignal(
    level: CommitKind,
    lsn: number,
    signal: AbortSignal,
    since = -1,
  ): Promise<CommitResult> {
    if (signal.aborted) return Promise.reject(abortedError(lsn, signal));
    const reached = this.#source.reached(level);
    if (lsn <= reached) return Promise.resolve(this.#result(level, reached));
    if (this.#ended !== undefined) return Promise.reject(this.#ended.error);
    const group = this.#groupFor(level, lsn);
    group.others ??= new Set();
    const { others } = group;
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        if (!others.delete(waiter)) return;
        this.#dropIfEmpty(level, group);
        reject(abortedError(lsn, signal));
      };
      const done = (): void => signal.removeEventListener('abort', onAbort);
      const waiter: Waiter = {
        since,
        resolve: (result) => {
          done();
          resolve(result);
        },
        reject: (error) => {
          done();
          reject(error);
        },
      };
      others.add(waiter);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** Whoever waits at `level` for the batch of `lsn`, if anybody does, waits for `lsn` at least. */
  raise(level: CommitKind, lsn: number): void {
    const group = this.#queues[level].groups.at(-1);
    if (group === undefined || lsn <= group.floor || lsn > group.end) return;
    if (lsn > group.target) group.target = lsn;
  }

  /** A batch was closed: later waits belong to the next one. Resolves what waited at `off`. */
  closed(): void {
    this.#seal();
    this.#settleLevel('off');
    if (this.#source.ownLevel() === 'off') this.#settleLevel('own');
  }

  /** Resolves every wait whose level is met by now. */
  settle(): void {
    this.#seal();
    for (const level of kinds) this.#settleLevel(level);
  }

  /** Time passes: waits for standbys that are older than their time-out are rejected. */
  tick(nowMs: number): void {
    for (const level of commitLevels) {
      if (isRemote(level)) this.#tickLevel(level, this.#timeoutMs, nowMs);
    }
    this.#tickLevel('own', this.#ownTimeoutMs, nowMs);
  }

  /** Ends every wait with this error, and those that come late, after a wait for the disk say. */
  rejectAll(error: unknown): void {
    this.#ended ??= { error };
    for (const level of kinds) this.#rejectLevel(level, error);
  }

  /** The same for those at a remote level that was named: nobody can meet it any more. */
  rejectRemote(error: unknown): void {
    for (const level of commitLevels) if (isRemote(level)) this.#rejectLevel(level, error);
  }

  #rejectLevel(level: CommitKind, error: unknown): void {
    const queue = this.#queues[level];
    queue.open = undefined;
    for (const group of queue.groups.splice(0)) rejectGroup(group, error);
  }

  #seal(): void {
    const closed = this.#source.reached('off');
    for (const level of kinds) {
      const queue = this.#queues[level];
      if (queue.open !== undefined && queue.open.floor < closed) seal(queue, queue.open, closed);
    }
  }

  #settleLevel(level: CommitKind): void {
    const queue = this.#queues[level];
    const first = queue.groups[0];
    if (first === undefined) return;
    const reached = this.#source.reached(level);
    if (first.target > reached) return;
    let count = 0;
    for (const group of queue.groups) {
      if (group.target > reached) break;
      count += 1;
    }
    const done = queue.groups.splice(0, count);
    if (queue.open !== undefined && done.includes(queue.open)) queue.open = undefined;
    const result = this.#result(level, reached);
    for (const group of done) resolveGroup(group, result);
  }

  #tickLevel(level: CommitKind, timeoutMs: number | undefined, nowMs: number): void {
    const queue = this.#queues[level];
    if (timeoutMs === undefined || queue.groups.length === 0) return;
    for (const group of [...queue.groups]) {
      group.others ??= new Set();
      if (group.shared !== undefined) group.others.add(group.shared);
      group.shared = undefined;
      for (const waiter of group.others) {
        if (waiter.since < 0) waiter.since = nowMs;
        if (nowMs - waiter.since < timeoutMs) continue;
        group.others.delete(waiter);
        waiter.reject(this.#timeoutError(level, group.target, timeoutMs));
      }
      this.#dropIfEmpty(level, group);
    }
  }

  /** The group of the batch that `lsn` is in, made if need be, with `lsn` counted in. */
  #groupFor(level: CommitKind, lsn: number): Group {
    const queue = this.#queues[level];
    let at = queue.groups.length;
    for (; at > 0; at -= 1) {
      const group = queue.groups[at - 1]!;
      if (lsn > group.end) break;
      if (lsn <= group.floor) continue;
      if (lsn > group.target) group.target = lsn;
      return group;
    }
    const closed = this.#source.reached('off');
    const isOpen = lsn > closed;
    const group: Group = {
      // A wait for a batch that is closed already is a group of its own: where that batch starts
      // is not known here, and nobody can join it later except for the very same LSN.
      floor: isOpen ? closed : lsn - 1,
      end: isOpen ? Number.POSITIVE_INFINITY : lsn,
      target: lsn,
      shared: undefined,
      others: undefined,
    };
    assert(!isOpen || queue.open === undefined, 'an open group takes every later LSN');
    queue.groups.splice(at, 0, group);
    if (isOpen) queue.open = group;
    return group;
  }

  #dropIfEmpty(level: CommitKind, group: Group): void {
    if (group.shared !== undefined || (group.others?.size ?? 0) > 0) return;
    const queue = this.#queues[level];
    const at = queue.groups.indexOf(group);
    if (at >= 0) queue.groups.splice(at, 1);
    if (queue.open === group) queue.open = undefined;
  }

  #timeoutError(kind: CommitKind, lsn: number, timeoutMs: number): WalError {
    const missing = this.#missing();
    const text = `LSN ${lsn} did not reach ${this.#named(kind)} within ${timeoutMs} ms`;
    const whole = missing === null ? text : `${text}: waits for ${missing}`;
    return new WalError('WAL_SYNC_TIMEOUT', whole, { lsn, outcome: 'unknown' });
  }

  #named(kind: CommitKind): CommitLevel {
    return kind === 'own' ? this.#source.ownLevel() : kind;
  }

  #result(kind: CommitKind, lsn: number): CommitResult {
    const level = this.#named(kind);
    return { lsn, level, standbys: this.#source.standbysAt(level, lsn) };
  }
}

function isRemote(level: CommitLevel): boolean {
  return level !== 'off' && level !== 'local';
}

/**
 * The batch of an open group was closed at `closed`. A group for records yet to be appended stays
 * open.
 */
function seal(queue: LevelQueue, group: Group, closed: number): void {
  if (closed < group.target) {
    group.floor = closed;
    return;
  }
  group.end = closed;
  queue.open = undefined;
}

function newSharedWaiter(): SharedWaiter {
  let resolve: Waiter['resolve'] | undefined;
  let reject: Waiter['reject'] | undefined;
  const promise = new Promise<CommitResult>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { since: -1, promise, resolve: resolve!, reject: reject! };
}

function resolveGroup(group: Group, result: CommitResult): void {
  group.shared?.resolve(result);
  if (group.others === undefined) return;
  for (const waiter of group.others) waiter.resolve(result);
  group.others.clear();
}

function rejectGroup(group: Group, error: unknown): void {
  group.shared?.reject(error);
  if (group.others === undefined) return;
  for (const waiter of group.others) waiter.reject(error);
  group.others.clear();
}

function abortedError(lsn: number, signal: AbortSignal): WalError {
  return new WalError('WAL_COMMIT_ABORTED', `the wait for the commit of LSN ${lsn} was cancelled`, {
    lsn,
    outcome: 'unknown',
    cause: signal.reason,
  });
}
