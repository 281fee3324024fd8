import { type Fault, planOf } from './plan.js';
import { type Outcome, runSeed } from './run.js';

/** Fewer faults with which the seed still fails, in the same way. */
export async function shrink(
  seed: number,
  failure: Error,
  mostRuns = 200,
): Promise<{ readonly faults: readonly number[]; readonly outcome: Outcome }> {
  const { faults: all } = planOf(seed);
  let runs = 0;
  const failsWith = async (kept: readonly number[]): Promise<Outcome | undefined> => {
    if (runs >= mostRuns) return undefined;
    runs += 1;
    const outcome = await runSeed(seed, chosen(all, kept));
    return outcome.failure !== undefined && kindOf(outcome.failure) === kindOf(failure)
      ? outcome
      : undefined;
  };
  let kept = all.map((_, i) => i);
  let best = await runSeed(seed);
  for (let size = Math.ceil(kept.length / 2); size >= 1; size = Math.floor(size / 2)) {
    for (let from = 0; from < kept.length; ) {
      const fewer = [...kept.slice(0, from), ...kept.slice(from + size)];
      const outcome = await failsWith(fewer);
      if (outcome === undefined) {
        from += size;
      } else {
        kept = fewer;
        best = outcome;
      }
    }
  }
  return { faults: kept, outcome: best };
}

export function chosen(all: readonly Fault[], kept: readonly number[]): Fault[] {
  return kept.flatMap((i) => all[i] ?? []);
}

/** What failed, whatever the numbers and the names of nodes. */
function kindOf(failure: Error): string {
  return failure.message.replace(/\b[a-e]\b|[a-e]?\d+[.\da-z]*/g, '#').slice(0, 40);
}
