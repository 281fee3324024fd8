import { Archiver } from '../archive/archiver.js';
import type { LogCore } from './core.js';

/**
 * The archive of this log; undefined: it has none. Made before anything can let go of log: from
 * then on what is not archived is kept.
 */
export function claimForArchive(core: LogCore): Archiver | undefined {
  const { options, native, info, environment } = core;
  if (options.archive === undefined) return undefined;
  return new Archiver(
    {
      ...{ native, info, environment, closing: core.closing.signal },
      commit: () => core.driver.commit,
      mayShip: () => mayShip(core),
      cuts: () => core.cuts.count,
      explain: (error) => core.explain(error),
      changed: (change) => {
        const { code, message } = core.archive?.status().error ?? {};
        if (code !== undefined && message !== undefined) core.noteError({ code, message });
        core.events.emit('archive', change);
      },
    },
    options.archive,
  );
}

/**
 * An old primary may have to go back to before what it has committed itself; and whether a standby
 * does not have to either, its primary tells.
 */
function mayShip(core: LogCore): boolean {
  const { state, failure, hasRole, isPrimary } = core;
  if (state !== 'open' || failure !== undefined || !hasRole) return false;
  if (core.driver.role === 'fenced') return false;
  return isPrimary || core.driver.upstream().connected;
}
