import { syncBuiltinESMExports } from 'node:module';
import workers, { type Worker } from 'node:worker_threads';
import { onTestFinished } from 'vitest';
import { Log, type ThreadedLog, type ThreadedOptions } from '../../src/index.js';
import { freshDir } from '../helpers/temp.js';
import { small } from './helpers.js';

const { Worker: Original } = workers;

/** Whether threads find their file; they run what was built, since Node reads no TypeScript. */
let isBuilt = true;

class BuiltWorker extends Original {
  constructor(file: URL, options: ConstructorParameters<typeof Worker>[1]) {
    super(isBuilt ? new URL(file.href.replace('/src/api/', '/dist/api/')) : file, options);
  }
}

workers.Worker = BuiltWorker as unknown as typeof Worker;
syncBuiltinESMExports();

/** From here to the end of the test the file is missing, as in a bundle. */
export function withoutTheBuild(): void {
  isBuilt = false;
  onTestFinished(() => {
    isBuilt = true;
  });
}

/** Opens a log in a thread of its own, which is closed when the test is over. */
export async function openThreaded(options: Partial<ThreadedOptions> = {}): Promise<ThreadedLog> {
  const log = await Log.open({
    ...small,
    dir: freshDir(),
    ...options,
    replicationThread: 'worker',
  });
  onTestFinished(() => log.close().catch(() => undefined));
  return log;
}

/** Closes the log and opens its directory again. */
export async function reopenThreaded(
  log: ThreadedLog,
  options: Partial<ThreadedOptions> = {},
): Promise<ThreadedLog> {
  await log.close();
  return openThreaded({ dir: log.dir, ...options });
}

/** What it throws or rejects with. */
export async function failureOf(work: () => unknown): Promise<Error> {
  try {
    await work();
  } catch (error) {
    return error as Error;
  }
  throw new Error('expected an error, and nothing was thrown');
}
