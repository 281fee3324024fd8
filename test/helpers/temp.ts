import { join } from 'node:path';
import { tempDir } from '../global/temp.js';

/** A path for a log directory, not made yet; gone when the test is over. */
export function freshDir(name = 'log'): string {
  return join(tempDir(name), name);
}
