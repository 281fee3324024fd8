import { State } from '../native/native_log.js';
import { type Refusal, refusalOf } from '../referee/eligibility.js';
import { HeldGroup } from '../referee/held_group.js';
import { placeOf } from '../referee/place.js';
import type { Answer, Claim, Referee } from '../referee/referee.js';
import { pause } from '../transport/environment.js';
import type { LogCore } from './core.js';
import { WalError } from './errors.js';
import { knownEpoch } from './win_epoch.js';

/** What this node says of itself to be granted its group. */
export function claimOf(core: LogCore, kind: Claim['kind'], known = 0): Claim {
  const { native, options } = core;
  const info = native.info();
  const { logId, nodeId } = info;
  return {
    logId,
    nodeId,
    name: options.name,
    epoch: Math.max(known, knownEpoch(info), core.members?.heardEpoch ?? 0),
    storedEpoch: knownEpoch(info),
    lastEpoch: info.history.at(-1)?.epoch ?? 0,
    place: placeOf(options.dir),
    lsn: native.state[State.FLUSH_LSN] ?? 0,
    kind,
    maximumLag: options.maximumLag,
  };
}

/**
 * The group, for a log that opens as its primary. A referee that is away is asked again, for about
 * two times to live, and so is one that keeps the lease of an earlier life of this node, or of a
 * candidate that has not begun. Rejects
 * with WAL_NOT_GRANTED, or WAL_LOCKED where that life goes on, or as the referee does.
 */
export async function claimToOpen(core: LogCore, referee: Referee): Promise<HeldGroup> {
  const { environment } = core;
  const { signal } = core.options;
  const { ttlMs, renewEveryMs } = referee.timing;
  const endsAt = environment.now() + 2 * ttlMs;
  for (;;) {
    // By when it was asked: an answer may wait for as long as the process is stopped.
    const isLate = environment.now() >= endsAt;
    try {
      const answer = await referee.acquire(claimOf(core, 'open'), { signal });
      if ('grant' in answer) {
        return new HeldGroup({ referee, grant: answer.grant, environment });
      }
      const isNamesake = isHeldByNamesake(core, answer);
      if (!isNamesake && (isLate || !mayPass(core, answer))) throw notGranted(answer.refusal);
      if (isLate) throw lockedElsewhere(core);
    } catch (error) {
      const isPassing = error instanceof WalError && error.code === 'WAL_REFEREE_AWAY';
      if (!isPassing || isLate) throw error;
    }
    await pause(environment, renewEveryMs / 2, signal);
    signal?.throwIfAborted();
  }
}

/** Why this node would not be promoted by itself, were automation not paused. */
export async function refereeAgainst(
  core: LogCore,
  referee: Referee,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  const { pause: _, ...view } = await referee.view({ signal });
  return refusalOf(claimOf(core, 'promotion'), view)?.message;
}

/**
 * The group, with an epoch above `known` and all that this node knows. Rejects with
 * WAL_NOT_GRANTED, or as the referee does.
 */
export async function claim(
  core: LogCore,
  referee: Referee,
  kind: Claim['kind'],
  known: number,
  signal: AbortSignal | undefined,
): Promise<HeldGroup> {
  const answer = await referee.acquire(claimOf(core, kind, known), { signal });
  if ('refusal' in answer) throw notGranted(answer.refusal);
  return new HeldGroup({ referee, grant: answer.grant, environment: core.environment });
}

/** An earlier life of this node, before a restart of its machine; or a copy of its directory. */
function isHeldByNamesake(core: LogCore, answer: Answer): boolean {
  if (!('refusal' in answer) || answer.refusal.reason !== 'held') return false;
  return answer.view.holder?.nodeId === core.info.nodeId;
}

/**
 * Its own lease may have ended between the look and the claim; and a candidate that was granted the
 * group, while the rule is still that of this node, has not begun, and may give it back.
 */
function mayPass(core: LogCore, answer: Answer): boolean {
  if (!('refusal' in answer)) return false;
  const { refusal, view } = answer;
  if (refusal.reason === 'raced') return true;
  return refusal.reason === 'held' && view.rule?.primary === core.info.nodeId;
}

function lockedElsewhere({ options }: LogCore): WalError {
  const text = `another process is the primary with a copy of ${options.dir}, and renews its lease`;
  return new WalError('WAL_LOCKED', text, {
    hint: 'End that process; or remove this copy, and let a new standby be made here.',
  });
}

function notGranted({ message }: Refusal): WalError {
  return new WalError('WAL_NOT_GRANTED', message, { outcome: 'refused' });
}
