import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';

/** Names of the segment files of a closed log, by where they start. */
function segments(dir: string): string[] {
  const start = (name: string): string => name.slice(17);
  return readdirSync(dir)
    .filter((name) => name.endsWith('.wal'))
    .sort((a, b) => start(a).localeCompare(start(b)));
}

/**
 * `cmp` finds no difference between the segments that both logs have and neither still writes.
 * Gives how many those are.
 */
export function expectEqualSealedSegments(a: string, b: string): number {
  const sealed = new Set(segments(b).slice(0, -1));
  const both = segments(a)
    .slice(0, -1)
    .filter((name) => sealed.has(name));
  for (const name of both) {
    const { status, stdout, stderr } = spawnSync('cmp', [join(a, name), join(b, name)]);
    expect(`${stdout}${stderr}`).toBe('');
    expect(status).toBe(0);
  }
  return both.length;
}
