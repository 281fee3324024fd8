import { State, type Term } from '../native/native_log.js';
import { showEndpoint } from '../transport/endpoint.js';
import type { LogCore } from './core.js';
import { WalError } from './errors.js';
import type { Endpoint } from './options.js';
import { PrimaryDriver } from './primary_driver.js';
import { standForGroup } from './stand_for_group.js';
import { StandbyDriver } from './standby_driver.js';

/** The primary that this log is; throws why it is none. */
export function primaryOf(core: LogCore): PrimaryDriver {
  const { driver } = core;
  if (driver instanceof PrimaryDriver) return driver;
  throw driver.refusal();
}

/** Throws where the log is closed, has failed, or has another role by now. */
export function requireStill(core: LogCore, driver: PrimaryDriver): void {
  core.requireOpen();
  if (core.driver !== driver) throw core.driver.refusal();
}

/** How often what moves without a word is looked at. */
const lookMs = 10;

/** Resolves when it is met; rejects with what `met` throws, or the signal's reason. */
export async function untilMet(
  core: LogCore,
  met: () => boolean,
  signal: AbortSignal,
): Promise<void> {
  const { environment, moved } = core;
  const timer = environment.setInterval(() => moved.settle(), lookMs);
  try {
    await moved.until(met, signal);
  } finally {
    environment.clearTimer(timer);
  }
}

/** All that was appended, which is closed, is flushed here. */
export function isFlushed({ native: { state } }: LogCore): boolean {
  return (state[State.FLUSH_POSITION] ?? 0) >= (state[State.CLOSED_POSITION] ?? 0);
}

export interface StepDown {
  /** To store: that of the log, or what its successor may open. */
  readonly term: Term;
  /** Name and place of the successor; undefined: there is none. */
  readonly successor: { readonly name: string; readonly endpoint: Endpoint } | undefined;
  /** Where to look for a primary first. */
  readonly endpoint: Endpoint;
  readonly reason: 'switchover' | 'demoted';
  readonly signal: AbortSignal;
}

/** A log that is a standby, and follows nobody before it is let. */
export interface SteppedDown {
  readonly standby: StandbyDriver;
  /** All that it did as a primary is over: the log's memory is let go of. */
  readonly left: Promise<void>;
  follow(): void;
}

/**
 * Records durably that this log, which takes no appends, is a standby (SAFETY.md 3.9). Before that
 * nothing has changed; a control file that cannot be written fails the log. Nothing is acknowledged
 * any more from right before: commits that are not met by then end as unknown.
 */
export async function stepDown(
  core: LogCore,
  driver: PrimaryDriver,
  { term, successor, endpoint, reason, signal }: StepDown,
): Promise<SteppedDown> {
  // A fence for a candidate comes before this, or finds a standby.
  return core.desk.exclusively(async () => {
    signal.throwIfAborted();
    requireStill(core, driver);
    driver.endCommits();
    const address = successor === undefined ? '' : showEndpoint(successor.endpoint);
    try {
      await core.native.storeRole('standby', term, successor?.name ?? '', address);
    } catch (error) {
      // What a write of the control file left is unknown: so is what this log is.
      core.fail(error);
      throw core.explain(error);
    }
    // A newer primary was heard of meanwhile, and is stored behind.
    if (core.driver !== driver) throw core.driver.refusal();
    return take(core, driver, { term, endpoint, reason });
  });
}

function take(
  core: LogCore,
  driver: PrimaryDriver,
  { term, endpoint, reason }: Pick<StepDown, 'term' | 'endpoint' | 'reason'>,
): SteppedDown {
  const standby = new StandbyDriver(core, endpoint);
  // Nobody promotes it before this is over.
  standby.promoting = true;
  standby.standsBack = reason === 'demoted';
  const release = standby.hold(`this node was demoted: ${reason}`);
  const left = driver.close();
  left.catch(() => undefined);
  core.driver = standby;
  standby.start();
  standForGroup(core, standby);
  // Other threads hear why nothing is taken.
  core.appender.abandon();
  driver.rejectWaits(unmet(reason));
  core.drains.waits.rejectAll(standby.refusal());
  core.roleChanged('standby', term, reason);
  const follow = (): void => {
    standby.promoting = false;
    release();
  };
  return { standby, left, follow };
}

function unmet(reason: string): WalError {
  const text = `this log was demoted (${reason}) before the commit met its level`;
  return new WalError('WAL_SWITCHING', text, { outcome: 'unknown' });
}
