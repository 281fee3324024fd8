import type { LogCore } from './core.js';
import { WalError } from './errors.js';
import { asUnknown } from './failure.js';
import { FencedDriver } from './fenced_driver.js';

/**
 * Resolves when this node shows the record to its readers and its applier, if it has one, has
 * applied it.
 */
export function waitFor(core: LogCore, lsn: number, signal: AbortSignal | undefined) {
  return core.keepAlive.during(
    core.moved.until(() => {
      core.requireReadable();
      return core.visible('commit').lsn >= lsn ? isApplied(core, lsn) : mayStillCome(core);
    }, signal),
  );
}

/** Resolves when this node shows the record to its readers: its commit position has passed it. */
export function untilShown(core: LogCore, lsn: number, signal: AbortSignal) {
  return core.moved.until(() => {
    core.requireReadable();
    return core.visible('commit').lsn >= lsn || mayStillCome(core);
  }, signal);
}

/** One that was stopped applies nothing: what another has applied, that is there. */
function isApplied({ applier }: LogCore, lsn: number): boolean {
  if (applier === undefined || applier.appliedLsn >= lsn) return true;
  if (applier.error !== undefined) throw applier.error;
  return false;
}

/** On a fenced primary the commit place moves no more. */
function mayStillCome({ driver }: LogCore): false {
  if (!(driver instanceof FencedDriver)) return false;
  const error = driver.refusal();
  throw error instanceof WalError ? asUnknown(error) : error;
}
