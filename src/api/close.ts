import { State } from '../native/native_log.js';
import type { Timer } from '../transport/environment.js';
import type { LogCore } from './core.js';
import { WalError } from './errors.js';
import { cutShortByClose } from './failure.js';
import { logStatus } from './log_status.js';
import * as check from './validate.js';

/**
 * Closes the log: takes no more, flushes what was taken, ends every wait, lets the directory go.
 * Commits that the flush meets resolve first. Rejects with the failure that kept it from flushing.
 */
export async function closeLog(core: LogCore): Promise<void> {
  core.state = 'closing';
  core.appender.stop();
  core.rebuild.close();
  core.closing.abort(cutShortByClose());
  core.keepAlive.acquire();
  // Whoever waits for room or for records to come waits in vain; commits have the flush to wait
  // for.
  core.drains.waits.rejectAll(cutShortByClose());
  const { state } = core.native;
  const closed = state[State.CLOSED_POSITION] ?? 0;
  const flushed = core.flushes.until(() => {
    if (core.failure !== undefined) throw core.failure;
    return (state[State.FLUSH_POSITION] ?? 0) >= closed;
  });
  core.moved.rejectAll(cutShortByClose());
  await Promise.allSettled([core.roleChange, flushed, core.driver.admitting]);
  await core.snapshots?.ended();
  // Any call of the engine tells how far it has flushed, before its report of that has arrived:
  // the commits that are met have to hear of it now, or they would end as cut short.
  if (core.failure === undefined) core.driver.progressed();
  await finish(core);
}

/** Checks the options of `close`; undefined: as long as it takes. */
export function closeTimeout(options: unknown): number | undefined {
  const { timeout } = check.optionsObject(options, 'close', ['timeout']);
  if (timeout === undefined) return undefined;
  return check.finite(timeout, 'timeout (milliseconds)', 0, 2 ** 31 - 1);
}

/** Waits for the closing, which goes on, only so long. Every other wait ends by then. */
export async function closeWithin(
  core: LogCore,
  closing: Promise<void>,
  timeoutMs: number,
): Promise<void> {
  const { environment } = core;
  let timer: Timer | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = environment.setTimeout(() => {
      core.attached?.end(false);
      core.endWaits(cutShortByClose());
      reject(tooLate(core, timeoutMs));
    }, timeoutMs);
  });
  // Nobody may wait for it any more.
  closing.catch(() => undefined);
  await Promise.race([closing, late]).finally(() => environment.clearTimer(timer));
}

function tooLate({ native }: LogCore, timeoutMs: number): WalError {
  const { state } = native;
  const flushed = state[State.FLUSH_LSN] ?? 0;
  const closed = state[State.CLOSED_LSN] ?? 0;
  const what =
    flushed < closed
      ? `records ${flushed + 1} to ${closed} are not flushed`
      : 'all records are flushed, and not all is let go of';
  return new WalError('WAL_CLOSE_TIMEOUT', `not closed within ${timeoutMs} ms: ${what}`, {
    ...(flushed < closed ? { lsn: flushed + 1 } : {}),
    outcome: 'unknown',
  });
}

async function finish(core: LogCore): Promise<void> {
  await core.attached?.heard();
  // The flush may not have been reported yet: commits that it meets resolve, and standbys hear.
  if (core.failure === undefined) core.driver.progressed();
  core.attached?.end(core.failure === undefined);
  core.endWaits(cutShortByClose());
  await core.control?.close().catch(() => undefined);
  await Promise.all([...core.pages].map((page) => page.close()));
  // Without the memory for it, what is asked for later is looked up then: the closing goes on.
  try {
    core.lastStatus = logStatus(core);
  } catch {
    core.lastStatus = undefined;
  }
  const closed = core.driver.close();
  await core.door?.close();
  await closed;
  await core.archive?.close();
  await core.retention.close();
  // From here on no report of the engine may be answered by calling it.
  core.state = 'closed';
  try {
    await core.native.close();
  } catch (error) {
    core.fail(error);
  }
  core.keepAlive.detach();
  core.closed();
  core.news.tell('info', 'closed', 'closed', { failure: core.failure?.code ?? null });
  if (core.failure !== undefined) throw core.failure;
}
