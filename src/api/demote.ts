import { CallSignal } from '../referee/call_signal.js';
import type { Timer } from '../transport/environment.js';
import type { LogCore } from './core.js';
import { WalError } from './errors.js';
import type { Members } from './members.js';
import type { PrimaryDriver } from './primary_driver.js';
import { isFlushed, primaryOf, requireStill, stepDown, untilMet } from './step_down.js';
import { noMembers } from './switchover.js';
import * as check from './validate.js';

/** Options of `demote`. */
export interface DemoteOptions {
  /** Milliseconds for which commits that wait for standbys are waited for. Default 2,000. */
  readonly timeout?: number;
  /** Gives it up; once this log is demoted it does nothing. */
  readonly signal?: AbortSignal;
}

export const demoteKeys = ['timeout', 'signal'] as const;

const defaultTimeoutMs = 2_000;

/** A primary becomes a standby that follows nobody; of a standby there is nothing to do. */
export async function demote(core: LogCore, options: unknown): Promise<void> {
  const raw = check.optionsObject(options, 'demote', demoteKeys);
  const timeout =
    raw.timeout === undefined
      ? defaultTimeoutMs
      : check.finite(raw.timeout, 'timeout (milliseconds)', 0, 2 ** 31 - 1);
  const signal = check.abortSignal(raw.signal, 'signal');
  signal?.throwIfAborted();
  if (core.driver.role === 'standby') return;
  const driver = primaryOf(core);
  const { members } = core;
  if (members === undefined) throw noMembers();
  if (driver.isBusy) {
    throw new WalError('WAL_SWITCHING', 'this log is on its way to another role already');
  }
  driver.isBusy = true;
  const done = core.keepAlive.during(run(core, driver, members, timeout, signal));
  core.roleChange = done.catch(() => undefined);
  try {
    await done;
  } finally {
    driver.isBusy = false;
  }
}

async function run(
  core: LogCore,
  driver: PrimaryDriver,
  members: Members,
  timeout: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { environment } = core;
  const call = new CallSignal([core.closing.signal, signal]);
  let isLate = false;
  const limit: Timer = environment.setTimeout(() => {
    isLate = true;
  }, timeout);
  try {
    const text = 'this log is being demoted: nothing was taken';
    driver.pause(new WalError('WAL_SWITCHING', text, { outcome: 'refused' }));
    const met = (): boolean => {
      requireStill(core, driver);
      return isFlushed(core) && (isLate || driver.commits.waiting === 0);
    };
    await untilMet(core, met, call.signal);
    const { term } = core.native.info();
    const down = await stepDown(core, driver, {
      ...{ term, successor: undefined, endpoint: members.first, signal: call.signal },
      reason: 'demoted',
    });
    try {
      await driver.giveGroup(undefined);
      await down.left;
    } finally {
      down.follow();
    }
  } catch (error) {
    driver.resume();
    throw error;
  } finally {
    environment.clearTimer(limit);
    call.done();
  }
}
