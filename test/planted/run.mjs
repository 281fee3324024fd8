/**
 * Puts known bugs back, one at a time, and runs the part of the suite that has to find each:
 *
 *   node test/planted/run.mjs [WORD]    only the bugs whose names hold this word
 *
 * Fails if one is not found, and if a test fails without a bug.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { inTheCore, inTypeScript } from './plants.mjs';

const root = new URL('../..', import.meta.url).pathname;
const native = `${root}native/test`;
const word = process.argv[2] ?? '';
const secondsToFind = 60;

function run(command, args, cwd, plant) {
  const env = {
    ...process.env,
    NO_COLOR: '1',
    FORCE_COLOR: '0',
    ...(plant === undefined ? {} : { WALMIRROR_PLANT: plant }),
  };
  const began = performance.now();
  const { status, signal, stdout, stderr } = spawnSync(command, args, {
    cwd,
    env,
    encoding: 'utf8',
    timeout: secondsToFind * 1000,
    killSignal: 'SIGKILL',
  });
  return {
    status,
    signal,
    text: `${stdout}${stderr}`,
    seconds: (performance.now() - began) / 1000,
  };
}

const runCore = (filter, plant) => run('./build/planted/run', [filter], native, plant);
const runTypeScript = (tests, plant) =>
  run(
    `${root}node_modules/.bin/vitest`,
    ['run', '--config', 'test/planted/vitest.config.mjs', '--reporter=dot', ...tests],
    root,
    plant,
  );

/** Which test failed, as its runner says it. */
function foundBy({ status, signal, text }) {
  if (status === 0) return undefined;
  const failed = /^FAILED (\w+)/m.exec(text) ?? /FAIL {2}(.+?)\s*$/m.exec(text);
  if (failed !== null) return failed[1];
  // A crash is a find only of the tests that were started.
  return signal === 'SIGSEGV' || signal === 'SIGABRT' ? `a crash (${signal})` : undefined;
}

/** Every bug of the list is in the core, and every one in the core is on the list. */
function checkNames() {
  const planted = readdirSync(`${root}native/core`).flatMap((file) =>
    [...readFileSync(`${root}native/core/${file}`, 'utf8').matchAll(/\bPLANTED\((\w+)\)/g)].map(
      (match) => match[1],
    ),
  );
  const inCore = new Set(planted.filter((name) => name !== 'name'));
  const listed = new Set(inTheCore.map(({ name }) => name));
  const wrong = [
    ...[...inCore].filter((name) => !listed.has(name)),
    ...[...listed].filter((name) => !inCore.has(name)),
  ];
  if (wrong.length > 0) throw new Error(`only in the core, or only on the list: ${wrong}`);
}

checkNames();
const core = inTheCore.filter(({ name }) => name.includes(word));
const script = inTypeScript.filter(({ name }) => name.includes(word));
const began = performance.now();
let failures = 0;

const built = spawnSync('make', ['-C', native, '-j2', '--no-print-directory', 'planted'], {
  stdio: ['ignore', 'inherit', 'inherit'],
});
if (built.status !== 0) process.exit(1);

for (const filter of new Set(core.map((plant) => plant.filter))) {
  const { status, text } = runCore(filter);
  if (status === 0) continue;
  failures += 1;
  console.log(`fails without a bug: ${filter}\n${text}`);
}
if (script.length > 0) {
  const { status, text } = runTypeScript([...new Set(script.map(({ tests }) => tests))]);
  if (status !== 0) {
    failures += 1;
    console.log(`fails without a bug:\n${text}`);
  }
}
let found = 0;
for (const plant of [...core, ...script]) {
  const ran =
    plant.filter === undefined
      ? runTypeScript([plant.tests], plant.name)
      : runCore(plant.filter, plant.name);
  const by = foundBy(ran);
  if (by === undefined) failures += 1;
  else found += 1;
  const part = plant.filter ?? plant.tests;
  const result = by === undefined ? `NOT FOUND by ${part}` : `found by ${by}`;
  console.log(`${plant.name}, ${result}, ${ran.seconds.toFixed(1)} s`);
  if (by === undefined) console.log(ran.text.replace(/^/gm, '    '));
}
const all = core.length + script.length;
const seconds = Math.round((performance.now() - began) / 1000);
console.log(`${found} of ${all} planted bugs found, in ${seconds} s`);
process.exit(failures === 0 && found === all && all > 0 ? 0 : 1);
