import { loadBinding } from '../native/binding.js';
import type { NativeAttachedLog } from '../native/native_log.js';
import type { CommitResult } from '../replication/commit_waiters.js';
import { commitLevels } from '../replication/level.js';
import { type AppendedRange, measured, requireFits } from './append_many.js';
import { reentrant, requireEnd } from './appender.js';
import { AttachedClient, type AttachedTo, ownerGone, sharedClock } from './attached_calls.js';
import { AttachedCommits, unknownEnd } from './attached_commits.js';
import type { LogHandle } from './attachments.js';
import { WalError } from './errors.js';
import { asRefused, closedError, cutShortByClose, withOutcome } from './failure.js';
import type { CommitOptions, WaitOptions } from './log.js';
import { OwnAppends } from './own_appends.js';
import { type RecordData, tooLarge } from './record.js';
import { SharedAppends, spaceOf } from './shared_appends.js';
import type { LogStatus } from './status.js';
import * as check from './validate.js';

/**
 * A log that another thread of this process has open (`Log.attach`): appends go straight into its
 * memory, one native call each, and get their LSNs in one order with those of all other threads;
 * what has to be waited for is asked of the thread that opened it. So a commit here settles as one
 * there would, when its event loop comes to it. It ends with that log: after the log was closed, or
 * its thread has ended, every call and wait ends with WAL_CLOSED.
 *
 * Reading, trimming, roles and events are for the `Log` itself.
 */
export class AttachedLog {
  readonly #native: NativeAttachedLog;
  readonly #client: AttachedClient;
  readonly #about: AttachedTo;
  readonly #appends: SharedAppends;
  readonly #commits: AttachedCommits;
  /** @internal */
  readonly own = new OwnAppends();
  #last = 0;
  /** Payload bytes of the records that were refused last, where none were taken since. */
  #refused: readonly number[] | undefined;
  #toldRefused: readonly number[] | undefined;
  #isTelling = false;
  #endOfTurn = false;
  #inCallback = false;
  #closed: WalError | undefined;
  #closing: Promise<void> | undefined;

  private constructor(native: NativeAttachedLog, client: AttachedClient, about: AttachedTo) {
    this.#native = native;
    this.#client = client;
    this.#about = about;
    this.#appends = new SharedAppends(native, about.maxRecordBytes);
    this.#commits = new AttachedCommits(client, this.own);
  }

  /** @internal What `Log.attach` does. */
  static async attach(handle: unknown, options: unknown): Promise<AttachedLog> {
    const { signal: asked } = check.optionsObject(options, 'Log.attach', ['signal']);
    const signal = check.abortSignal(asked, 'signal');
    signal?.throwIfAborted();
    const native = find(handleId(handle));
    let log: AttachedLog | undefined;
    const client: AttachedClient = new AttachedClient(native, () => {
      if (log === undefined) client.end(ownerGone('refused'));
      else log.#end(ownerGone('unknown'));
    });
    try {
      const about = await client.ask('attach', {}, signal);
      // The owner may have gone in the moment in which it answered.
      if (client.ended !== undefined) throw client.ended;
      log = new AttachedLog(native, client, about);
      return log;
    } catch (error) {
      client.end(closedError());
      throw error;
    }
  }

  get name(): string {
    return this.#about.name;
  }

  get dir(): string {
    return this.#about.dir;
  }

  /** Largest record that `append` takes, in bytes. */
  get maxRecordBytes(): number {
    return this.#about.maxRecordBytes;
  }

  /**
   * Takes a record and returns its LSN, as `Log.append` does. Other threads may append between two
   * calls. What a thread has appended when it ends stays in the log.
   */
  append(data: RecordData): number {
    const lsn = this.#take(
      () => this.#appends.append(data),
      () => [spaceOf(data)],
    );
    this.#last = lsn;
    return lsn;
  }

  /** Takes all of these records or none, with LSNs in a row, as `Log.appendMany` does. */
  appendMany(items: Iterable<RecordData>): AppendedRange {
    const group = measured(items, this.maxRecordBytes);
    if (group.records.length === 0) return { first: this.#last + 1, last: this.#last };
    requireFits(this.#about.layout, group);
    const first = this.#take(
      () => this.#appends.appendGroup(group),
      () => group.sizes,
      group.records.length,
    );
    this.#last = first + group.records.length - 1;
    return { first, last: this.#last };
  }

  /**
   * Lets `encode` write a record of at most `maxBytes`, as `Log.appendInto` does, into memory of
   * its own, which is then copied.
   */
  appendInto(maxBytes: number, encode: (buffer: Buffer, offset: number) => number): number {
    check.callback(encode, 'appendInto(maxBytes, encode)');
    check.integer(maxBytes, 'appendInto(maxBytes)', 0, Number.MAX_SAFE_INTEGER);
    if (maxBytes > this.maxRecordBytes) {
      throw tooLarge(maxBytes, this.maxRecordBytes, 'appendInto');
    }
    this.#requireAttached();
    const scratch = Buffer.alloc(maxBytes);
    this.#inCallback = true;
    let end: number;
    try {
      end = encode(scratch, 0);
    } finally {
      this.#inCallback = false;
    }
    requireEnd(end, 0, maxBytes);
    return this.append(scratch.subarray(0, end));
  }

  /**
   * Whether the log memory, or the segment with none ready behind it, is nearly full: time to await
   * `drain()`. Other threads may fill it in between, and an append then throws WAL_RING_FULL.
   */
  get needsDrain(): boolean {
    this.#requireAttached();
    return this.#native.needsDrain();
  }

  /**
   * Waits for room, as `Log.drain` does. What it resolved for is kept for nobody: where other
   * threads were faster, an append throws WAL_RING_FULL, and is to be drained for again.
   */
  async drain(bytes?: number, options?: WaitOptions): Promise<void> {
    const { signal: asked } = check.optionsObject(options, 'drain', ['signal']);
    const signal = check.abortSignal(asked, 'signal');
    if (bytes !== undefined) check.integer(bytes, 'drain(bytes)', 0, Number.MAX_SAFE_INTEGER);
    this.#requireAttached();
    await this.#client.ask('drain', { bytes, refused: this.#refused }, signal);
  }

  /**
   * Waits as `Log.commit` does; without `lsn`, for all that this thread has appended. Rejects as
   * that does, and with WAL_CLOSED where the log is closed meanwhile.
   */
  commit(lsn?: number, options?: CommitOptions): Promise<CommitResult> {
    try {
      const raw = check.optionsObject(options, 'commit', ['level', 'signal']);
      const level = raw.level === undefined ? 'own' : check.oneOf(raw.level, 'level', commitLevels);
      const signal = check.abortSignal(raw.signal, 'signal');
      const max = Number.MAX_SAFE_INTEGER;
      const target = lsn === undefined ? this.#last : check.integer(lsn, 'commit(lsn)', 0, max);
      this.#requireAttached();
      return this.#commits.commit(level, target, this.#last, signal);
    } catch (error) {
      return Promise.reject(unknownEnd(error));
    }
  }

  /** `append`, then `commit` of that record. */
  appendAndCommit(data: RecordData, options?: CommitOptions): Promise<CommitResult> {
    let lsn: number;
    try {
      lsn = this.append(data);
    } catch (error) {
      return Promise.reject(error);
    }
    return this.commit(lsn, options);
  }

  /** The status of the log. */
  async status(options?: WaitOptions): Promise<LogStatus> {
    const { signal: asked } = check.optionsObject(options, 'status', ['signal']);
    const signal = check.abortSignal(asked, 'signal');
    this.#requireAttached();
    return this.#client.ask('status', {}, signal);
  }

  /**
   * Detaches: takes no more, waits until all that was appended is flushed, and ends every wait.
   * A commit that is met by that flush still resolves; others reject with WAL_CLOSED, outcome
   * unknown. The log stays open. Idempotent. Rejects if the flush failed, and with WAL_CLOSED,
   * outcome unknown, where the thread that opened the log has ended without saying that it is.
   *
   * `signal`: detaches at once, and this rejects with its reason; what was appended is flushed
   * when the thread that opened the log comes to it.
   */
  close(options?: WaitOptions): Promise<void> {
    if (this.#inCallback) return Promise.reject(reentrant());
    let signal: AbortSignal | undefined;
    try {
      const { signal: asked } = check.optionsObject(options, 'close', ['signal']);
      signal = check.abortSignal(asked, 'signal');
    } catch (error) {
      return Promise.reject(error);
    }
    this.#closing ??= this.#detach();
    if (signal === undefined) return this.#closing;
    return cutShort(this.#closing, signal, () => this.#end(cutShortByClose()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #detach(): Promise<void> {
    if (this.#closed !== undefined) {
      if (this.#last > this.#commits.flushed && !this.#client.isFlushed) throw ownerGone('unknown');
      return;
    }
    this.#closed = closedError();
    // From here on it is flushed even where the owner ends before it comes to this.
    this.#closeBatch();
    try {
      this.#commits.send();
      this.#client.askAll();
      await this.#client.ask('flush', {});
    } catch (error) {
      if (!this.#client.isFlushed) throw unknownEnd(error);
    } finally {
      this.#end(cutShortByClose());
    }
  }

  /** Nothing goes on: by `close`, or because the log has ended. */
  #end(error: WalError): void {
    this.#closed = withOutcome(error, 'refused');
    this.#commits.end(error);
    this.#client.end(error);
  }

  /** @internal */
  refuseReentry(): void {
    if (this.#inCallback) throw reentrant();
  }

  #requireAttached(): void {
    this.refuseReentry();
    if (this.#closed !== undefined) throw this.#closed;
  }

  /** Runs an append. A batch is closed at the end of the turn in which something was appended. */
  #take(append: () => number, sizes: () => readonly number[], count = 1): number {
    this.#requireAttached();
    const isSameTurn = this.#endOfTurn && this.own.since !== undefined;
    const at = isSameTurn ? undefined : sharedClock();
    let lsn: number;
    try {
      lsn = append();
    } catch (error) {
      const known = WalError.from(error);
      throw known instanceof WalError ? asRefused(known) : known;
    }
    if (lsn === 0) {
      this.#refused = sizes();
      this.#tellRefused();
      throw new WalError('WAL_RING_FULL', 'the log memory, or its segment, is full', {
        outcome: 'refused',
      });
    }
    this.own.appended(lsn, lsn + count - 1, at);
    if (this.#refused !== undefined) {
      this.#refused = undefined;
      this.#tellRefused();
    }
    if (!this.#endOfTurn) {
      this.#endOfTurn = true;
      setImmediate(this.#turnEnded);
    }
    return lsn;
  }

  /** The owner has whoever holds the log memory let go of it, as for an append of its own. */
  #tellRefused(): void {
    if (this.#isTelling || this.#refused === this.#toldRefused) return;
    this.#isTelling = true;
    this.#toldRefused = this.#refused;
    const answered = (): void => {
      this.#isTelling = false;
      if (this.#closed === undefined) this.#tellRefused();
    };
    this.#client.ask('refused', { sizes: this.#refused }).then(answered, () => {
      this.#isTelling = false;
    });
  }

  readonly #turnEnded = (): void => {
    this.#endOfTurn = false;
    this.publish();
  };

  /** @internal Closes the open batch: the log flushes it. */
  publish(): void {
    if (this.#closed !== undefined) return;
    this.#closeBatch();
  }

  #closeBatch(): void {
    try {
      this.#native.closeBatch();
    } catch {
      // Whoever closes it next hears of it; commits hear of a log that has failed.
    }
  }
}

/** The same promise, unless the signal comes first. */
function cutShort(closing: Promise<void>, signal: AbortSignal, cut: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      reject(signal.reason);
      cut();
    };
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    closing.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

function handleId(handle: unknown): string {
  const id = (handle as Partial<LogHandle> | null | undefined)?.id;
  if (typeof id === 'string') return id;
  throw new TypeError(
    `attach takes the handle of an open log (log.handle), got ${check.shown(handle)}`,
  );
}

function find(id: string): NativeAttachedLog {
  try {
    return loadBinding().attach(id);
  } catch (error) {
    const known = WalError.from(error);
    if (!(known instanceof WalError) || known.code !== 'WAL_CLOSED') throw known;
    throw new WalError('WAL_CLOSED', 'no log that is open in this process has this handle', {
      outcome: 'refused',
      hint: 'Pass `log.handle` of a log that this process has open; another process has its own.',
    });
  }
}

/** Calls of `Log` that would work on what is the owner's alone: who calls them hears where to. */
const ownersCalls = [
  'read',
  'readable',
  'createReadStream',
  'createWriteStream',
  'writable',
  'apply',
  'waitFor',
  'trim',
  'scrub',
  'connected',
  'promote',
  'rejoin',
  'pauseFailover',
  'resumeFailover',
  'switchover',
  'demote',
  'setPolicy',
  'reloadTls',
  'serveStatus',
  'on',
  'once',
  'off',
  'ref',
  'unref',
] as const;

for (const call of ownersCalls) {
  Object.defineProperty(AttachedLog.prototype, call, {
    value: () => {
      throw new WalError('WAL_UNSUPPORTED', `${call} is not for a log that was attached to`, {
        hint: `Call \`log.${call}\` in the thread that opened the log.`,
      });
    },
  });
}
