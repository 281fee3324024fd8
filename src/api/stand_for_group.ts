import { standBy } from '../referee/candidate.js';
import { HeldGroup } from '../referee/held_group.js';
import type { GroupView } from '../referee/referee.js';
import { claimOf } from './claims.js';
import type { LogCore } from './core.js';
import { WalError } from './errors.js';
import { ledLast, takeGroup } from './promote.js';
import type { StandbyDriver } from './standby_driver.js';

/** With a referee, takes the place of a primary that is gone, until this log has another role. */
export function standForGroup(core: LogCore, standby: StandbyDriver): void {
  const { referee } = core.options;
  if (referee === undefined) return;
  const { signal } = core.roleEnds;
  // One that was a primary, if nobody has come so far as to acknowledge anything since.
  const mayReturn = ({ rule }: GroupView): boolean =>
    ledLast(core, rule) && !core.isOlderCopy && core.rejoin?.state !== 'split';
  const mayStand = (view: GroupView): boolean =>
    (standby.role === 'standby' || mayReturn(view)) &&
    !standby.promoting &&
    !standby.standsBack &&
    core.snapshots?.seeding.awaited === undefined &&
    // Others may lead as long as the application's state is loaded.
    core.snapshots?.isReady !== false &&
    core.failure === undefined;
  const { environment } = core;
  let told = '';
  const host = {
    environment,
    claim: (view: GroupView) => (mayStand(view) ? claimOf(core, 'promotion') : undefined),
    take: async (grant: Parameters<typeof referee.renew>[0]) => {
      try {
        const group = new HeldGroup({ referee, grant, environment });
        await takeGroup(core, standby, group, core.closing.signal);
      } catch (error) {
        const { message } = error as Error;
        // It is tried again and again.
        if (message !== told) core.news.tell('warn', 'promote', `not promoted: ${message}`, {});
        told = message;
        throw error;
      }
    },
    onSight: (sight: StandbyDriver['sight']) => {
      standby.sight = sight;
    },
  };
  standBy(referee, host, signal).catch((error: unknown) => {
    if (signal.aborted) return;
    core.noteError({ code: codeOf(error), message: (error as Error).message });
  });
}

function codeOf(error: unknown): WalError['code'] {
  return error instanceof WalError ? error.code : 'WAL_REFEREE_AWAY';
}
