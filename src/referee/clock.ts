import { loadBinding } from '../native/binding.js';

/**
 * Milliseconds since the machine was started, the time in which it was suspended included. Leases
 * are counted by it: they run on while this machine sleeps. `process.hrtime` and `performance.now`
 * are CLOCK_MONOTONIC, which stands still meanwhile.
 */
export function bootTime(): number {
  return loadBinding().bootTime();
}
