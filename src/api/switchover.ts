import { State, type Term } from '../native/native_log.js';
import { CallSignal } from '../referee/call_signal.js';
import { fenceTerm } from '../replication/fence.js';
import type { Timer } from '../transport/environment.js';
import type { StandbyStatus } from '../transport/primary_hub.js';
import { handoverProtocol } from '../wire/message_type.js';
import type { LogCore } from './core.js';
import { channels, trace } from './diagnostics.js';
import { WalError } from './errors.js';
import { describeSilent, type MemberAnswer, type Members } from './members.js';
import type { PrimaryDriver } from './primary_driver.js';
import {
  isFlushed,
  primaryOf,
  requireStill,
  type SteppedDown,
  stepDown,
  untilMet,
} from './step_down.js';
import * as check from './validate.js';
import { knownEpoch } from './win_epoch.js';

/** Options of `switchover`. */
export interface SwitchoverOptions {
  /** Name of a member that follows this primary, and counts where commits wait for standbys. */
  readonly to: string;
  /** Milliseconds until this log is demoted, or goes on as the primary. Default 10,000. */
  readonly timeout?: number;
  /**
   * The same, at once. Once this log is demoted it ends the wait for the successor alone, with
   * WAL_DEMOTED.
   */
  readonly signal?: AbortSignal;
}

export const switchoverKeys = ['to', 'timeout', 'signal'] as const;

/** What a switchover came to. */
export interface SwitchedOver {
  /** Of the new primary. */
  readonly term: Term;
  /** The last record of the old term: the new primary has all up to it. */
  readonly lsn: number;
  /**
   * Milliseconds on this node's clock from the moment it took no more appends until it heard that
   * the new primary takes them.
   */
  readonly pauseMs: number;
}

const defaultTimeoutMs = 10_000;
/** How long the successor is waited for: it stores a term and flushes its opening. */
const answerMs = 10_000;
/** Where its answer was lost: how long it is looked for. */
const lookMs = 3_000;

/** Hands the log over to a standby, traced as `walmirror:failover`. */
export function switchover(core: LogCore, options: unknown): Promise<SwitchedOver> {
  if (!channels.failover.hasSubscribers) return switchoverNow(core, options);
  const context = { ...core.identity, action: 'switchover' as const };
  return trace(channels.failover, context, () => switchoverNow(core, options));
}

async function switchoverNow(core: LogCore, options: unknown): Promise<SwitchedOver> {
  const raw = check.optionsObject(options, 'switchover', switchoverKeys);
  const to = check.string(raw.to, 'switchover: to');
  const timeout =
    raw.timeout === undefined
      ? defaultTimeoutMs
      : check.finite(raw.timeout, 'timeout (milliseconds)', 1, 2 ** 31 - 1);
  const signal = check.abortSignal(raw.signal, 'signal');
  signal?.throwIfAborted();
  const driver = primaryOf(core);
  const { members } = core;
  if (members === undefined) throw noMembers();
  if (driver.isBusy) throw refused('it is on its way to another role already');
  driver.isBusy = true;
  const done = core.keepAlive.during(run(core, driver, { members, to, timeout, signal }));
  // Before anything is waited for: a `close` has to wait for all of it.
  core.roleChange = done.catch(() => undefined);
  try {
    return await done;
  } finally {
    driver.isBusy = false;
  }
}

interface Plan {
  readonly members: Members;
  readonly to: string;
  readonly timeout: number;
  readonly signal: AbortSignal | undefined;
}

async function run(core: LogCore, driver: PrimaryDriver, plan: Plan): Promise<SwitchedOver> {
  const { environment } = core;
  const { to, members, timeout, signal } = plan;
  const late = new AbortController();
  const limit: Timer = environment.setTimeout(() => {
    late.abort(refused(`${to} did not get there within ${timeout} ms`));
  }, timeout);
  const call = new CallSignal([core.closing.signal, signal, late.signal]);
  let stopped: { readonly atMs: number; readonly down: SteppedDown; readonly epoch: number };
  let successor: MemberAnswer;
  try {
    successor = await findSuccessor(core, driver, to, members, call.signal);
    const { nodeId } = successor.standing;
    await untilMet(core, () => standbyOf(core, driver, nodeId, to).state === 'live', call.signal);
    const atMs = environment.now();
    driver.pause(switching(to));
    await untilMet(core, () => hasAll(core, driver, nodeId, to), call.signal);
    const epoch = Math.max(knownEpoch(core.native.info()), members.heardEpoch) + 1;
    const { endpoint } = successor;
    const down = await stepDown(core, driver, {
      term: fenceTerm(epoch, nodeId),
      ...{ successor: { name: to, endpoint }, endpoint, signal: call.signal },
      reason: 'switchover',
    });
    stopped = { atMs, down, epoch };
  } catch (error) {
    driver.resume();
    throw error;
  } finally {
    environment.clearTimer(limit);
    call.done();
  }
  return hand(core, driver, { ...stopped, ...plan, successor });
}

interface Hand extends Plan {
  readonly atMs: number;
  readonly down: SteppedDown;
  readonly epoch: number;
  readonly successor: MemberAnswer;
}

/** The log is demoted, durably: whatever comes now, it is a standby. */
async function hand(core: LogCore, driver: PrimaryDriver, plan: Hand): Promise<SwitchedOver> {
  const { atMs, down, epoch, successor, members, signal, to } = plan;
  const { environment, native } = core;
  const { nodeId } = successor.standing;
  const lsn = native.state[State.CLOSED_LSN] ?? 0;
  const call = new CallSignal([core.closing.signal, signal]);
  try {
    const isKept = await driver.giveGroup(nodeId);
    if (!isKept) throw new Error('the referee did not keep the group for it, and decides');
    const taken = await members.handOver(
      successor,
      { epoch, ...endOf(core) },
      answerMs,
      call.signal,
    );
    const pauseMs = environment.now() - atMs;
    await down.left;
    return { term: taken.term, lsn: taken.lsn, pauseMs };
  } catch (error) {
    await down.left.catch(() => undefined);
    down.follow();
    if (await follows(core, down, nodeId, call.signal)) {
      return { term: native.info().term, lsn, pauseMs: environment.now() - atMs };
    }
    const why = error instanceof Error ? error.message : String(error);
    const text = `this log is demoted, up to LSN ${lsn}; ${to}, its successor, did not take over: `;
    throw new WalError('WAL_DEMOTED', text + why, { lsn, cause: error });
  } finally {
    down.follow();
    call.done();
  }
}

/** Whether the successor is the primary, though its answer was not heard: this log follows it. */
async function follows(
  core: LogCore,
  { standby }: SteppedDown,
  nodeId: string,
  signal: AbortSignal,
): Promise<boolean> {
  const { environment, native } = core;
  const late = new AbortController();
  const timer = environment.setTimeout(() => late.abort(), lookMs);
  const call = new CallSignal([signal, late.signal]);
  try {
    await standby.connected(call.signal);
    return native.info().term.opener === nodeId;
  } catch {
    return false;
  } finally {
    environment.clearTimer(timer);
    call.done();
  }
}

function endOf({ native }: LogCore) {
  const { state } = native;
  const { history } = native.info();
  const { epoch, opener, incarnation } = history.at(-1)!;
  return {
    term: { epoch, opener, incarnation },
    end: { position: state[State.CLOSED_POSITION] ?? 0, lsn: state[State.CLOSED_LSN] ?? 0 },
    crc: state[State.LAST_CRC] ?? 0,
  };
}

/** It has flushed all there is, and the commits of that are met: they end as they should. */
function hasAll(core: LogCore, driver: PrimaryDriver, nodeId: string, to: string): boolean {
  const { flush } = standbyOf(core, driver, nodeId, to);
  const closed = core.native.state[State.CLOSED_POSITION] ?? 0;
  if (!isFlushed(core) || flush.position < closed) return false;
  return driver.commits.waiting === 0 || driver.commit.position >= closed;
}

function standbyOf(
  core: LogCore,
  driver: PrimaryDriver,
  nodeId: string,
  to: string,
): StandbyStatus {
  requireStill(core, driver);
  const found = driver.standbys.find((each) => each.nodeId === nodeId);
  if (found === undefined) throw refused(`${to} is not connected any more`);
  return found;
}

/** A standby of this primary, and a member: throws why there is none to hand over to. */
async function findSuccessor(
  core: LogCore,
  driver: PrimaryDriver,
  to: string,
  members: Members,
  signal: AbortSignal,
): Promise<MemberAnswer> {
  if (to === core.options.name) throw refused(`${to} is this node, which is the primary`);
  const named = driver.standbys.filter(({ name }) => name === to);
  const [standby] = named;
  if (standby === undefined) {
    const all = driver.standbys.map(({ name }) => name).join(', ');
    throw refused(`no standby of the name ${to} is connected; there is ${all || 'none'}`);
  }
  if (named.length > 1) throw refused(`${named.length} standbys of the name ${to} are connected`);
  if (driver.policy.standbys !== undefined && !standby.counts) {
    throw refused(`${to} is not synchronous: its acknowledgements do not count`);
  }
  const isIt = ({ standing }: MemberAnswer): boolean => standing.nodeId === standby.nodeId;
  const enough = (all: readonly MemberAnswer[]): boolean => all.some(isIt);
  const { answers, silent } = await members.survey({ signal, enough });
  const found = answers.find(isIt);
  if (found === undefined) {
    const why = silent.length === 0 ? '' : `; did not answer: ${describeSilent(silent)}`;
    throw refused(`${to} does not answer at any address of \`members\`${why}`);
  }
  if (found.standing.version < handoverProtocol) {
    throw refused(`${to} is of an older release, which takes no hand-over`);
  }
  if (core.options.referee !== undefined && !found.standing.hasReferee) {
    throw refused(`${to} was opened without a referee, and would acknowledge without a lease`);
  }
  return found;
}

function switching(to: string): WalError {
  const text = `a switchover to ${to} is under way: nothing was taken`;
  return new WalError('WAL_SWITCHING', text, { outcome: 'refused' });
}

function refused(text: string): WalError {
  return new WalError('WAL_SWITCHOVER_REFUSED', text);
}

export function noMembers(): WalError {
  return new WalError('WAL_UNSUPPORTED', 'this log was opened without `members`', {
    hint: 'Open it with the addresses of all nodes of the group: its successor is one of them.',
  });
}
