import { type NativeInfo, State } from '../native/native_log.js';
import type { LogCore } from './core.js';
import { bucketsOf, percentile } from './flush_times.js';
import { refereeStatus } from './referee_status.js';
import { copyStatus, type LogStatus, type PolicyStatus } from './status.js';

/** Puts the status together from memory: no I/O, and nothing that grows with the log. */
export function logStatus(core: LogCore): LogStatus {
  if (core.lastStatus !== undefined) {
    return { ...core.lastStatus, state: 'closed', events: core.news.recent };
  }
  const { native, options, appender, failure, driver } = core;
  const { state } = native;
  const info = native.info();
  const flushLsn = state[State.FLUSH_LSN] ?? 0;
  const closedLsn = state[State.CLOSED_LSN] ?? 0;
  const histogram = bucketsOf(native.flushTimes());
  const roleStatus = driver.status();
  return {
    schema: 1,
    state: core.state === 'open' && failure !== undefined ? 'failed' : core.state,
    role: driver.role,
    roleSince: core.roleSince,
    roleReason: core.roleReason,
    name: options.name,
    dir: options.dir,
    logId: info.logId,
    nodeId: info.nodeId,
    term: info.term,
    io: info.io,
    ioReason: info.io === 'direct' ? null : 'the file system refuses direct writes (O_DIRECT)',
    durability: durabilityOf(roleStatus.policy),
    firstLsn: (state[State.START_LSN] ?? 0) + 1,
    appendLsn: driver.role === 'primary' ? Math.max(appender.lsn, closedLsn) : closedLsn,
    closedLsn,
    flushLsn,
    commitLsn: driver.commit.lsn,
    applyLsn: core.applier?.appliedLsn ?? null,
    copies: info.copies.map(copyStatus),
    mirrorQuorum: info.copies.length === 0 ? null : info.copiesAcknowledging,
    ring: { bytes: info.ringBytes, free: state[State.RING_FREE] ?? 0 },
    segments: segmentsOf(info),
    flushes: {
      count: info.flushes,
      bytes: info.flushedBytes,
      totalMs: state[State.FLUSH_MS] ?? 0,
      p50Ms: percentile(histogram, 0.5, info.slowestFlushMs),
      p99Ms: percentile(histogram, 0.99, info.slowestFlushMs),
      slowestMs: info.slowestFlushMs,
      histogram,
      slow: info.slowFlushes,
    },
    commits: core.commits.status(core.environment.now()),
    ...roleStatus,
    slots: core.retention.slots.status(),
    slotsFault: core.retention.slots.fault,
    members: core.members?.status() ?? [],
    referee: core.options.referee === undefined ? null : refereeStatus(driver.referee()),
    rejoin: core.rejoin,
    rebuild: info.rebuild,
    snapshots: core.snapshots?.status() ?? null,
    seeding: core.snapshots?.seeding.status ?? null,
    archive: core.archive?.status() ?? null,
    scrub: core.scrub.status(),
    recovery: core.info.recovery,
    events: core.news.recent,
    lastError: core.lastError,
    failure: failure === undefined ? null : { code: failure.code, message: failure.message },
  };
}

export function segmentsOf(info: NativeInfo): LogStatus['segments'] {
  const { segmentBytes: bytes, segments: used, spareSegments: spare } = info;
  return { bytes, used, spare, diskBytes: bytes * (used + spare) };
}

function durabilityOf(policy: PolicyStatus | null): LogStatus['durability'] {
  if (policy === null) return null;
  return policy.degraded === null ? policy.synchronousCommit : 'local';
}
