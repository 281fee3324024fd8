/**
 * Lines and branches of native/core that the tests reached, by gcov. Branches of exceptions that a
 * compiler adds to every call are not counted. Names the lines that were not reached.
 *
 *   node coverage.mjs BUILD_DIRECTORY
 */
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { basename, resolve } from 'node:path';

const directory = resolve(process.argv[2] ?? 'build/coverage');
const notes = readdirSync(directory).filter((name) => name.endsWith('.gcda'));
const { status, stdout, stderr } = spawnSync(
  'gcov',
  ['--json-format', '--stdout', '--branch-probabilities', ...notes],
  { cwd: directory, encoding: 'utf8', maxBuffer: 1 << 30 },
);
if (status !== 0) {
  console.error(stderr);
  process.exit(1);
}

/** A line may be compiled into several objects (a header), and a branch too. */
const files = new Map();
for (const report of stdout.split('\n').filter(Boolean)) {
  for (const { file, lines } of JSON.parse(report).files) {
    if (!/(^|\/)core\/[a-z0-9_]+\.(cc|h)$/.test(file)) continue;
    const known = files.get(basename(file)) ?? new Map();
    files.set(basename(file), known);
    for (const { line_number: number, count, branches } of lines) {
      const line = known.get(number) ?? { count: 0, branches: [] };
      known.set(number, line);
      line.count += count;
      const real = branches.filter((branch) => !branch.throw);
      real.forEach((branch, i) => {
        line.branches[i] = (line.branches[i] ?? 0) + branch.count;
      });
    }
  }
}

const percent = (part, whole) => (whole === 0 ? '   -' : `${((100 * part) / whole).toFixed(1)} %`);
/** 7-9, 12 */
function ranges(numbers) {
  const found = [];
  for (const n of numbers) {
    const last = found.at(-1);
    if (last !== undefined && last[1] === n - 1) last[1] = n;
    else found.push([n, n]);
  }
  return found.map(([a, b]) => (a === b ? `${a}` : `${a}-${b}`)).join(', ');
}

let all = { lines: 0, hit: 0, branches: 0, taken: 0 };
console.log('file                     lines   branches  lines not reached');
for (const [file, known] of [...files].sort(([a], [b]) => a.localeCompare(b))) {
  const lines = [...known].sort(([a], [b]) => a - b);
  const missed = lines.filter(([, { count }]) => count === 0).map(([number]) => number);
  const branches = lines.flatMap(([, line]) => line.branches);
  const taken = branches.filter((count) => count > 0).length;
  all = {
    lines: all.lines + lines.length,
    hit: all.hit + lines.length - missed.length,
    branches: all.branches + branches.length,
    taken: all.taken + taken,
  };
  const shown = percent(lines.length - missed.length, lines.length).padStart(8);
  const branch = percent(taken, branches.length).padStart(10);
  console.log(`${file.padEnd(22)}${shown} ${branch}  ${ranges(missed)}`);
}
console.log(
  `all: ${percent(all.hit, all.lines)} of ${all.lines} lines, ` +
    `${percent(all.taken, all.branches)} of ${all.branches} branches`,
);
process.exit(all.lines > 0 ? 0 : 1);
