import type { Referee } from '../referee/referee.js';
import type { LogCore } from './core.js';
import * as check from './validate.js';

/** From now on no standby is promoted by itself. */
export async function pauseFailover(
  core: LogCore,
  reason: unknown,
  signal: AbortSignal | undefined,
): Promise<void> {
  const text = check.string(reason, 'reason');
  await refereeOf(core).pause(core.options.name, text, { signal });
}

export async function resumeFailover(
  core: LogCore,
  signal: AbortSignal | undefined,
): Promise<void> {
  await refereeOf(core).resume({ signal });
}

function refereeOf(core: LogCore): Referee {
  core.requireOpen();
  const { referee } = core.options;
  if (referee === undefined) throw new TypeError('this log was opened without a referee');
  return referee;
}
