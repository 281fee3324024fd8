import type { ClosedTimes } from '../replication/closed_times.js';
import type { StandbyStatus as HubStandby } from '../transport/primary_hub.js';
import type { StageLag, StandbyStatus } from './status.js';

/** How many of those that have gone are remembered; the one that left first is forgotten first. */
const MAX_GONE = 64;

interface Gone {
  /** As it was when it left. */
  readonly last: HubStandby;
  readonly reason: string;
  readonly atMs: number;
}

/** The end of the log as it is now, and the clocks. */
export interface BookNow {
  readonly closed: { readonly position: number; readonly lsn: number };
  readonly times: ClosedTimes;
  /** Monotone milliseconds. */
  readonly nowMs: number;
  /** Milliseconds since 1970. */
  readonly wallMs: number;
}

/** The standbys of a primary, those that have gone too. */
export class StandbyBook {
  readonly #gone = new Map<string, Gone>();

  came({ name, nodeId }: { readonly name: string; readonly nodeId: string }): void {
    this.#gone.delete(nodeId);
    // One that was wiped has another id, and is the same to whoever looks after it.
    for (const [id, { last }] of this.#gone) if (last.name === name) this.#gone.delete(id);
  }

  left(last: HubStandby, reason: string, wallMs: number): void {
    this.#gone.delete(last.nodeId);
    this.#gone.set(last.nodeId, { last, reason, atMs: wallMs });
    if (this.#gone.size <= MAX_GONE) return;
    for (const id of this.#gone.keys()) {
      this.#gone.delete(id);
      return;
    }
  }

  /** Those that are connected, then those that are not, the last one to leave first. */
  status(connected: readonly HubStandby[], now: BookNow): StandbyStatus[] {
    const here = connected.map((standby) => ({
      ...identityOf(standby),
      state: standby.state === 'live' ? ('live' as const) : ('catchup' as const),
      reason: null,
      since: new Date(standby.stateSince).toISOString(),
      synchronous: standby.counts,
      ...progressOf(standby, now),
      lastContactMs: standby.silence,
    }));
    const gone = [...this.#gone.values()].reverse().map(({ last, reason, atMs }) => ({
      ...identityOf(last),
      state: 'disconnected' as const,
      reason,
      since: new Date(atMs).toISOString(),
      synchronous: false,
      ...progressOf(last, now),
      lastContactMs: last.silence + Math.max(0, now.wallMs - atMs),
    }));
    return [...here, ...gone];
  }
}

function identityOf({ name, nodeId, address, security }: HubStandby) {
  return { name, nodeId, address, security };
}

function progressOf(standby: HubStandby, now: BookNow) {
  const { write, flush, applyLsn } = standby;
  const apply =
    applyLsn >= flush.lsn
      ? { lsn: applyLsn, position: flush.position }
      : { lsn: applyLsn, position: Math.min(flush.position, now.times.positionOf(applyLsn)) };
  return {
    sentLsn: standby.sentLsn,
    writeLsn: write.lsn,
    flushLsn: flush.lsn,
    applyLsn,
    lag: { write: lagOf(write, now), flush: lagOf(flush, now), apply: lagOf(apply, now) },
  };
}

function lagOf(
  { position, lsn }: { readonly position: number; readonly lsn: number },
  { closed, times, nowMs }: BookNow,
): StageLag {
  return {
    records: Math.max(0, closed.lsn - lsn),
    bytes: Math.max(0, closed.position - position),
    milliseconds: Math.round(times.age(lsn, nowMs)),
  };
}
