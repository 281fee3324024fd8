import { startControlServer } from '../control/server.js';
import {
  type NativeInfo,
  type NativeLog,
  type NativeOpenOptions,
  type Role,
  State,
  type Term,
} from '../native/native_log.js';
import type { HeldGroup } from '../referee/held_group.js';
import { openedTerm, wouldKnowNewer } from '../replication/candidacy.js';
import { compareTerms, firstPosition } from '../replication/history.js';
import { openingRule } from '../replication/rule.js';
import { type Environment, processEnvironment } from '../transport/environment.js';
import { requireBindable } from '../transport/listener.js';
import { claimToOpen } from './claims.js';
import { LogCore } from './core.js';
import { demote } from './demote.js';
import { WalError } from './errors.js';
import { cutShortByClose } from './failure.js';
import { fencedError } from './fenced_driver.js';
import { follow, followAgain } from './follow.js';
import { claimForArchive } from './log_archive.js';
import { LogRetention } from './log_retention.js';
import { logStatus } from './log_status.js';
import {
  describeSilent,
  type MemberAnswer,
  type MemberSurvey,
  type Members,
  newMembers,
  primaryAmong,
} from './members.js';
import { openDoor } from './open_door.js';
import { answerWhileOpening } from './opening_desk.js';
import { type Endpoint, type ResolvedOptions, resolveOpenOptions } from './options.js';
import { pauseFailover, resumeFailover } from './pause.js';
import { commitPolicy } from './policy_options.js';
import { PrimaryDriver } from './primary_driver.js';
import { promote } from './promote.js';
import { setPolicy } from './set_policy.js';
import { createSlot, dropSlot } from './slot_calls.js';
import { processDisk, type SnapshotDisk } from './snapshot_disk.js';
import { StandbyDriver } from './standby_driver.js';
import { learnIdentity, type StandbyIdentity } from './standby_identity.js';
import { switchover } from './switchover.js';
import { takeOver } from './take_over.js';

/** Opens the log and gives it its role. Leaves nothing open when it throws. */
export async function openLog(
  input: unknown,
  environment: Environment = processEnvironment,
  disk: SnapshotDisk = processDisk,
): Promise<LogCore> {
  const options = resolveOpenOptions(input);
  options.signal?.throwIfAborted();
  if (options.replicationThread === 'worker' && !environment.ownsProcess) {
    throw new TypeError("replicationThread 'worker' has no threads in a simulation: leave it out");
  }
  if (options.snapshot !== undefined && !environment.ownsProcess) {
    throw new TypeError('snapshot has no files in a simulation: leave it out');
  }
  if (options.archive !== undefined && !environment.ownsProcess) {
    throw new TypeError('archive has no store in a simulation: leave it out');
  }
  const opened = await openNative(options, environment);
  const native = withOwnProperties(opened.native);
  let core: LogCore | undefined;
  try {
    requireRole(native.info(), options);
    requireFixed(native.info(), options);
    core = new LogCore(native, options, environment, disk);
    core.archive = claimForArchive(core);
    core.retention = await LogRetention.open(core);
    const opening = core;
    core.followAgain = () => followAgain(opening);
    core.takeOver = (handover) => takeOver(opening, handover);
    await core.snapshots?.find();
    await core.keepAlive.during(takeRole(core, opened.follow));
    await core.keepAlive.during(seeded(core));
    await core.snapshots?.loadFirst(options.signal);
    if (environment.ownsProcess) core.control = await serveControl(core);
    tellOpened(core);
    core.rebuild.opened();
    watchMembers(core);
    core.archive?.start();
    return core;
  } catch (error) {
    await abandon(native, core);
    throw WalError.from(error);
  }
}

/** A standby that has nothing yet, or not all of it, waits for what its state begins with. */
async function seeded({ driver, snapshots, native, options }: LogCore): Promise<void> {
  if (snapshots === undefined || !(driver instanceof StandbyDriver)) return;
  const { signal } = options;
  const isEmpty = native.state[State.CLOSED_POSITION] === firstPosition;
  // Where trying again does not help, there is nothing to wait for.
  if (isEmpty || snapshots.seeding.awaited !== undefined) await driver.connected(signal);
  await snapshots.seeding.reached(signal);
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
  if (core !== undefined) {
    core.appender.abandon();
    // A standby may be taking over, or be fenced, as long as the state is loaded.
    core.state = 'closing';
    core.rebuild.close();
    core.closing.abort(cutShortByClose());
    core.moved.rejectAll(cutShortByClose());
    await core.roleChange;
    await core.closeDriver();
    core.state = 'closed';
    await core.archive?.close();
  }
  await core?.retention?.close();
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
        status: async () => {
          await core.members?.refresh();
          return logStatus(core);
        },
        promote: (request) => promote(core, request),
        // Who hangs up has not said that it is to be given up.
        switchover: (request) => switchover(core, request),
        demote: (request) => demote(core, request),
        policy: (request, signal) => setPolicy(core, { ...(request as object), signal }),
        pause: (request, signal) =>
          pauseFailover(core, (request as { readonly reason?: unknown }).reason, signal),
        resume: (_, signal) => resumeFailover(core, signal),
        createSlot: (request) => createSlot(core, (request as { name?: unknown }).name),
        dropSlot: (request) => dropSlot(core, (request as { name?: unknown }).name),
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

/** How long somebody of the group is waited for, before it is said that nobody answers. */
const aloneMs = 5000;

/** How often the members are asked how they stand. */
const watchMs = 5000;

/** A primary hears so of a newer one, whoever follows it; and the status tells of the group. */
function watchMembers({ members, closing, environment }: LogCore): void {
  if (members === undefined) return;
  const timer = environment.setInterval(() => void members.refresh(), watchMs);
  timer.unref();
  closing.signal.addEventListener('abort', () => environment.clearTimer(timer), { once: true });
  void members.refresh();
}

/**
 * With `follow` a standby, or an old primary that comes back. With members that of its directory:
 * a primary asks them first, and comes back where one of them knows of a higher epoch (SAFETY.md
 * 3.6): so many that one of them would. With a referee that decides, and they are asked only what
 * it has to know.
 */
async function takeRole(core: LogCore, asStandby: boolean): Promise<void> {
  const { members, options, info } = core;
  if (options.follow !== undefined) return follow(core, options.follow);
  if (members === undefined) return lead(core);
  if (info.created && !asStandby) return lead(core);
  if (asStandby || info.role !== 'primary') return follow(core, members.first);
  // It takes as long as the state is large: what members say then would be as old.
  await core.snapshots?.loadFirst(options.signal);
  const waitMs = options.openAlone || options.referee !== undefined ? 0 : aloneMs;
  const found = await surveyWhileAnswering(core, members, waitMs);
  const { answers } = found;
  const terms = answers.map(({ standing }) => standing.term);
  const split = terms.find((term) => compareTerms(term, info.term) === 'split');
  if (split !== undefined) {
    throw new WalError('WAL_SPLIT', `epoch ${split.epoch} was opened by another node too`);
  }
  if (options.referee !== undefined) return leadOrFollow(core, members, answers);
  if (terms.some(({ epoch }) => epoch > info.term.epoch)) return follow(core, members.first);
  if (!options.openAlone && !tellsOfNewer(core, found)) throw tooFewAnswer(options, found);
  return lead(core);
}

/** Whether a newer primary would be known by this, or is. */
function tellsOfNewer({ info }: LogCore, { answers, silent }: MemberSurvey): boolean {
  const ids = answers.map(({ standing }) => standing.nodeId);
  return (
    answers.some(({ standing }) => standing.term.epoch > info.term.epoch) ||
    wouldKnowNewer(info, ids, silent.length > 0)
  );
}

async function surveyWhileAnswering(
  core: LogCore,
  members: Members,
  waitMs: number,
): Promise<MemberSurvey> {
  const endAnswering = await answerWhileOpening(core);
  try {
    const isEnough = (found: MemberSurvey): boolean => tellsOfNewer(core, found);
    return await members.surveyUntil(waitMs, core.options.signal, isEnough);
  } finally {
    await endAnswering();
  }
}

/**
 * A fence for a term that nobody has opened is passed over: the referee knows who may have
 * acknowledged last, and grants an epoch above it.
 */
async function leadOrFollow(
  core: LogCore,
  members: Members,
  answers: readonly MemberAnswer[],
): Promise<void> {
  const { epoch } = core.info.term;
  const opened = answers.map(({ standing }) => openedTerm(standing)?.epoch ?? 0);
  if (opened.some((each) => each > epoch)) return follow(core, members.first);
  const end = core.native.state[State.CLOSED_POSITION] ?? 0;
  if (answers.some(({ standing }) => standing.commit.position > end)) {
    core.isOlderCopy = true;
    const text = 'a member knows of commits that this log lacks: it is an older copy';
    core.news.tell('warn', 'lease', `opened as a standby: ${text}`, {});
    return follow(core, members.first);
  }
  try {
    await lead(core);
  } catch (error) {
    const isRefused = error instanceof WalError && error.code === 'WAL_NOT_GRANTED';
    if (!isRefused) throw error;
    core.news.tell('info', 'lease', `opened as a standby: ${error.message}`, {});
    await follow(core, members.first);
  }
}

function nobodyAnswers({ dir }: ResolvedOptions): WalError {
  const text = `none of the members answers: whether ${dir} is of the primary is not known`;
  return new WalError('WAL_MEMBERS_AWAY', text);
}

/** Those that do need not have heard of another one that was promoted. */
function tooFewAnswer(options: ResolvedOptions, { answers, silent }: MemberSurvey): WalError {
  if (answers.length === 0) return nobodyAnswers(options);
  const who = silent.length === 0 ? '' : `; did not answer: ${describeSilent(silent)}`;
  const unknown = `whether ${options.dir} is of the primary is not known`;
  const text = `too few of the members answer: ${unknown}${who}`;
  return new WalError('WAL_MEMBERS_AWAY', text);
}

/** Opens a term of its own before anything is appended (SAFETY.md 2.1), then listens. */
async function lead(core: LogCore): Promise<void> {
  const { policy, listen, referee } = core.options;
  if (core.failure !== undefined) throw core.failure;
  // Others may lead as long as this takes.
  await core.snapshots?.loadFirst(core.options.signal);
  const group = referee && (await claimToOpen(core, referee));
  try {
    if (listen !== undefined && core.door === undefined) await openDoor(core, listen);
    await core.rebuild.tellFirst();
    if (core.failure !== undefined) throw core.failure;
    const term = group === undefined ? nextTerm(core.info) : grantedTerm(core.info, group);
    await core.native.openTerm(term, openingRule(commitPolicy(policy)));
    const driver = new PrimaryDriver(core, term, policy, { group });
    core.driver = driver;
    core.appender.start();
    if (listen !== undefined) await driver.listen(listen);
  } catch (error) {
    await group?.release();
    throw error;
  }
}

/** Each grant has an epoch of its own. */
function grantedTerm({ nodeId }: NativeInfo, { epoch }: HeldGroup): Term {
  return { epoch, opener: nodeId, incarnation: 1 };
}

/** The same epoch and opener, one incarnation on; a new log is the first of its opener. */
function nextTerm(info: NativeInfo): Term {
  const { term } = info;
  if (term.epoch === 0) return { epoch: 1, opener: info.nodeId, incarnation: 1 };
  return { ...term, incarnation: term.incarnation + 1 };
}

/** `follow`: it was created as a standby, or is to be one whatever it was. */
async function openNative(options: ResolvedOptions, environment: Environment) {
  const binding = environment.binding();
  try {
    const role = options.follow === undefined ? 'primary' : 'standby';
    try {
      const native = await binding.open(nativeOptions(options, role, false));
      return { native, follow: options.follow !== undefined };
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'WAL_NOT_FOUND') throw error;
    }
    const source = options.follow ?? (await memberWithLog(options, environment));
    if (source === undefined) {
      // Nothing is created for a log that could not serve.
      const { listen } = options;
      if (listen !== undefined) await requireBindable({ ...listen, environment });
      const native = await binding.open(nativeOptions(options, 'primary', true));
      return { native, follow: false };
    }
    const identity = await learnIdentity(options, source, environment);
    requireFixed(identity, options);
    const native = await binding.open(nativeOptions(options, 'standby', true, identity));
    return { native, follow: true };
  } catch (error) {
    throw WalError.from(error);
  }
}

/** Of a fresh directory: a log that there is already is followed, never begun a second time. */
async function memberWithLog(
  options: ResolvedOptions,
  environment: Environment,
): Promise<Endpoint | undefined> {
  const closing = new AbortController().signal;
  const members = newMembers(options, undefined, closing, environment);
  if (members === undefined) return undefined;
  const { openAlone, signal } = options;
  const { answers } = await members.surveyUntil(openAlone ? 0 : aloneMs, signal);
  if (answers.length === 0 && !openAlone) throw nobodyAnswers(options);
  const none = { epoch: 0, opener: '', incarnation: 0 };
  return (primaryAmong(answers, none) ?? answers[0])?.endpoint;
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
  if (options.members.length > 0) return;
  const asStandby = options.follow !== undefined;
  if (info.role === 'fenced' && !asStandby) throw fencedError(info.term, 'refused', info.nodeId);
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
