import type { Readable } from 'node:stream';
import type { Log } from '../api/log.js';
import type { LogStatus } from '../api/status.js';
import { Committer } from './committer.js';
import { chunks } from './input.js';
import { isStandby, untilPrimary } from './roles.js';
import type { Splitter } from './splitter.js';
import { notice, plural } from './terminal.js';

export interface FeedTotals {
  records: number;
  bytes: number;
}

export interface FeedOptions {
  readonly log: Log;
  readonly input: Readable;
  readonly splitter: Splitter;
  /** Stops reading. What was appended is still committed, within the grace time. */
  readonly stop: AbortSignal;
  /** A log that is a standby for a while may be the primary again: the input waits for that. */
  readonly stays?: boolean;
  /** Counted up while it runs. */
  readonly totals: FeedTotals;
}

/** What a record takes beside its bytes, at most. */
const FRAMING_BYTES = 8;
/** After a stop, commits get this long before their outcome is left unknown. */
const STOP_GRACE_MS = 2_000;

/** Appends and commits every record of the input. Resolves when the last one is committed. */
export async function feed(options: FeedOptions): Promise<void> {
  const { log, stop, stays = false } = options;
  const grace = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const onStop = (): void => {
    timer = setTimeout(() => grace.abort(), STOP_GRACE_MS);
  };
  if (stop.aborted) onStop();
  else stop.addEventListener('abort', onStop, { once: true });
  const committer = new Committer(log, {
    signal: grace.signal,
    stays,
    onWaiting: () => notice(describeWait(log.status())),
  });
  try {
    let failure: { readonly error: unknown } | undefined;
    try {
      await appendAll(options, committer);
    } catch (error) {
      failure = { error };
    }
    // Also after an over-long line: the records before it were taken.
    await committer.finish();
    if (failure !== undefined) throw failure.error;
  } finally {
    clearTimeout(timer);
    stop.removeEventListener('abort', onStop);
  }
}

/** For whom, since when, and how much. */
function describeWait({ policy, flushLsn, commitLsn }: LogStatus): string {
  const whom = policy?.waitingFor ?? 'their acknowledgement';
  const since = policy?.waitingSince ?? new Date().toISOString();
  const records = plural(flushLsn - commitLsn, 'record');
  const commits = plural(policy?.waitingCommits ?? 0, 'commit');
  return (
    `waiting for standbys since ${since}: ${whom}; ${commits}, ` +
    `${records} flushed here and not committed`
  );
}

async function appendAll(options: FeedOptions, committer: Committer): Promise<void> {
  const { log, input, splitter, stop, totals } = options;
  let lsn = 0;
  const commitSoFar = (): void => {
    if (lsn > 0) committer.want(lsn, totals.bytes);
  };
  try {
    for await (const chunk of chunks(input, stop)) {
      splitter.feed(chunk);
      for (let record = splitter.next(); record !== undefined; record = splitter.next()) {
        // No await where it fits: that would cost more than the append.
        lsn = tryAppend(log, record) ?? (await appendWhenFits(options, record));
        totals.records += 1;
        totals.bytes += record.length;
      }
      commitSoFar();
      // Once a chunk, not once a record; in between, a full ring says so itself.
      if (log.needsDrain) await log.drain().catch(unlessStays(options));
      await committer.belowWindow();
    }
    const last = stop.aborted ? undefined : splitter.end();
    if (last !== undefined) {
      lsn = await appendWhenFits(options, last);
      totals.records += 1;
      totals.bytes += last.length;
    }
  } finally {
    commitSoFar();
  }
}

async function appendWhenFits(options: FeedOptions, record: Buffer): Promise<number> {
  const { log, stop } = options;
  for (;;) {
    const lsn = tryAppend(log, record);
    if (lsn !== undefined) return lsn;
    await log.drain(record.length + FRAMING_BYTES).catch(unlessStays(options));
    if (log.status().role !== 'primary') await untilPrimary(log, stop);
    stop.throwIfAborted();
  }
}

/** What a log throws that is no primary any more: with `stays` it is waited for. */
function unlessStays({ stays = false }: FeedOptions): (error: unknown) => void {
  return (error) => {
    if (!stays || !isStandby(error)) throw error;
  };
}

/** undefined: it is not taken now. */
function tryAppend(log: Log, record: Buffer): number | undefined {
  try {
    return log.append(record);
  } catch (error) {
    const { code } = error as { readonly code?: unknown };
    // `drain` tells whether it is taken later.
    if (code === 'WAL_RING_FULL' || code === 'WAL_SWITCHING' || isStandby(error)) return undefined;
    throw error;
  }
}
