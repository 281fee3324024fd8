import { setTimeout as sleep } from 'node:timers/promises';
import type { LogAgent } from '../agents/log_agent.js';
import { Agent } from '../harness/agent.js';
import { type Benchmark, withDirectory } from '../harness/benchmark.js';
import { makeRow, type Row } from '../harness/row.js';
import { median } from '../harness/statistics.js';
import { logProgram } from './group.js';

const SIZE = 1024;
/** How long it writes at full speed before it is killed. */
const BUSY_MS = 300;

/** Opening a log whose process was killed while it wrote. */
export function recoverBenchmark(): Benchmark {
  return {
    rows: ['recover'],
    run: (context) =>
      withDirectory(context, 'recover', async (dir): Promise<Row[]> => {
        const { rounds, recoverBytes, segmentBytes, quick, checkedBytes } = context.plan;
        const request = {
          dir,
          name: 'recover',
          segmentBytes,
          listen: false,
          synchronous: false,
          trim: false,
        };
        const runs: number[] = [];
        let acknowledged = 0;
        let last = { hash: '', checkedRecords: 0 };
        let processes: Row['processes'] = [];
        for (let round = 0; round <= rounds; round++) {
          const agent = Agent.start<LogAgent>(logProgram);
          try {
            const before = await agent.usage();
            const { flushLsn, milliseconds } = await agent.call('open', request);
            const after = await agent.usage();
            if (flushLsn < acknowledged) {
              throw new Error(`acknowledged up to ${acknowledged}, recovered up to ${flushLsn}`);
            }
            const bytes = round === 0 ? recoverBytes : 0;
            if (round > 0) {
              runs.push(milliseconds);
              const cpuSeconds = after.cpuSeconds - before.cpuSeconds;
              const { peakRssBytes } = after;
              const cores = cpuSeconds / (milliseconds / 1000);
              processes = [{ role: 'primary', cores, cpuSeconds, peakRssBytes }];
              const count = Math.ceil(checkedBytes / SIZE);
              const checked = await agent.call('check', { to: flushLsn, count, size: SIZE });
              if (checked.hash !== checked.expectedHash) throw new Error('other records came back');
              last = { hash: checked.hash, checkedRecords: checked.records };
            }
            acknowledged = await agent.call('fill', { bytes, size: SIZE });
            await agent.call('fillOn', { size: SIZE });
            await sleep(quick ? 20 : BUSY_MS);
          } finally {
            await agent.kill();
          }
        }
        const gibibytes = (recoverBytes / 2 ** 30).toFixed(recoverBytes < 2 ** 30 ? 3 : 0);
        return [
          makeRow({
            name: 'recover',
            value: median(runs),
            unit: 'ms',
            runs,
            durability: `Log.open after SIGKILL with ${gibibytes} GiB of log`,
            note: 'aim 100 ms',
            processes,
            ...last,
          }),
        ];
      }),
  };
}
