import { loadBinding } from '../native/binding.js';
import type { NativeLog, Term } from '../native/native_log.js';
import { WalError } from './errors.js';
import { directory } from './options.js';
import type { Promoted } from './promote.js';
import * as check from './validate.js';

/**
 * Promotes the standby whose directory no process has open: the next opening is one as primary.
 * Rejects with WAL_NOT_FOUND, WAL_LOCKED, WAL_NOT_STANDBY, or WAL_PRIMARY_REACHABLE without
 * `primaryStopped: true`.
 */
export async function promoteDirectory(options: {
  readonly dir: string;
  readonly primaryStopped?: boolean;
}): Promise<Promoted> {
  const raw = check.optionsObject(options, 'promoteDirectory', ['dir', 'primaryStopped']);
  const dir = directory(raw.dir);
  if (raw.primaryStopped !== true) {
    throw new WalError(
      'WAL_PRIMARY_REACHABLE',
      'nothing here can tell that its primary is stopped',
    );
  }
  let native: NativeLog;
  try {
    native = await loadBinding().open(existing(dir));
  } catch (error) {
    throw WalError.from(error);
  }
  try {
    return await openNextEpoch(native);
  } catch (error) {
    throw WalError.from(error);
  } finally {
    await native.close();
  }
}

async function openNextEpoch(native: NativeLog): Promise<Promoted> {
  const info = native.info();
  if (info.role !== 'standby') {
    throw new WalError('WAL_NOT_STANDBY', `only a standby can be promoted; this is a ${info.role}`);
  }
  const epochs = [info.term, ...info.history].map((each) => each.epoch);
  const term: Term = { epoch: Math.max(...epochs) + 1, opener: info.nodeId, incarnation: 1 };
  await native.openTerm(term);
  return { term, lsn: native.info().history.at(-1)?.lsn ?? 0 };
}

/** Opens what is there, as it is; sizes that count at creation only are not looked at. */
function existing(dir: string) {
  const MIB = 1024 * 1024;
  return {
    dir,
    create: false,
    role: 'standby',
    name: '',
    segmentBytes: 64 * MIB,
    padded: false,
    maxRecordBytes: 16 * MIB,
    ringBytes: 64 * MIB,
    maxBatchBytes: 256 * 1024,
    maxBatchDelayMs: 1,
    sharedRing: true,
  } as const;
}
