import { State } from '../native/native_log.js';
import type { LogCore } from './core.js';
import { copyStatus, type LogStatus } from './status.js';

/** Puts the status together from memory: no I/O, and nothing that grows with the log. */
export function logStatus(core: LogCore): LogStatus {
  if (core.lastStatus !== undefined) return { ...core.lastStatus, state: 'closed' };
  const { native, options, appender, failure, driver } = core;
  const { state } = native;
  const info = native.info();
  const flushLsn = state[State.FLUSH_LSN] ?? 0;
  const closedLsn = state[State.CLOSED_LSN] ?? 0;
  return {
    schema: 1,
    state: core.state === 'open' && failure !== undefined ? 'failed' : core.state,
    role: driver.role,
    name: options.name,
    dir: options.dir,
    logId: info.logId,
    nodeId: info.nodeId,
    term: info.term,
    io: info.io,
    firstLsn: (state[State.START_LSN] ?? 0) + 1,
    appendLsn: driver.role === 'primary' ? Math.max(appender.lsn, closedLsn) : closedLsn,
    closedLsn,
    flushLsn,
    commitLsn: driver.commit.lsn,
    applyLsn: core.applier?.appliedLsn ?? null,
    copies: info.copies.map(copyStatus),
    ring: { bytes: info.ringBytes, free: state[State.RING_FREE] ?? 0 },
    segments: { bytes: info.segmentBytes, used: info.segments, spare: info.spareSegments },
    flushes: {
      count: info.flushes,
      bytes: info.flushedBytes,
      slowestMs: info.slowestFlushMs,
      slow: info.slowFlushes,
    },
    ...driver.status(),
    scrub: core.scrub.status(),
    recovery: core.info.recovery,
    failure: failure === undefined ? null : { code: failure.code, message: failure.message },
  };
}
