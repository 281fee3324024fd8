import { startControlServer } from '../control/server.js';
import { loadBinding } from '../native/binding.js';
import {
  type NativeInfo,
  type NativeLog,
  type NativeOpenOptions,
  type Role,
  State,
  type Term,
} from '../native/native_log.js';
import { openingRule } from '../replication/rule.js';
import { requireBindable } from '../transport/listener.js';
import { LogCore } from './core.js';
import { WalError } from './errors.js';
import { fencedError } from './fenced_driver.js';
import { logStatus } from './log_status.js';
import { type ResolvedOptions, resolveOpenOptions } from './options.js';
import { commitPolicy } from './policy_options.js';
import { PrimaryDriver } from './primary_driver.js';
import { promote } from './promote.js';
import { setPolicy } from './set_policy.js';
import { StandbyDriver } from './standby_driver.js';
import { learnIdentity, type StandbyIdentity } from './standby_identity.js';

/** Opens the log and gives it its role. Leaves nothing open when it throws. */
export async function openLog(input: unknown): Promise<LogCore> {
  const options = resolveOpenOptions(input);
  options.signal?.throwIfAborted();
  const native = withOwnProperties(await openNative(options));
  let core: LogCore | undefined;
  try {
    requireRole(native.info(), options);
    requireFixed(native.info(), options);
    core = new LogCore(native, options);
    await core.keepAlive.during(options.follow === undefined ? lead(core) : follow(core));
    core.control = await serveControl(core);
    tellOpened(core);
    core.rebuild.opened();
    return core;
  } catch (error) {
    await abandon(native, core);
    throw WalError.from(error);
  }
}

/** What opening found, in one line. */
function tellOpened({ news, driver, native, info }: LogCore): void {
  const { term, created, recovery, io } = native.info();
  const first = (native.state[State.START_LSN] ?? 0) + 1;
  const last = native.state[State.CLOSED_LSN] ?? 0;
  const { clean, cutBytes, milliseconds } = info.recovery;
  const records = last < first ? 'no records' : `LSN ${first} to ${last}`;
  const found = created ? 'a new log' : clean ? 'closed cleanly before' : 'recovered';
  const cut = cutBytes === 0 ? '' : `, a torn tail of ${cutBytes} bytes was cut`;
  const took = `took ${milliseconds.toFixed(0)} ms`;
  // A standby that has not met its primary yet knows of no term.
  const role = term.epoch === 0 ? driver.role : `${driver.role}, epoch ${term.epoch}`;
  const text = `opened as ${role}: ${records}, ${io} I/O, ${found}${cut}; ${took}`;
  news.tell('info', 'opened', text, { role: driver.role, term, io, recovery });
}

/**
 * The addon answers `state` by a call into C++, which costs as much as a whole append; the arrays
 * never change, so that they can be plain properties.
 */
function withOwnProperties(native: NativeLog): NativeLog {
  const { state, words, ring } = native;
  return Object.defineProperties(native, {
    state: { value: state },
    words: { value: words },
    ring: { value: ring },
  });
}

async function abandon(native: NativeLog, core: LogCore | undefined): Promise<void> {
  core?.appender.abandon();
  await core?.closeDriver();
  if (core !== undefined) core.state = 'closed';
  await native.close().catch(() => undefined);
  core?.closed();
}

/**
 * `walmirror status` and `walmirror promote` find the running log through this: in every directory
 * that holds a copy, since one may go.
 */
async function serveControl(core: LogCore): Promise<{ close(): Promise<void> }> {
  const copies = core.native.info().copies.filter(({ state }) => state === 'in');
  const dirs = copies.length === 0 ? [core.options.dir] : copies.map(({ dir }) => dir);
  const started = await Promise.allSettled(
    dirs.map((dir) =>
      startControlServer({
        dir,
        status: () => logStatus(core),
        promote: (request) => promote(core, request),
        policy: (request, signal) => setPolicy(core, { ...(request as object), signal }),
        scrub: (_, signal) => core.keepAlive.during(core.scrub.run(signal)),
      }),
    ),
  );
  const servers = started.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  const failed = started.find((one) => one.status === 'rejected');
  if (servers.length === 0 && failed !== undefined) {
    const { message } = failed.reason as Error;
    throw new WalError('WAL_IO', `cannot make the control socket in ${dirs[0]}: ${message}`, {
      cause: failed.reason,
    });
  }
  return {
    close: async () => {
      await Promise.all(servers.map((server) => server.close()));
    },
  };
}

/** Opens a term of its own before anything is appended (SAFETY.md 2.1), then listens. */
async function lead(core: LogCore): Promise<void> {
  const term = nextTerm(core.info);
  const { policy, listen } = core.options;
  if (listen !== undefined) await requireBindable(listen);
  await core.rebuild.tellFirst();
  if (core.failure !== undefined) throw core.failure;
  await core.native.openTerm(term, openingRule(commitPolicy(policy)));
  const driver = new PrimaryDriver(core, term, policy);
  core.driver = driver;
  core.appender.start();
  if (listen !== undefined) await driver.listen(listen);
}

async function follow(core: LogCore): Promise<void> {
  const { follow: endpoint } = core.options;
  if (endpoint === undefined) return;
  await core.rebuild.find();
  const driver = new StandbyDriver(core, endpoint);
  core.driver = driver;
  driver.start();
}

/** The same epoch and opener, one incarnation on; a new log is the first of its opener. */
function nextTerm(info: NativeInfo): Term {
  const { term } = info;
  if (term.epoch === 0) return { epoch: 1, opener: info.nodeId, incarnation: 1 };
  return { ...term, incarnation: term.incarnation + 1 };
}

async function openNative(options: ResolvedOptions): Promise<NativeLog> {
  const binding = loadBinding();
  try {
    const role = options.follow === undefined ? 'primary' : 'standby';
    try {
      return await binding.open(nativeOptions(options, role, false));
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'WAL_NOT_FOUND') throw error;
    }
    if (options.follow === undefined) {
      // Nothing is created for a log that could not serve.
      if (options.listen !== undefined) await requireBindable(options.listen);
      return await binding.open(nativeOptions(options, 'primary', true));
    }
    const identity = await learnIdentity(options, options.follow);
    requireFixed(identity, options);
    return await binding.open(nativeOptions(options, 'standby', true, identity));
  } catch (error) {
    throw WalError.from(error);
  }
}

function nativeOptions(
  options: ResolvedOptions,
  role: Role,
  create: boolean,
  identity?: StandbyIdentity,
): NativeOpenOptions {
  const { segmentBytes, padded, maxRecordBytes } = identity ?? options;
  return {
    dir: options.dir,
    mirrors: options.mirrors,
    acceptMissing: options.acceptMissing,
    copyLagMs: options.copyLag,
    mirrorQuorum: options.mirrorQuorum,
    copyFillRate: options.resyncRate,
    create,
    role,
    name: options.name,
    segmentBytes,
    padded,
    maxRecordBytes,
    ringBytes: options.ringBytes,
    maxBatchBytes: options.maxBatchBytes,
    maxBatchDelayMs: options.maxBatchDelay,
    sharedRing: options.sharedMemory,
    ...(identity === undefined ? {} : { logId: identity.logId, salt: identity.salt }),
  };
}

/**
 * A directory keeps its role; an option that was forgotten does not change it (3.7). With `follow`
 * an old primary asks the new one what may become of its log, and is no standby before.
 */
function requireRole(info: NativeInfo, options: ResolvedOptions): void {
  const asStandby = options.follow !== undefined;
  if (info.role === 'fenced' && !asStandby) throw fencedError(info.term, 'refused');
  if (!asStandby && info.role === 'standby') {
    const primary = info.primaryName === '' ? 'a primary' : `primary ${info.primaryName}`;
    const at = info.primaryAddress === '' ? '' : ` at ${info.primaryAddress}`;
    throw new WalError('WAL_IS_STANDBY', `${options.dir} is a standby of ${primary}${at}`);
  }
}

type Fixed = Pick<NativeInfo, 'segmentBytes' | 'maxRecordBytes' | 'padded'>;

/** What was fixed at creation and is asked for differently now: refused, not quietly ignored. */
function requireFixed(info: Fixed, options: ResolvedOptions): void {
  for (const key of ['segmentBytes', 'maxRecordBytes', 'padded'] as const) {
    const asked = options.fixed[key];
    if (asked === undefined || asked === info[key]) continue;
    throw new RangeError(
      `${key} was fixed at ${info[key]} when the log was created; ` +
        `leave it out, or pass that (got ${asked})`,
    );
  }
}
