import { processEnvironment } from '../transport/environment.js';

/** The boot clock of this process, for stores of real machines. */
export function bootTime(): number {
  return processEnvironment.bootTime();
}
