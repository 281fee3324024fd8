import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { add, type Checked, checkSeed, type How, noSums } from './check.js';
import { describeFault, describePlan, planOf } from './plan.js';
import { checkAll } from './pool.js';

const usage = `npm run sim -- [--seeds N] [--seed S] [--faults I,J] [--regress] [--quick] [--twice]
               [--jobs N]

  --seeds N     so many seeds, from S on (default 1 from where the clock says)
  --seed S      the first seed
  --faults I,J  only these of the seed's faults, by number; none: ""
  --regress     the seeds that ever failed (sim/regress.txt) as well
  --quick       a seed that fails is not made smaller
  --twice       each twice: both runs have to go the same way
  --jobs N      so many processes (default: one a processor); each seed goes the same way in any
`;

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1' },
    seed: { type: 'string' },
    faults: { type: 'string' },
    regress: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    twice: { type: 'boolean', default: false },
    jobs: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

/** Of each run of this command another, unless one was asked for. */
function firstSeed(): number {
  return values.seed === undefined ? Math.floor(Date.now() % 1e9) : Number(values.seed);
}

function regressSeeds(): number[] {
  const text = readFileSync(new URL('../regress.txt', import.meta.url), 'utf8');
  return text.split('\n').flatMap((line) => {
    const seed = /^\d+/.exec(line);
    return seed === null ? [] : [Number(seed[0])];
  });
}

function jobCount(): number {
  const jobs = values.jobs === undefined ? availableParallelism() : Number(values.jobs);
  if (!Number.isInteger(jobs) || jobs < 1) throw new RangeError('--jobs takes a number from 1 on');
  return jobs;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

async function main(): Promise<number> {
  if (values.help) {
    say(usage);
    return 0;
  }
  const first = firstSeed();
  const count = Number(values.seeds);
  const fresh = Array.from({ length: count }, (_, i) => first + i);
  const seeds = values.regress ? [...regressSeeds(), ...fresh] : fresh;
  const { quick, twice } = values;
  const how = { only: values.faults?.split(',').filter(Boolean).map(Number), quick, twice };
  const sums = noSums();
  let failed = 0;
  const tell = (checked: Checked): void => {
    for (const line of checked.lines) say(line);
    add(sums, checked.sums);
    if (checked.failed) failed += 1;
  };
  const jobs = jobCount();
  const began = performance.now();
  if (seeds.length === 1) await checkOne(seeds[0]!, how, tell);
  else await checkAll(seeds, how, jobs, tell);
  const seconds = (performance.now() - began) / 1000;
  const simulated = sums.milliseconds / 1000;
  say(
    `${seeds.length} seeds from ${seeds[0]}: ${sums.acknowledged} commits acknowledged, ` +
      `${sums.promotions} promotions, ${sums.restarts} restarts, ${sums.events} events; ` +
      `${Math.round(simulated)} s simulated in ${seconds.toFixed(1)} s ` +
      `(${Math.round(simulated / seconds)} to 1)`,
  );
  say(`${seeds.length - failed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

/** In this process, for who looks at it with a debugger. */
async function checkOne(seed: number, how: How, tell: (checked: Checked) => void): Promise<void> {
  const plan = planOf(seed);
  say(describePlan(plan));
  plan.faults.forEach((fault, i) => {
    say(`  ${i}: ${describeFault(fault)}`);
  });
  const checked = await checkSeed(seed, how);
  tell(checked);
  say(`hash ${checked.hash}, ${checked.sums.events} events`);
}

process.exit(await main());
