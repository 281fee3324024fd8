import { State } from '../native/native_log.js';
import type { HeldGroup } from '../referee/held_group.js';
import type { Referee } from '../referee/referee.js';
import { isFence } from '../replication/fence.js';
import { compareTerms, showTerm } from '../replication/history.js';
import { pause } from '../transport/environment.js';
import type { Handover, Taken } from '../wire/handover_messages.js';
import { claim } from './claims.js';
import type { LogCore } from './core.js';
import { WalError } from './errors.js';
import { askStanding } from './members.js';
import { PrimaryDriver } from './primary_driver.js';
import { become, notStandby } from './promote.js';
import { StandbyDriver } from './standby_driver.js';
import type { Candidacy, WonEpoch } from './win_epoch.js';

/**
 * Takes the place of the primary that this standby follows, which says that it was demoted for it
 * (SAFETY.md 3.9). It is asked itself whether that is so: a message may be late, or of a stranger.
 * Nobody else needs to be asked: nothing was acknowledged that this log does not have.
 */
export async function takeOver(core: LogCore, handover: Handover): Promise<Omit<Taken, 'version'>> {
  core.requireOpen();
  const { driver } = core;
  // With a referee, which has kept the group for it, it may have heard of it before.
  if (driver instanceof StandbyDriver && driver.promoting) await core.roleChange;
  const standby = core.driver;
  if (standby instanceof PrimaryDriver) return taken(core, handover);
  if (!(standby instanceof StandbyDriver) || standby.role !== 'standby') {
    throw notStandby(standby.role);
  }
  if (standby.promoting) throw notStandby('standby');
  requireExact(core, standby, handover);
  const { policy, referee } = core.options;
  const { signal } = core.closing;
  const claimed = referee && groupFor(core, standby, referee);
  const group =
    claimed &&
    (async (known: number): Promise<HeldGroup> => {
      const held = await claimed(known);
      await requireUntaken(held, handover);
      return held;
    });
  const win = (candidacy: Candidacy): Promise<WonEpoch> =>
    wonBy(core, standby, handover, candidacy);
  const plan = { policy, listen: undefined, force: false, group, signal, win };
  try {
    const { promoted } = await become(core, standby, { ...plan, reason: 'switchover' });
    return { term: promoted.term, lsn: promoted.lsn, name: core.options.name };
  } finally {
    standby.takesGroup = undefined;
  }
}

/** It may be granted to this node twice at once: as a candidate too, which gives it away then. */
function groupFor(
  core: LogCore,
  standby: StandbyDriver,
  referee: Referee,
): (known: number) => Promise<HeldGroup> {
  const { environment } = core;
  const { signal } = core.closing;
  let offered: HeldGroup | undefined;
  let wake = (): void => undefined;
  standby.takesGroup = (group) => {
    offered = group;
    wake();
  };
  return async (known) => {
    try {
      return await claim(core, referee, 'promotion', known, signal);
    } catch (error) {
      if (!(error instanceof WalError) || error.code !== 'WAL_NOT_GRANTED') throw error;
      const given = new Promise<void>((resolve) => {
        wake = resolve;
      });
      const late = pause(environment, referee.timing.callTimeoutMs, signal);
      if (offered === undefined) await Promise.race([given, late]);
      if (offered === undefined) throw error;
      return offered;
    }
  };
}

/**
 * Gives the group back where another has led since it was handed over, and may have acknowledged
 * something: nobody is asked here. It happens to a process that was stopped in between.
 */
async function requireUntaken(group: HeldGroup, { term, name }: Handover): Promise<void> {
  const { grantedBy } = group;
  if (grantedBy === undefined || grantedBy.epoch <= term.epoch) return;
  await group.release();
  const text = `epoch ${grantedBy.epoch} was begun since ${name} handed over its ${term.epoch}`;
  throw new WalError('WAL_FENCED', text);
}

async function wonBy(
  core: LogCore,
  standby: StandbyDriver,
  handover: Handover,
  { grant, begin, signal }: Candidacy,
): Promise<WonEpoch> {
  const { nodeId, logId, salt } = core.info;
  const { name } = core.options;
  const own = { name, sender: { nodeId, logId, salt }, environment: core.environment };
  const old = await askStanding(standby.endpoint, own, signal);
  const isMine =
    old.nodeId === handover.term.opener &&
    old.role === 'standby' &&
    isFence(old.term) &&
    old.term.epoch === handover.epoch &&
    old.term.opener === nodeId &&
    old.end.position === handover.end.position;
  if (!isMine)
    throw notHandedOver(`${handover.name} says that it has not handed over to this node`);
  const requireMine = (): void => requireExact(core, standby, handover);
  requireMine();
  begin();
  const epoch = grant === undefined ? handover.epoch : await grant(handover.epoch - 1);
  if (epoch < handover.epoch) {
    throw new WalError('WAL_FENCED', `the referee granted epoch ${epoch}, and not above`);
  }
  return {
    term: { epoch, opener: nodeId, incarnation: 1 },
    witnesses: [],
    forced: null,
    requireMine,
  };
}

/** Throws unless it is of the primary that is followed, and this log is exactly that one's. */
function requireExact(core: LogCore, standby: StandbyDriver, handover: Handover): void {
  const { native, members } = core;
  const { term, end, crc, name, epoch } = handover;
  const { term: known, history, role } = native.info();
  const last = history.at(-1);
  const { primary, told } = standby.upstream();
  if (role !== 'standby' || compareTerms(known, term) !== 'same' || primary !== name) {
    const text = `this node follows ${primary}, of term ${showTerm(known)}, and not ${name}`;
    throw notHandedOver(text);
  }
  const { state } = native;
  const isSame =
    last !== undefined &&
    compareTerms(last, term) === 'same' &&
    state[State.CLOSED_POSITION] === end.position &&
    state[State.CLOSED_LSN] === end.lsn &&
    state[State.FLUSH_POSITION] === end.position &&
    state[State.LAST_CRC] === crc;
  if (!isSame) throw notHandedOver(`this log does not end where that of ${name} does`);
  const heard = members?.heardEpoch ?? 0;
  if (told.position > end.position || heard > epoch) {
    throw notHandedOver(`more is known here than what ${name} hands over`);
  }
}

function taken(core: LogCore, { epoch, end }: Handover): Omit<Taken, 'version'> {
  const { history, nodeId } = core.native.info();
  const opening = history.at(-1);
  if (opening?.opener === nodeId && opening.epoch >= epoch && opening.position >= end.position) {
    return { term: opening, lsn: opening.lsn, name: core.options.name };
  }
  throw notStandby('primary');
}

function notHandedOver(text: string): WalError {
  return new WalError('WAL_PEER_REFUSED', text);
}
