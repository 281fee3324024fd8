import { mkdirSync, mkdtempSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { leftoverChildren } from './processes.js';

const RUN_ENV = 'WALMIRROR_TEST_RUN';

/**
 * One fresh directory a run, on the disk that the checkout is on (or $WALMIRROR_TEST_DIR), for all
 * that the tests write. At the end it must be empty, and no child process may be left: both fail
 * the run.
 */
export function setup(): (() => Promise<void>) | undefined {
  // Once a run, not once a project.
  if (process.env[RUN_ENV] !== undefined) return undefined;
  const base = resolve(process.env.WALMIRROR_TEST_DIR ?? '.tmp-test');
  mkdirSync(base, { recursive: true });
  const dir = mkdtempSync(join(base, `run-${process.pid}-`));
  const run = dir.slice(base.length + 1);
  // Inherited by the workers and by what they start.
  process.env[RUN_ENV] = run;
  process.env.WALMIRROR_TEST_DIR = dir;
  return async () => {
    const problems: string[] = [];
    for (const { pid, command } of await leftoverChildren(`${RUN_ENV}=${run}`)) {
      problems.push(`process ${pid} was left running: ${command}`);
      process.kill(pid, 'SIGKILL');
    }
    const files = readdirSync(dir, { recursive: true, encoding: 'utf8' });
    for (const file of files.slice(0, 20)) problems.push(`file was left behind: ${file}`);
    if (files.length > 20) problems.push(`... and ${files.length - 20} more`);
    rmSync(dir, { recursive: true, force: true });
    try {
      rmdirSync(base);
    } catch {
      // Another run is using it.
    }
    if (problems.length === 0) return;
    // vitest prints what a teardown throws, but would still end with 0.
    process.exitCode = 1;
    throw new Error(`the tests did not clean up:\n${problems.join('\n')}`);
  };
}
