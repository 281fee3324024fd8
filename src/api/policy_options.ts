import type { CommitPolicy } from '../replication/commit_place.js';
import { type CommitLevel, commitLevels } from '../replication/level.js';
import {
  formatStandbys,
  parseStandbys,
  refuseUnmeetable,
  type SyncStandbys,
} from '../replication/policy.js';
import { maxMembers, maxStandbysBytes } from '../replication/rule.js';
import { WalError } from './errors.js';
import * as check from './validate.js';

/** How safe commits are by default, and what happens while the standbys asked for are missing. */
export interface PolicyOptions {
  /**
   * Level of a commit that names none, and of what readers and the applier are shown. Default
   * `local` without `synchronousStandbys`, `remote_flush` with.
   */
  readonly synchronousCommit?: CommitLevel;
  /**
   * The standbys that count, as PostgreSQL writes them: 'ANY 2 (a, b, c)', any two of them;
   * 'FIRST 1 (a, b)', the first of them that is connected and has caught up, and one that goes
   * keeps its place until another has it; '*' stands for every standby. `setPolicy` with '' turns
   * a remote level that it does not name into 'local'. Default '': nobody.
   */
  readonly synchronousStandbys?: string;
  /**
   * Commits wait for missing standbys without end (`block`, the default), reject (`fail`), or make
   * the log go on alone until enough standbys have caught up (`degrade`): each commit is met by the
   * local flush meanwhile, but for those that name a remote level themselves: they reject after
   * syncTimeout. So do all commits at 'remote_apply', after twice that time, where standbys flush
   * and do not apply.
   */
  readonly whenMissing?: WhenMissing;
  /**
   * Milliseconds of waiting, 1 at least, until WAL_SYNC_TIMEOUT (`fail`), or until the log goes on
   * alone (`degrade`). Default 10,000.
   */
  readonly syncTimeout?: number;
}

export const whenMissingChoices = ['block', 'fail', 'degrade'] as const;
export type WhenMissing = (typeof whenMissingChoices)[number];

export interface ResolvedPolicy {
  readonly level: CommitLevel;
  /** undefined: nobody is named, and remote levels are refused. */
  readonly standbys: SyncStandbys | undefined;
  readonly whenMissing: WhenMissing;
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
      : check.oneOf(raw.whenMissing, 'whenMissing', whenMissingChoices);
  if (raw.whenMissing !== undefined && standbys === undefined) {
    throw new RangeError(
      'whenMissing needs synchronousStandbys: nobody is named who could be missing',
    );
  }
  if (raw.syncTimeout !== undefined && whenMissing === 'block') {
    throw new RangeError(
      "syncTimeout needs whenMissing: 'fail' or whenMissing: 'degrade'; " +
        "with 'block' a commit waits without end",
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
    if (standbys === undefined) {
      return base === undefined || isRemote(base.level) ? 'local' : base.level;
    }
    // Named for the first time: they are to count.
    return base?.standbys === undefined ? 'remote_flush' : base.level;
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
    { outcome: 'refused' },
  );
}

/** '' names nobody, as in PostgreSQL. */
function named(value: unknown): SyncStandbys | undefined {
  const text = check.string(value, 'synchronousStandbys');
  if (text.trim() === '') return undefined;
  const standbys = parseStandbys(text);
  refuseUnmeetable(standbys, text);
  if (standbys.count > maxMembers) {
    throw new RangeError(
      `synchronousStandbys takes at most ${maxMembers} standbys to wait for; got ${standbys.count}`,
    );
  }
  // It is recorded, and told to the standbys, whole.
  const bytes = Buffer.byteLength(formatStandbys(standbys));
  if (bytes > maxStandbysBytes) {
    throw new RangeError(
      `synchronousStandbys takes at most ${maxStandbysBytes} bytes; got ${bytes}`,
    );
  }
  return standbys;
}

/** Milliseconds of waiting after which the log goes on alone; undefined: it never does. */
export function degradeAfter({ whenMissing, syncTimeout }: ResolvedPolicy): number | undefined {
  return whenMissing === 'degrade' ? syncTimeout : undefined;
}

export function commitPolicy({ level, standbys }: ResolvedPolicy): CommitPolicy {
  return { synchronousCommit: level, standbys };
}
