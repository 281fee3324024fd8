import type { Log, ThreadedLog } from 'walmirror';
import { RecordHash } from '../harness/records.js';

export interface Checked {
  readonly records: number;
  readonly hash: string;
  readonly expectedHash: string;
}

/** Records whose content follows from their number. */
export interface Expected {
  hash(from: number, to: number): string;
}

const PATIENCE_MS = 60_000;

export interface CheckRequest {
  /** Last LSN. */
  readonly to: number;
  /** At most so many records before it, as far as they were not trimmed. */
  readonly count: number;
}

/** Hashes the last records up to `to`, as the log gives them back. */
export async function checkTail(
  log: Log | ThreadedLog,
  expected: Expected,
  { to, count }: CheckRequest,
): Promise<Checked> {
  const from = Math.max((await log.status()).firstLsn, to - count + 1);
  const hash = new RecordHash();
  const signal = AbortSignal.timeout(PATIENCE_MS);
  for await (const batch of log.read({ from, to, signal })) {
    for (const { data } of batch) hash.add(data);
    if (batch.lastLsn >= to) break;
  }
  return { records: hash.count, hash: hash.digest(), expectedHash: expected.hash(from, to) };
}
