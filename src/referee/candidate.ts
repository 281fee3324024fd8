import { waitsForStandbys } from '../replication/rule.js';
import { type Environment, pause } from '../transport/environment.js';
import { refusalOf } from './eligibility.js';
import type { Claim, Grant, GroupView, Referee } from './referee.js';

/** Those that may take the group do not all ask at once. */
const spreadMs = 100;
/** In async mode who has more asks first: so long for each record that is lacking, at most. */
const lagMs = 1;
const mostLagMs = 1000;

export interface CandidateHost {
  readonly environment: Environment;
  /** What this node would claim now, by what is seen; undefined: it cannot, for the moment. */
  readonly claim: (view: GroupView) => Claim | undefined;
  /**
   * It was granted the group. Resolves when it is the primary, or gives the grant back and rejects:
   * then it is a candidate again.
   */
  readonly take: (grant: Grant, signal: AbortSignal) => Promise<void>;
  /** What is seen: the group, why this node does not take it, or why nothing is seen. */
  readonly onSight: (sight: CandidateSight) => void;
}

export interface CandidateSight {
  readonly view: GroupView | undefined;
  /** Why it is not the primary's successor now, in words; null: it may be, or need not. */
  readonly reason: string | null;
}

/**
 * A standby that takes the group when nobody holds it, where the referee allows that (SAFETY 4.2).
 * Ends with the signal, or when it has become the primary.
 */
export async function standBy(
  referee: Referee,
  host: CandidateHost,
  signal: AbortSignal,
): Promise<void> {
  let view: GroupView | undefined;
  for await (const sight of referee.watch({ signal })) {
    if ('away' in sight) {
      host.onSight({ view, reason: sight.away.message });
      continue;
    }
    view = sight.view;
    if (await tookOver(referee, host, view, signal)) return;
  }
}

/** Tries for as long as the group is free and this node may have it. */
async function tookOver(
  referee: Referee,
  host: CandidateHost,
  first: GroupView,
  signal: AbortSignal,
): Promise<boolean> {
  let view = first;
  /** Why it was not promoted, though it was granted the group: told until another answer comes. */
  let failure: string | null = null;
  while (!signal.aborted) {
    const claim = host.claim(view);
    const refusal = claim === undefined ? undefined : refusalOf(claim, view);
    const isHeld = refusal?.reason === 'held';
    host.onSight({ view, reason: isHeld ? null : (refusal?.message ?? failure) });
    // What changes that is told by the watch; how far this log is, it does not tell.
    if (refusal !== undefined && refusal.reason !== 'lagging') return false;
    const isReady = claim !== undefined && refusal === undefined;
    const waitMs = isReady ? patience(claim, view, host.environment) : referee.timing.renewEveryMs;
    await pause(host.environment, waitMs, signal, 'unref');
    if (signal.aborted) return false;
    try {
      const fresh = host.claim(view);
      if (!isReady || fresh === undefined) {
        view = await referee.view({ signal });
        continue;
      }
      const answer = await referee.acquire(fresh, { signal });
      if ('grant' in answer) {
        await host.take(answer.grant, signal);
        return true;
      }
      view = answer.view;
    } catch (error) {
      if (signal.aborted) return false;
      failure = (error as Error).message;
      host.onSight({ view, reason: failure });
      await pause(host.environment, referee.timing.renewEveryMs, signal, 'unref');
      view = await referee.view({ signal }).catch(() => view);
    }
  }
  return false;
}

/** A switchover has kept the group for this node: it does not wait. */
function patience(
  claim: Claim,
  { holder, rule, progress }: GroupView,
  environment: Environment,
): number {
  if (holder?.nodeId === claim.nodeId) return 0;
  const spread = environment.random() * spreadMs;
  if (rule === undefined || waitsForStandbys(rule.rule) || progress === undefined) return spread;
  const lag = Math.max(0, progress.lsn - claim.lsn);
  return spread + Math.min(mostLagMs, lag * lagMs);
}
