/**
 * Builds the addon with AddressSanitizer and UndefinedBehaviorSanitizer, beside the ordinary build,
 * and runs those tests with it that take memory through its hands: buffers that come and go,
 * workers that are terminated, processes that end in the middle.
 *
 *   node test/asan/run.mjs [TEST...]    other test files than these
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, rmSync, symlinkSync } from 'node:fs';

const root = new URL('../..', import.meta.url).pathname;
const place = `${root}native/test/build/addon-asan`;
const tests = [
  'test/native/append.test.ts',
  'test/native/ingest.test.ts',
  'test/native/read.test.ts',
  'test/native/truncate.test.ts',
  'test/api/attach.test.ts',
  'test/api/attach_threads.test.ts',
  'test/api/exit.test.ts',
  'test/api/teardown.test.ts',
  'test/api/threaded.test.ts',
  'test/api/threaded_calls.test.ts',
];
const flags = '-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g';

function run(command, args, cwd, env) {
  const { status } = spawnSync(command, args, {
    cwd,
    stdio: 'inherit',
    env: { ...process.env, ...env },
  });
  if (status !== 0) process.exit(status ?? 1);
}

/** The library that the compiler links: it has to be in the process before Node is. */
function runtime(name) {
  const { stdout } = spawnSync('gcc', [`-print-file-name=${name}`], { encoding: 'utf8' });
  return stdout.trim();
}

mkdirSync(place, { recursive: true });
for (const name of ['binding.gyp', 'package.json', 'node_modules', 'native']) {
  rmSync(`${place}/${name}`, { force: true });
  symlinkSync(`${root}${name}`, `${place}/${name}`);
}
const compile = { CFLAGS: flags, CXXFLAGS: flags, LDFLAGS: '-fsanitize=address,undefined' };
run('npx', ['--no-install', 'node-gyp', 'configure', 'build', '--loglevel=warn'], place, compile);

const chosen = process.argv.slice(2);
const vitest = ['run', '--project', 'unit', ...(chosen.length > 0 ? chosen : tests)];
run(`${root}node_modules/.bin/vitest`, vitest, root, {
  WALMIRROR_PREBUILD: place,
  LD_PRELOAD: [runtime('libasan.so'), runtime('libstdc++.so.6')].join(' '),
  // Node itself leaves memory to the end of the process, and so do its workers.
  ASAN_OPTIONS: 'detect_leaks=0:detect_stack_use_after_return=1:halt_on_error=1',
  UBSAN_OPTIONS: 'print_stacktrace=1',
});
