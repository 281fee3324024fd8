import type { LogCore } from './core.js';
import { type PolicyOptions, policyKeys, resolvePolicy } from './policy_options.js';
import { PrimaryDriver } from './primary_driver.js';
import type { PolicyStatus } from './status.js';
import * as check from './validate.js';

/** Options of `setPolicy`. What is left out stays as it is. */
export interface SetPolicyOptions extends PolicyOptions {
  /** Ends the wait until the policy is in force; the policy stays set. */
  readonly signal?: AbortSignal;
}

/**
 * From the call on, commits have to meet the new policy; until it is recorded they meet the one
 * before too (SAFETY.md 4.1). Resolves when it counts alone.
 */
export async function setPolicy(core: LogCore, options: unknown): Promise<PolicyStatus> {
  const raw = check.optionsObject(options, 'setPolicy', ['signal', ...policyKeys]);
  const signal = check.abortSignal(raw.signal, 'signal');
  const driver = primaryDriver(core);
  const policy = resolvePolicy(raw, driver.policy);
  signal?.throwIfAborted();
  driver.setPolicy(policy);
  await core.keepAlive.during(
    core.moved.until(() => {
      core.requireReadable();
      return primaryDriver(core).isPolicyInForce;
    }, signal),
  );
  return primaryDriver(core).status().policy;
}

function primaryDriver(core: LogCore): PrimaryDriver {
  const { driver } = core;
  if (driver instanceof PrimaryDriver) return driver;
  throw driver.refusal();
}
