#!/usr/bin/env node
import { run } from './program.js';

// A reader that went away shows as EPIPE on a write; without a listener that would be a crash.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});
process.stderr.on('error', () => {});

const code = await run(process.argv);
// What was written goes out first; an input that is still open would otherwise keep the process.
process.stdout.write('', () => process.stderr.write('', () => process.exit(code)));
