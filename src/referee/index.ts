export type { Refusal, RefusalReason } from './eligibility.js';
export type { EtcdOptions } from './etcd_options.js';
export { etcdReferee } from './etcd_referee.js';
export { type FileRefereeOptions, fileReferee } from './file_referee.js';
export type { RefereeMemory } from './memory.js';
export { type MemoryRefereeOptions, memoryReferee } from './memory_referee.js';
export { MemoryStore } from './memory_store.js';
export type { HolderRecord, RecordName, Records } from './records.js';
export type {
  Answer,
  CallOptions,
  Claim,
  Grant,
  GroupView,
  LeaderRecord,
  PauseRecord,
  ProgressRecord,
  Referee,
  Renewal,
  RuleRecord,
  Sight,
} from './referee.js';
export type { Entry, Expected, RefereeStore, Snapshot, StoreLease, Write } from './store.js';
export { StoreReferee, type StoreRefereeOptions } from './store_referee.js';
export {
  etcdTiming,
  fileTiming,
  type RefereeTiming,
  type TakeoverTime,
  takeoverTime,
} from './timing.js';
