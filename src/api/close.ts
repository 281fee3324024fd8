import { State } from '../native/native_log.js';
import type { LogCore } from './core.js';
import { cutShortByClose } from './failure.js';
import { logStatus } from './log_status.js';

/**
 * Closes the log: takes no more, flushes what was taken, ends every wait, lets the directory go.
 * Commits that the flush meets resolve first. Rejects with the failure that kept it from flushing.
 */
export async function closeLog(core: LogCore): Promise<void> {
  core.appender.stop();
  core.state = 'closing';
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
  await Promise.allSettled([core.roleChange, flushed]);
  // Any call of the engine tells how far it has flushed, before its report of that has arrived:
  // the commits that are met have to hear of it now, or they would end as cut short.
  if (core.failure === undefined) core.driver.progressed();
  await finish(core);
}

async function finish(core: LogCore): Promise<void> {
  // The flush may not have been reported yet: commits that it meets resolve, and standbys hear.
  if (core.failure === undefined) core.driver.progressed();
  core.endWaits(cutShortByClose());
  await core.control?.close().catch(() => undefined);
  core.lastStatus = logStatus(core);
  await core.driver.close();
  // From here on no report of the engine may be answered by calling it.
  core.state = 'closed';
  try {
    await core.native.close();
  } catch (error) {
    core.fail(error);
  }
  core.keepAlive.detach();
  core.closed();
  if (core.failure !== undefined) throw core.failure;
}
