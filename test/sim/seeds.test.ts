import { describe, expect, it } from 'vitest';
import { faultKinds, planOf } from '../../sim/plan.js';
import { runPlan, runSeed } from '../../sim/run.js';
import { chosen } from '../../sim/shrink.js';

describe('the simulator', { timeout: 120_000 }, () => {
  it('goes the same way twice by one seed, and another way by another', async () => {
    const first = await runSeed(11);
    expect(first.failure).toBeUndefined();
    expect(first.acknowledged).toBeGreaterThan(0);
    expect(await runSeed(11)).toEqual(first);
    expect((await runSeed(12)).hash).not.toBe(first.hash);
  });

  it('draws every fault and every option before it begins', () => {
    const plans = Array.from({ length: 300 }, (_, seed) => planOf(seed));
    const kinds = new Set(plans.flatMap(({ faults }) => faults.map(({ kind }) => kind)));
    expect([...kinds].sort()).toEqual([...faultKinds].sort());
    expect(new Set(plans.map(({ nodes }) => nodes))).toEqual(new Set([2, 3, 4, 5]));
    expect(planOf(7)).toEqual(planOf(7));
  });

  it('runs with some of the faults of a seed as with all', async () => {
    const plan = planOf(21);
    const faults = chosen(plan.faults, [0]);
    expect(faults).toEqual([plan.faults[0]]);
    const outcome = await runPlan({ ...plan, faults });
    expect(outcome.failure).toBeUndefined();
    expect(outcome.hash).toBe((await runSeed(21, faults)).hash);
  });

  it.each([31, 32, 33, 34])('seed %i finds nothing wrong', async (seed) => {
    const outcome = await runSeed(seed);
    expect(outcome.failure).toBeUndefined();
    expect(outcome.checks).toBeGreaterThan(0);
  });
});
