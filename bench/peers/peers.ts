/** The rows of the peers, in the same run and with the same loops as walmirror's. */
import type { PeerAgent, PeerName, PeerResult, PeerRun } from '../agents/peer_agent.js';
import { localCommitFloor } from '../floors/floors.js';
import { Agent } from '../harness/agent.js';
import { type Benchmark, type Context, withDirectory } from '../harness/benchmark.js';
import type { Schedule } from '../harness/plan.js';
import { type FloorRef, makeRow, type Row } from '../harness/row.js';
import { median } from '../harness/statistics.js';
import { bulkSizes, committerCounts, recordSize } from '../harness/workloads.js';
import { installPeers } from './install.js';

const program = new URL('../agents/peer_agent.js', import.meta.url);

const settings: Record<PeerName, string> = {
  lmdb: 'overlappingSync false',
  sqlite: 'better-sqlite3, WAL, synchronous FULL',
};

type Start = (agent: Agent<PeerAgent>, run: PeerRun) => Promise<PeerResult>;

export function peerBenchmarks(): Benchmark[] {
  return (['lmdb', 'sqlite'] as const).flatMap((peer) => [
    ...committerCounts.map((count) => commitBenchmark(peer, count)),
    ...Object.entries(bulkSizes).map(([label, size]) => bulkBenchmark(peer, label, size)),
  ]);
}

function commitBenchmark(peer: PeerName, committers: number): Benchmark {
  const name = `${peer}-commit-local-${committers}`;
  return {
    rows: [name],
    async run(context) {
      const schedule = context.plan.schedule(8 * committers);
      const start: Start = (agent, run) => agent.call('commit', { ...run, committers });
      const result = await measure(context, { peer, size: recordSize, schedule }, start);
      const floor = await localCommitFloor(context.floors, committers);
      const rates = result.samples.map(({ operations, seconds }) => operations / seconds);
      const one = peer === 'sqlite' && committers > 1;
      const note = one ? `${settings[peer]}, one transaction of ${committers}` : settings[peer];
      return [toRow(name, '/s', rates, result, { floor, note })];
    },
  };
}

function bulkBenchmark(peer: PeerName, label: string, size: number): Benchmark {
  const name = `${peer}-bulk-local-${label}`;
  return {
    rows: [name],
    async run(context) {
      const schedule = context.plan.schedule((2 * 2 ** 20) / size);
      const start: Start = (agent, run) => agent.call('bulk', run);
      const result = await measure(context, { peer, size, schedule }, start);
      const { value } = await context.floors.get('sequential');
      const rates = result.samples.map(
        (sample) => (sample.operations * size) / sample.seconds / 1e6,
      );
      const floor = { name: 'sequential', value };
      return [toRow(name, 'MB/s', rates, result, { floor, note: settings[peer] })];
    },
  };
}

interface Measured extends PeerResult {
  readonly cpuSeconds: number;
  readonly wallSeconds: number;
  readonly peakRssBytes: number;
}

async function measure(
  context: Context,
  run: { readonly peer: PeerName; readonly size: number; readonly schedule: Schedule },
  start: Start,
): Promise<Measured> {
  await installPeers(() =>
    process.stdout.write('installing the peers into bench/peer_packages ...\n'),
  );
  return await withDirectory(context, run.peer, async (directory) => {
    const agent = Agent.start<PeerAgent>(program);
    try {
      const before = await agent.usage();
      const began = performance.now();
      const result = await start(agent, { ...run, directory });
      const wallSeconds = (performance.now() - began) / 1000;
      const { cpuSeconds, peakRssBytes } = await agent.usage();
      if (result.hash !== result.expectedHash)
        throw new Error(`${run.peer}: other records came back`);
      return { ...result, cpuSeconds: cpuSeconds - before.cpuSeconds, wallSeconds, peakRssBytes };
    } finally {
      await agent.stop();
    }
  });
}

function toRow(
  name: string,
  unit: string,
  runs: readonly number[],
  result: Measured,
  { floor, note }: { readonly floor: FloorRef; readonly note: string },
): Row {
  const { cpuSeconds, wallSeconds, peakRssBytes, hash, records } = result;
  return makeRow({
    name,
    unit,
    floor,
    note,
    hash,
    runs,
    value: median(runs),
    checkedRecords: records,
    durability: 'flushed here',
    processes: [{ role: 'process', cores: cpuSeconds / wallSeconds, cpuSeconds, peakRssBytes }],
  });
}
