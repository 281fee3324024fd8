import { formatStandbys, priorityOf, type SyncStandbys } from '../replication/policy.js';
import type { StandbyStatus as HubStandby } from '../transport/primary_hub.js';
import type { ResolvedPolicy } from './policy_options.js';
import type { PolicyStatus } from './status.js';

/** Waits that are shorter are part of every commit. */
const longMs = 1_000;

/** What the policy of a primary comes to at the moment. */
export interface PolicyNow {
  readonly standbys: readonly HubStandby[];
  /** Milliseconds for which what is flushed has waited for standbys. */
  readonly waited: number;
  /** Milliseconds since 1970. */
  readonly wallMs: number;
  readonly commits: number;
  readonly degraded: PolicyStatus['degraded'];
  readonly inForce: boolean;
  /** Whether the referee, if there is one, lets anything be acknowledged. */
  readonly isGranted: boolean;
}

export function policyStatus(policy: ResolvedPolicy, now: PolicyNow): PolicyStatus {
  const { level, standbys, whenMissing, syncTimeout } = policy;
  const { waited, wallMs, commits, degraded, inForce, isGranted } = now;
  return {
    synchronousCommit: level,
    synchronousStandbys: standbys === undefined ? null : formatStandbys(standbys),
    whenMissing,
    syncTimeout,
    waitingFor: isGranted ? waitingFor(policy, now.standbys, waited) : 'the referee',
    waitingSince: waited === 0 ? null : new Date(wallMs - waited).toISOString(),
    waitingCommits: commits,
    degraded,
    inForce,
  };
}

/** What a synchronous commit lacks now, in words; null if all that it needs are there. */
export function waitingFor(
  { standbys }: ResolvedPolicy,
  connected: readonly HubStandby[],
  waited: number,
): string | null {
  if (standbys === undefined) return null;
  const lacks = whatLacks(standbys, connected, waited);
  return lacks === null ? null : `${lacks}, for ${formatStandbys(standbys)}`;
}

function whatLacks(
  standbys: SyncStandbys,
  connected: readonly HubStandby[],
  waited: number,
): string | null {
  const { count } = standbys;
  const named = connected.filter(({ name }) => priorityOf(standbys, name) >= 0);
  const missing = count - named.length;
  if (missing > 0) return `${missing} more ${missing === 1 ? 'standby' : 'standbys'} to connect`;
  const behind = named.filter(({ state }) => state !== 'live');
  if (named.length - behind.length < count) return `${namesOf(behind)} to catch up`;
  const counted = named.filter(({ counts }) => counts);
  if (counted.length < count) return 'the rule for commits to be recorded';
  if (waited < longMs) return null;
  return `${namesOf(counted)} to answer`;
}

function namesOf(standbys: readonly HubStandby[]): string {
  return standbys.map(({ name }) => name).join(', ');
}
