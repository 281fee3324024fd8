import type { OpenOptions } from 'walmirror';
import type { Loss, Random, SimulatedReferee, Simulation } from 'walmirror/testing';
import { type Commit, dir, Member, type MemberHost } from './member.js';
import { Operator } from './operator.js';
import { demand, Oracle, Violation } from './oracle.js';
import { isSafe, isStable, name, type Plan } from './plan.js';

const diskCodes = ['WAL_FLUSH_FAILED', 'WAL_IO', 'WAL_NO_SPACE'];
/** What an opening may come to where others cannot be asked yet: it is tried again. */
const passingCodes = [
  'WAL_MEMBERS_AWAY',
  'WAL_REFEREE_AWAY',
  'WAL_NOT_GRANTED',
  'WAL_CLOSED',
  'WAL_PEER_REFUSED',
  'WAL_TIMEOUT',
];
/** After which a primary has noticed that a standby is gone. */
const noticeMs = 10_000;

/** The members, what befalls them, and what has to be so of what they tell. */
export class Group implements MemberHost {
  readonly plan: Plan;
  readonly oracle = new Oracle();
  readonly members: Member[];
  readonly referee: SimulatedReferee | undefined;
  readonly operator: Operator;
  readonly counts = {
    ...{ promotions: 0, restarts: 0, wipes: 0, checks: 0, asks: 0, helped: 0, changes: 0 },
  };
  failure: unknown;
  /** It was restored to the past: its word counts for nothing until an operator has seen to it. */
  isRefereePast = false;
  /** Some node has the log: nobody else begins it. */
  #hasBegun = false;
  readonly #simulation: Simulation;
  readonly #random: Random;
  /** Members of which the disk was made to fail in this life. */
  readonly #faulty = new Map<Member, number>();
  readonly #wiped = new Map<Member, { readonly lsn: number; readonly until: number }>();
  #highestEpoch = 0;
  #highestShown = 0;

  constructor(simulation: Simulation, plan: Plan) {
    this.#simulation = simulation;
    this.plan = plan;
    this.#random = simulation.random.fork();
    const { ttlMs } = plan;
    const timing = {
      ttlMs,
      marginMs: ttlMs / 10,
      renewEveryMs: ttlMs / 5,
      callTimeoutMs: ttlMs / 5,
    };
    this.referee = plan.referee ? simulation.referee('referee', { timing }) : undefined;
    this.members = Array.from({ length: plan.nodes }, (_, i) => {
      const machine = simulation.machine(name(i));
      machine.diskTimes.flush = plan.flushMs;
      machine.diskTimes.jitter = plan.flushMs;
      const member = new Member(this, machine, i, simulation.random.fork());
      machine.onOff = () => this.lose(member, this.#random.pick(['some', 'all', 'nothing']), 500);
      return member;
    });
    this.operator = new Operator(this, simulation, simulation.random.fork());
  }

  start(): void {
    this.operator.start();
  }

  /** The primary of the highest epoch that says it is; undefined: none does. */
  get primary(): Member | undefined {
    let found: Member | undefined;
    for (const member of this.members) {
      if (!member.isPrimary) continue;
      if (found === undefined || member.epoch > found.epoch) found = member;
    }
    return found;
  }

  /** Whether `primary` can commit, as far as it knows. */
  get hasPrimary(): boolean {
    const { primary } = this;
    return primary !== undefined && primary.epoch >= this.#highestEpoch;
  }

  // -- faults --

  /** A member's machine goes off, and comes back after so long. */
  lose(member: Member, loss: Loss, ms: number, failOver = false): void {
    const { machine } = member;
    if (!machine.isOn) return;
    this.operator.loses(member, ms, failOver);
    machine.goOff(loss);
    member.lost();
    this.#faulty.delete(member);
  }

  /** A disk was made to fail: that its log stops is no wonder. */
  spoiled(member: Member): void {
    this.#faulty.set(member, member.life);
  }

  /** An empty disk, for a standby, where all that counts is on enough others. */
  wipe(member: Member, ms: number): boolean {
    const { primary, oracle, plan } = this;
    const lsn = oracle.highestKept;
    if (primary === undefined || !this.hasPrimary || member === primary) return false;
    if (primary.machine.isPaused || !member.machine.isOn) return false;
    const isPending = [...this.#wiped.values()].some(
      ({ until }) => until + 20_000 > this.#simulation.now,
    );
    if (isPending) return false;
    if (lsn > 0) {
      const own = primary.machine.disk.durable(dir, lsn);
      const others = this.members.filter(
        (each) => each !== member && each.machine.disk.durable(dir, lsn) === own,
      );
      if (own === undefined || others.length <= plan.quorum) return false;
    }
    this.lose(member, 'all', ms);
    this.counts.wipes += 1;
    const { machine } = member;
    this.#wiped.set(member, {
      lsn: machine.disk.durable(dir),
      until: this.#simulation.now + noticeMs,
    });
    machine.wipe();
    member.applied = [''];
    member.firstLsn = 1;
    return true;
  }

  // -- what members tell --

  optionsOf(member: Member): Partial<OpenOptions> {
    const isFirst = this.#hasBegun
      ? member === this.operator.last && (this.#isOnlyLog(member) || this.operator.opensAlone)
      : member === this.members[0];
    return {
      ...(isFirst ? { openAlone: true } : {}),
      ...(this.referee === undefined ? {} : { referee: this.referee.of(member.machine) }),
    };
  }

  /** That nobody else was promoted is plain where nobody else has a log. */
  #isOnlyLog(member: Member): boolean {
    return this.members.every((each) => each === member || !each.hasLog);
  }

  opened(member: Member): void {
    this.#simulation.note(`@ ${member.name} opened as ${member.role}`, 0);
    this.#hasBegun = true;
  }

  leads(member: Member): void {
    this.#simulation.note(`@ ${member.name} leads`, member.epoch);
    const { epoch } = member;
    const { oracle, counts } = this;
    const last = member.log?.status().flushLsn ?? 0;
    if (epoch > this.#highestEpoch) {
      this.#highestEpoch = epoch;
      if (epoch > 1) counts.promotions += 1;
    }
    if (oracle.mayLack(epoch, member.name)) return;
    demand(
      last >= oracle.highestKept,
      () =>
        `${member.name} is the primary of epoch ${epoch} with ${last} records; ` +
        `LSN ${oracle.highestKept} was acknowledged in epoch ${oracle.keptEpoch}`,
    );
  }

  acknowledged(member: Member, { payload, lsn, level, isOwnLevel, epoch }: Commit): void {
    const { oracle, plan, referee } = this;
    const needsOthers = plan.quorum > 0 && isSafe(level);
    // A primary that goes on alone is not replaced where a referee knows of it (SAFETY 4.2).
    const isAlone = referee !== undefined && plan.quorum > 0 && !isOwnLevel && isSafe(plan.level);
    const isKept = needsOthers || (isAlone && level !== 'off' && !this.isRefereePast);
    oracle.settled(payload, 'acknowledged', isKept, epoch);
    if (level === 'off') return;
    this.counts.checks += 1;
    oracle.acknowledgedIn(epoch, member.name, needsOthers);
    if (!isOwnLevel) this.#requireLease(member, lsn, epoch);
    const own = member.machine.disk.durable(dir, lsn);
    demand(
      own !== undefined,
      () => `LSN ${lsn} is acknowledged, and not on the disk of the primary`,
    );
    if (!needsOthers) return;
    const others = this.members.filter(
      (other) => other !== member && this.#hasOrHad(other, lsn, own, payload),
    );
    demand(
      others.length >= plan.quorum,
      () =>
        `LSN ${lsn} is acknowledged at ${level}, and on ${others.length} disks of standbys, ` +
        `not on ${plan.quorum}`,
    );
  }

  /** By the referee's own clock, which outlives the deadline of the holder (SAFETY 4.3). */
  #requireLease(member: Member, lsn: number, epoch: number): void {
    const { referee } = this;
    if (referee === undefined || this.isRefereePast) return;
    const { holder } = referee;
    demand(
      holder?.epoch === epoch,
      () =>
        `${member.name} acknowledges LSN ${lsn} in epoch ${epoch}, and ` +
        `${holder === undefined ? 'nobody holds the group' : `epoch ${holder.epoch} holds it`}`,
    );
  }

  /**
   * What all have on their disks but those that it feeds, for whom the log itself keeps it: who is
   * trimmed past while it is away cannot come back without help (docs/operations.md).
   */
  trimmable(member: Member): number {
    const fed = new Set<string>();
    const standbys = member.isPrimary ? (member.log?.status().standbys ?? []) : [];
    for (const { name, state } of standbys) if (state !== 'disconnected') fed.add(name);
    const own = member.machine.disk;
    // Of one with a tail of its own nobody knows here how much of that will go.
    const common = ({ hasLog, machine: { disk } }: Member): number => {
      const last = hasLog ? disk.durable(dir) : 0;
      return last > 0 && disk.durable(dir, last) === own.durable(dir, last) ? last : 0;
    };
    const away = this.members.filter((each) => each !== member && !fed.has(each.name));
    return Math.min(...away.map(common), Number.MAX_SAFE_INTEGER);
  }

  /** Nothing is visible before it is safe: on as many disks as the policy says. */
  shown(member: Member, lsn: number): void {
    if (!isStable(this.plan) || lsn <= this.#highestShown) return;
    this.#highestShown = lsn;
    this.counts.checks += 1;
    const own = member.machine.disk.durable(dir, lsn);
    const payload = member.applied[lsn];
    const holders = this.members.filter((each) => this.#hasOrHad(each, lsn, own, payload));
    demand(
      own !== undefined && holders.length > this.plan.quorum,
      () => `${member.name} shows LSN ${lsn}, which ${holders.length} disks have`,
    );
  }

  /** On its disk; or its application had applied it before it was trimmed there. */
  #hasOrHad(member: Member, lsn: number, own: number | undefined, payload?: string): boolean {
    if (lsn < member.firstLsn) return member.applied[lsn] === payload;
    return member.machine.disk.durable(dir, lsn) === own || this.#hadUntilNow(member, lsn);
  }

  /** Its disk was taken away after it had acknowledged that: the primary cannot know yet. */
  #hadUntilNow(member: Member, lsn: number): boolean {
    const had = this.#wiped.get(member);
    return had !== undefined && lsn <= had.lsn && this.#simulation.now < had.until;
  }

  ended(member: Member, error: unknown): void {
    const { code = '', message } = error as { readonly code?: string; readonly message: string };
    this.#simulation.note(`${member.name} ended: ${code} ${message}`, 0);
    // A machine that dies in a change of its disk is off, as is noticed with its next event.
    if (!member.machine.isOn || member.machine.disk.dead) return;
    const isDisk = diskCodes.includes(code) && this.#faulty.has(member);
    const isPast = code === 'WAL_REFEREE_PAST' && this.isRefereePast;
    if (code === 'WAL_MEMBERS_AWAY') this.operator.refusedToOpen(member);
    if (isDisk || isPast || (passingCodes.includes(code) && member.log === undefined)) {
      this.lose(member, 'nothing', isDisk ? 100 : 1_000);
      return;
    }
    throw new Violation(`${member.name} stopped: ${code}: ${message}`);
  }

  fail(error: unknown): void {
    this.failure ??= error;
  }

  // -- after the faults --

  get isSettled(): boolean {
    return (
      this.hasPrimary && this.operator.isIdle && this.members.every((member) => member.isRunning)
    );
  }

  describe(): string {
    const told = this.members.map((member) => {
      const where = member.machine.isOn ? (member.machine.isPaused ? 'paused' : 'on') : 'off';
      const status = member.log?.status();
      if (status === undefined) return `${member.name} ${where}`;
      const { role, term, flushLsn, commitLsn, rejoin, upstream, policy, referee } = status;
      return [
        `${member.name} ${where} ${role} epoch ${term.epoch} flush ${flushLsn}`,
        ` commit ${commitLsn} rejoin ${rejoin?.state ?? 'none'}`,
        ` (${upstream?.reason ?? policy?.waitingFor ?? ''}; ${referee?.reason ?? ''})`,
      ].join('');
    });
    return `${told.join('\n  ')}\n  ${this.operator.describe()}`;
  }
}
