import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Where a directory of a log is locked: on this machine, since it was started, and by this very
 * file. Of two processes that run, and each have their lock, no two are at one place, whatever was
 * copied. undefined: it cannot be told.
 */
export function placeOf(dir: string): string | undefined {
  try {
    const { dev, ino } = statSync(join(dir, 'lock'), { bigint: true });
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    return `${boot} ${dev}:${ino}`;
  } catch {
    return undefined;
  }
}
