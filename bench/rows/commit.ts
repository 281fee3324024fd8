import { localCommitFloor, remoteCommitFloor } from '../floors/floors.js';
import type { Benchmark } from '../harness/benchmark.js';
import { makeRow } from '../harness/row.js';
import { median } from '../harness/statistics.js';
import { committerCounts, recordSize } from '../harness/workloads.js';
import { measureThroughput, type Segments } from './throughput.js';

/** Windows of `--quick`, in commits of each committer. */
const QUICK_COMMITS = 8;

export function commitBenchmarks(): Benchmark[] {
  const both: readonly Segments[] = ['recycled', 'fresh'];
  const rows = [false, true].flatMap((replicated) =>
    committerCounts.flatMap((count) =>
      both.map((segments) => commitBenchmark(replicated, count, segments)),
    ),
  );
  const threaded = committerCounts.map((count) => commitBenchmark(true, count, 'fresh', true));
  return [...rows, ...threaded];
}

function commitBenchmark(
  replicated: boolean,
  committers: number,
  segments: Segments,
  threaded = false,
): Benchmark {
  const kind = replicated ? 'remote-flush' : 'local';
  const suffix = `${segments === 'fresh' ? '-fresh' : ''}${threaded ? '-worker' : ''}`;
  const name = `commit-${kind}-${committers}${suffix}`;
  return {
    rows: [name],
    async run(context) {
      const makeFloor = replicated ? remoteCommitFloor : localCommitFloor;
      const floor = await makeFloor(context.floors, committers);
      const size = recordSize;
      const { samples, ...measured } = await measureThroughput(context, {
        replicated,
        threaded,
        segments,
        size,
        schedule: context.plan.schedule(QUICK_COMMITS * committers),
        start: (group, schedule) => group.primary.call('commit', { committers, size, schedule }),
      });
      const runs = samples.map(({ operations, seconds }) => operations / seconds);
      const { processes, hash, checkedRecords } = measured;
      const durability = replicated ? 'flushed on both' : 'flushed here';
      const value = median(runs);
      const unit = '/s';
      return [
        makeRow({ name, value, unit, floor, runs, durability, processes, hash, checkedRecords }),
      ];
    },
  };
}
