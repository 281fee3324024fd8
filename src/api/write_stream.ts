import { addAbortSignal, Writable } from 'node:stream';
import { type CommitLevel, commitLevels } from '../replication/level.js';
import type { LogCore } from './core.js';
import { WalError } from './errors.js';
import type { Log } from './log.js';
import { streamMode, waterMark } from './read_stream.js';
import { type RecordData, recordBytes, recordOf } from './record.js';
import type { StreamMode } from './record_source.js';
import * as check from './validate.js';

/** Options of `createWriteStream`. */
export interface WriteStreamOptions {
  /**
   * When a write is done. `each`: its record is committed, before the next one is taken. `batch`
   * (default): its record is committed, together with all that were written meanwhile. `end`: its
   * record is in log memory; all are committed when the stream finishes.
   */
  readonly commit?: 'each' | 'batch' | 'end';
  /** What a commit waits for; the log's own level otherwise. */
  readonly level?: CommitLevel;
  /**
   * `object` (default): a chunk is a record, as `append` takes it, or `{ data }`, as a reading
   * gives it. `bytes`: a chunk of bytes is a record, wherever it was cut (`frameDecoder` keeps
   * records whole).
   */
  readonly mode?: StreamMode;
  /** What may wait in the stream: records (default 256), or bytes (default 262,144). */
  readonly highWaterMark?: number;
  readonly signal?: AbortSignal;
}

/** What a write stream writes to. */
export interface RecordSink extends Pick<Log, 'append' | 'commit' | 'drain' | 'needsDrain'> {
  /** Throws unless it takes records now, and can meet the level. */
  requireTaking(level: CommitLevel | undefined): void;
  /** Rejects when it takes no more records: it was closed, failed or fenced. */
  untilRefused(signal: AbortSignal): Promise<void>;
}

/** A chunk of a write stream in object mode. */
export type RecordChunk = RecordData | { readonly data: RecordData };

export interface WritePlan {
  readonly commit: 'each' | 'batch' | 'end';
  readonly level: CommitLevel | undefined;
  readonly mode: StreamMode;
  readonly highWaterMark: number;
  readonly signal: AbortSignal | undefined;
}

export const writeKeys = ['commit', 'level', 'mode', 'highWaterMark', 'signal'] as const;

const QUEUED = { object: 256, bytes: 256 * 1024 } as const;
/** What a record takes beside its bytes, at most. */
const FRAMING = 8;

/** The options, checked; and that the log takes records now, and can meet the level. */
export function writePlan(sink: RecordSink, raw: Record<string, unknown>): WritePlan {
  const modes = ['each', 'batch', 'end'] as const;
  const commit = raw.commit === undefined ? 'batch' : check.oneOf(raw.commit, 'commit', modes);
  const level = raw.level === undefined ? undefined : check.oneOf(raw.level, 'level', commitLevels);
  const mode = streamMode(raw.mode);
  const highWaterMark = waterMark(raw.highWaterMark, QUEUED[mode]);
  const signal = check.abortSignal(raw.signal, 'signal');
  sink.requireTaking(level);
  return { commit, level, mode, highWaterMark, signal };
}

type Done = (error?: Error | null) => void;

/**
 * Appends what is written to it (`log.createWriteStream`). While the log memory is full, and until
 * commits are met, its writes wait, and so does whoever pipes into it.
 *
 * It is destroyed with the log's own error: of an append, of `drain`, of a commit; and at once,
 * idle too, when the log is closed, fails or is fenced. The records up to `lastLsn` were taken by
 * then, those up to `committedLsn` are committed, and between the two the outcome is unknown.
 * Destroying it ends its waits, takes nothing more, and takes nothing back; after `end()`, and
 * before all is committed, that is an error too: WAL_COMMIT_ABORTED.
 *
 * Event 'committed' (lsn): all of this stream up to `lsn` is committed.
 */
export class LogWriteStream extends Writable {
  readonly #log: RecordSink;
  readonly #commit: WritePlan['commit'];
  readonly #level: { readonly level: CommitLevel } | undefined;
  /** Ends the waits of a stream that was destroyed. */
  readonly #ended = new AbortController();
  #lastLsn = 0;
  #committedLsn = 0;
  #busy = false;
  /** Under `batch`: what is written until the end of this turn is gathered. */
  #turn: NodeJS.Immediate | undefined;
  /** Why the log takes no more. */
  #refusal: Error | undefined;

  /** @internal */
  constructor(log: RecordSink, plan: WritePlan) {
    const { mode, highWaterMark, signal, commit, level } = plan;
    super({ objectMode: mode === 'object', highWaterMark });
    this.#log = log;
    this.#commit = commit;
    this.#level = level === undefined ? undefined : { level };
    if (commit !== 'each') {
      this._writev = (chunks, done) =>
        this.#run(this.#take(chunks.map(({ chunk }) => chunk)), done);
    }
    // Not an option of Writable: one that has fired already would destroy what is not made yet.
    if (signal !== undefined) addAbortSignal(signal, this);
    log.untilRefused(this.#ended.signal).catch((error) => this.#refuse(error));
  }

  /** LSN of the last record that was taken; 0 before the first. */
  get lastLsn(): number {
    return this.#lastLsn;
  }

  /** LSN of the last record of this stream that is known to be committed; 0 before the first. */
  get committedLsn(): number {
    return this.#committedLsn;
  }

  /** As any Writable's: false where the writer should wait for 'drain'. */
  override write(chunk: unknown, encoding?: BufferEncoding | Done, done?: Done): boolean {
    if (this.#commit === 'batch' && !this.#busy && this.#turn === undefined) {
      // The first record after a pause would be committed alone, and all others wait for it.
      this.cork();
      this.#turn = setImmediate(this.#gathered);
    }
    const more = super.write(chunk, encoding as BufferEncoding, done);
    if (!more) this.#gathered();
    return more;
  }

  readonly #gathered = (): void => {
    if (this.#turn === undefined) return;
    clearImmediate(this.#turn);
    this.#turn = undefined;
    this.uncork();
  };

  /** @internal */
  override _write(chunk: RecordChunk, _encoding: string, done: Done): void {
    let taken: boolean;
    try {
      taken = this.#append(recordOf(chunk));
    } catch (error) {
      // Not at once: what is written next would be taken before the stream is destroyed.
      this.#run(Promise.reject(error), done);
      return;
    }
    // No promise where nothing is waited for: it would cost more than the append.
    if (taken && this.#commit === 'end' && !this.#log.needsDrain) done();
    else this.#run(this.#take(taken ? [] : [chunk]), done);
  }

  /** @internal */
  override _final(done: Done): void {
    this.#run(this.#commitAll(), done);
  }

  /** @internal */
  override _destroy(error: Error | null, done: Done): void {
    this.#ended.abort();
    // To Node an ended stream without a write under way has finished, destroyed or not: whoever
    // waits for that would take for committed what is not.
    const isCut = error === null && this.writableEnded && this.#lastLsn > this.#committedLsn;
    done(isCut ? cutShort(this.#lastLsn) : error);
  }

  #run(work: Promise<void>, done: Done): void {
    this.#busy = true;
    const settled = (error?: Error): void => {
      this.#busy = false;
      done(error);
      if (this.#refusal !== undefined && !this.writableEnded) this.destroy(this.#refusal);
    };
    work.then(() => settled(), settled);
  }

  async #take(chunks: readonly RecordChunk[]): Promise<void> {
    for (const chunk of chunks) {
      const record = recordOf(chunk);
      while (!this.#append(record)) await this.#drain(record);
    }
    if (this.#commit !== 'end') await this.#commitAll();
    else if (this.#log.needsDrain) await this.#drain();
  }

  /** False: there is no room for it now. */
  #append(record: RecordData): boolean {
    this.#ended.signal.throwIfAborted();
    try {
      this.#lastLsn = this.#log.append(record);
      return true;
    } catch (error) {
      const { code } = error as { readonly code?: unknown };
      // `drain` waits for either, and says whether another is the primary by then.
      if (code === 'WAL_RING_FULL' || code === 'WAL_SWITCHING') return false;
      throw error;
    }
  }

  #drain(record?: RecordData): Promise<void> {
    const bytes = record === undefined ? undefined : sizeOf(record) + FRAMING;
    return this.#log.drain(bytes, { signal: this.#ended.signal });
  }

  async #commitAll(): Promise<void> {
    const lsn = this.#lastLsn;
    if (lsn === this.#committedLsn) return;
    await this.#log.commit(lsn, { ...this.#level, signal: this.#ended.signal });
    this.#committedLsn = lsn;
    // As the log's own events: a listener that throws stops nothing half way.
    if (this.listenerCount('committed') > 0) process.nextTick(() => this.emit('committed', lsn));
  }

  /**
   * What is under way, or yet to end, finds out by itself: the last flush of a log that closes may
   * meet it.
   */
  #refuse(error: Error): void {
    this.#refusal = error;
    if (!this.#busy && !this.writableEnded && !this.destroyed) this.destroy(error);
  }
}

function cutShort(lsn: number): WalError {
  const message = `the stream was destroyed before the commit of LSN ${lsn}`;
  return new WalError('WAL_COMMIT_ABORTED', message, { outcome: 'unknown' });
}

/** A log of this thread. */
export function sinkOf(log: Log, core: LogCore): RecordSink {
  return {
    append: (data) => log.append(data),
    commit: (lsn, options) => log.commit(lsn, options),
    drain: (bytes, options) => log.drain(bytes, options),
    get needsDrain() {
      return log.needsDrain;
    },
    requireTaking(level) {
      core.requireOpen();
      const { commits } = core.driver;
      if (commits === undefined) throw core.driver.refusal();
      if (level !== undefined) commits.requireStandbys(level);
    },
    untilRefused: (signal) =>
      core.moved.until(() => {
        core.requireReadable();
        if (core.driver.commits === undefined) throw core.driver.refusal();
        return false;
      }, signal),
  };
}

function sizeOf(record: RecordData): number {
  if (typeof record === 'string') return Buffer.byteLength(record);
  return recordBytes(record, 'append').byteLength;
}
