import type { Benchmark } from '../harness/benchmark.js';
import { makeRow, type Row } from '../harness/row.js';
import { Group } from './group.js';

const SIZE = 1024;
const MIB = 2 ** 20;
/** What a primary may need above the log memory, however far a standby is behind. */
const ALLOWANCE_BYTES = 64 * MIB;

/** A standby stops answering, the primary writes on, the standby comes back and catches up. */
export function memoryBenchmark(): Benchmark {
  return {
    rows: ['memory-behind'],
    async run(context): Promise<Row[]> {
      const bytes = context.plan.behindBytes;
      const group = new Group(context, { replicated: true, synchronous: false, trim: 'none' });
      try {
        const { ringBytes } = await group.open();
        const idle = await group.primary.call('memory');
        group.standby?.signal('SIGSTOP');
        await group.primary.call('watchMemory');
        const { result: lsn, processes } = await group.measurePrimary(() =>
          group.primary.call('fill', { bytes, size: SIZE }),
        );
        group.standby?.signal('SIGCONT');
        await group.standby?.call('flushedSinceConnected', { lsn });
        const peak = await group.primary.call('peakMemory');
        const checked = await group.check(lsn, SIZE, bytes / SIZE);
        const limit = ringBytes + ALLOWANCE_BYTES;
        const over = peak.proportionalBytes - idle.proportionalBytes;
        const resident = peak.residentBytes - idle.residentBytes;
        return [
          makeRow({
            name: 'memory-behind',
            value: over / MIB,
            unit: 'MiB',
            runs: [],
            durability: 'flushed here',
            note:
              `over idle, each page once (resident: ${(resident / MIB).toFixed(0)}), standby ` +
              `${(bytes / 2 ** 30).toFixed(2)} GiB behind, then caught up; ` +
              `limit ${limit / MIB} MiB`,
            processes,
            ...checked,
          }),
        ];
      } finally {
        group.standby?.signal('SIGCONT');
        await group.end();
      }
    },
  };
}
