import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { Log } from '../../src/index.js';
import { missing } from '../global/requirements.js';
import { freshDir } from '../helpers/temp.js';

interface Attempt {
  readonly opened?: number;
  readonly code?: string;
  readonly message?: string;
}

const script = resolve(import.meta.dirname, '../fixtures/open_elsewhere.mjs');
const namespace = ['unshare', '--pid', '--fork', '--mount-proc'];

async function inAWorker(dir: string): Promise<Attempt> {
  const worker = new Worker(script, { workerData: dir });
  const [attempt] = (await once(worker, 'message')) as [Attempt];
  await worker.terminate();
  return attempt;
}

async function inAProcess(dir: string, before: readonly string[]): Promise<Attempt> {
  const [program, ...args] = [...before, process.execPath, script, dir];
  const { stdout } = await promisify(execFile)(program ?? '', args, { timeout: 30_000 });
  return JSON.parse(stdout) as Attempt;
}

const places: readonly [string, (dir: string) => Promise<Attempt>, string | undefined][] = [
  ['a worker thread', inAWorker, undefined],
  ['another process', (dir) => inAProcess(dir, []), undefined],
  [
    'a process in another pid namespace',
    (dir) => inAProcess(dir, namespace),
    missing({ root: true, programs: ['unshare'] }),
  ],
];

describe.each(places)('a directory that is open, from %s', (_name, attempt, reason) => {
  it.skipIf(reason)('is refused, and the log goes on; once it is closed it is opened', async () => {
    const dir = freshDir();
    const log = await Log.open({ dir });
    await log.appendAndCommit('one');
    for (let i = 0; i < 2; i++) {
      const refused = await attempt(dir);
      expect(refused).toMatchObject({ code: 'WAL_LOCKED' });
      // Also in a namespace where that number is another process, or none.
      expect(refused.message).toContain(`process ${process.pid}`);
      await log.appendAndCommit('more');
    }
    await log.close();
    expect(await attempt(dir)).toEqual({ opened: 3 });
    const again = await Log.open({ dir });
    expect(again.status().flushLsn).toBe(3);
    await again.close();
  });
});
