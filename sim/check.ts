import { describeFault, describePlan, planOf } from './plan.js';
import { type Outcome, runSeed } from './run.js';
import { chosen, shrink } from './shrink.js';

/** How a seed is looked at. */
export interface How {
  /** Only these of its faults, by number; undefined: all. */
  readonly only?: readonly number[] | undefined;
  /** One that fails is not made smaller. */
  readonly quick: boolean;
  /** Both runs have to go the same way. */
  readonly twice: boolean;
}

const summed = ['milliseconds', 'events', 'acknowledged', 'promotions', 'restarts'] as const;
export type Sums = Record<(typeof summed)[number], number>;

/** Of one seed: what is said of it, and what goes into the sums. */
export interface Checked {
  readonly failed: boolean;
  readonly lines: readonly string[];
  readonly sums: Sums;
  readonly hash: string;
}

export async function checkSeed(seed: number, how: How): Promise<Checked> {
  const { only, twice } = how;
  const faults = only === undefined ? undefined : chosen(planOf(seed).faults, only);
  const outcome = await runSeed(seed, faults);
  const { failure, hash } = outcome;
  let lines: readonly string[] = [];
  if (failure !== undefined) lines = await failureOf(seed, failure, how);
  else if (twice) lines = await compare(seed, outcome);
  return { failed: lines.length > 0, lines, sums: sumsOf(outcome), hash };
}

function sumsOf(outcome: Outcome): Sums {
  return Object.fromEntries(summed.map((key) => [key, outcome[key]])) as Sums;
}

export function noSums(): Sums {
  return Object.fromEntries(summed.map((key) => [key, 0])) as Sums;
}

export function add(to: Sums, more: Sums): void {
  for (const key of summed) to[key] += more[key];
}

async function failureOf(seed: number, failure: Error, { only, quick }: How): Promise<string[]> {
  const lines = [`seed ${seed} FAILED: ${failure.stack ?? failure.message}`];
  if (only !== undefined) return lines;
  lines.push(`  ${describePlan(planOf(seed))}`);
  if (quick) return lines;
  const { faults: all } = planOf(seed);
  const { faults, outcome } = await shrink(seed, failure);
  lines.push(`  with ${faults.length} of ${all.length} faults: ${outcome.failure?.message}`);
  for (const i of faults) lines.push(`  ${i}: ${describeFault(all[i]!)}`);
  lines.push(`  again: npm run sim -- --seed ${seed} --faults "${faults.join(',')}"`);
  return lines;
}

async function compare(seed: number, { hash }: Outcome): Promise<string[]> {
  const again = await runSeed(seed);
  return again.hash === hash ? [] : [`seed ${seed} FAILED: it went ${hash} and then ${again.hash}`];
}
