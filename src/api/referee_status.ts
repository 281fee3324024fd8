import type { LeaseState } from '../referee/lease_keeper.js';
import type { GroupView } from '../referee/referee.js';
import type { RefereeStatus } from './status.js';

/** What a role knows of the referee. */
export interface RefereeNow {
  readonly lease: LeaseState | null;
  readonly view: GroupView | undefined;
  readonly reason: string | null;
}

export const nothingSeen: RefereeNow = { lease: null, view: undefined, reason: null };

export function refereeStatus({ lease, view, reason }: RefereeNow): RefereeStatus {
  const { leader, holder, pause } = view ?? {};
  return {
    lease,
    leader:
      leader === undefined
        ? null
        : { name: leader.name, nodeId: leader.nodeId, epoch: leader.epoch },
    held: view === undefined ? null : holder !== undefined,
    pause:
      pause === undefined
        ? null
        : { by: pause.by, reason: pause.reason, at: new Date(pause.at).toISOString() },
    reason,
  };
}
