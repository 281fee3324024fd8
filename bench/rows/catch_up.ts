import type { Benchmark } from '../harness/benchmark.js';
import { makeRow, type Row } from '../harness/row.js';
import { median } from '../harness/statistics.js';
import { Group } from './group.js';

const SIZE = 1024;

/** A standby that was killed, and comes back to a log that is 1 GiB longer. */
export function catchUpBenchmark(): Benchmark {
  return {
    rows: ['catch-up'],
    async run(context): Promise<Row[]> {
      const { rounds, catchUpBytes: bytes } = context.plan;
      const floor = await context.floors.get('sequential');
      // The standby trims, so that after the first round it writes on recycled segments.
      const group = new Group(context, { replicated: true, synchronous: false, trim: 'standby' });
      try {
        const opened = await group.open();
        const runs: number[] = [];
        let last = { hash: '', checkedRecords: 0 };
        let processes: Row['processes'] = [];
        // The first round is the warm-up.
        for (let round = 0; round <= rounds; round++) {
          await group.standby?.kill();
          const lsn = await group.primary.call('fill', { bytes, size: SIZE });
          group.restartStandby();
          const measured = await group.measure(async () => {
            await group.openStandby(group.standbyDirectory, opened);
            return await group.standby?.call('flushedSinceConnected', { lsn });
          });
          processes = measured.processes;
          if (round > 0) runs.push(bytes / 1e3 / (measured.result ?? Number.NaN));
          last = await group.check(lsn, SIZE, bytes / SIZE);
        }
        const durability = 'from the link to flushed on the standby';
        const value = median(runs);
        const name = 'catch-up';
        return [
          makeRow({ name, value, unit: 'MB/s', floor, runs, durability, processes, ...last }),
        ];
      } finally {
        await group.end();
      }
    },
  };
}
