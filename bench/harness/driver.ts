/** The loops that the rows are measured with, the same for walmirror and for its peers. */
import type { Sample, Schedule, Window } from './plan.js';

/**
 * `count` committers: each a loop of one commit after the other. They go on through warm-up and
 * windows; a window counts what was acknowledged in it.
 */
export async function runCommitters(
  count: number,
  commitNext: () => Promise<unknown>,
  schedule: Schedule,
): Promise<Sample[]> {
  let operations = 0;
  let goal = Number.POSITIVE_INFINITY;
  let running = true;
  let reached: () => void = () => undefined;
  const committer = async (): Promise<void> => {
    while (running) {
      await commitNext();
      if (++operations >= goal) reached();
    }
  };
  const all = Promise.all(Array.from({ length: count }, committer));

  const measure = async (window: Window): Promise<Sample> => {
    const first = operations;
    const start = performance.now();
    let timer: NodeJS.Timeout | undefined;
    const ended = new Promise<void>((resolve) => {
      reached = resolve;
      goal = first + window.operations;
      timer = setTimeout(resolve, window.seconds * 1000);
    });
    await Promise.race([ended, all]); // `all` ends here only by an error
    clearTimeout(timer);
    goal = Number.POSITIVE_INFINITY;
    return { operations: operations - first, seconds: (performance.now() - start) / 1000 };
  };

  try {
    await measure(schedule.warmup);
    return await windows(schedule.runs, () => measure(schedule.window));
  } finally {
    running = false;
    await all;
  }
}

/** A writer that never waits for a single record, only for room. */
export interface BulkWriter {
  /** Writes until it has to wait. */
  fill(): void;
  wait(): Promise<void>;
  /** How many records are durable, as far as the row asks for it. */
  durable(): number;
}

/** A window counts what became durable in it, whenever it was written. */
export async function runBulk(writer: BulkWriter, schedule: Schedule): Promise<Sample[]> {
  const measure = async (window: Window): Promise<Sample> => {
    const first = writer.durable();
    const start = performance.now();
    const end = start + window.seconds * 1000;
    while (performance.now() < end && writer.durable() - first < window.operations) {
      writer.fill();
      await writer.wait();
    }
    const operations = writer.durable() - first;
    return { operations, seconds: (performance.now() - start) / 1000 };
  };
  await measure(schedule.warmup);
  return await windows(schedule.runs, () => measure(schedule.window));
}

async function windows(runs: number, measure: () => Promise<Sample>): Promise<Sample[]> {
  const samples: Sample[] = [];
  for (let run = 0; run < runs; run++) samples.push(await measure());
  return samples;
}
