import type { LogAgent, OpenRequest } from '../agents/log_agent.js';
import { Agent } from '../harness/agent.js';
import type { Benchmark, Context } from '../harness/benchmark.js';
import { freePorts } from '../harness/ports.js';
import { makeRow, type Row } from '../harness/row.js';
import { median } from '../harness/statistics.js';
import { recordSize as size } from '../harness/workloads.js';
import { type CheckResult, logProgram } from './group.js';

/** Who appends meanwhile. */
const COMMITTERS = 16;
/** Commits between two changes. */
const BETWEEN = 64;
const QUICK_CHANGES = 2;
const CHANGES = 20;

const unit = 'ms';

/** Planned and unplanned changes of role, as an application feels them. */
export function switchoverBenchmarks(): Benchmark[] {
  return [
    {
      rows: ['switchover'],
      async run(context): Promise<Row[]> {
        const { runs, ...checked } = await switchThereAndBack(context);
        const durability = `appends stopped to the new primary open, ${COMMITTERS} committers`;
        const note = `most ${Math.max(...runs).toFixed(1)} ms of ${runs.length}`;
        const common = { name: 'switchover', unit, processes: [], durability, note };
        return [makeRow({ ...common, value: median(runs), runs, ...checked })];
      },
    },
    {
      rows: ['promote'],
      async run(context): Promise<Row[]> {
        const { rounds } = context.plan;
        const runs: number[] = [];
        let checked: CheckResult = { hash: '', checkedRecords: 0 };
        // The first round is the warm-up.
        for (let round = 0; round <= rounds; round += 1) {
          const { milliseconds, ...result } = await promoteOnce(context);
          if (round > 0) runs.push(milliseconds);
          checked = result;
        }
        const durability = 'SIGKILL of the primary to the first commit flushed by the new one';
        const common = { name: 'promote', unit, processes: [], durability };
        return [makeRow({ ...common, value: median(runs), runs, ...checked })];
      },
    },
  ];
}

async function switchThereAndBack({
  directories,
  plan,
}: Context): Promise<CheckResult & { readonly runs: readonly number[] }> {
  const dirs = [await directories.make('a'), await directories.make('b')] as const;
  const ports = await freePorts(2);
  const a = Agent.start<LogAgent>(logProgram);
  const b = Agent.start<LogAgent>(logProgram);
  const request = (i: 0 | 1): OpenRequest => {
    const { segmentBytes } = plan;
    const common = { dir: dirs[i], name: 'ab'[i]!, segmentBytes, trim: false, synchronous: true };
    return { ...common, listen: true, listenPort: ports[i], memberPorts: ports };
  };
  try {
    await a.call('open', { ...request(0), openAlone: true });
    await b.call('open', { ...request(1), followPort: ports[0] });
    await b.call('connected');
    let [primary, standby, to] = [a, b, 'b'];
    const runs: number[] = [];
    const changes = plan.quick ? QUICK_CHANGES : CHANGES;
    for (const agent of [a, b]) await agent.call('load', { committers: COMMITTERS, size });
    for (let i = 0; i < changes; i += 1) {
      await primary.call('committedMore', { count: BETWEEN });
      const { pauseMs } = await primary.call('switchover', { to });
      runs.push(pauseMs);
      [primary, standby] = [standby, primary];
      to = to === 'b' ? 'a' : 'b';
    }
    await primary.call('committedMore', { count: BETWEEN });
    await Promise.all([a.call('endLoad'), b.call('endLoad')]);
    const { commitLsn: last } = await primary.call('lsns');
    let checked: CheckResult = { hash: '', checkedRecords: 0 };
    for (const agent of [primary, standby]) {
      await agent.call('flushedSinceConnected', { lsn: last });
      const { records, hash, expectedHash } = await agent.call('check', {
        ...{ to: last, size, count: last },
      });
      if (hash !== expectedHash || records !== last) throw new Error('records are lost');
      checked = { hash, checkedRecords: records };
    }
    return { runs, ...checked };
  } finally {
    await Promise.all([a.kill(), b.kill()]);
    for (const dir of dirs) await directories.remove(dir);
  }
}

async function promoteOnce({
  directories,
  plan,
}: Context): Promise<CheckResult & { readonly milliseconds: number }> {
  const dirs = [await directories.make('old'), await directories.make('new')] as const;
  const old = Agent.start<LogAgent>(logProgram);
  const other = Agent.start<LogAgent>(logProgram);
  const request = (dir: string, name: string): OpenRequest => {
    const { segmentBytes } = plan;
    return { dir, name, segmentBytes, listen: true, synchronous: name === 'old', trim: false };
  };
  try {
    const { port } = await old.call('open', request(dirs[0], 'old'));
    await other.call('open', { ...request(dirs[1], 'new'), followPort: port ?? 0 });
    await other.call('connected');
    const lsn = await old.call('fill', { bytes: BETWEEN * size, size });
    await other.call('flushedSinceConnected', { lsn });
    const start = performance.now();
    const killed = old.kill();
    await other.call('promoteAndCommit', { size });
    const milliseconds = performance.now() - start;
    await killed;
    const checked = await other.call('check', { to: lsn + 1, count: lsn + 1, size });
    if (checked.hash !== checked.expectedHash) throw new Error('records are lost');
    return { milliseconds, hash: checked.hash, checkedRecords: checked.records };
  } finally {
    await Promise.all([old.kill(), other.kill()]);
    for (const dir of dirs) await directories.remove(dir);
  }
}
