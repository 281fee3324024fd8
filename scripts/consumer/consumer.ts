// A program against the package's types, as strictly as a consumer may compile: see tsconfig.json.
import {
  type Batch,
  type CommitResult,
  Log,
  type LogStatus,
  type ThreadedLog,
  WalError,
} from 'walmirror';
import { exportMetrics, type MetricsOptions } from 'walmirror/prometheus';
import { etcdReferee, fileReferee, type Referee, type RefereeTiming } from 'walmirror/referee';

export function show(log: Log, registry: MetricsOptions['registry']): () => void {
  return exportMetrics(log, { registry, prefix: 'app_', label: log.name });
}

export function referees(timing: RefereeTiming): readonly Referee[] {
  const endpoints = ['http://127.0.0.1:2379'];
  return [
    etcdReferee({ endpoints, group: 'app', memory: './seen', timing }),
    fileReferee({ directory: './referee', memory: './seen-too' }),
  ];
}

export async function use(dir: string, signal: AbortSignal): Promise<CommitResult> {
  const log = await Log.open({
    dir,
    listen: { port: 0 },
    synchronousStandbys: 'ANY 1 (*)',
    signal,
  });
  log.on('degraded', ({ reason }) => console.error(reason));
  const lsn: number = log.append(new Uint8Array(8));
  const batches: AsyncIterable<Batch> = log.read({ live: false });
  for await (const { firstLsn, lastLsn } of batches) console.log(lastLsn - firstLsn);
  const status: LogStatus = log.status();
  const threaded: ThreadedLog = await Log.open({ dir: './y', replicationThread: 'worker' });
  const told: Promise<LogStatus> = threaded.status();
  await told;
  await threaded.close();
  const stream = log.createWriteStream({ commit: 'batch' });
  stream.end(`epoch ${status.term.epoch}`);
  log.createReadStream({ live: false }).pipe(process.stdout);
  try {
    return await log.commit(lsn, { level: 'remote_apply', signal });
  } catch (error) {
    if (error instanceof WalError && error.code === 'WAL_SYNC_TIMEOUT') console.error(error.hint);
    throw error;
  } finally {
    await log[Symbol.asyncDispose]();
  }
}

// @ts-expect-error: what is misspelt is found by the compiler.
Log.open({ dir: './x', synchronousStandby: 'a' });
