import { State } from '../native/native_log.js';
import type { LogCore } from './core.js';

/** Lets go of whole segments below the record `lsn`, as far as nobody needs them. */
export async function trimTo(core: LogCore, asked: number): Promise<void> {
  const { native, keepAlive } = core;
  const first = (native.state[State.START_LSN] ?? 0) + 1;
  const next = (native.state[State.CLOSED_LSN] ?? 0) + 1;
  if (asked <= first) return;
  if (asked > Math.max(next, core.appender.lsn + 1)) {
    throw new RangeError(`trim(lsn) takes at most the next LSN, ${next}; got ${asked}`);
  }
  const lsn = core.snapshots?.trimmable(asked) ?? asked;
  if (lsn <= first) return;
  try {
    await keepAlive.during(
      native.locate(Math.min(lsn, next)).then((position) => {
        core.requireOpen();
        return native.trim(position);
      }),
    );
  } catch (error) {
    throw core.explain(error);
  }
}
