/**
 * The long form of the tests: all that the quick ones sample, every planted bug, and each fuzz
 * target for a minute. Prints the counts of each part, and how long it took. Goes on after a part
 * that fails.
 */
import { spawnSync } from 'node:child_process';

const root = new URL('..', import.meta.url).pathname;
const native = ['-C', 'native/test', '-j2', '--no-print-directory'];
const everything = { WALMIRROR_EXHAUSTIVE: '1' };
const parts = [
  ['the core, all that can be tried', 'make', [...native, 'exhaustive']],
  ['the core, address and undefined behaviour sanitizers', 'make', [...native, 'asan']],
  [
    'the addon, each allocation',
    'npx',
    ['--no-install', 'vitest', 'run', '--project', 'unit', 'test/native/out_of_memory.test.ts'],
    everything,
  ],
  [
    'TLS, each byte of a handshake',
    'npx',
    ['--no-install', 'vitest', 'run', '--project', 'unit', 'test/transport/hostile_tls.test.ts'],
    everything,
  ],
  ['planted bugs', process.execPath, ['test/planted/run.mjs']],
  ['fuzzing of the core', 'make', [...native, 'fuzz', 'FUZZ_SECONDS=60']],
  ['fuzzing of the wire format', 'npm', ['run', '--silent', 'test:fuzz-wire', '--', '60']],
  [
    'each system call, full disks, failovers',
    'npm',
    ['run', '--silent', 'test:system'],
    everything,
  ],
];

const results = parts.map(([name, command, args, more]) => {
  console.log(`\n== ${name}`);
  const began = performance.now();
  const { status } = spawnSync(command, args, {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...more },
  });
  return { name, status, seconds: Math.round((performance.now() - began) / 1000) };
});
console.log('');
for (const { name, status, seconds } of results) {
  console.log(`${String(seconds).padStart(6)} s  ${name}: ${status === 0 ? 'ok' : 'FAILED'}`);
}
process.exit(results.every(({ status }) => status === 0) ? 0 : 1);
