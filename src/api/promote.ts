import { type NativeInfo, type Role, State, type Term } from '../native/native_log.js';
import type { HeldGroup } from '../referee/held_group.js';
import { openingRule, type RecordedRule } from '../replication/rule.js';
import { claim, refereeAgainst } from './claims.js';
import type { LogCore } from './core.js';
import { channels, trace } from './diagnostics.js';
import { WalError } from './errors.js';
import type { RoleReason } from './events.js';
import { FencedDriver } from './fenced_driver.js';
import { describeOldPrimary, type OldPrimary } from './old_primary.js';
import { newDoor } from './open_door.js';
import { type Endpoint, type ListenOptions, resolveListen } from './options.js';
import {
  commitPolicy,
  type PolicyOptions,
  policyKeys,
  type ResolvedPolicy,
  resolvePolicy,
} from './policy_options.js';
import { PrimaryDriver } from './primary_driver.js';
import { recordForce } from './record_force.js';
import { StandbyDriver } from './standby_driver.js';
import * as check from './validate.js';
import {
  type Candidacy,
  knownEpoch,
  type Promotable,
  type WonEpoch,
  winEpoch,
} from './win_epoch.js';

/** Options of `promote`. A policy that is not given is the one that `Log.open` was given. */
export interface PromoteOptions extends PolicyOptions {
  /** Says that the old primary does not run any more: nothing else can tell. */
  readonly primaryStopped?: boolean;
  /**
   * Promotes although records that were acknowledged are lost by it, or may be, by what is known:
   * WAL_PROMOTION_REFUSED otherwise. On a node that is fenced: it is the primary again, with its
   * own history, whatever the one that took its place has committed since. Recorded in the log.
   * Default false.
   */
  readonly force?: boolean;
  /** Where to feed standbys; default: what `Log.open` was given. */
  readonly listen?: ListenOptions;
  /** Ends the wait for the applier; the role stays taken. */
  readonly signal?: AbortSignal;
}

export const promoteKeys = ['primaryStopped', 'force', 'listen', 'signal', ...policyKeys] as const;

/** What a promotion came to. */
export interface Promoted {
  readonly term: Term;
  /** The last record of the old term: what was received is kept to here. */
  readonly lsn: number;
  /** What was known of the primary whose place was taken. */
  readonly oldPrimary: OldPrimary;
  /** Why it would have been refused, where it was forced; null: nothing spoke against it. */
  readonly forced: string | null;
}

/** Makes a standby the primary, traced as `walmirror:failover`. */
export function promote(core: LogCore, options: unknown): Promise<Promoted> {
  if (!channels.failover.hasSubscribers) return promoteNow(core, options);
  const context = { ...core.identity, action: 'promote' as const };
  return trace(channels.failover, context, () => promoteNow(core, options));
}

/** How far a promotion may go without being told that the old primary is stopped: not one step. */
async function promoteNow(core: LogCore, options: unknown): Promise<Promoted> {
  const raw = check.optionsObject(options, 'promote', promoteKeys);
  const stopped =
    raw.primaryStopped === undefined ? false : check.boolean(raw.primaryStopped, 'primaryStopped');
  const force = raw.force === undefined ? false : check.boolean(raw.force, 'force');
  const listen =
    raw.listen === undefined ? undefined : resolveListen(raw.listen, core.options.name);
  const signal = check.abortSignal(raw.signal, 'signal');
  const policy = resolvePolicy(raw, core.options.policy);
  signal?.throwIfAborted();
  const standby = core.driver;
  const mayBe = standby instanceof StandbyDriver || standby instanceof FencedDriver;
  if (!mayBe || standby.role === 'primary') throw notStandby(standby.role);
  if (standby.role !== 'standby' && !force) throw notRejoined(core);
  if (standby.promoting) throw alreadyUnderWay();
  core.snapshots?.seeding.requireReached();
  const { referee } = core.options;
  // Who is granted the group knows that nobody else acknowledges.
  if (referee !== undefined && !force) throw automationDecides();
  if (!stopped && referee === undefined) throw primaryMayRun(standby.oldPrimary());
  const against = referee && (await refereeAgainst(core, referee, signal));
  if (standby.promoting || core.driver !== standby) throw alreadyUnderWay();
  const group =
    referee &&
    ((known: number): Promise<HeldGroup> => claim(core, referee, 'forced', known, signal));
  const plan: Plan = { policy, listen, force, against, group, signal };
  const { driver, promoted } = await become(core, standby, plan);
  await applierReached(core, driver, promoted.lsn, signal);
  return promoted;
}

/**
 * By itself, since the referee has granted this node the group. Resolves when the role is taken;
 * where that fails, the group is given back.
 */
export async function takeGroup(
  core: LogCore,
  standby: StandbyDriver,
  group: HeldGroup,
  signal: AbortSignal,
): Promise<void> {
  const { policy, maximumLag } = core.options;
  if (standby.takesGroup !== undefined) {
    standby.takesGroup(group);
    await core.roleChange;
    if (core.driver !== standby) return;
    // It was given back where that came to nothing.
    if (group.now().lease === 'lost') throw alreadyUnderWay();
  }
  if (standby.promoting || core.driver !== standby) {
    await group.release();
    throw alreadyUnderWay();
  }
  const recorded = group.grantedBy;
  const judged = { force: false, maximumLag, recorded };
  const plan = { ...judged, policy, listen: undefined, group: async () => group };
  try {
    // Where another may have acknowledged something since, it is for an operator to say.
    if (standby.role !== 'standby' && !ledLast(core, recorded)) throw notRejoined(core);
    await become(core, standby, { ...plan, signal });
  } catch (error) {
    // It is renewed until then, whatever it was refused for.
    await group.release();
    throw error;
  }
}

/**
 * Whether nobody acknowledged anything after this node: the last rule that a referee has is its
 * own, or it has opened an epoch since, whose rule did not get there.
 */
export function ledLast(core: LogCore, recorded: RecordedRule | undefined): boolean {
  if (recorded === undefined) return false;
  const { nodeId, history } = core.native.info();
  const last = history.at(-1);
  if (recorded.primary === nodeId) return true;
  return last?.opener === nodeId && last.epoch > recorded.epoch;
}

/** Takes the role: in one attempt, of which there is one at a time. */
export function become(core: LogCore, standby: Promotable, plan: Plan): Promise<Taken> {
  standby.promoting = true;
  const attempt = takeRole(core, standby, plan).catch(async (error: unknown) => {
    // What stopped to follow for it follows again, so that it can be asked for again.
    if (core.driver === standby) await core.followAgain?.();
    throw error;
  });
  const taken = core.keepAlive.during(attempt);
  // Before anything is waited for: a `close` has to wait for all of it.
  core.roleChange = taken.catch(() => undefined);
  return taken;
}

export interface Taken {
  readonly driver: PrimaryDriver;
  readonly promoted: Promoted;
}

/** What a promotion was asked for. */
export interface Plan {
  readonly policy: ResolvedPolicy;
  /** undefined: where the log listens already, if it does. */
  readonly listen: Endpoint | undefined;
  readonly force: boolean;
  /** Records that may be lacking where commits waited for no standby. Default 0. */
  readonly maximumLag?: number;
  /** The rule by which a referee has granted it to a candidate. */
  readonly recorded?: RecordedRule | undefined;
  /** Why the referee would not have it promoted by itself; recorded as what was forced. */
  readonly against?: string | undefined;
  /** The group as a referee grants it, with an epoch above the one given; undefined: no referee. */
  readonly group: ((known: number) => Promise<HeldGroup>) | undefined;
  readonly signal: AbortSignal | undefined;
  /** How the epoch is won. Default: `winEpoch`. */
  readonly win?: (candidacy: Candidacy) => Promise<WonEpoch>;
  /** Default: 'promoted', or 'forced'. */
  readonly reason?: RoleReason;
}

/**
 * Wins an epoch, stops following and opens it. All that was received and verified is kept: the
 * opening is written behind it (SAFETY.md 3.1). Only when it is flushed does anything show the new
 * role. Who calls it has seen to it that the old primary is stopped, or its lease over.
 *
 * Where this fails, on a full disk say, no role is taken; the promotion can be asked for again.
 * What an attempt stored of its term is passed over, or used.
 */
async function takeRole(core: LogCore, standby: Promotable, plan: Plan): Promise<Taken> {
  // Before a candidate is stored in the place of its name.
  const oldPrimary = standby.oldPrimary();
  const before = core.renewedTls;
  let group: HeldGroup | undefined;
  const grant =
    plan.group &&
    (async (known: number): Promise<number> => {
      group = await plan.group?.(known);
      return group?.epoch ?? 0;
    });
  let release: (() => void) | undefined;
  const begin = (): void => {
    release ??= standby.hold('a promotion is under way');
  };
  try {
    if (standby.role === 'fenced') {
      // With its own history: of that nothing may go meanwhile.
      begin();
      await standby.quiet();
      if (standby.role !== 'fenced') throw hasRejoined();
    }
    const { win = (candidacy) => winEpoch(core, standby, candidacy) } = plan;
    const won = await win({ ...plan, grant, begin });
    // Its log may have been replaced since: there is nothing to tell before it is followed again.
    core.snapshots?.seeding.requireReached();
    // However long the application takes, members are answered meanwhile.
    if (core.rebuild.pending !== null) await core.rebuild.told(plan.signal);
    // A fence for another candidate comes before this, or finds a primary.
    return await core.desk.exclusively(() =>
      openEpoch(core, standby, { ...plan, held: group, won, oldPrimary, before }),
    );
  } catch (error) {
    await group?.release();
    standby.promoting = false;
    throw core.explain(error);
  } finally {
    release?.();
  }
}

interface Opening extends Plan {
  readonly held: HeldGroup | undefined;
  readonly won: WonEpoch;
  /** As it was when this was asked for. */
  readonly oldPrimary: OldPrimary;
  readonly before: LogCore['renewedTls'];
}

async function openEpoch(
  core: LogCore,
  standby: Promotable,
  { policy, listen, against, force, signal, held, won, oldPrimary, before, reason }: Opening,
): Promise<Taken> {
  if (core.failure !== undefined) throw core.failure;
  signal?.throwIfAborted();
  won.requireMine();
  const { term } = won;
  const fenced = force ? fencedAgainst(core.native.info()) : null;
  const reasons = [fenced, won.forced, against].filter((text) => typeof text === 'string');
  const forced = reasons.length === 0 ? null : reasons.join('; ');
  // A role once taken is not given back: what may fail comes first.
  const endpointAsked = withRenewed(listen, core, before);
  const isElsewhere = endpointAsked !== undefined && !isDoorAt(core, endpointAsked);
  const door = isElsewhere ? await newDoor(core, endpointAsked) : undefined;
  try {
    await standby.stop();
    won.requireMine();
    // What it followed until now may have replaced its log.
    core.snapshots?.seeding.requireReached();
    // What is shown as a primary is built on.
    if (core.rebuild.pending !== null) await core.rebuild.told(signal);
    if (endpointAsked !== undefined && !isElsewhere) await reopenDoor(core, endpointAsked);
    // Another may have been granted it since: two that have both opened an epoch help nobody.
    if (held !== undefined && held.now().lease !== 'held') throw leaseEnded();
    await core.native.openTerm(term, openingRule(commitPolicy(policy)));
  } catch (error) {
    await door?.close('drop');
    throw error;
  }
  const lsn = core.native.state[State.CLOSED_LSN] ?? 0;
  if (forced !== null) await recordForce(core, forced);
  if (door !== undefined) {
    // Who waits there for an answer may wait for this very promotion.
    await core.door?.close('drop');
    core.door = door;
  }
  if (listen !== undefined) core.options = { ...core.options, listen };
  const driver = new PrimaryDriver(core, term, policy, {
    group: held,
    witnesses: won.witnesses,
  });
  core.driver = driver;
  core.rejoin = null;
  if (core.state === 'open' && core.failure === undefined) core.appender.start();
  core.roleChanged('primary', term, reason ?? (forced === null ? 'promoted' : 'forced'));
  const endpoint = withRenewed(core.options.listen, core, before);
  if (endpoint !== undefined) await driver.listen(endpoint);
  if (endpoint?.tls !== undefined && endpoint.tls !== core.door?.security.tls) {
    driver.reloadTls(endpoint.tls);
  }
  core.options = { ...core.options, listen: endpoint };
  // Whoever listens has heard of the role before the caller does.
  await new Promise<void>((resolve) => process.nextTick(resolve));
  const promoted: Promoted = { term, lsn, oldPrimary, forced };
  return { driver, promoted };
}

/** Whether this node listens there already. Port 0 is any, and another one each time. */
function isDoorAt({ door, options }: LogCore, { host, port }: Endpoint): boolean {
  if (port === 0) return false;
  return door !== undefined && options.listen?.host === host && options.listen.port === port;
}

/** With other certificates, say. Nobody is let in before the role is taken. */
async function reopenDoor(core: LogCore, endpoint: Endpoint): Promise<void> {
  await core.door?.close('drop');
  core.door = undefined;
  core.door = await newDoor(core, endpoint);
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

/** What speaks against a node that is no standby; null: it is one. */
export function fencedAgainst({ role, term }: NativeInfo): string | null {
  if (role === 'standby') return null;
  return (
    `this node was a primary, and fenced (epoch ${term.epoch}): it goes on with its own history, ` +
    'and without what a newer primary has committed'
  );
}

/** One above all that this node knows. */
export function nextEpoch(info: NativeInfo): Term {
  return { epoch: knownEpoch(info) + 1, opener: info.nodeId, incarnation: 1 };
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

export function notStandby(role: Role): WalError {
  return new WalError('WAL_NOT_STANDBY', `only a standby can be promoted; this log is ${role}`);
}

/** What the newer primary has committed is not here, and its history would be another one. */
export function notRejoined(core: Pick<LogCore, 'rejoin'>): WalError {
  const why =
    core.rejoin?.state === 'split'
      ? 'another node has opened its epoch too'
      : 'a newer one took its place';
  const text = `this log was a primary, and ${why}: it is no standby to promote`;
  return new WalError('WAL_NOT_STANDBY', text, {
    hint:
      'Let it rejoin first. `force: true` makes it the primary again, without what the newer one ' +
      'has committed.',
  });
}

/** It was on its way back to the new primary, and has given up what it alone had. */
function hasRejoined(): WalError {
  const text = 'this log has just become a standby, without the history that was to be kept';
  return new WalError('WAL_PROMOTION_REFUSED', text, { hint: 'See its status, and ask again.' });
}

function leaseEnded(): WalError {
  const text = 'the lease that this promotion was granted has ended meanwhile';
  return new WalError('WAL_NOT_GRANTED', text, { outcome: 'refused' });
}

function alreadyUnderWay(): WalError {
  return new WalError('WAL_NOT_STANDBY', 'a promotion of this log is under way already', {
    hint: 'Wait for that one.',
  });
}

/** Nobody promotes past a referee: an operator takes its place for as long as it is paused. */
function automationDecides(): WalError {
  const text = 'a referee decides who of this group is promoted';
  return new WalError('WAL_NOT_GRANTED', text, {
    hint: 'Pause automation first (`walmirror pause`), then promote with `force: true`.',
  });
}

/** Tells what the caller needs to know to decide (SAFETY.md 3.5). */
export function primaryMayRun(oldPrimary: OldPrimary): WalError {
  const text = describeOldPrimary(oldPrimary).join('; ');
  return new WalError('WAL_PRIMARY_REACHABLE', text, { oldPrimary });
}
