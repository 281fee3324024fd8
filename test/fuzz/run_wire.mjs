/**
 * libFuzzer on the wire format as TypeScript reads it: wire_fuzz.mjs, with the corpus beside it.
 *
 *   node test/fuzz/run_wire.mjs [SECONDS] [OPTION OF LIBFUZZER...]
 *   node test/fuzz/run_wire.mjs 1 FILE    only this input again
 *
 * Needs clang with its run-time libraries, and `npm run build`. Prints how much was tried; an input
 * that finds something is kept in native/test/build/wire.
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

const root = new URL('../..', import.meta.url).pathname;
const build = `${root}native/test/build/wire`;
const corpus = `${root}test/fuzz/corpus/wire`;

function run(command, args, options = {}) {
  const result = spawnSync(command, args, { encoding: 'utf8', maxBuffer: 1 << 28, ...options });
  if (result.error !== undefined) throw result.error;
  return result;
}

/** The addon around libFuzzer, and the package's own code, to be instrumented when it is loaded. */
function prepare() {
  mkdirSync(`${build}/found`, { recursive: true });
  const { stdout } = run('clang', ['-print-runtime-dir']);
  const library = `${stdout.trim()}/libclang_rt.fuzzer_no_main-${architecture()}.a`;
  const include = `${dirname(dirname(process.execPath))}/include/node`;
  const files = ['-o', `${build}/driver.node`, `${root}test/fuzz/driver/driver.c`];
  const all = ['-Wl,--whole-archive', library, '-Wl,--no-whole-archive', '-lstdc++', '-lm'];
  const flags = ['-O1', '-Wall', '-Wextra', '-fPIC', '-shared', `-I${include}`, '-pthread'];
  const { status, stderr } = run('clang', [...flags, ...files, ...all]);
  if (status !== 0) throw new Error(`the driver does not compile:\n${stderr}`);
  rmSync(`${build}/dist`, { recursive: true, force: true });
  cpSync(`${root}dist`, `${build}/dist`, { recursive: true });
  writeFileSync(`${build}/package.json`, '{"type":"module"}');
}

function architecture() {
  return { x64: 'x86_64', arm64: 'aarch64' }[process.arch] ?? process.arch;
}

const [seconds = '20', ...options] = process.argv.slice(2);
prepare();
const inputs = options.some((option) => !option.startsWith('-')) ? [] : [`${build}/found`, corpus];
const { status, stderr } = run(process.execPath, [
  `${root}test/fuzz/wire_fuzz.mjs`,
  build,
  `-max_total_time=${seconds}`,
  '-max_len=4096',
  '-timeout=20',
  '-print_final_stats=1',
  `-artifact_prefix=${build}/`,
  ...options,
  ...inputs,
]);
const tried = /^stat::number_of_executed_units: *(\d+)/m.exec(stderr)?.[1];
const features = [...stderr.matchAll(/ ft: (\d+) /g)].at(-1)?.[1] ?? 'no';
if (status !== 0 || (tried === undefined && inputs.length > 0)) {
  console.error(stderr.split('\n').slice(-60).join('\n'));
  process.exit(1);
}
console.log(`wire: ${tried ?? 1} executions in ${seconds} s, ${features} features`);
