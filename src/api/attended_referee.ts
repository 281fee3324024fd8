import type {
  Answer,
  CallOptions,
  Claim,
  Grant,
  GroupView,
  Referee,
  Renewal,
  Sight,
} from '../referee/referee.js';
import type { RefereeTiming } from '../referee/timing.js';
import type { NumberedRule } from '../replication/rule.js';
import { WalError } from './errors.js';

/**
 * The referee of a log that has a thread of its own. Where the application's thread has not run for
 * `most` milliseconds nothing is granted or renewed (SAFETY.md 4.3): else a primary that nobody
 * uses any more would be one for ever.
 */
export class AttendedReferee implements Referee {
  readonly timing: RefereeTiming;
  readonly #referee: Referee;
  readonly #sinceTick: () => number;
  readonly #most: number;

  constructor(referee: Referee, sinceTick: () => number, most: number) {
    this.timing = referee.timing;
    this.#referee = referee;
    this.#sinceTick = sinceTick;
    this.#most = most;
  }

  view(options?: CallOptions): Promise<GroupView> {
    return this.#referee.view(options);
  }

  async acquire(claim: Claim, options?: CallOptions): Promise<Answer> {
    this.#requireAttended();
    return this.#referee.acquire(claim, options);
  }

  async renew(grant: Grant, options?: CallOptions): Promise<Renewal | undefined> {
    this.#requireAttended();
    return this.#referee.renew(grant, options);
  }

  async regain(grant: Grant, options?: CallOptions): Promise<Grant | undefined> {
    this.#requireAttended();
    return this.#referee.regain(grant, options);
  }

  release(grant: Grant, successor?: string, options?: CallOptions): Promise<boolean> {
    return this.#referee.release(grant, successor, options);
  }

  recordRule(grant: Grant, rule: NumberedRule, options?: CallOptions): Promise<boolean> {
    return this.#referee.recordRule(grant, rule, options);
  }

  recordProgress(
    grant: Grant,
    progress: Parameters<Referee['recordProgress']>[1],
    options?: CallOptions,
  ): Promise<boolean> {
    return this.#referee.recordProgress(grant, progress, options);
  }

  pause(by: string, reason: string, options?: CallOptions): Promise<void> {
    return this.#referee.pause(by, reason, options);
  }

  resume(options?: CallOptions): Promise<void> {
    return this.#referee.resume(options);
  }

  watch(options: { readonly signal: AbortSignal }): AsyncIterable<Sight> {
    return this.#referee.watch(options);
  }

  forget(): Promise<void> {
    return this.#referee.forget();
  }

  close(): void {
    this.#referee.close();
  }

  #requireAttended(): void {
    const since = this.#sinceTick();
    if (since <= this.#most) return;
    const seconds = Math.round(since / 1000);
    const text = `the thread of the application has not run for ${seconds} s`;
    throw new WalError('WAL_NOT_GRANTED', text, { outcome: 'refused' });
  }
}
