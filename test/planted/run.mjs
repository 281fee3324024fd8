/**
 * Puts known bugs back, one at a time, and runs the part of the suite that has to find each:
 *
 *   node test/planted/run.mjs [WORD]    only the bugs whose names hold this word
 *
 * Fails if one is not found, and if a test fails without a bug.
 */
import { execFile, spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { inTheCore, inTypeScript } from './plants.mjs';

const root = new URL('../..', import.meta.url).pathname;
const native = `${root}native/test`;
const word = process.argv[2] ?? '';
const secondsToFind = 180;
/** For all the tests together, without a bug. */
const secondsForAll = 900;
/** Tests that wait, and starts of a test runner, run beside others. */
const atOnce = 2;

async function run(command, args, cwd, plant) {
  const env = {
    ...process.env,
    NO_COLOR: '1',
    FORCE_COLOR: '0',
    ...(plant === undefined ? {} : { WALMIRROR_PLANT: plant }),
  };
  const began = performance.now();
  const options = {
    cwd,
    env,
    timeout: (plant === undefined ? secondsForAll : secondsToFind) * 1000,
    killSignal: 'SIGKILL',
    maxBuffer: 2 ** 26,
  };
  return await new Promise((resolve) => {
    execFile(command, args, options, (error, stdout, stderr) => {
      const status = error === null ? 0 : error.code;
      const seconds = (performance.now() - began) / 1000;
      resolve({ status, signal: error?.signal, text: `${stdout}${stderr}`, seconds });
    });
  });
}

const runCore = (filter, plant) => run('./build/planted/run', [filter], native, plant);
const runTypeScript = (tests, plant) =>
  run(
    `${root}node_modules/.bin/vitest`,
    [
      'run',
      '--config',
      'test/planted/vitest.config.mjs',
      '--reporter=dot',
      ...bail(plant),
      ...tests,
    ],
    root,
    plant,
  );
/** The first test that finds the bug is enough. */
const bail = (plant) => (plant === undefined ? [] : ['--bail=1']);

/** Which test failed, as its runner says it. A file that does not even load has found nothing. */
function foundBy({ status, signal, text }) {
  if (status === 0) return undefined;
  const failed = /^FAILED (\w+)/m.exec(text) ?? /FAIL {2}(.+ > .+?)\s*$/m.exec(text);
  if (failed !== null) return failed[1];
  // A crash is a find only of the tests that were started.
  return signal === 'SIGSEGV' || signal === 'SIGABRT' ? `a crash (${signal})` : undefined;
}

/**
 * Every bug of the list is in the core, and every one in the core is on the list; what one in
 * TypeScript replaces is there, once.
 */
function checkNames() {
  const stale = inTypeScript.filter(
    ({ file, find }) => readFileSync(`${root}${file}`, 'utf8').split(find).length !== 2,
  );
  if (stale.length > 0) {
    throw new Error(`what it replaces is not there once: ${stale.map(({ name }) => name)}`);
  }
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
  const { status, text } = await runCore(filter);
  if (status === 0) continue;
  failures += 1;
  console.log(`fails without a bug: ${filter}\n${text}`);
}
if (script.length > 0) {
  const { status, signal, text } = await runTypeScript([
    ...new Set(script.map(({ tests }) => tests)),
  ]);
  if (status !== 0) {
    failures += 1;
    console.log(`fails without a bug (${signal ?? `exit code ${status}`}):\n${text}`);
  }
}
let found = 0;
/** Puts one bug back, and tells what came of it. */
async function plantOne(plant) {
  const ran = await (plant.filter === undefined
    ? runTypeScript([plant.tests], plant.name)
    : runCore(plant.filter, plant.name));
  const by = foundBy(ran);
  if (by === undefined) failures += 1;
  else found += 1;
  const part = plant.filter ?? plant.tests;
  const result = by === undefined ? `NOT FOUND by ${part}` : `found by ${by}`;
  console.log(`${plant.name}, ${result}, ${ran.seconds.toFixed(1)} s`);
  if (by === undefined) console.log(ran.text.replace(/^/gm, '    '));
}

const left = [...core, ...script];
async function plantInTurn() {
  for (let plant = left.shift(); plant !== undefined; plant = left.shift()) await plantOne(plant);
}
await Promise.all(Array.from({ length: atOnce }, plantInTurn));
const all = core.length + script.length;
const seconds = Math.round((performance.now() - began) / 1000);
console.log(`${found} of ${all} planted bugs found, in ${seconds} s`);
process.exit(failures === 0 && found === all && all > 0 ? 0 : 1);
