import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { describeFault, describePlan, planOf } from './plan.js';
import { type Outcome, runSeed } from './run.js';
import { chosen, shrink } from './shrink.js';

const usage = `npm run sim -- [--seeds N] [--seed S] [--faults I,J] [--regress] [--quick] [--twice]

  --seeds N     so many seeds, from S on (default 1 from where the clock says)
  --seed S      the first seed
  --faults I,J  only these of the seed's faults, by number; none: ""
  --regress     the seeds that ever failed (sim/regress.txt) as well
  --quick       a seed that fails is not made smaller
  --twice       each twice: both runs have to go the same way
`;

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '1' },
    seed: { type: 'string' },
    faults: { type: 'string' },
    regress: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    twice: { type: 'boolean', default: false },
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

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

async function tellFailure(seed: number, failure: Error): Promise<void> {
  say(`seed ${seed} FAILED: ${failure.stack ?? failure.message}`);
  say(`  ${describePlan(planOf(seed))}`);
  const { faults: all } = planOf(seed);
  if (values.quick) return;
  const { faults, outcome } = await shrink(seed, failure);
  say(`  with ${faults.length} of ${all.length} faults: ${outcome.failure?.message}`);
  for (const i of faults) say(`  ${i}: ${describeFault(all[i]!)}`);
  say(`  again: npm run sim -- --seed ${seed} --faults "${faults.join(',')}"`);
}

async function main(): Promise<number> {
  if (values.help) {
    say(usage);
    return 0;
  }
  const first = firstSeed();
  const count = Number(values.seeds);
  const only = values.faults?.split(',').filter(Boolean).map(Number);
  const fresh = Array.from({ length: count }, (_, i) => first + i);
  const seeds = values.regress ? [...regressSeeds(), ...fresh] : fresh;
  const sums = { milliseconds: 0, events: 0, acknowledged: 0, promotions: 0, restarts: 0 };
  const began = performance.now();
  const failed: number[] = [];
  for (const seed of seeds) {
    if (seeds.length === 1) {
      say(describePlan(planOf(seed)));
      planOf(seed).faults.forEach((fault, i) => {
        say(`  ${i}: ${describeFault(fault)}`);
      });
    }
    const faults = only === undefined ? undefined : chosen(planOf(seed).faults, only);
    const outcome = await runSeed(seed, faults);
    for (const key of Object.keys(sums) as (keyof typeof sums)[]) sums[key] += outcome[key];
    if (outcome.failure !== undefined) {
      failed.push(seed);
      if (only === undefined) await tellFailure(seed, outcome.failure);
      else say(`seed ${seed} FAILED: ${outcome.failure.stack}`);
    } else if (values.twice) {
      await compare(seed, outcome, failed);
    }
    if (seeds.length === 1) say(`hash ${outcome.hash}, ${outcome.events} events`);
  }
  const seconds = (performance.now() - began) / 1000;
  const simulated = sums.milliseconds / 1000;
  say(
    `${seeds.length} seeds from ${seeds[0]}: ${sums.acknowledged} commits acknowledged, ` +
      `${sums.promotions} promotions, ${sums.restarts} restarts, ${sums.events} events; ` +
      `${Math.round(simulated)} s simulated in ${seconds.toFixed(1)} s ` +
      `(${Math.round(simulated / seconds)} to 1)`,
  );
  say(`${seeds.length - failed.length} passed, ${failed.length} failed`);
  return failed.length === 0 ? 0 : 1;
}

async function compare(seed: number, { hash }: Outcome, failed: number[]): Promise<void> {
  const again = await runSeed(seed);
  if (again.hash === hash) return;
  failed.push(seed);
  say(`seed ${seed} FAILED: it went ${hash} and then ${again.hash}`);
}

process.exit(await main());
