import { type NativeInfo, State, type Term } from '../native/native_log.js';
import { openingRule } from '../replication/rule.js';
import { requireBindable } from '../transport/listener.js';
import type { LogCore } from './core.js';
import { channels, trace } from './diagnostics.js';
import { WalError } from './errors.js';
import { describeOldPrimary, type OldPrimary } from './old_primary.js';
import { type Endpoint, type ListenOptions, resolveListen } from './options.js';
import {
  commitPolicy,
  type PolicyOptions,
  policyKeys,
  type ResolvedPolicy,
  resolvePolicy,
} from './policy_options.js';
import { PrimaryDriver } from './primary_driver.js';
import { StandbyDriver } from './standby_driver.js';
import * as check from './validate.js';

/** Options of `promote`. A policy that is not given is the one that `Log.open` was given. */
export interface PromoteOptions extends PolicyOptions {
  /** Says that the old primary does not run any more: nothing else can tell. */
  readonly primaryStopped?: boolean;
  /** Where to feed standbys; default: what `Log.open` was given. */
  readonly listen?: ListenOptions;
  /** Ends the wait for the applier; the role stays taken. */
  readonly signal?: AbortSignal;
}

/** What a promotion came to. */
export interface Promoted {
  readonly term: Term;
  /** The last record of the old term: what was received is kept to here. */
  readonly lsn: number;
  /** What was known of the primary whose place was taken. */
  readonly oldPrimary: OldPrimary;
}

/** Makes a standby the primary, traced as `walmirror:failover`. */
export function promote(core: LogCore, options: unknown): Promise<Promoted> {
  if (!channels.failover.hasSubscribers) return promoteNow(core, options);
  const context = { ...core.identity, action: 'promote' as const };
  return trace(channels.failover, context, () => promoteNow(core, options));
}

/** How far a promotion may go without being told that the old primary is stopped: not one step. */
async function promoteNow(core: LogCore, options: unknown): Promise<Promoted> {
  const raw = check.optionsObject(options, 'promote', [
    'primaryStopped',
    'listen',
    'signal',
    ...policyKeys,
  ]);
  const stopped =
    raw.primaryStopped === undefined ? false : check.boolean(raw.primaryStopped, 'primaryStopped');
  const listen =
    raw.listen === undefined ? core.options.listen : resolveListen(raw.listen, core.options.name);
  const signal = check.abortSignal(raw.signal, 'signal');
  const policy = resolvePolicy(raw, core.options.policy);
  signal?.throwIfAborted();
  const standby = core.driver;
  if (!(standby instanceof StandbyDriver)) throw notStandby(core);
  if (standby.role !== 'standby') throw notRejoined();
  if (standby.promoting) throw alreadyUnderWay();
  if (!stopped) throw primaryMayRun(standby.oldPrimary());
  standby.promoting = true;
  const taken = core.keepAlive.during(takeRole(core, standby, { policy, listen, signal }));
  // Before anything is waited for: a `close` has to wait for all of it.
  core.roleChange = taken.catch(() => undefined);
  const { driver, promoted } = await taken;
  await applierReached(core, driver, promoted.lsn, signal);
  return promoted;
}

interface Plan {
  readonly policy: ResolvedPolicy;
  readonly listen: Endpoint | undefined;
  readonly signal: AbortSignal | undefined;
}

/**
 * Stops following and opens the next epoch. All that was received and verified is kept: the opening
 * is written behind it (SAFETY.md 3.1). Only when it is flushed does anything show the new role.
 */
async function takeRole(core: LogCore, standby: StandbyDriver, plan: Plan) {
  const { policy } = plan;
  const before = core.renewedTls;
  const { term, oldPrimary } = await openEpoch(core, standby, plan);
  const lsn = core.native.state[State.CLOSED_LSN] ?? 0;
  const driver = new PrimaryDriver(core, term, policy);
  core.driver = driver;
  if (core.state === 'open' && core.failure === undefined) core.appender.start();
  core.events.emit('role', { role: 'primary', term });
  const renewed = (): Endpoint | undefined => withRenewed(plan.listen, core, before);
  const listen = renewed();
  if (listen !== undefined) await driver.listen(listen);
  core.options = { ...core.options, listen: renewed() };
  const promoted: Promoted = { term, lsn, oldPrimary };
  return { driver, promoted };
}

/** With the certificates of a `reloadTls` that came after this promotion had begun. */
function withRenewed(
  listen: Endpoint | undefined,
  { renewedTls }: LogCore,
  before: LogCore['renewedTls'],
): Endpoint | undefined {
  if (listen?.tls === undefined || renewedTls === undefined || renewedTls === before) return listen;
  return { ...listen, tls: renewedTls };
}

/**
 * Where this fails, on a full disk say, nothing is followed any more and no role is taken; the
 * promotion can be asked for again. What an attempt stored of its term is passed over, or used.
 */
async function openEpoch(core: LogCore, standby: StandbyDriver, plan: Plan) {
  const { policy, listen, signal } = plan;
  try {
    // A role once taken is not given back.
    if (listen !== undefined) await requireBindable(listen);
    core.requireOpen();
    signal?.throwIfAborted();
    const { connected } = standby.oldPrimary();
    await standby.stop();
    // What is shown as a primary is built on.
    await core.rebuild.told(signal);
    const oldPrimary = { ...standby.oldPrimary(), connected };
    core.requireOpen();
    const term = nextEpoch(core.native.info());
    await core.native.openTerm(term, openingRule(commitPolicy(policy)));
    return { term, oldPrimary };
  } catch (error) {
    standby.promoting = false;
    throw core.explain(error);
  }
}

/** A term that this node heard of is stored before anything is taken under it: these are all. */
export function nextEpoch(info: NativeInfo): Term {
  const known = [info.term, ...info.history].map((each) => each.epoch);
  const epoch = Math.max(...known) + 1;
  return { epoch, opener: info.nodeId, incarnation: 1 };
}

/**
 * An application must not append on stale state: its applier has to have everything up to the
 * opening. Where the policy needs standbys, that takes until they have the opening (SAFETY.md
 * 1.5, 3.2).
 */
async function applierReached(
  core: LogCore,
  driver: PrimaryDriver,
  lsn: number,
  signal: AbortSignal | undefined,
) {
  const { applier } = core;
  if (applier === undefined) return;
  await core.keepAlive.during(
    core.moved.until(() => {
      core.requireReadable();
      // Fenced meanwhile: the commit place, and so the applier, moves no more.
      if (core.driver !== driver) throw core.driver.refusal();
      if (applier.error !== undefined) throw applier.error;
      return applier.ended || applier.appliedLsn >= lsn;
    }, signal),
  );
}

function notStandby(core: LogCore): WalError {
  const { role } = core.driver;
  return new WalError('WAL_NOT_STANDBY', `only a standby can be promoted; this log is ${role}`);
}

/** Its log holds what the new primary's does not: two histories would be one epoch apart. */
function notRejoined(): WalError {
  const text = 'this log was a primary, and has not rejoined yet: it is no standby to promote';
  return new WalError('WAL_NOT_STANDBY', text, {
    hint: 'Let it rejoin first; or open it without `follow`, where nobody took its place.',
  });
}

function alreadyUnderWay(): WalError {
  return new WalError('WAL_NOT_STANDBY', 'a promotion of this log is under way already', {
    hint: 'Wait for that one.',
  });
}

/** Tells what the caller needs to know to decide (SAFETY.md 3.5). */
export function primaryMayRun(oldPrimary: OldPrimary): WalError {
  const text = describeOldPrimary(oldPrimary).join('; ');
  return new WalError('WAL_PRIMARY_REACHABLE', text, { oldPrimary });
}
