import type { LogAgent, OpenRequest } from '../agents/log_agent.js';
import { Agent } from '../harness/agent.js';
import type { Benchmark, Context } from '../harness/benchmark.js';
import { makeRow, type Row } from '../harness/row.js';
import { median } from '../harness/statistics.js';
import { type CheckResult, logProgram } from './group.js';

const SIZE = 128;
const COMMITTERS = 16;
/** Small, so that a log of some megabytes can let go of its beginning. */
const SEGMENT_BYTES = 4 * 2 ** 20;
const LOG_BYTES = 3 * SEGMENT_BYTES;
/** How long the commits without a seeding beside them are looked at. */
const ALONE_MS = 2_000;

interface Round extends CheckResult {
  readonly milliseconds: number;
  readonly alone: number;
  readonly beside: number;
  readonly processes: Row['processes'];
}

/** A new standby of a primary that has trimmed its log, and that commits meanwhile. */
export function seedBenchmark(): Benchmark {
  return {
    rows: ['seed'],
    async run(context): Promise<Row[]> {
      const { rounds, stateBytes } = context.plan;
      const floor = await context.floors.get('sequential-fresh');
      const done: Round[] = [];
      // The first round is the warm-up.
      for (let round = 0; round <= rounds; round++) done.push(await seedOnce(context, stateBytes));
      const measured = done.slice(1);
      const { hash, checkedRecords, processes } = done.at(-1)!;
      const runs = measured.map(({ milliseconds }) => stateBytes / 1e3 / milliseconds);
      const kept = median(measured.map(({ alone, beside }) => beside / alone));
      const alone = Math.round(median(measured.map((each) => each.alone)));
      const percent = Math.round(kept * 100);
      const note = `${COMMITTERS} committers: ${percent} % of ${alone} commits a second`;
      const durability = 'Log.open to loaded, of which all is flushed and verified';
      const result = { hash, checkedRecords, processes, note };
      const value = median(runs);
      return [makeRow({ name: 'seed', value, unit: 'MB/s', floor, runs, durability, ...result })];
    },
  };
}

async function seedOnce({ directories, plan }: Context, stateBytes: number): Promise<Round> {
  const dirs = [await directories.make('primary'), await directories.make('standby')] as const;
  const primary = Agent.start<LogAgent>(logProgram);
  const standby = Agent.start<LogAgent>(logProgram);
  const request = (dir: string, name: string): OpenRequest => {
    const segments = { segmentBytes: SEGMENT_BYTES };
    return { dir, name, ...segments, listen: true, synchronous: false, trim: false, stateBytes };
  };
  try {
    const { port } = await primary.call('open', request(dirs[0], 'primary'));
    await primary.call('snapshotTwice', { bytes: LOG_BYTES, size: SIZE });
    await primary.call('load', { committers: COMMITTERS, size: SIZE });
    await primary.call('committedMore', { count: 1000 });
    const alone = await ratePer(primary, () => new Promise((end) => setTimeout(end, ALONE_MS)));
    const before = await standby.usage();
    const start = performance.now();
    const beside = await ratePer(primary, () =>
      standby.call('open', { ...request(dirs[1], 'standby'), followPort: port ?? 0 }),
    );
    const milliseconds = performance.now() - start;
    const after = await standby.usage();
    await primary.call('endLoad');
    const last = await primary.call('fill', { bytes: plan.checkedBytes, size: SIZE });
    await standby.call('flushedSinceConnected', { lsn: last });
    const count = Math.ceil(plan.checkedBytes / SIZE);
    const checked = await standby.call('check', { to: last, count, size: SIZE });
    if (checked.hash !== checked.expectedHash) throw new Error('other records came');
    const cpuSeconds = after.cpuSeconds - before.cpuSeconds;
    const cores = cpuSeconds / (milliseconds / 1000);
    const { peakRssBytes } = after;
    const processes = [{ role: 'standby' as const, cores, cpuSeconds, peakRssBytes }];
    const { hash, records: checkedRecords } = checked;
    return { milliseconds, alone, beside, processes, hash, checkedRecords };
  } finally {
    await Promise.all([primary.kill(), standby.kill()]);
    for (const dir of dirs) await directories.remove(dir);
  }
}

/** Commits a second while something is done. */
async function ratePer(
  primary: ReturnType<typeof Agent.start<LogAgent>>,
  work: () => Promise<unknown>,
): Promise<number> {
  const before = await primary.call('committed');
  const start = performance.now();
  await work();
  const seconds = (performance.now() - start) / 1000;
  return ((await primary.call('committed')) - before) / seconds;
}
