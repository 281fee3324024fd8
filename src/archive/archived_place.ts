import type { HistoryEntry, Term } from '../native/native_log.js';
import { nameOf, type ObjectName, parseName, prefixOf } from './object_name.js';
import { termAt } from './segment_source.js';
import type { ArchiveStore } from './store.js';

const segmentHeaderBytes = 4096;

/** The log that is asked about. */
export interface ArchivedLog {
  readonly logId: string;
  readonly segmentBytes: number;
  readonly history: readonly HistoryEntry[];
  /** Where the first batch is that is kept, and how far the log is committed. */
  readonly start: number;
  readonly commit: number;
}

/** What of a log is in a store. */
export interface ArchivedPlace {
  /** The next segment that is not: the first batch of it is there. */
  readonly next: number;
  /** First record of the segments that lie before it without a gap; undefined: none does. */
  readonly firstLsn: number | undefined;
  /** Name of the last one before the gap before those; undefined: there is no gap. */
  readonly beforeGap: string | undefined;
}

/**
 * Asks the store what of this log it has, from the beginning on. Only what the log's own history
 * has written counts; of what lies past its commit position nothing does, since that may yet be
 * another one's. Holds a page of names.
 */
export async function askStore(
  store: ArchiveStore,
  log: ArchivedLog,
  signal: AbortSignal,
): Promise<ArchivedPlace> {
  const { logId, segmentBytes, start } = log;
  let from: ObjectName | undefined;
  let last: ObjectName | undefined;
  let beforeGap: ObjectName | undefined;
  for await (const found of ownObjects(store, log, signal)) {
    const next = last === undefined ? undefined : last.start + segmentBytes;
    if (next !== undefined && found.start < next) continue;
    if (found.start !== next) {
      // One of those that are kept here is not there: it is the next to go.
      if (found.start > start) break;
      beforeGap = last;
      from = found;
    }
    last = found;
  }
  const end = last === undefined ? 0 : last.start + segmentBytes;
  if (last !== undefined && end < start) beforeGap = last;
  return {
    next: Math.max(end, firstWhole(log)),
    firstLsn: end < start ? undefined : from?.firstLsn,
    beforeGap: beforeGap && nameOf(logId, beforeGap),
  };
}

/** The first segment that is kept whole. */
function firstWhole({ start, segmentBytes }: ArchivedLog): number {
  const aligned = Math.ceil((start - segmentHeaderBytes) / segmentBytes) * segmentBytes;
  return aligned + segmentHeaderBytes;
}

async function* ownObjects(
  store: ArchiveStore,
  log: ArchivedLog,
  signal: AbortSignal,
): AsyncGenerator<ObjectName> {
  const { logId, segmentBytes, history, start, commit } = log;
  let after: string | undefined;
  do {
    const page = await store.list(prefixOf(logId), { after, signal });
    for (const name of page.names) {
      const found = parseName(logId, name);
      if (found === undefined || found.start % segmentBytes !== segmentHeaderBytes) continue;
      if (found.start + segmentBytes > commit) return;
      const term = termAt(history, found.start + segmentBytes);
      // What is older than the history that is known here is believed where it was let go of.
      if (term === undefined ? found.start < start : isSame(term, found.term)) yield found;
    }
    if (page.next !== undefined && after !== undefined && page.next <= after) {
      throw new Error(`${store.description} lists the same names again`);
    }
    after = page.next;
  } while (after !== undefined);
}

function isSame(a: Term, b: Term): boolean {
  return a.epoch === b.epoch && a.opener === b.opener && a.incarnation === b.incarnation;
}
