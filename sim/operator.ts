import type { Random, Simulation } from 'walmirror/testing';
import { Changes } from './changes.js';
import type { Group } from './group.js';
import { endpoint, type Member } from './member.js';
import { demand, Violation } from './oracle.js';
import { isStable } from './plan.js';

const tickMs = 200;
/** A status costs more than all else that is looked at. */
const asksEvery = 5;
/** How long a group has no primary before anything is forced. */
const forceMs = 60_000;
/** How long an old primary stays off for another to take its place. */
const heldOffMs = 40_000;
/** How often the last primary is refused to open before it is told to all the same. */
const mostRefusals = 4;

/**
 * Starts what has ended, answers what a node asks about its tail, and without a referee promotes:
 * a standby when the primary is gone, and by force only where nothing else is left. Of the old
 * primary it says that it is stopped, and keeps it so.
 */
export class Operator {
  readonly changes: Changes;
  readonly #group: Group;
  readonly #simulation: Simulation;
  readonly #random: Random;
  readonly #restartAt = new Map<Member, number>();
  readonly #askedSince = new Map<Member, number>();
  /** The old primary, which stays off until another has its place. */
  #heldOff: { readonly member: Member; readonly until: number } | undefined;
  /** The last that led. */
  #last: Member | undefined;
  #noPrimarySince: number | undefined;
  /** Somebody was told to take the place of `#last`, and may have done so unseen. */
  #mayBeReplaced = false;
  /** Told to, and not seen to lead, nor heard to refuse it. */
  #unseen: Member | undefined;
  #refusals = 0;
  #promoting: { readonly member: Member; readonly life: number } | undefined;
  #nextTry = 0;
  #ticks = 0;
  #past: unknown;
  /** The last that led when the referee was put back. */
  #ledBefore: Member | undefined;
  #seesToPast = false;
  #looksAfterPast = false;
  #refusal = '';

  constructor(group: Group, simulation: Simulation, random: Random) {
    this.changes = new Changes(group, simulation);
    this.#group = group;
    this.#simulation = simulation;
    this.#random = random;
  }

  start(): void {
    for (const member of this.#group.members) member.start();
    this.#tick();
  }

  get last(): Member | undefined {
    return this.#last;
  }

  /**
   * Whether the last primary, which is refused for want of answers, is told to open all the same:
   * nobody else promotes, and nobody was promoted since.
   */
  get opensAlone(): boolean {
    return this.#refusals >= mostRefusals && !this.#mayBeReplaced;
  }

  refusedToOpen(member: Member): void {
    if (member === this.#last) this.#refusals += 1;
  }

  get isIdle(): boolean {
    if (this.#heldOff !== undefined || this.#promoting !== undefined) return false;
    return !this.#seesToPast && !this.#looksAfterPast && !this.changes.isUnderWay;
  }

  describe(): string {
    const promoting = this.#promoting?.member.name ?? 'nobody';
    const heldOff = this.#heldOff?.member.name;
    return (
      `promoting ${promoting}, held off ${heldOff}; refused: ${this.#refusal}; ` +
      this.changes.describe()
    );
  }

  /** A machine is about to go off for so long; `failOver`: another is to take its place. */
  loses(member: Member, ms: number, failOver: boolean): void {
    const { now } = this.#simulation;
    this.#restartAt.set(member, now + ms);
    const { plan, referee } = this.#group;
    const isLeader = member === this.#last && this.#group.primary === member;
    if (referee === undefined && isLeader && failOver && plan.nodes > 1) {
      this.#heldOff = { member, until: now + ms + heldOffMs };
    }
  }

  /**
   * Promotes it while the primary runs, where no acknowledgement rests on that being stopped: those
   * that are fenced see to it, where the acknowledgements of all standbys count. A rule that names
   * fewer may be changed, and those who are promoted by the one before are not told.
   */
  handOver(member: Member): void {
    const { plan, referee, primary } = this.#group;
    if (referee !== undefined || !isStable(plan)) return;
    if (this.#promoting !== undefined && !this.#groupSeesToIt) return;
    // One that knows of no members goes by the word that nobody else is a primary: a false one.
    if (member.isBetween || !this.changes.mayLead(member)) return;
    const counted = primary?.machine.engines[0]?.info().rule?.members.length ?? 0;
    if (counted < plan.nodes - 1 - Number(plan.cascade)) return;
    if (member.isRunning && member.role === 'standby') this.#promote(member, false);
  }

  /** Not while another takes the place of the primary, where the group cannot see to that. */
  switchOver(member: Member, other: Member, random: Random): void {
    const isReplaced = this.#promoting !== undefined || this.#unseen !== undefined;
    if (isReplaced && this.#group.referee === undefined && !this.#groupSeesToIt) return;
    this.changes.switchOver(member, other, random);
  }

  /** The referee is put back to what it was a while ago; its operator sees to it after `ms`. */
  restoreReferee(ms: number): void {
    const group = this.#group;
    if (group.referee === undefined || this.#past === undefined || this.#seesToPast) return;
    group.isRefereePast = true;
    this.#seesToPast = true;
    this.#ledBefore = this.#last;
    const { epoch } = group.referee;
    group.referee.restore(this.#past);
    group.oracle.forgets(group.referee.epoch, epoch);
    this.#simulation.after(ms, () => {
      this.#seeToPast().catch((error: unknown) => group.fail(error));
    });
  }

  #tick(): void {
    try {
      this.#restart();
      this.#watchRoles();
      this.#ticks += 1;
      if (this.#ticks % asksEvery === 0) this.#answerAsks();
      if (this.#group.referee === undefined) this.#lead();
      else if (this.#random.chance(0.01)) this.#past = this.#group.referee.backup();
    } catch (error) {
      this.#group.fail(error);
    }
    this.#simulation.after(tickMs, () => this.#tick());
  }

  #restart(): void {
    if (this.#seesToPast) return;
    const { now } = this.#simulation;
    for (const member of this.#group.members) {
      if (member.machine.isOn || member === this.#heldOff?.member) continue;
      if ((this.#restartAt.get(member) ?? 0) > now) continue;
      this.#group.counts.restarts += 1;
      member.start();
    }
  }

  #watchRoles(): void {
    const { now } = this.#simulation;
    const { primary, hasPrimary } = this.#group;
    if (hasPrimary) {
      this.#last = primary;
      this.#unseen = undefined;
      this.changes.over();
      this.#noPrimarySince = undefined;
      this.#refusals = 0;
      this.#mayBeReplaced = this.#promoting !== undefined;
      this.#heldOff = undefined;
    } else {
      this.#noPrimarySince ??= now;
    }
    // Not while a promotion goes by the word that it is stopped.
    if (this.#heldOff === undefined || this.#promoting !== undefined) return;
    if (now > this.#heldOff.until) this.#heldOff = undefined;
  }

  /** It says what it would do, and by which word. */
  #answerAsks(): void {
    const { now } = this.#simulation;
    const { members, plan, counts, oracle } = this.#group;
    for (const member of members) {
      const status = member.isRunning ? member.log?.status() : undefined;
      const state = status?.rejoin;
      if (state === null && member.role === 'fenced') this.#bringBack(member);
      if (state?.state === 'waiting' && this.#isStuck()) this.#restartInOrder(member);
      // An epoch that a referee forgot it may have granted again, to who has not heard of it.
      if (state?.state === 'split' && !oracle.wasForgotten(status?.term.epoch ?? 0)) {
        throw new Violation(`a split: ${this.#group.describe()}`);
      }
      if (state?.state !== 'asks' && state?.state !== 'refused') {
        this.#askedSince.delete(member);
        continue;
      }
      const since = this.#askedSince.get(member) ?? now;
      this.#askedSince.set(member, since);
      if (member.machine.isPaused || now < since + 2_000) continue;
      this.#askedSince.delete(member);
      counts.asks += 1;
      if (state.state === 'refused') {
        demand(
          !isStable(plan) || this.#group.isRefereePast,
          () => `${member.name} holds what a quorum committed, and its primary does not`,
        );
        this.#group.wipe(member, 10);
        continue;
      }
      member.rejoin = state.quorumLsn > 0 ? state.firstLsn - 1 : 'auto';
      this.#restartInOrder(member);
    }
  }

  /**
   * A primary that was started while a candidate had the group follows nobody, and is no candidate:
   * where the others may not lead either, it has to be started again.
   */
  #isStuck(): boolean {
    const { referee, counts } = this.#group;
    const since = this.#noPrimarySince;
    const isStuck = since !== undefined && this.#simulation.now > since + 30_000;
    if (referee === undefined || !isStuck || this.#random.chance(0.9)) return false;
    counts.helped += 1;
    return true;
  }

  /** Without a referee a primary that was replaced follows only when it is told to. */
  #bringBack(member: Member): void {
    const { referee, primary } = this.#group;
    if (referee !== undefined || primary === undefined || member.machine.isPaused) return;
    if (this.#random.chance(0.3)) this.#restartInOrder(member);
    else member.log?.rejoin({ follow: endpoint(primary.name) }).catch(() => undefined);
  }

  #restartInOrder(member: Member): void {
    const { machine, life } = member;
    member.stop().then(
      () => {
        if (machine.isOn && member.life === life + 1) member.start();
      },
      (error: unknown) => this.#group.fail(error),
    );
  }

  // -- without a referee --

  #lead(): void {
    const { now } = this.#simulation;
    if (this.#promoting !== undefined) {
      const { member, life } = this.#promoting;
      if (member.life === life && member.role !== 'primary') return;
      if (member.life !== life) this.#unseen = member;
      this.#promoting = undefined;
    }
    const since = this.#noPrimarySince;
    if (since === undefined || now < this.#nextTry || this.changes.isUnderWay) return;
    const old = this.#last;
    // Only what is stopped, or knows that it is no primary, is said to be stopped.
    if (old?.machine.isOn && (old.isStarting || old.isPrimary)) return;
    if (old?.machine.isOn === false && this.#heldOff === undefined) return;
    if (now < since + 500) return;
    this.#nextTry = now + this.#random.integer(200, 2_000);
    const isLast = now > since + forceMs;
    if (isLast && this.#group.members.every((each) => each.isRunning && !each.machine.isPaused)) {
      this.#promote(this.#best(), true);
      return;
    }
    const standbys = this.#group.members.filter(
      (member) =>
        member.isRunning &&
        !member.isBetween &&
        !member.machine.isPaused &&
        member.role === 'standby' &&
        this.#mayFollow(member),
    );
    if (standbys.length > 0) this.#promote(this.#random.pick(standbys), false);
  }

  /**
   * Whom it has promoted last the operator knows, or may have promoted, and that only who has heard
   * of that one may come after it, where the group cannot see to that: each node alone has enough to be promoted where
   * commits wait for nobody, for more than half, or for the first of them, who are others when one
   * is away (docs/operations.md). And of two between whom a
   * change of roles was left half done it is one of these (docs/failover.md).
   */
  #mayFollow(member: Member): boolean {
    if (!this.changes.mayLead(member)) return false;
    if (this.#groupSeesToIt) return true;
    if (this.#unseen !== undefined && !this.#unseen.isRunning) return false;
    const known = Math.max(this.#last?.epoch ?? 0, epochOf(this.#unseen));
    return epochOf(member) >= known;
  }

  /** Any two promotions ask one node at least that is the same. */
  get #groupSeesToIt(): boolean {
    const { quorum, nodes, grammar } = this.#group.plan;
    const standbys = nodes - 1;
    return quorum > 0 && grammar === 'ANY' && standbys - quorum + 1 > standbys / 2;
  }

  /** By (last term, flush position), as a promotion compares logs (SAFETY 3.3). */
  #best(): Member {
    const ranked = this.#group.members.map((member) => {
      const engine = member.machine.engines[0];
      const { epoch = 0, incarnation = 0 } = engine?.info().history.at(-1) ?? {};
      return { member, rank: [epoch, incarnation, engine?.state[2] ?? 0] as const };
    });
    ranked.sort((a, b) => {
      const differs = a.rank.findIndex((value, i) => value !== b.rank[i]);
      return differs < 0 ? 0 : b.rank[differs]! - a.rank[differs]!;
    });
    return ranked[0]!.member;
  }

  #promote(member: Member, force: boolean): void {
    const { log, life } = member;
    if (log === undefined) return;
    this.#simulation.note(`promote ${member.name}`, Number(force));
    const promoting = { member, life };
    this.#promoting = promoting;
    const mightBeBefore = this.#mayBeReplaced;
    this.#mayBeReplaced = true;
    const over = (error?: unknown): void => {
      // One of which the disk failed may have stored that it is the primary, and open as it.
      const isThere = member.life === life && member.isRunning && log.status().state === 'open';
      const isRefused = error !== undefined && isThere && member.role !== 'primary';
      if (isRefused) this.#mayBeReplaced = mightBeBefore;
      else if (member !== this.#last) this.#unseen = member;
      this.#refusal = error === undefined ? '' : String((error as Error).message);
      if (this.#promoting === promoting) this.#promoting = undefined;
    };
    // What it is refused for may have changed when it is tried again.
    log.promote({ primaryStopped: true, force }).then(() => over(), over);
  }

  // -- a referee of the past --

  /** Of two that were granted one epoch it is the one who had it first: only that is acknowledged. */
  get #ledLast(): Member | undefined {
    const before = this.#ledBefore;
    return before?.epoch === this.#last?.epoch ? before : this.#last;
  }

  /** Who led goes on alone, by force where it has to be; then the others come back. */
  async #seeToPast(): Promise<void> {
    const { members, referee } = this.#group;
    const simulation = this.#simulation;
    const last = this.#ledLast ?? members[0]!;
    for (const { machine } of members) machine.resume();
    await Promise.all(members.map((member) => member.stop()));
    if (referee === undefined) return;
    for (const member of members) {
      member.machine.goOn();
      await referee.of(member.machine).forget();
    }
    last.start();
    await simulation.sleep(15_000);
    if (!last.isPrimary && last.log !== undefined) {
      const { log } = last;
      const tried = (async () => {
        await log.pauseFailover('the referee was restored');
        await log.promote({ force: true });
      })();
      tried.catch(() => undefined);
      await simulation.sleep(10_000);
      // One whose machine has gone off meanwhile answers never.
      const resumed = log.resumeFailover().catch(() => undefined);
      await Promise.race([resumed, simulation.sleep(5_000)]);
    }
    this.#seesToPast = false;
    for (const member of members) if (member !== last && member.machine.isOn) member.start();
    this.#looksAfterPast = true;
    await simulation.sleep(20_000);
    // An epoch that the referee has forgotten may have been stored for another: those who have
    // follow the next one.
    const { primary } = this.#group;
    const follows = (member: Member): boolean =>
      member === primary || member.log?.status().upstream?.connected === true;
    if (primary !== undefined && !members.every(follows)) this.#restartInOrder(primary);
    this.#looksAfterPast = false;
  }
}

/** The highest that it knows. */
function epochOf(member: Member | undefined): number {
  return member?.log?.status().term.epoch ?? 0;
}
