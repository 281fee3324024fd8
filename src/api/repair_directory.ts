import { loadBinding } from '../native/binding.js';
import type { RepairResult, ScrubProgress } from '../native/native_log.js';
import { showEndpoint } from '../transport/endpoint.js';
import { fetchRange } from '../transport/fetch_range.js';
import { checkFollowHost } from '../transport/plaintext.js';
import type { Endpoint } from './options.js';

export interface RepairDirectoryOptions {
  readonly dir: string;
  /** Another directory with a copy of the log; it is only read. */
  readonly fromDir?: string | undefined;
  /** A node of the log that listens. */
  readonly from?: Endpoint | undefined;
  /** Says what would be done, and changes nothing. */
  readonly dryRun: boolean;
  readonly progress?: ScrubProgress;
}

/**
 * Writes anew what is damaged in the closed log of a directory. Each damaged range was repaired, or
 * says why not. Rejects with WAL_LOCKED, WAL_NOT_FOUND; with WAL_NOT_A_LOG for the copy of another
 * log; with WAL_CORRUPT where no copy of the control file verifies.
 */
export async function repairDirectory(options: RepairDirectoryOptions): Promise<RepairResult> {
  const { dir, fromDir, from, dryRun, progress } = options;
  const source = from === undefined ? { fromDir } : peer(dir, from);
  return loadBinding().repair({ dir, dryRun, ...source }, progress);
}

function peer(dir: string, endpoint: Endpoint) {
  checkFollowHost(endpoint.host, endpoint);
  const { logId, salt } = loadBinding().identify(dir);
  return {
    peer: showEndpoint(endpoint),
    fetch: (from: number) => fetchRange({ ...endpoint, logId, salt, from }),
  };
}
