import { spawnSync } from 'node:child_process';

export interface Requirements {
  readonly root?: boolean;
  /** Programs that must be on the PATH. */
  readonly programs?: readonly string[];
}

/**
 * Why a system test cannot run here, or undefined: for `describe.skipIf(...)`. Says so on the
 * output; in CI a test that cannot run is a failure, or nothing would ever notice that it stopped
 * running.
 */
export function missing({ root, programs = [] }: Requirements): string | undefined {
  const reasons: string[] = [];
  if (root === true && process.getuid?.() !== 0) reasons.push('needs root');
  for (const program of programs) {
    const found = spawnSync('sh', ['-c', 'command -v "$1"', 'sh', program]).status === 0;
    if (!found) reasons.push(`needs ${program}`);
  }
  if (reasons.length === 0) return undefined;
  const reason = reasons.join(', ');
  if (process.env.CI !== undefined && process.env.CI !== '') throw new Error(`skipped: ${reason}`);
  process.stderr.write(`skipped: ${reason}\n`);
  return reason;
}
