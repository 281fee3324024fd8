import { loadBinding } from '../native/binding.js';
import { type NativeInfo, type NativeLog, State } from '../native/native_log.js';
import { doubtsOf, isRuleCurrent } from '../replication/candidacy.js';
import { WalError } from './errors.js';
import { KeepAlive } from './keep_alive.js';
import { openNewest } from './newest_copy.js';
import { closedOldPrimary, type OldPrimary } from './old_primary.js';
import { accepted, directories } from './options.js';

import {
  fencedAgainst,
  nextEpoch,
  notRejoined,
  notStandby,
  type Promoted,
  primaryMayRun,
} from './promote.js';
import { markForced } from './record_force.js';

import * as check from './validate.js';
import { describeDoubts } from './win_epoch.js';

/**
 * Promotes the standby whose directory no process has open: the next opening is one as primary.
 * `force`: also a node that is fenced. Rejects with WAL_NOT_FOUND, WAL_LOCKED, WAL_NOT_STANDBY, or
 * WAL_PRIMARY_REACHABLE without `primaryStopped: true`; that one changes no byte, and tells what
 * the control file knows.
 */
export async function promoteDirectory(options: {
  readonly dir: string | readonly string[];
  readonly acceptMissing?: readonly string[];
  readonly primaryStopped?: boolean;
  readonly force?: boolean;
}): Promise<Promoted> {
  const keys = ['dir', 'acceptMissing', 'primaryStopped', 'force'];
  const raw = check.optionsObject(options, 'promoteDirectory', keys);
  const [dir, ...mirrors] = directories(raw.dir);
  const acceptMissing = raw.acceptMissing === undefined ? [] : accepted(raw.acceptMissing);
  const force = raw.force === undefined ? false : check.boolean(raw.force, 'force');
  try {
    if (raw.primaryStopped !== true) throw primaryMayRun(await look([dir, ...mirrors], force));
    const native = await loadBinding().open({ ...existing(dir), mirrors, acceptMissing });
    try {
      // A wait for the flush is no handle that keeps the process.
      return await new KeepAlive(native).during(openNextEpoch(native, force));
    } finally {
      await native.close();
    }
  } catch (error) {
    throw WalError.from(error);
  }
}

async function look(dirs: readonly string[], force: boolean): Promise<OldPrimary> {
  const { reader } = await openNewest(dirs);
  try {
    const info = reader.info();
    requirePromotable(info, force);
    const { lsn } = await reader.refresh();
    return closedOldPrimary(info, lsn);
  } finally {
    reader.close();
  }
}

async function openNextEpoch(native: NativeLog, force: boolean): Promise<Promoted> {
  const info = native.info();
  requirePromotable(info, force);
  const flushed = native.state[State.FLUSH_LSN] ?? 0;
  const oldPrimary = closedOldPrimary(info, flushed);
  const reasons = [fencedAgainst(info), doubtsOfDirectory(info, native)];
  const against = reasons.filter((text) => text !== null);
  const forced = against.length === 0 ? null : against.join('; ');
  if (forced !== null && !force) throw new WalError('WAL_PROMOTION_REFUSED', forced);
  const term = nextEpoch(info);
  // Nothing is acknowledged under it: who opens the log as primary opens a term with a rule.
  await native.openTerm(term);
  if (forced !== null) await markForced(native, forced, (met) => untilMoved(native, met));
  return { term, lsn: native.info().history.at(-1)?.lsn ?? 0, oldPrimary, forced };
}

/** By what its control file says: no process has it open, so nobody is asked. */
function doubtsOfDirectory(info: NativeInfo, { state }: NativeLog): string | null {
  const { nodeId, name, role, term, rule, commit, history } = info;
  const { primaryName, primaryAddress } = info;
  const end = { position: state[State.CLOSED_POSITION] ?? 0, lsn: state[State.CLOSED_LSN] ?? 0 };
  const link = { primary: primaryName, primaryAddress, connected: false, isCandidate: false };
  const rules = { rule, isRuleCurrent: isRuleCurrent(info) };
  const own = { nodeId, name, role, term, last: history.at(-1) };
  const standing = { ...own, ...rules, commit, end, ...link, hasReferee: false };
  const doubts = doubtsOf(standing, []);
  return doubts.length === 0 ? null : describeDoubts({ members: undefined }, doubts);
}

function untilMoved(native: NativeLog, met: () => boolean): Promise<void> {
  return new Promise((resolve, reject) => {
    let isOver = false;
    const look = (): void => {
      if (isOver) return;
      const failure = native.failure();
      isOver = failure !== undefined || met();
      if (failure !== undefined) reject(failure);
      else if (isOver) resolve();
    };
    native.onProgress(look);
    look();
  });
}

function requirePromotable({ role }: NativeInfo, force: boolean): void {
  if (role === 'standby' || (role === 'fenced' && force)) return;
  throw role === 'fenced' ? notRejoined({ rejoin: null }) : notStandby(role);
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
