import type { LogCore } from './core.js';
import { WalError } from './errors.js';
import { FencedDriver } from './fenced_driver.js';
import { followFromNow } from './follow.js';
import {
  type Endpoint,
  type FollowOptions,
  type RejoinMode,
  resolveFollow,
  resolveOpenOptions,
} from './options.js';
import { StandbyDriver } from './standby_driver.js';
import * as check from './validate.js';

/** Options of `rejoin`. */
export interface RejoinOptions {
  /** The new primary. */
  readonly follow: FollowOptions;
  /** What becomes of records that it does not have. Default: as `Log.open` was given it. */
  readonly rejoin?: RejoinMode;
}

interface Plan {
  readonly follow: Endpoint;
  readonly rejoin: RejoinMode;
}

/** A fenced log follows its new primary, on the same object; its tail is judged like at an open. */
export async function rejoin(core: LogCore, options: unknown): Promise<void> {
  const plan = resolvePlan(core, options);
  // It may be on its way to the disk that it is fenced.
  await core.roleChange;
  core.requireOpen();
  const fenced = core.driver;
  const mayRejoin = fenced instanceof FencedDriver || fenced instanceof StandbyDriver;
  if (!mayRejoin || fenced.role !== 'fenced') throw notFenced(fenced.role);
  if (fenced.promoting) throw notFenced('changing its role already');
  core.options = { ...core.options, ...plan };
  await followFromNow(core, fenced, plan.follow);
}

function resolvePlan({ options }: LogCore, given: unknown): Plan {
  const raw = check.optionsObject(given, 'rejoin', ['follow', 'rejoin']);
  if (raw.follow === undefined) {
    throw new TypeError('rejoin needs the new primary: pass follow: { port: 7401 }');
  }
  const { dir, name } = options;
  const mode = raw.rejoin === undefined ? options.rejoin : raw.rejoin;
  const { rejoin } = resolveOpenOptions({ dir, name, follow: raw.follow, rejoin: mode });
  return { follow: resolveFollow(raw.follow, name), rejoin };
}

function notFenced(role: string): WalError {
  return new WalError('WAL_NOT_STANDBY', `only a fenced log can rejoin; this one is ${role}`, {
    hint: 'See `log.status().role` before the call.',
  });
}
