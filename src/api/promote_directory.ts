import { loadBinding } from '../native/binding.js';
import { type NativeInfo, type NativeLog, State } from '../native/native_log.js';
import { WalError } from './errors.js';
import { openNewest } from './newest_copy.js';
import { closedOldPrimary, type OldPrimary } from './old_primary.js';
import { accepted, directories } from './options.js';
import { nextEpoch, type Promoted, primaryMayRun } from './promote.js';
import * as check from './validate.js';

/**
 * Promotes the standby whose directory no process has open: the next opening is one as primary.
 * Rejects with WAL_NOT_FOUND, WAL_LOCKED, WAL_NOT_STANDBY, or WAL_PRIMARY_REACHABLE without
 * `primaryStopped: true`; that one changes no byte, and tells what the control file knows.
 */
export async function promoteDirectory(options: {
  readonly dir: string | readonly string[];
  readonly acceptMissing?: readonly string[];
  readonly primaryStopped?: boolean;
}): Promise<Promoted> {
  const keys = ['dir', 'acceptMissing', 'primaryStopped'];
  const raw = check.optionsObject(options, 'promoteDirectory', keys);
  const [dir, ...mirrors] = directories(raw.dir);
  const acceptMissing = raw.acceptMissing === undefined ? [] : accepted(raw.acceptMissing);
  try {
    if (raw.primaryStopped !== true) throw primaryMayRun(await look([dir, ...mirrors]));
    const native = await loadBinding().open({ ...existing(dir), mirrors, acceptMissing });
    try {
      return await openNextEpoch(native);
    } finally {
      await native.close();
    }
  } catch (error) {
    throw WalError.from(error);
  }
}

async function look(dirs: readonly string[]): Promise<OldPrimary> {
  const { reader } = await openNewest(dirs);
  try {
    const info = reader.info();
    requireStandby(info);
    const { lsn } = await reader.refresh();
    return closedOldPrimary(info, lsn);
  } finally {
    reader.close();
  }
}

async function openNextEpoch(native: NativeLog): Promise<Promoted> {
  const info = native.info();
  requireStandby(info);
  const flushed = native.state[State.FLUSH_LSN] ?? 0;
  const oldPrimary = closedOldPrimary(info, flushed);
  const term = nextEpoch(info);
  // Nothing is acknowledged under it: who opens the log as primary opens a term with a rule.
  await native.openTerm(term);
  return { term, lsn: native.info().history.at(-1)?.lsn ?? 0, oldPrimary };
}

function requireStandby({ role }: NativeInfo): void {
  if (role === 'standby') return;
  throw new WalError('WAL_NOT_STANDBY', `only a standby can be promoted; this is a ${role}`);
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
