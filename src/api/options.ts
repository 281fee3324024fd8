import { basename, resolve } from 'node:path';
import type { ArchiveStore } from '../archive/store.js';
import type { Referee } from '../referee/referee.js';
import type { CommitLevel } from '../replication/level.js';
import type { RejoinMode } from '../replication/rejoin.js';
import type { Security } from '../transport/security.js';
import { type ArchiveOptions, type ResolvedArchive, resolveArchive } from './archive_options.js';
import { WalError } from './errors.js';
import { type Logger, resolveLogger } from './logger.js';
import { isNodeName, maxNameBytes, nodeNameRule } from './node_name.js';
import {
  type PolicyOptions,
  policyKeys,
  type ResolvedPolicy,
  resolvePolicy,
} from './policy_options.js';
import type { RebuildHook } from './rebuild.js';
import {
  type ResolvedRetention,
  type RetentionOptions,
  resolveRetention,
  retentionKeys,
} from './retention_options.js';
import { type ResolvedScrub, resolveScrub, type ScrubOptions } from './scrub.js';
import { resolveSecurity, type SecurityOptions, securityKeys } from './security_options.js';
import type { SeedingStatus } from './seeding.js';
import {
  type ReseedMode,
  type ResolvedSnapshot,
  resolveReseed,
  resolveSnapshot,
  type SnapshotOptions,
} from './snapshot_options.js';
import * as check from './validate.js';

/** Where a primary listens for standbys. */
export interface ListenOptions extends SecurityOptions {
  /** Default '127.0.0.1'. */
  readonly host?: string;
  /** TCP port; 0 lets the system choose, and `log.status().listening` says which. */
  readonly port: number;
}

/** Where a standby finds its primary. */
export interface FollowOptions extends SecurityOptions {
  /** Default '127.0.0.1'. Of a name with several addresses each is tried. */
  readonly host?: string;
  /** TCP port that the primary listens on, 1 to 65535. */
  readonly port: number;
}

/** Where another node of the group listens. */
export interface MemberOptions extends SecurityOptions {
  /** Default '127.0.0.1'. */
  readonly host?: string;
  /** TCP port, 1 to 65535. */
  readonly port: number;
}

/** Options of `Log.open`. Byte counts in bytes, times in milliseconds. */
export interface OpenOptions extends PolicyOptions {
  /**
   * Directory of the log; created with mode 0700 where there is none. Nothing else may lie in it.
   * Two to four directories, on disks of their own: each has a copy of the log, and the log goes on
   * while one of them is left.
   */
  readonly dir: string | readonly string[];
  /**
   * Directories whose copies are gone for good, or may be: the log is opened without them. What
   * they alone hold is lost. Default: none.
   */
  readonly acceptMissing?: readonly string[];
  /**
   * With several directories: a commit is flushed in so many of them, 1 to their number, and the
   * others may be behind by up to 64 MiB and `copyLag`. Default: in all. What was acknowledged is
   * then on so many disks only, until the others have it too; and opening needs enough of them that
   * one has all: 2 of 3 with a quorum of 2, but all with a quorum of 1. With fewer directories left
   * than that, a commit is flushed in all that are left.
   */
  readonly mirrorQuorum?: number;
  /**
   * With several directories: one that takes so many milliseconds longer for a call than another is
   * dropped. 100 to 3,600,000; default 10,000.
   */
  readonly copyLag?: number;
  /**
   * With several directories: bytes a second with which one that comes back is filled beside the
   * appends. Default 64 MiB.
   */
  readonly resyncRate?: number;
  /**
   * Name of this node, as `synchronousStandbys` and messages use it: 1 to 63 letters, digits, `_`,
   * `-` and `.`. Default: the directory's name.
   */
  readonly name?: string;
  /**
   * Log memory in bytes, a power of two from 64 KiB to 1 GiB; raised to hold two of the largest
   * record. Default 64 MiB.
   */
  readonly ringBytes?: number;
  /**
   * Size of a segment file in bytes, a multiple of 4096 from 64 KiB to 4 GiB. Fixed at creation.
   * Default 64 MiB.
   */
  readonly segmentBytes?: number;
  /**
   * Largest record in bytes. Fixed at creation. Default and limit: 16 MiB, or what a smaller
   * segment holds.
   */
  readonly maxRecordBytes?: number;
  /**
   * A batch is closed at this size in bytes, 1 KiB to 4 MiB; a larger record gets one of its own.
   * Default 256 KiB, or what a smaller segment holds.
   */
  readonly maxBatchBytes?: number;
  /**
   * A loop that never yields has its batch closed at the first append after this time, in whole
   * milliseconds, 1 to 10,000. Default 1.
   */
  readonly maxBatchDelay?: number;
  /** Pad each batch to 4 KiB, for devices that tear sectors. Fixed at creation. Default false. */
  readonly padded?: boolean;
  /**
   * false where the runtime refuses memory of an addon; every append is then a native call.
   * Default true, but false in Electron.
   */
  readonly sharedMemory?: boolean;
  /**
   * The sealed segments are read and verified in the background; what is damaged shows in the
   * status and as the event 'damage'. false: not at all. Default: 8 MiB a second, 24 hours after
   * the last one ended.
   */
  readonly scrub?: ScrubOptions | false;
  /**
   * How much log is kept below what is committed, also on a standby: the rest is let go of by
   * itself, in whole segments, as far as no slot, standby or reader needs it. Default: all of it,
   * until `trim`.
   */
  readonly retention?: RetentionOptions;
  /**
   * Bytes of the log that a standby which is away may hold. Past that its slot is `lost`, and the
   * log is not kept for it any more. Default: no limit.
   */
  readonly maxSlotBytes?: number;
  /**
   * For how many milliseconds a standby which is away may hold any, 1000 or more; counted while the
   * primary runs, by a clock that never jumps. Default: no limit.
   */
  readonly maxSlotAge?: number;
  /**
   * How the application's state is stored and loaded. Opening loads the newest good snapshot,
   * before `Log.open` resolves; `apply` then begins behind it, and `log.snapshot` takes another
   * one. In the directory `snapshots` in `dir`, the first of several. Default: the log has none.
   */
  readonly snapshot?: SnapshotOptions;
  /**
   * Where full segments are stored besides, as soon as they are committed: the path of a directory,
   * a store, or more of it. What is not stored yet is kept, within `maxBytes`. Default: nowhere.
   */
  readonly archive?: string | ArchiveStore | ArchiveOptions;
  /** Feed standbys. With `follow`: from the moment of promotion. Default: not at all. */
  readonly listen?: ListenOptions;
  /** Be a standby of this primary. Default: be a primary. */
  readonly follow?: FollowOptions;
  /**
   * 'worker': the log runs in a thread of its own, so that heartbeats, standbys and flushes do not
   * wait for this one's event loop; `Log.open` resolves with a `ThreadedLog`. Default 'main'.
   */
  readonly replicationThread?: 'main';
  /**
   * Where the nodes of this group listen, this one included or not, 1 to 32. With them a promotion
   * asks the others, fences them and takes the best log among them; a standby finds the primary by
   * itself, and follows nobody else; and a primary that is opened hears whether there is a newer
   * one. `tls`, `secret` and `plaintext` are those of `listen`, or else of `follow`, where none is
   * said. Default: nobody is known.
   */
  readonly members?: readonly MemberOptions[];
  /**
   * With `members`, as a primary: open although none of them answers, or too few. Nobody can tell
   * then whether another node was promoted meanwhile. Default false.
   */
  readonly openAlone?: boolean;
  /**
   * With `follow` or `members`, under a new primary: what becomes of records here that it does
   * not have, and that may have been committed and seen. 'ask': nothing is removed, and nothing
   * followed (WAL_WAS_PRIMARY, on a standby WAL_DIVERGED, with LSN range and count). 'auto': they
   * are set aside in a file and removed, but for those that a quorum may have committed in
   * synchronous mode. An LSN, as the error tells it: so is all that lies past it. What nobody can
   * have seen always is; what a quorum is known to have committed never is. Default 'ask'.
   */
  readonly rejoin?: RejoinMode;
  /**
   * Of a standby with `snapshot`: what becomes of a log that the primary does not go on with, since
   * it has let go of what comes next. `never`: it stays, and the link is refused (WAL_LSN_GONE).
   * `auto`: it is replaced by a snapshot of the primary and the log from there on, where all of it
   * is a part of the primary's log; `onRebuild` is told. An empty log is always seeded so. Default
   * `never`.
   */
  readonly reseed?: ReseedMode;
  /**
   * Told from which LSN state has to be rebuilt, where records that may have been read here were
   * removed, since a new primary has others in their place. Nothing of those is shown before what
   * it returns has resolved, and after a crash it is told again; a rejection fails the log. While
   * it runs, what lies before that LSN can be read and applied. Default: nobody; the event
   * 'rebuild' tells it too.
   */
  readonly onRebuild?: RebuildHook;
  /**
   * Decides who of the group is the primary (`etcdReferee`, `fileReferee` of walmirror/referee):
   * this log acknowledges only while it is granted that, and as a standby it becomes the primary by
   * itself when nobody is and the referee lets it. One of its own for each log; it is not closed
   * with the log. Default: none, and roles change only when told to.
   */
  readonly referee?: Referee;
  /**
   * With a referee, where commits wait for no standby: a standby is promoted by itself only if it
   * lacks at most so many records of what the primary last told to be committed, which is up to a
   * renewal old. Default 0.
   */
  readonly maximumLag?: number;
  /**
   * Told what happens to this log, in words and fields: pino or `console`, say. Default: nobody is.
   */
  readonly logger?: Logger | undefined;
  /** Cancels the wait for the primary that a fresh standby directory begins with. Default: none. */
  readonly signal?: AbortSignal;
  /** Told in that wait why the primary was not reached, after each attempt. Default: nobody is. */
  readonly onWaiting?: (error: WalError) => void;
  /** Told how far a snapshot of the primary has come that this standby begins with. */
  readonly onSeeding?: (seeding: SeedingStatus) => void;
}

/** Options of `Log.open` for a log that runs in a thread of its own. */
export interface ThreadedOptions
  extends Omit<OpenOptions, 'replicationThread' | 'snapshot' | 'archive' | 'reseed' | 'onSeeding'> {
  readonly replicationThread: 'worker';
  /**
   * With a referee: where this thread has not run for so many milliseconds, its log is no primary
   * for long. Its lease is not renewed, and as a standby it does not take the group, until this
   * thread runs again. 1,000 to 3,600,000; default 30,000.
   */
  readonly applicationTimeout?: number;
}

export interface Endpoint extends Security {
  readonly host: string;
  readonly port: number;
}

/** `OpenOptions` checked and with every default filled in. */
export interface ResolvedOptions extends ResolvedRetention {
  /** The first one, or the only one. */
  readonly dir: string;
  readonly mirrors: readonly string[];
  readonly acceptMissing: readonly string[];
  readonly copyLag: number;
  /** 0: all. */
  readonly mirrorQuorum: number;
  readonly resyncRate: number;
  readonly name: string;
  readonly ringBytes: number;
  readonly segmentBytes: number;
  readonly maxRecordBytes: number;
  readonly maxBatchBytes: number;
  readonly maxBatchDelay: number;
  readonly padded: boolean;
  readonly sharedMemory: boolean;
  /** undefined: off. */
  readonly scrub: ResolvedScrub | undefined;
  /** undefined: the application has none. */
  readonly snapshot: ResolvedSnapshot | undefined;
  /** undefined: none. */
  readonly archive: ResolvedArchive | undefined;
  readonly listen: Endpoint | undefined;
  readonly follow: Endpoint | undefined;
  readonly members: readonly Endpoint[];
  readonly openAlone: boolean;
  readonly rejoin: RejoinMode;
  readonly reseed: ReseedMode;
  readonly policy: ResolvedPolicy;
  readonly replicationThread: 'main' | 'worker';
  readonly referee: Referee | undefined;
  readonly maximumLag: number;
  readonly applicationTimeout: number;
  readonly logger: Logger | undefined;
  readonly signal: AbortSignal | undefined;
  readonly onWaiting: ((error: WalError) => void) | undefined;
  readonly onSeeding: ((seeding: SeedingStatus) => void) | undefined;
  readonly onRebuild: RebuildHook | undefined;
  /** What was said by name of the properties that are fixed at creation. */
  readonly fixed: {
    readonly segmentBytes?: number;
    readonly maxRecordBytes?: number;
    readonly padded?: boolean;
  };
}

export type { CommitLevel, RejoinMode };

const MIB = 1024 * 1024;
const DEFAULT_RECORD_BYTES = 16 * MIB;
/**
 * Segment and batch header, and the filler or the longest opening; more of it in padded batches.
 */
const SEGMENT_OVERHEAD = 5 * 4096;
const PADDED_OVERHEAD = 7 * 4096;
const MIN_SEGMENT_BYTES = 64 * 1024;

const openKeys = [
  'dir',
  'name',
  'ringBytes',
  'segmentBytes',
  'maxRecordBytes',
  'maxBatchBytes',
  'maxBatchDelay',
  'padded',
  'sharedMemory',
  'scrub',
  'listen',
  'follow',
  'members',
  'openAlone',
  'rejoin',
  'reseed',
  'referee',
  'maximumLag',
  'applicationTimeout',
  'logger',
  'signal',
  'onWaiting',
  'onSeeding',
  'onRebuild',
  'snapshot',
  'archive',
  'acceptMissing',
  'copyLag',
  'mirrorQuorum',
  'resyncRate',
  'replicationThread',
  ...retentionKeys,
  ...policyKeys,
] as const;

/**
 * Checks what was passed to `Log.open`. Throws TypeError, RangeError, WAL_PLAINTEXT,
 * WAL_NO_STANDBYS.
 */
export function resolveOpenOptions(input: unknown): ResolvedOptions {
  if (input === undefined) throw new TypeError("Log.open takes options, such as { dir: './log' }");
  const raw = check.optionsObject(input, 'Log.open', openKeys);
  const [dir, ...mirrors] = directories(raw.dir);
  const name = nodeName(raw.name, dir);
  const sizes = resolveSizes(raw);
  return {
    dir,
    mirrors,
    ...resolveCopies(raw, 1 + mirrors.length),
    name,
    ...sizes,
    sharedMemory:
      raw.sharedMemory === undefined
        ? process.versions.electron === undefined
        : check.boolean(raw.sharedMemory, 'sharedMemory'),
    scrub: resolveScrub(raw.scrub),
    ...resolveRetention(raw),
    snapshot: snapshotOption(raw),
    archive: resolveArchive(raw),
    listen: raw.listen === undefined ? undefined : resolveListen(raw.listen, name),
    follow: raw.follow === undefined ? undefined : resolveFollow(raw.follow, name),
    ...resolveMembers(raw, name),
    rejoin: resolveRejoin(raw),
    reseed: resolveReseed(raw.reseed, raw.snapshot !== undefined),
    policy: resolvePolicy(raw),
    replicationThread:
      raw.replicationThread === undefined
        ? 'main'
        : check.oneOf(raw.replicationThread, 'replicationThread', ['main', 'worker'] as const),
    ...resolveReferee(raw),
    logger: resolveLogger(raw.logger),
    signal: check.abortSignal(raw.signal, 'signal'),
    onWaiting: callback<(error: WalError) => void>(raw.onWaiting, 'onWaiting'),
    onSeeding: callback<(seeding: SeedingStatus) => void>(raw.onSeeding, 'onSeeding'),
    onRebuild: callback<RebuildHook>(raw.onRebuild, 'onRebuild'),
  };
}

const MAX_GROUP = 32;

function resolveMembers(raw: Record<string, unknown>, node: string) {
  const { members, openAlone } = raw;
  const alone = openAlone === undefined ? false : check.boolean(openAlone, 'openAlone');
  if (members === undefined) {
    if (openAlone === undefined) return { members: [], openAlone: false };
    throw new TypeError('openAlone is for a log with members: pass members: [{ port: 7402 }] too');
  }
  if (!Array.isArray(members)) {
    const example = '[{ port: 7401 }, { port: 7402 }]';
    throw new TypeError(`members takes an array such as ${example}, got ${check.shown(members)}`);
  }
  if (members.length < 1 || members.length > MAX_GROUP) {
    throw new RangeError(`members takes 1 to ${MAX_GROUP} addresses, got ${members.length}`);
  }
  const common = securityOf(raw.listen ?? raw.follow);
  const endpoints = members.map((each: unknown, i) => {
    const isPlain = Object.keys(securityOf(each)).length === 0;
    const whole =
      isPlain && typeof each === 'object' && each !== null ? { ...common, ...each } : each;
    return endpoint(whole, `members[${i}]`, 1, node);
  });
  return { members: endpoints, openAlone: alone };
}

/** Of what was passed as an endpoint: what was said of its security, unchecked. */
function securityOf(value: unknown): Record<string, unknown> {
  if (typeof value !== 'object' || value === null) return {};
  const raw = value as Record<string, unknown>;
  return Object.fromEntries(
    securityKeys.filter((key) => raw[key] !== undefined).map((key) => [key, raw[key]]),
  );
}

export const rejoinModes = ['ask', 'auto'] as const satisfies readonly RejoinMode[];

function resolveRejoin(raw: Record<string, unknown>): RejoinMode {
  const { rejoin, follow, members } = raw;
  if (rejoin === undefined) return 'ask';
  const mode =
    typeof rejoin === 'number'
      ? check.integer(rejoin, 'rejoin', 0, Number.MAX_SAFE_INTEGER)
      : check.oneOf(rejoin, 'rejoin', rejoinModes);
  if (follow === undefined && members === undefined) {
    throw new TypeError('rejoin is for a log that follows: pass follow: { port: 7401 } too');
  }
  return mode;
}

function snapshotOption({ snapshot, replicationThread }: Record<string, unknown>) {
  if (snapshot === undefined || replicationThread !== 'worker') return resolveSnapshot(snapshot);
  const text = "snapshot is not for a log with replicationThread: 'worker'";
  throw new WalError('WAL_UNSUPPORTED', text, {
    hint: 'Open the log in the thread that has the state: leave out replicationThread.',
  });
}

const refereeCalls = ['acquire', 'renew', 'regain', 'release', 'recordRule', 'watch'] as const;

function resolveReferee(
  raw: Record<string, unknown>,
): Pick<ResolvedOptions, 'referee' | 'maximumLag' | 'applicationTimeout'> {
  const { referee, maximumLag, applicationTimeout, replicationThread } = raw;
  const isWatched = referee !== undefined && replicationThread === 'worker';
  if (applicationTimeout !== undefined && !isWatched) {
    throw new TypeError(
      "applicationTimeout is for a log with a referee and replicationThread: 'worker'",
    );
  }
  if (maximumLag !== undefined && referee === undefined) {
    throw new TypeError('maximumLag is for a log with a referee');
  }
  if (referee !== undefined) {
    const calls = referee as Partial<Record<string, unknown>> | null;
    if (!refereeCalls.every((name) => typeof calls?.[name] === 'function')) {
      throw new TypeError('referee takes what etcdReferee() or fileReferee() has made');
    }
  }
  return {
    referee: referee as Referee | undefined,
    maximumLag:
      maximumLag === undefined
        ? 0
        : check.integer(maximumLag, 'maximumLag (records)', 0, Number.MAX_SAFE_INTEGER),
    applicationTimeout:
      applicationTimeout === undefined
        ? 30_000
        : check.integer(applicationTimeout, 'applicationTimeout (milliseconds)', 1000, 3_600_000),
  };
}

function callback<T>(value: unknown, name: string): T | undefined {
  if (value === undefined) return undefined;
  check.callback(value, name);
  return value as T;
}

type Sizes = Pick<
  ResolvedOptions,
  | 'ringBytes'
  | 'segmentBytes'
  | 'maxRecordBytes'
  | 'maxBatchBytes'
  | 'maxBatchDelay'
  | 'padded'
  | 'fixed'
>;

function resolveSizes(raw: Record<string, unknown>): Sizes {
  const ringBytes = raw.ringBytes === undefined ? 64 * MIB : ringSize(raw.ringBytes);
  const segmentBytes = raw.segmentBytes === undefined ? 64 * MIB : segmentSize(raw.segmentBytes);
  const padded = raw.padded === undefined ? false : check.boolean(raw.padded, 'padded');
  const room = segmentBytes - (padded ? PADDED_OVERHEAD : SEGMENT_OVERHEAD);
  const largest = Math.min(DEFAULT_RECORD_BYTES, room);
  const said = raw.maxRecordBytes;
  const maxRecordBytes =
    said === undefined ? largest : check.integer(said, 'maxRecordBytes', 1, largest);
  const batch = raw.maxBatchBytes;
  return {
    ringBytes,
    segmentBytes,
    maxRecordBytes,
    maxBatchBytes:
      batch === undefined
        ? Math.min(256 * 1024, room)
        : check.integer(batch, 'maxBatchBytes', 1024, Math.min(4 * MIB, room)),
    maxBatchDelay:
      raw.maxBatchDelay === undefined
        ? 1
        : check.integer(raw.maxBatchDelay, 'maxBatchDelay (milliseconds)', 1, 10_000),
    padded,
    fixed: {
      ...(raw.segmentBytes === undefined ? {} : { segmentBytes }),
      ...(said === undefined ? {} : { maxRecordBytes }),
      ...(raw.padded === undefined ? {} : { padded }),
    },
  };
}

function ringSize(value: unknown): number {
  const bytes = check.integer(value, 'ringBytes', 64 * 1024, 1024 * MIB);
  if (!Number.isInteger(Math.log2(bytes))) {
    throw new RangeError(`ringBytes takes a power of two, such as ${64 * MIB}; got ${bytes}`);
  }
  return bytes;
}

function segmentSize(value: unknown): number {
  const bytes = check.integer(value, 'segmentBytes', MIN_SEGMENT_BYTES, 4096 * MIB);
  if (bytes % 4096 !== 0) {
    throw new RangeError(
      `segmentBytes takes a multiple of 4096, such as ${64 * MIB}; got ${bytes}`,
    );
  }
  return bytes;
}

type Copies = Pick<ResolvedOptions, 'acceptMissing' | 'copyLag' | 'mirrorQuorum' | 'resyncRate'>;

function resolveCopies(raw: Record<string, unknown>, directoryCount: number): Copies {
  for (const key of ['copyLag', 'mirrorQuorum', 'resyncRate'] as const) {
    if (raw[key] === undefined || directoryCount > 1) continue;
    throw new TypeError(`${key} is for a log with several directories: dir: ['./a', './b']`);
  }
  const lag = raw.copyLag;
  const rate = raw.resyncRate;
  return {
    acceptMissing: raw.acceptMissing === undefined ? [] : accepted(raw.acceptMissing),
    copyLag:
      lag === undefined ? 10_000 : check.integer(lag, 'copyLag (milliseconds)', 100, 3_600_000),
    mirrorQuorum: raw.mirrorQuorum === undefined ? 0 : quorum(raw.mirrorQuorum, directoryCount),
    resyncRate:
      rate === undefined
        ? 64 * MIB
        : check.integer(rate, 'resyncRate (bytes a second)', 64 * 1024, 1024 * 1024 * MIB),
  };
}

function quorum(value: unknown, directoryCount: number): number {
  return check.integer(value, 'mirrorQuorum, of the directories,', 1, directoryCount);
}

const MAX_DIRECTORIES = 4;

/** One path or several, each resolved; the first is the one that messages name. */
export function directories(value: unknown): [string, ...string[]] {
  if (!Array.isArray(value)) return [path(value, 'dir')];
  const paths = value.map((one) => path(one, 'dir'));
  const [first, ...others] = paths;
  if (first === undefined || paths.length > MAX_DIRECTORIES) {
    throw new RangeError(`dir takes 1 to ${MAX_DIRECTORIES} directories, got ${paths.length}`);
  }
  const twice = paths.find((one, i) => paths.indexOf(one) !== i);
  if (twice !== undefined) {
    throw new RangeError(`dir takes each directory once; ${check.shown(twice)} is there twice`);
  }
  return [first, ...others];
}

export function accepted(value: unknown): readonly string[] {
  if (!Array.isArray(value)) {
    throw new TypeError(`acceptMissing takes an array of directories, got ${check.shown(value)}`);
  }
  return value.map((one) => path(one, 'acceptMissing'));
}

function path(value: unknown, what: string): string {
  const text = check.string(value, what);
  if (text === '' || text.includes('\0')) {
    throw new RangeError(
      `${what} takes the path of a directory, such as './log'; got ${check.shown(text)}`,
    );
  }
  return resolve(text);
}

function nodeName(value: unknown, dir: string): string {
  if (value === undefined) {
    const name = basename(dir)
      .replace(/[^\w.-]/g, '_')
      .slice(0, maxNameBytes);
    return name === '' ? 'log' : name;
  }
  const name = check.string(value, 'name');
  if (!isNodeName(name)) {
    throw new RangeError(`name takes ${nodeNameRule}; got ${check.shown(name)}`);
  }
  return name;
}

/** Checks a `listen` option, of `Log.open` or `promote`. */
export function resolveListen(value: unknown, node: string): Endpoint {
  return endpoint(value, 'listen', 0, node);
}

export function resolveFollow(value: unknown, node: string): Endpoint {
  return endpoint(value, 'follow', 1, node);
}

function endpoint(value: unknown, what: string, lowestPort: number, node: string): Endpoint {
  if (typeof value !== 'object' || value === null) {
    const example = "{ host: '127.0.0.1', port: 7401 }";
    throw new TypeError(`${what} takes an object such as ${example}, got ${check.shown(value)}`);
  }
  const raw = check.optionsObject(value, what, ['host', 'port', ...securityKeys]);
  const host = raw.host === undefined ? '127.0.0.1' : check.string(raw.host, `${what}.host`);
  if (host === '') throw new RangeError(`${what}.host takes an address or a name, got ""`);
  const port = check.integer(raw.port, `${what}.port`, lowestPort, 65535);
  const security = resolveSecurity(raw, what, node);
  if (!security.plaintext && security.tls === undefined && !isLoopback(host)) {
    throw new WalError(
      'WAL_PLAINTEXT',
      `${what}.host ${check.shown(host)} is not loopback, and replication is not encrypted`,
      {
        hint:
          `Pass ${what}: { ..., tls: { ... } } or, on a network that you trust, ` +
          'plaintext: true.',
      },
    );
  }
  return { host, port, ...security };
}

/** Whether packets to this host stay on this machine. A name other than localhost may not. */
export function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, '').toLowerCase();
  return (
    bare === 'localhost' ||
    bare === '::1' ||
    /^(::ffff:)?127\.\d{1,3}\.\d{1,3}\.\d{1,3}$/.test(bare)
  );
}
