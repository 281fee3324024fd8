import type { NumberedRule } from '../replication/rule.js';
import { type Environment, pause, processEnvironment } from '../transport/environment.js';
import { LeaseKeeper, type LeaseState } from './lease_keeper.js';
import type { LeaderRecord, RuleRecord } from './records.js';
import type { Grant, GroupView, Referee } from './referee.js';

/** The primary that a group is held for. */
export interface GroupHost {
  /** The rule that its term began with, number 1. */
  readonly opening: NumberedRule;
  /** How far its log is committed, where candidates are judged by that; undefined: not now. */
  readonly progress: () => number | undefined;
  /** What may be acknowledged has changed, or why nothing may. */
  readonly onState: (state: LeaseState, cause: Error | undefined) => void;
  /** Another was granted the group: for good. */
  readonly onLost: (leader: LeaderRecord) => void;
}

export interface HeldGroupOptions {
  readonly referee: Referee;
  readonly grant: Grant;
  /** Of the log. Default: the process. */
  readonly environment?: Environment;
}

/**
 * A group as its primary holds it: the lease, and what is recorded under it (SAFETY 4). Renews from
 * the start, since opening a term takes time. Nothing may be acknowledged before the rule of the
 * term is recorded: until then that of the primary before decides who may take its place.
 */
export class HeldGroup {
  readonly #referee: Referee;
  readonly #keeper: LeaseKeeper;
  readonly #environment: Environment;
  readonly #stopping = new AbortController();
  #host: GroupHost | undefined;
  #state: LeaseState = 'held';
  #isRecorded = false;
  /** Rules are recorded one after the other, as they rise. */
  #recording: Promise<void> = Promise.resolve();
  /** Of the rule that is recorded. */
  #number = 0;
  #told: Parameters<Referee['recordProgress']>[1] | undefined;

  constructor({ referee, grant, environment = processEnvironment }: HeldGroupOptions) {
    this.#referee = referee;
    this.#environment = environment;
    this.#keeper = new LeaseKeeper({
      referee,
      grant,
      onState: (state, cause) => this.#changed(state, cause),
      environment,
    });
    this.#keeper.start();
  }

  get epoch(): number {
    return this.#keeper.grant.epoch;
  }

  /** The rule by which it was granted, of whoever acknowledged last. */
  get grantedBy(): RuleRecord | undefined {
    return this.#keeper.grant.rule;
  }

  /** What is known of it, for people. */
  now(): {
    readonly lease: LeaseState;
    readonly view: GroupView | undefined;
    readonly reason: string | null;
  } {
    const { state, view, cause } = this.#keeper;
    const waits = this.#isRecorded ? null : 'the rule of this term is not recorded yet';
    return { lease: state, view, reason: cause?.message ?? waits };
  }

  /** Whether acknowledging is allowed now: to be asked right before, each time. */
  holds(): boolean {
    return this.#isRecorded && this.#keeper.holds();
  }

  /** Once its term is durable. */
  serve(host: GroupHost): void {
    this.#host = host;
    // Where this is stopped meanwhile nothing is acknowledged any more.
    this.recordRule(host.opening).then(
      () => {
        this.#isRecorded = true;
        host.onState(this.#state, undefined);
        void this.#tellProgress(host);
      },
      () => undefined,
    );
    if (this.#state === 'lost') void this.#tellLost(host);
  }

  /**
   * Resolves when the referee has it, which is tried until then: while it is away, the rule before
   * stays. Rejects where this was stopped meanwhile.
   */
  recordRule(rule: NumberedRule): Promise<void> {
    const recorded = this.#recording.then(() => this.#record(rule));
    this.#recording = recorded.catch(() => undefined);
    return recorded;
  }

  /** Nothing may be acknowledged from here on; the lease ends by itself. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#keeper.stop();
  }

  /**
   * Gives the group back, or keeps it for a successor for one time to live. Resolves false where it
   * was not held any more, or the referee was not reached: then the lease ends by itself.
   */
  async release(successor?: string): Promise<boolean> {
    const lsn = this.#host?.progress();
    // Candidates are judged by it from now on.
    const told = lsn === undefined || (await this.#progressed(lsn));
    await this.stop();
    if (!told) return false;
    return await this.#referee.release(this.#keeper.grant, successor).catch(() => false);
  }

  #changed(state: LeaseState, cause: Error | undefined): void {
    this.#state = state;
    const host = this.#host;
    if (host === undefined) return;
    host.onState(state, cause);
    if (state === 'lost') void this.#tellLost(host);
  }

  async #record(rule: NumberedRule): Promise<void> {
    for (;;) {
      const { signal } = this.#stopping;
      signal.throwIfAborted();
      try {
        if (await this.#referee.recordRule(this.#keeper.grant, rule, { signal })) {
          this.#number = rule.number;
          return;
        }
      } catch (error) {
        if (error instanceof RangeError) throw error;
      }
      await this.#pause();
    }
  }

  async #tellProgress(host: GroupHost): Promise<void> {
    const { renewEveryMs } = this.#referee.timing;
    while (!this.#stopping.signal.aborted) {
      const lsn = host.progress();
      const isNews = lsn !== this.#told?.lsn || this.#number !== this.#told?.number;
      if (lsn !== undefined && isNews) await this.#progressed(lsn);
      await this.#pause(renewEveryMs);
    }
  }

  async #progressed(lsn: number): Promise<boolean> {
    const { signal } = this.#stopping;
    // By what is recorded now: what another rule lets be acknowledged later is not counted yet.
    const progress = { number: this.#number, lsn };
    try {
      const isHeld = await this.#referee.recordProgress(this.#keeper.grant, progress, { signal });
      if (isHeld) this.#told = progress;
      return isHeld;
    } catch {
      return false;
    }
  }

  /** Who it is now has to be known, for what is stored of it. */
  async #tellLost(host: GroupHost): Promise<void> {
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const view = await this.#referee.view({ signal }).catch((): GroupView => ({}));
      const { leader } = view;
      if (signal.aborted) return;
      if (leader !== undefined && leader.epoch > this.epoch) {
        host.onLost(leader);
        return;
      }
      await this.#pause();
    }
  }

  async #pause(milliseconds = this.#referee.timing.renewEveryMs / 4): Promise<void> {
    const { signal } = this.#stopping;
    await pause(this.#environment, milliseconds, signal, 'unref');
  }
}
