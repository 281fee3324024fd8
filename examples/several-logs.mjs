/**
 * Many logs in one process: one for each tenant, say, with small log memory and small segments,
 * opened when it is first wanted. `node examples/several-logs.mjs [LOGS] [RECORDS]` prints what
 * they take: memory and threads.
 */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Log } from 'walmirror';

const KIB = 1024;

/** The logs of one process, by name. */
class Logs {
  #dir;
  #open = new Map();

  constructor(dir) {
    this.#dir = dir;
  }

  /** The same promise for all who ask at once: a directory is opened once. */
  get(name) {
    let log = this.#open.get(name);
    if (log === undefined) {
      log = Log.open({
        dir: join(this.#dir, name),
        ringBytes: 256 * KIB,
        segmentBytes: 256 * KIB,
        maxRecordBytes: 64 * KIB,
      });
      this.#open.set(name, log);
      // Where it failed, the next one who asks tries again.
      log.catch(() => this.#open.delete(name));
    }
    return log;
  }

  async close() {
    const logs = await Promise.allSettled(this.#open.values());
    await Promise.all(logs.map(({ value }) => value?.close()));
  }
}

const count = Number(process.argv[2] ?? 100);
const records = Number(process.argv[3] ?? 100);
const dir = mkdtempSync(join(tmpdir(), 'walmirror-several-'));
const before = { threads: threads(), rss: process.memoryUsage().rss };
const logs = new Logs(dir);
await Promise.all(
  Array.from({ length: count }, async (_, i) => {
    const log = await logs.get(`tenant-${i}`);
    for (let n = 0; n < records; n++) log.append(`record ${n}`);
    await log.commit();
  }),
);
const more = threads() - before.threads;
const mib = (process.memoryUsage().rss - before.rss) / KIB ** 2;
console.log(
  `${count} logs of ${records} records: ${(more / count).toFixed(1)} threads and ` +
    `${(mib / count).toFixed(2)} MiB each`,
);
await logs.close();
rmSync(dir, { recursive: true });

function threads() {
  return readdirSync('/proc/self/task').length;
}
