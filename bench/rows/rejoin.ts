import type { LogAgent, OpenRequest } from '../agents/log_agent.js';
import { Agent } from '../harness/agent.js';
import type { Benchmark, Context } from '../harness/benchmark.js';
import { makeRow, type Row } from '../harness/row.js';
import { median } from '../harness/statistics.js';
import { type CheckResult, logProgram } from './group.js';

const SIZE = 1024;

interface Round extends CheckResult {
  readonly milliseconds: number;
  readonly processes: Row['processes'];
}

/** An old primary with a tail of 1 GiB: from its opening to following the new one. */
export function rejoinBenchmark(): Benchmark {
  return {
    rows: ['rejoin'],
    async run(context): Promise<Row[]> {
      const { rounds, divergedBytes: bytes } = context.plan;
      const floor = await context.floors.get('sequential-fresh');
      const done: Round[] = [];
      // The first round is the warm-up.
      for (let round = 0; round <= rounds; round++) done.push(await rejoinOnce(context, bytes));
      const { hash, checkedRecords, processes } = done.at(-1)!;
      const runs = done.slice(1).map(({ milliseconds }) => bytes / 1e3 / milliseconds);
      const durability = 'Log.open to linked, the tail set aside, flushed and cut';
      const result = { hash, checkedRecords, processes };
      const value = median(runs);
      const name = 'rejoin';
      return [makeRow({ name, value, unit: 'MB/s', floor, runs, durability, ...result })];
    },
  };
}

async function rejoinOnce({ directories, plan }: Context, bytes: number): Promise<Round> {
  const dirs = [await directories.make('old'), await directories.make('new')] as const;
  const old = Agent.start<LogAgent>(logProgram);
  const other = Agent.start<LogAgent>(logProgram);
  const request = (dir: string, name: string): OpenRequest => {
    const { segmentBytes } = plan;
    return { dir, name, segmentBytes, listen: true, synchronous: false, trim: false };
  };
  try {
    const { port } = await old.call('open', request(dirs[0], 'old'));
    await other.call('open', { ...request(dirs[1], 'new'), followPort: port ?? 0 });
    const lsn = await old.call('fill', { bytes: plan.checkedBytes, size: SIZE });
    await other.call('flushedSinceConnected', { lsn });
    const newer = await other.call('promote');
    await old.call('fill', { bytes, size: SIZE });
    await old.call('close');
    const before = await old.usage();
    const start = performance.now();
    const follow = { followPort: newer.port ?? 0, rejoin: 'auto' } as const;
    await old.call('open', { ...request(dirs[0], 'old'), ...follow });
    await old.call('connected');
    const milliseconds = performance.now() - start;
    const after = await old.usage();
    const { flushLsn } = await old.call('lsns');
    if (flushLsn !== lsn) throw new Error(`cut to LSN ${flushLsn}, and not to ${lsn}`);
    const last = await other.call('fill', { bytes: plan.checkedBytes, size: SIZE });
    await old.call('flushedSinceConnected', { lsn: last });
    const count = Math.ceil(plan.checkedBytes / SIZE);
    const checked = await old.call('check', { to: last, count, size: SIZE });
    if (checked.hash !== checked.expectedHash) throw new Error('other records came');
    const cpuSeconds = after.cpuSeconds - before.cpuSeconds;
    const cores = cpuSeconds / (milliseconds / 1000);
    const { peakRssBytes } = after;
    const processes = [{ role: 'standby' as const, cores, cpuSeconds, peakRssBytes }];
    return { milliseconds, processes, hash: checked.hash, checkedRecords: checked.records };
  } finally {
    await Promise.all([old.kill(), other.kill()]);
    for (const dir of dirs) await directories.remove(dir);
  }
}
