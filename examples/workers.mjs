/**
 * Worker threads that append to one log by themselves: the main thread opens it and passes its
 * handle, each worker attaches. What a worker has awaited is committed.
 * `node examples/workers.mjs [WORKERS] [RECORDS]` appends so many records in each and ends.
 */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { Log } from 'walmirror';

/** In a worker: appends without a wait while there is room, and commits all at the end. */
async function append({ handle, records, name }) {
  const log = await Log.attach(handle);
  let last = 0;
  for (let i = 1; i <= records; i++) {
    while (log.needsDrain) await log.drain();
    last = log.append(`${name}:${i}`);
  }
  await log.commit(last);
  await log.close();
  parentPort.postMessage(last);
}

async function own(workers, records) {
  const dir = mkdtempSync(join(tmpdir(), 'walmirror-workers-'));
  const log = await Log.open({ dir: join(dir, 'log') });
  const lasts = await Promise.all(
    Array.from({ length: workers }, async (_, i) => {
      const data = { handle: log.handle, records, name: `worker ${i}` };
      const worker = new Worker(new URL(import.meta.url), { workerData: data });
      const [last] = await once(worker, 'message'); // rejects with the worker's error
      return last;
    }),
  );
  // LSNs are given in one order to all: those of each worker rise.
  const seen = new Map();
  let found = 0;
  for await (const batch of log.read({ live: false })) {
    for (const record of batch) {
      const [name, number] = Buffer.from(record.data).toString().split(':');
      if (Number(number) !== (seen.get(name) ?? 0) + 1) throw new Error(`${name}: ${number}`);
      seen.set(name, Number(number));
      found++;
    }
  }
  console.log(`${workers} workers: ${found} records in order, the last is ${Math.max(...lasts)}`);
  await log.close();
  rmSync(dir, { recursive: true });
}

if (isMainThread) await own(Number(process.argv[2] ?? 4), Number(process.argv[3] ?? 10_000));
else await append(workerData);
