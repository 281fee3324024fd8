export type { AppendedRange } from './api/append_many.js';
export type { Applier, ApplyFunction, ApplyOptions } from './api/applier.js';
export type { ArchiveOptions } from './api/archive_options.js';
export type { AttachedLog } from './api/attached_log.js';
export type { LogHandle } from './api/attachments.js';
export type { Batch, LogRecord } from './api/batch.js';
export type { DemoteOptions } from './api/demote.js';
export type {
  AppendMessage,
  CommitTrace,
  DiagnosticsLog,
  FailoverTrace,
  FlushMessage,
  ReplicateMessage,
  RoleMessage,
} from './api/diagnostics.js';
export {
  errorCodes,
  type Outcome,
  WalError,
  type WalErrorCode,
  type WalErrorDetails,
} from './api/errors.js';
export type {
  LogEventName,
  LogEvents,
  LogListener,
  RoleReason,
  SnapshotChange,
  StandbyChange,
} from './api/events.js';
export type { DurationBucket } from './api/flush_times.js';
export { type FrameDecoderOptions, frameDecoder, frameEncoder } from './api/frames.js';
export {
  type CloseOptions,
  type CommitOptions,
  Log,
  type WaitOptions,
} from './api/log.js';
export type { Logger, LogLevel, LogLine } from './api/logger.js';
export type { OldPrimary, UpstreamRule } from './api/old_primary.js';
export type {
  FollowOptions,
  ListenOptions,
  MemberOptions,
  OpenOptions,
  RejoinMode,
  ThreadedOptions,
} from './api/options.js';
export type { PolicyOptions, WhenMissing } from './api/policy_options.js';
export type { Promoted, PromoteOptions } from './api/promote.js';
export type { ReadOptions } from './api/read_options.js';
export type { LogReadStream, ReadStreamOptions } from './api/read_stream.js';
export type { Rebuild, RebuildHook } from './api/rebuild.js';
export type { RecordData } from './api/record.js';
export type { StreamMode } from './api/record_source.js';
export type { RejoinOptions } from './api/rejoin.js';
export type { RetentionOptions } from './api/retention_options.js';
export type { ScrubOptions, ScrubStatus } from './api/scrub.js';
export type { SecurityOptions } from './api/security_options.js';
export type { SeedingStatus } from './api/seeding.js';
export type { ServeStatusOptions } from './api/serve_status.js';
export type { SetPolicyOptions } from './api/set_policy.js';
export type { SlotChange, SlotState, SlotStatus } from './api/slots.js';
export type { SnapshotSource } from './api/snapshot_file.js';
export type {
  ReseedMode,
  SnapshotContext,
  SnapshotOptions,
  TakeSnapshotOptions,
} from './api/snapshot_options.js';
export type { Snapshot, SnapshotStatus } from './api/snapshots.js';
export type {
  CopyStatus,
  LastError,
  LogStatus,
  MemberStatus,
  PolicyStatus,
  RecentEvent,
  RefereeStatus,
  RejoinStatus,
  StageLag,
  StandbyStatus,
  UpstreamStatus,
} from './api/status.js';
export type { SwitchedOver, SwitchoverOptions } from './api/switchover.js';
export type { ThreadedLog } from './api/threaded_log.js';
export type { ReadableOptions, WritableOptions } from './api/web_streams.js';
export type { LogWriteStream, RecordChunk, WriteStreamOptions } from './api/write_stream.js';
export type {
  ArchiveChange,
  ArchiveGap,
  ArchiveState,
  ArchiveStatus,
} from './archive/archive_status.js';
export { DirectoryStore } from './archive/directory_store.js';
export type {
  ArchiveStore,
  ListOptions,
  ListPage,
  PutOptions,
  StoreCallOptions,
} from './archive/store.js';
export type { DamagedRange, Role, Term } from './native/native_log.js';
export type { StatusPage } from './observe/status_page.js';
export type { LeaseState } from './referee/lease_keeper.js';
export type { CommitResult } from './replication/commit_waiters.js';
export type { CommitLevel } from './replication/level.js';
export type { LinkSecurity, Pem, TlsOptions } from './transport/security.js';
