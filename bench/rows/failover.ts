import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LogAgent, OpenRequest } from '../agents/log_agent.js';
import { Agent } from '../harness/agent.js';
import type { Benchmark, Context } from '../harness/benchmark.js';
import { Etcd } from '../harness/etcd.js';
import { freePorts } from '../harness/ports.js';
import { makeRow, type Row } from '../harness/row.js';
import { median } from '../harness/statistics.js';
import { type CheckResult, logProgram } from './group.js';

const SIZE = 1024;
const BYTES = 4 * 2 ** 20;
/** From one renewal of a lease to the next: a kill falls anywhere in between. */
const RENEW_EVERY_MS = 1000;

interface Round extends CheckResult {
  readonly milliseconds: number;
}

/** Three nodes and etcd, with the default times: from SIGKILL of the primary to the next commit. */
export function failoverBenchmark(): Benchmark {
  return {
    rows: ['failover-etcd'],
    async run(context): Promise<Row[]> {
      const { rounds } = context.plan;
      const done: Round[] = [];
      // Since it is a matter of when, and not of how fast, there are more of them.
      const count = context.plan.quick ? 1 : 3 * rounds;
      for (let round = 0; round < count; round++) done.push(await failOver(context));
      const { hash, checkedRecords } = done.at(-1)!;
      const runs = done.map(({ milliseconds }) => milliseconds);
      const durability = 'SIGKILL of the primary to a commit of the next one, on two disks';
      const note = `${Math.min(...runs).toFixed(0)} to ${Math.max(...runs).toFixed(0)} ms`;
      const result = { hash, checkedRecords, processes: [], note };
      const row = { name: 'failover-etcd', value: median(runs), unit: 'ms', runs, durability };
      return [makeRow({ ...row, ...result })];
    },
  };
}

async function failOver({ directories, plan }: Context): Promise<Round> {
  const names = ['a', 'b', 'c'] as const;
  const dirs = await Promise.all(names.map((name) => directories.make(name)));
  const [memory, data] = [await directories.make('memory'), await directories.make('etcd')];
  const ports = await freePorts(names.length);
  const etcd = await Etcd.start(data);
  const agents = names.map(() => Agent.start<LogAgent>(logProgram));
  try {
    for (const [i, name] of names.entries()) {
      const group = {
        ...{ port: ports[i]!, members: ports, etcd: etcd.endpoint, openAlone: i === 0 },
        memory: join(memory, name),
      };
      const { segmentBytes } = plan;
      const own = { dir: dirs[i]!, name, segmentBytes, listen: true, trim: false };
      await agents[i]!.call('open', { ...own, synchronous: true, group } satisfies OpenRequest);
      if (i > 0) await agents[i]!.call('connected');
    }
    const [primary, ...others] = agents as [Agent<LogAgent>, ...Agent<LogAgent>[]];
    const lsn = await primary.call('fill', { bytes: BYTES, size: SIZE });
    await Promise.all(others.map((each) => each.call('flushedSinceConnected', { lsn })));
    await sleep(RENEW_EVERY_MS * (1 + Math.random()));
    const start = performance.now();
    const commits = others.map(async (agent) => {
      const last = await agent.call('commitAsPrimary', { size: SIZE });
      return { agent, last, milliseconds: performance.now() - start };
    });
    for (const each of commits) each.catch(() => undefined);
    await primary.kill();
    const { agent, last, milliseconds } = await Promise.race(commits);
    if (last !== lsn + 1) throw new Error(`LSN ${last} follows ${lsn}`);
    const count = Math.ceil(BYTES / SIZE);
    const checked = await agent.call('check', { to: last, count, size: SIZE });
    if (checked.hash !== checked.expectedHash) throw new Error('other records came');
    return { milliseconds, hash: checked.hash, checkedRecords: checked.records };
  } finally {
    await Promise.all(agents.map((agent) => agent.kill()));
    await etcd.stop();
    for (const dir of [...dirs, memory, data]) await directories.remove(dir);
  }
}
