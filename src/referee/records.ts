import { WalError } from '../api/errors.js';
import type { Rule } from '../native/native_log.js';
import { ruleFault } from '../replication/rule.js';

/** Who was granted the group last, and with which epoch: the fencing number. Never deleted. */
export interface LeaderRecord {
  readonly logId: string;
  readonly epoch: number;
  readonly nodeId: string;
  /** For people. */
  readonly name: string;
}

/** Who holds the lease: there while it lives. */
export interface HolderRecord {
  readonly nodeId: string;
  /** A switchover keeps it for this node, which has yet to take it. */
  readonly reserved: boolean;
  /** Where the directory of the holder is locked (place.ts), if that is known. */
  readonly place?: string | undefined;
}

/**
 * The rule that acknowledgements meet (SAFETY 4.1), and the primary that acknowledged by it. Never
 * deleted: it decides who may follow that primary.
 */
export interface RuleRecord {
  readonly epoch: number;
  /** Of the epoch's rules; they rise from 1. */
  readonly number: number;
  /** Node id. */
  readonly primary: string;
  readonly rule: Rule;
}

/** How far the log was flushed and committed lately: what a lag is counted from (async only). */
export interface ProgressRecord {
  readonly epoch: number;
  /** Of the rule that was recorded when it was looked up: up to there all was acknowledged. */
  readonly number: number;
  readonly lsn: number;
}

/** Automation is paused. */
export interface PauseRecord {
  readonly by: string;
  readonly reason: string;
  /** Wall clock, milliseconds since 1970. For people. */
  readonly at: number;
}

export interface Records {
  readonly leader: LeaderRecord;
  readonly holder: HolderRecord;
  readonly rule: RuleRecord;
  readonly progress: ProgressRecord;
  readonly pause: PauseRecord;
}

export type RecordName = keyof Records;

export const recordNames = ['leader', 'holder', 'rule', 'progress', 'pause'] as const;

/** What one record may take; a rule with its 64 members takes less than 8 KiB. */
export const maxRecordBytes = 16_384;

type Fields = Record<string, unknown>;

/** It may be shown: one line, and nothing that steers a terminal. */
const isText = (value: unknown, most = 255): value is string =>
  typeof value === 'string' && value.length <= most && !/[\p{C}\p{Zl}\p{Zp}]/u.test(value);
const isCount = (value: unknown): value is number =>
  Number.isSafeInteger(value) && (value as number) >= 0;
const isId = (value: unknown): value is string => isText(value, 64) && value !== '';

const shapes: { readonly [Name in RecordName]: (fields: Fields) => boolean } = {
  leader: ({ logId, epoch, nodeId, name }) =>
    isId(logId) && isCount(epoch) && epoch > 0 && isId(nodeId) && isText(name),
  holder: ({ nodeId, reserved, place }) =>
    isId(nodeId) && typeof reserved === 'boolean' && (place === undefined || isText(place)),
  rule: ({ epoch, number, primary, rule }) =>
    isCount(epoch) && isCount(number) && isId(primary) && isRule(rule),
  progress: ({ epoch, number, lsn }) => isCount(epoch) && isCount(number) && isCount(lsn),
  pause: ({ by, reason, at }) => isText(by) && isText(reason, 1000) && isCount(at),
};

const levels: readonly unknown[] = ['off', 'local', 'remote_write', 'remote_flush', 'remote_apply'];

function isRule(value: unknown): value is Rule {
  if (typeof value !== 'object' || value === null) return false;
  const { synchronousCommit, synchronousStandbys, members, degraded } = value as Fields;
  if (!levels.includes(synchronousCommit) || typeof degraded !== 'boolean') return false;
  if (synchronousStandbys !== null && typeof synchronousStandbys !== 'string') return false;
  if (!Array.isArray(members) || members.length > 64 || !members.every(isId)) return false;
  return ruleFault(value as Rule) === undefined;
}

/** What others may have written there, checked. Throws WAL_REFEREE_REFUSED. */
export function parseRecord<Name extends RecordName>(name: Name, text: string): Records[Name] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw unreadable(name);
  }
  if (typeof value !== 'object' || value === null || !shapes[name](value as Fields)) {
    throw unreadable(name);
  }
  return value as Records[Name];
}

export function formatRecord<Name extends RecordName>(name: Name, record: Records[Name]): string {
  const text = JSON.stringify(record);
  if (!shapes[name](record as unknown as Fields) || text.length > maxRecordBytes) {
    throw new RangeError(`what is to be recorded as ${name} cannot be read back: ${text}`);
  }
  return text;
}

function unreadable(name: RecordName): WalError {
  return new WalError(
    'WAL_REFEREE_REFUSED',
    `what the referee holds as ${name} is not what this release writes there`,
    { hint: 'Look at who else writes under these keys; all nodes need the same release.' },
  );
}
