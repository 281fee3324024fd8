#!/usr/bin/env node
import { report } from './failure.js';
import { run } from './program.js';

let failure: Error | undefined;
// A reader that went away shows as EPIPE on a write; without a listener that would be a crash.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  failure ??= error;
});
process.stderr.on('error', () => {});

const code = await run(process.argv);
// What was written goes out first; an input that is still open would otherwise keep the process.
// The event of a write that failed comes a little later than the callback.
process.stdout.write('', () => process.stderr.write('', () => setImmediate(end)));

/** An answer that could not be written is a failure, whatever the command came to. */
function end(): void {
  const failed = code === 0 && failure !== undefined;
  process.exit(failed ? report(failure, process.argv.includes('--json')) : code);
}
