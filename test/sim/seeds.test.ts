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

  it.each([
    { referee: false, whenMissing: 'block' },
    { referee: true, whenMissing: 'degrade' },
  ] as const)('hands over and finds nothing wrong, with %o', async (wanted) => {
    const plan = planOf(1, {
      ...{ profile: 'stories', stories: 4, story: 'switch-over', level: 'remote_flush' },
      ...{ nodes: 3, cascade: false, quorum: 1, grammar: 'ANY' },
      ...wanted,
    });
    const outcome = await runPlan(plan);
    expect(outcome.failure).toBeUndefined();
    expect(outcome.changes).toBeGreaterThan(0);
  });

  it('keeps what a seed has drawn before its stories', () => {
    const [none, some] = [0, 3].map((stories) => planOf(41, { stories }));
    const { faults, ...options } = some!;
    expect(faults.slice(0, none!.faults.length)).toEqual(none!.faults);
    expect({ ...options, stories: 0, faults: none!.faults }).toEqual(none);
  });

  it.each([31, 32, 33, 34])('seed %i finds nothing wrong', async (seed) => {
    const outcome = await runSeed(seed);
    expect(outcome.failure).toBeUndefined();
    expect(outcome.checks).toBeGreaterThan(0);
  });
});
