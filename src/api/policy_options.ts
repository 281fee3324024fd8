import type { CommitPolicy } from '../replication/commit_place.js';
import { type CommitLevel, commitLevels } from '../replication/level.js';
import { formatStandbys, parseStandbys, type SyncStandbys } from '../replication/policy.js';
import { maxStandbysBytes } from '../replication/rule.js';
import { WalError } from './errors.js';
import * as check from './validate.js';

/** How safe commits are by default, and what happens while the standbys asked for are missing. */
export interface PolicyOptions {
  /**
   * Level of a commit that names none, and of what readers and the applier are shown. Default
   * `local` without `synchronousStandbys`, `remote_flush` with.
   */
  readonly synchronousCommit?: CommitLevel;
  /** The standbys that count, such as 'ANY 1 (*)' or 'ANY 2 (a, b, c)'. */
  readonly synchronousStandbys?: string;
  /** Commits wait for missing standbys without end (`block`, the default), or reject (`fail`). */
  readonly whenMissing?: 'block' | 'fail';
  /** With whenMissing 'fail': milliseconds until WAL_SYNC_TIMEOUT. Default 10,000. */
  readonly syncTimeout?: number;
}

export interface ResolvedPolicy {
  readonly level: CommitLevel;
  /** undefined: nobody is named, and remote levels are refused. */
  readonly standbys: SyncStandbys | undefined;
  readonly whenMissing: 'block' | 'fail';
  readonly syncTimeout: number;
}

export const policyKeys = [
  'synchronousCommit',
  'synchronousStandbys',
  'whenMissing',
  'syncTimeout',
] as const;

export function isRemote(level: CommitLevel): boolean {
  return level !== 'off' && level !== 'local';
}

/** The policy that these options ask for; `base` stands in for what they leave out (promotion). */
export function resolvePolicy(raw: Record<string, unknown>, base?: ResolvedPolicy): ResolvedPolicy {
  const standbys =
    raw.synchronousStandbys === undefined ? base?.standbys : named(raw.synchronousStandbys);
  const level = resolveLevel(raw.synchronousCommit, standbys, base);
  const whenMissing =
    raw.whenMissing === undefined
      ? (base?.whenMissing ?? 'block')
      : check.oneOf(raw.whenMissing, 'whenMissing', ['block', 'fail'] as const);
  if (raw.whenMissing !== undefined && standbys === undefined) {
    throw new RangeError(
      'whenMissing needs synchronousStandbys: nobody is named who could be missing',
    );
  }
  if (raw.syncTimeout !== undefined && whenMissing !== 'fail') {
    throw new RangeError(
      "syncTimeout needs whenMissing: 'fail'; with 'block' a commit waits without end",
    );
  }
  const syncTimeout =
    raw.syncTimeout === undefined
      ? (base?.syncTimeout ?? 10_000)
      : check.finite(raw.syncTimeout, 'syncTimeout (milliseconds)', 1, 2 ** 31 - 1);
  return { level, standbys, whenMissing, syncTimeout };
}

function resolveLevel(
  value: unknown,
  standbys: SyncStandbys | undefined,
  base: ResolvedPolicy | undefined,
): CommitLevel {
  if (value === undefined) {
    if (base !== undefined && standbys === base.standbys) return base.level;
    if (standbys === undefined) return 'local';
    return base !== undefined && isRemote(base.level) ? base.level : 'remote_flush';
  }
  const level = check.oneOf(value, 'synchronousCommit', commitLevels);
  if (isRemote(level) && standbys === undefined) throw noStandbys(level);
  return level;
}

/** WAL_NO_STANDBYS: a remote level is never quietly a local one. */
export function noStandbys(level: CommitLevel): WalError {
  return new WalError(
    'WAL_NO_STANDBYS',
    `the commit level '${level}' waits for standbys, and synchronousStandbys names none`,
    { hint: "Pass synchronousStandbys: 'ANY 1 (*)', or another level.", outcome: 'refused' },
  );
}

/** '' names nobody, as in PostgreSQL. */
function named(value: unknown): SyncStandbys | undefined {
  const text = check.string(value, 'synchronousStandbys');
  if (text.trim() === '') return undefined;
  const standbys = parseStandbys(text);
  // It is recorded, and told to the standbys, whole.
  const bytes = Buffer.byteLength(formatStandbys(standbys));
  if (bytes > maxStandbysBytes) {
    throw new RangeError(
      `synchronousStandbys takes at most ${maxStandbysBytes} bytes; got ${bytes}`,
    );
  }
  return standbys;
}

export function commitPolicy({ level, standbys }: ResolvedPolicy): CommitPolicy {
  return { synchronousCommit: level, standbys };
}
