import type { Benchmark } from '../harness/benchmark.js';
import { makeRow } from '../harness/row.js';
import { median } from '../harness/statistics.js';
import { bulkSizes } from '../harness/workloads.js';
import { measureThroughput, type Segments } from './throughput.js';

const QUICK_BYTES = 2 * 2 ** 20;
/** What the primary's event loop may be held up under replication. */
const DELAY_LIMIT_MS = 10;

export function bulkBenchmarks(): Benchmark[] {
  const both: readonly Segments[] = ['recycled', 'fresh'];
  const plain = [false, true].flatMap((replicated) =>
    Object.entries(bulkSizes).flatMap(([label, size]) =>
      both.map((segments) => bulkBenchmark(replicated, label, size, segments)),
    ),
  );
  return [...plain, tlsBenchmark()];
}

/** `bulk-replicated-1k` over TLS, beside what one core encrypts. */
function tlsBenchmark(): Benchmark {
  const name = 'bulk-replicated-tls';
  const size = bulkSizes['1k'];
  return {
    rows: [name],
    async run(context) {
      const floor = await context.floors.get('aes-256-gcm');
      const {
        samples,
        measured: _,
        ...common
      } = await measureThroughput(context, {
        replicated: true,
        segments: 'recycled',
        tls: true,
        size,
        schedule: context.plan.schedule(Math.ceil(QUICK_BYTES / size)),
        start: (group, schedule) => group.primary.call('bulk', { size, schedule }),
      });
      const runs = samples.map(({ operations, seconds }) => (operations * size) / seconds / 1e6);
      const durability = 'flushed on both';
      const note = 'records of 1 KiB';
      const value = median(runs);
      return [makeRow({ name, value, unit: 'MB/s', floor, runs, durability, note, ...common })];
    },
  };
}

function bulkBenchmark(
  replicated: boolean,
  label: string,
  size: number,
  segments: Segments,
): Benchmark {
  const kind = replicated ? 'replicated' : 'local';
  const name = `bulk-${kind}-${label}${segments === 'fresh' ? '-fresh' : ''}`;
  const delayName = `event-loop-delay-${label}`;
  const withDelay = replicated && segments === 'recycled';
  return {
    rows: withDelay ? [name, delayName] : [name],
    async run(context) {
      const floorName = segments === 'fresh' ? 'sequential-fresh' : 'sequential';
      const floor = await context.floors.get(floorName);
      const { samples, measured, ...common } = await measureThroughput(context, {
        replicated,
        segments,
        size,
        schedule: context.plan.schedule(Math.ceil(QUICK_BYTES / size)),
        start: (group, schedule) => group.primary.call('bulk', { size, schedule }),
      });
      const runs = samples.map(({ operations, seconds }) => (operations * size) / seconds / 1e6);
      const durability = replicated ? 'flushed on both' : 'flushed here';
      const value = median(runs);
      const row = makeRow({ name, value, unit: 'MB/s', floor, runs, durability, ...common });
      if (!withDelay) return [row];
      const delay = makeRow({
        name: delayName,
        value: Math.max(...measured.map(({ delayP99Ms }) => delayP99Ms)),
        unit: 'ms',
        runs: [],
        durability,
        note: `p99 of the primary in ${name}; limit ${DELAY_LIMIT_MS} ms`,
        processes: common.processes.slice(0, 1),
      });
      return [row, delay];
    },
  };
}
