import { type Log, WalError } from 'walmirror';
import type { Random, Simulation } from 'walmirror/testing';
import type { Group } from './group.js';
import { dir, type Member } from './member.js';
import { demand, Violation } from './oracle.js';

/** What a change of roles may end with that did not come about. */
const refusals = [
  'WAL_SWITCHOVER_REFUSED',
  'WAL_DEMOTED',
  'WAL_SWITCHING',
  'WAL_FENCED',
  'WAL_IS_STANDBY',
  'WAL_SPLIT',
  'WAL_CLOSED',
  'WAL_FAILED',
  'WAL_IO',
  'WAL_FLUSH_FAILED',
  'WAL_NO_SPACE',
];
const givenUp = 'the operator has thought better of it';

interface Change {
  readonly from: Member;
  readonly life: number;
  /** undefined: nobody in particular. */
  readonly to: Member | undefined;
  isOver: boolean;
}

/**
 * Planned changes of roles, as an operator makes them: of a primary that is well, by its own call.
 * What such a call says has to be so (SAFETY 3.9).
 */
export class Changes {
  readonly #group: Group;
  readonly #simulation: Simulation;
  /** The last one, until somebody is seen to lead. */
  #last: Change | undefined;

  constructor(group: Group, simulation: Simulation) {
    this.#group = group;
    this.#simulation = simulation;
  }

  /** It is waited for, unless the process that was asked has gone. */
  get isUnderWay(): boolean {
    const change = this.#last;
    return change !== undefined && !change.isOver && change.life === change.from.life;
  }

  /** Of two that a change was between, one may lead, and nobody else knows of that. */
  mayLead(member: Member): boolean {
    const change = this.#last;
    return change?.to === undefined || member === change.from || member === change.to;
  }

  /** Somebody leads. */
  over(): void {
    if (!this.isUnderWay) this.#last = undefined;
  }

  describe(): string {
    const change = this.#last;
    if (change === undefined) return 'no change of roles';
    return `a change of roles from ${change.from.name} to ${change.to?.name ?? 'nobody'}`;
  }

  switchOver(from: Member, to: Member, random: Random): void {
    const { log } = from;
    // A standby between is opened without the referee of the others.
    if (log === undefined || to.isBetween || !this.#mayAsk(from)) return;
    const change = this.#began(from, to);
    const { life, epoch } = from;
    const timeout = random.chance(0.4) ? random.integer(20, 2_000) : undefined;
    const giveUp = random.chance(0.15) ? new AbortController() : undefined;
    if (giveUp !== undefined) {
      const reason = new Error(givenUp);
      this.#simulation.after(random.integer(0, 1_000), () => giveUp.abort(reason));
    }
    const toLife = to.life;
    const call = log.switchover({
      to: to.name,
      ...(timeout === undefined ? {} : { timeout }),
      ...(giveUp === undefined ? {} : { signal: giveUp.signal }),
    });
    call
      .then(
        (done) => {
          if (life !== from.life) return;
          this.#ended(change, `switched over to ${to.name}`);
          this.#group.counts.changes += 1;
          const what = `${from.name} has handed over to ${to.name} at LSN ${done.lsn}`;
          demand(!isPrimary(log), () => `${what}, and is the primary itself`);
          demand(done.term.epoch > epoch, () => `${what}, in epoch ${done.term.epoch}`);
          demand(from.lastLsn <= done.lsn, () => `${what}, and has taken LSN ${from.lastLsn}`);
          if (toLife === to.life) this.#requireLeads(from, to, done.term.epoch, done.lsn, what);
        },
        (error: unknown) => {
          if (life === from.life) this.#refused(change, error);
        },
      )
      .catch((error: unknown) => this.#group.fail(error));
  }

  stepDown(from: Member): void {
    const { log, life } = from;
    if (log === undefined || !this.#mayAsk(from)) return;
    // It is no candidate until it has followed another, and may be the only one that may lead: then
    // somebody has to promote it by hand (docs/failover.md).
    if (this.#group.referee !== undefined) return;
    const change = this.#began(from, undefined);
    log
      .demote()
      .then(
        () => {
          if (life !== from.life) return;
          this.#ended(change, 'demoted');
          demand(!isPrimary(log), () => `${from.name} was demoted, and is the primary`);
        },
        (error: unknown) => {
          if (life === from.life) this.#refused(change, error);
        },
      )
      .catch((error: unknown) => this.#group.fail(error));
  }

  /** The call is made in its process. */
  #mayAsk(from: Member): boolean {
    return from.isPrimary && !from.isBetween && !from.machine.isPaused && !this.isUnderWay;
  }

  #began(from: Member, to: Member | undefined): Change {
    const change: Change = { from, life: from.life, to, isOver: false };
    this.#last = change;
    this.#simulation.note(`@ ${from.name} is to hand over to ${to?.name ?? 'nobody'}`, from.epoch);
    return change;
  }

  #ended(change: Change, how: string): void {
    change.isOver = true;
    this.#simulation.note(`@ ${change.from.name}: ${how}`, 0);
  }

  /** What was promised of the successor, unless another has come after it already. */
  #requireLeads(from: Member, to: Member, epoch: number, lsn: number, what: string): void {
    const status = to.log?.status();
    demand(status !== undefined, () => `${what}, whose log is not open`);
    if (status.term.epoch > epoch) return;
    demand(
      status.role === 'primary' && status.term.epoch === epoch,
      () => `${what}, which is ${status.role} of epoch ${status.term.epoch}, not ${epoch}`,
    );
    if (lsn === 0 || lsn < status.firstLsn || lsn < (from.log?.status().firstLsn ?? 0)) return;
    const [old, own] = [from, to].map(({ machine }) => machine.disk.durable(dir, lsn));
    demand(own !== undefined && own === old, () => `${what}, which has not the same on its disk`);
  }

  /** Where the primary goes on as one, it takes appends again. */
  #refused(change: Change, error: unknown): void {
    const { code = '', message } = error as { readonly code?: string; readonly message: string };
    this.#ended(change, `did not hand over: ${code} ${message}`);
    if (message !== givenUp && !(error instanceof WalError && refusals.includes(error.code))) {
      throw new Violation(`a change of roles ended with ${code}: ${message}`);
    }
    const { from } = change;
    if (!from.isPrimary) return;
    from.appendOne().catch((error: unknown) => {
      if (error instanceof Violation) this.#group.fail(error);
      if ((error as { code?: string }).code !== 'WAL_SWITCHING' || this.isUnderWay) return;
      this.#group.fail(new Violation(`${from.name} did not hand over, and takes nothing any more`));
    });
  }
}

/** By the log itself: of its events some may be on their way. */
function isPrimary(log: Log): boolean {
  return log.status().role === 'primary';
}
