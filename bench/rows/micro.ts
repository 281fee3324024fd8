import type { MicroAgent, MicroTask } from '../agents/micro_agent.js';
import type { Floors } from '../floors/floors.js';
import { Agent } from '../harness/agent.js';
import { type Benchmark, withDirectory } from '../harness/benchmark.js';
import { type FloorRef, makeRow, type Row } from '../harness/row.js';
import { median } from '../harness/statistics.js';

const program = new URL('../agents/micro_agent.js', import.meta.url);

const tasks: Readonly<Record<MicroTask, { readonly note: string; readonly bytes?: number }>> = {
  'append-128': { note: 'one by one, checksummed, no commit' },
  'append-128-told': { note: 'the same, while somebody listens to the diagnostics channels' },
  'append-into-128': { note: 'the encoder writes into log memory' },
  'append-many-128': { note: '64 a call' },
  'append-string-32': { note: 'not ASCII' },
  'read-128': { note: 'from memory, each record looked at' },
  'read-borrow-128': { note: 'the same, in one buffer' },
  'crc32c-4k': { note: '', bytes: 4096 },
  'crc32c-1m': { note: '', bytes: 2 ** 20 },
};

export function microBenchmarks(): Benchmark[] {
  return (Object.keys(tasks) as MicroTask[]).map((task) => ({
    rows: [task],
    run: (context) =>
      withDirectory(context, 'micro', async (dir): Promise<Row[]> => {
        const { note, bytes } = tasks[task];
        const { window, runs: count } = context.plan.schedule(1);
        const seconds = context.plan.quick ? undefined : window.seconds;
        const agent = Agent.start<MicroAgent>(program);
        try {
          const start = performance.now();
          const { rates, checked } = await agent.call('run', { task, dir, runs: count, seconds });
          const wallSeconds = (performance.now() - start) / 1000;
          const { cpuSeconds, peakRssBytes } = await agent.usage();
          const { hash, expectedHash, records: checkedRecords } = checked;
          if (hash !== expectedHash)
            throw new Error(`${task}: the result is not what it should be`);
          const runs = bytes === undefined ? rates : rates.map((rate) => (rate * bytes) / 1e6);
          const cores = cpuSeconds / wallSeconds;
          return [
            makeRow({
              name: task,
              value: median(runs),
              unit: bytes === undefined ? '/s' : 'MB/s',
              floor: bytes === undefined ? await callFloor(context.floors) : undefined,
              runs,
              durability: 'in memory',
              note,
              processes: [{ role: 'process', cores, cpuSeconds, peakRssBytes }],
              hash,
              checkedRecords,
            }),
          ];
        } finally {
          await agent.stop();
        }
      }),
  }));
}

/** Empty native calls a second. */
async function callFloor(floors: Floors): Promise<FloorRef> {
  const { value } = await floors.get('native-call');
  return { name: 'empty native calls', value: 1e9 / value };
}
