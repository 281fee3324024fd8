/** What commit-* and bulk-* have in common: recycled segments and a fresh log. */
import type { Measured } from '../agents/log_agent.js';
import type { Context } from '../harness/benchmark.js';
import type { Sample, Schedule } from '../harness/plan.js';
import type { ProcessUse } from '../harness/row.js';
import { Group } from './group.js';

export type Segments = 'recycled' | 'fresh';

export interface Throughput<M extends Measured> {
  readonly replicated: boolean;
  readonly segments: Segments;
  readonly tls?: boolean;
  /** Each log runs in a thread of its own; with fresh segments only. */
  readonly threaded?: boolean;
  /** Bytes of a record. */
  readonly size: number;
  readonly schedule: Schedule;
  readonly start: (group: Group, schedule: Schedule) => Promise<M>;
}

export interface ThroughputResult<M extends Measured> {
  readonly samples: readonly Sample[];
  readonly measured: readonly M[];
  readonly processes: readonly ProcessUse[];
  readonly hash: string;
  readonly checkedRecords: number;
}

export async function measureThroughput<M extends Measured>(
  context: Context,
  row: Throughput<M>,
): Promise<ThroughputResult<M>> {
  const { replicated } = row;
  const recycled = row.segments === 'recycled';
  const trim = recycled ? 'all' : 'none';
  const group = new Group(context, {
    replicated,
    synchronous: replicated,
    trim,
    tls: row.tls === true,
    threaded: row.threaded === true,
  });
  try {
    return recycled ? await onRecycled(context, group, row) : await onFresh(group, row);
  } finally {
    await group.end();
  }
}

/** One log, whose segments have all been written before. */
async function onRecycled<M extends Measured>(
  context: Context,
  group: Group,
  { schedule, size, start }: Throughput<M>,
): Promise<ThroughputResult<M>> {
  await group.open();
  const bytes = context.plan.recycleBytes;
  // Large records whatever the row measures: this is about files. Their size is a multiple of all.
  const recycledTo = await group.primary.call('fill', { bytes, size: RECYCLE_RECORD_BYTES });
  const { result, processes } = await group.measure(() => start(group, schedule));
  const written = result.lastLsn - recycledTo;
  if (written <= 0) throw new Error('nothing was written');
  const checked = await group.check(result.lastLsn, size, written);
  return { samples: result.samples, measured: [result], processes, ...checked };
}

/** A new log for each window; the first one warms the processes up. */
async function onFresh<M extends Measured>(
  group: Group,
  { schedule, size, start }: Throughput<M>,
): Promise<ThroughputResult<M>> {
  const nothing = { seconds: 0, operations: 0 };
  const once = { warmup: nothing, window: schedule.window, runs: 1 };
  const run = async (): Promise<ThroughputResult<M>> => {
    await group.open();
    const { result, processes } = await group.measure(() => start(group, once));
    const checked = await group.check(result.lastLsn, size, result.lastLsn);
    await group.close();
    return { samples: result.samples, measured: [result], processes, ...checked };
  };
  await run();
  const results: ThroughputResult<M>[] = [];
  for (let i = 0; i < schedule.runs; i++) results.push(await run());
  const last = results.at(-1);
  if (last === undefined) throw new RangeError('a schedule has at least one run');
  return {
    ...last,
    samples: results.flatMap(({ samples }) => samples),
    measured: results.flatMap(({ measured }) => measured),
  };
}

const RECYCLE_RECORD_BYTES = 65_536;
