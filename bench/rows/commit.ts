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
  return [false, true].flatMap((replicated) =>
    committerCounts.flatMap((count) =>
      both.map((segments) => commitBenchmark(replicated, count, segments)),
    ),
  );
}

function commitBenchmark(replicated: boolean, committers: number, segments: Segments): Benchmark {
  const kind = replicated ? 'remote-flush' : 'local';
  const name = `commit-${kind}-${committers}${segments === 'fresh' ? '-fresh' : ''}`;
  return {
    rows: [name],
    async run(context) {
      const makeFloor = replicated ? remoteCommitFloor : localCommitFloor;
      const floor = await makeFloor(context.floors, committers);
      const size = recordSize;
      const { samples, ...measured } = await measureThroughput(context, {
        replicated,
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
