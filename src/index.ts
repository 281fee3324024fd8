export type { AppendedRange } from './api/append_many.js';
export type { Applier, ApplyFunction } from './api/applier.js';
export type { Batch, LogRecord } from './api/batch.js';
export { errorCodes, type Outcome, WalError, type WalErrorCode } from './api/errors.js';
export type { LogEventName, LogEvents, LogListener, StandbyChange } from './api/events.js';
export {
  type ApplyOptions,
  type CommitOptions,
  Log,
  type ReadOptions,
  type WaitOptions,
} from './api/log.js';
export type { OldPrimary, UpstreamRule } from './api/old_primary.js';
export type { FollowOptions, ListenOptions, OpenOptions } from './api/options.js';
export type { PolicyOptions } from './api/policy_options.js';
export type { Promoted, PromoteOptions } from './api/promote.js';
export type { RecordData } from './api/record.js';
export type { ScrubOptions, ScrubStatus } from './api/scrub.js';
export type {
  CopyStatus,
  LogStatus,
  PolicyStatus,
  StandbyStatus,
  UpstreamStatus,
} from './api/status.js';
export type { DamagedRange, Role, Term } from './native/native_log.js';
export type { CommitResult } from './replication/commit_waiters.js';
export type { CommitLevel } from './replication/level.js';
