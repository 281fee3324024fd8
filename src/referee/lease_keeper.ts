import { type Environment, pause, processEnvironment } from '../transport/environment.js';
import { Lease } from './lease.js';
import type { Grant, GroupView, Referee } from './referee.js';

/** `expired`: nothing may be acknowledged now, and it may come back. `lost`: for good. */
export type LeaseState = 'held' | 'expired' | 'lost';

export interface LeaseKeeperOptions {
  readonly referee: Referee;
  readonly grant: Grant;
  /**
   * Told of each change of state, with what went wrong where something did; and, while the lease
   * is not held, when what goes wrong has another code. What it throws is an uncaught exception;
   * the renewals go on.
   */
  readonly onState?: (state: LeaseState, cause: Error | undefined) => void;
  /** Of the log: its boot clock, and its timers. Default: the process. */
  readonly environment?: Environment;
}

/**
 * Renews a lease until it is stopped or lost. It runs on the event loop of whoever acknowledges,
 * so that what blocks that loop stops the renewals too, and `holds` is exact all the same: it looks
 * at the clock, not at whether a timer has run.
 */
export class LeaseKeeper {
  readonly #referee: Referee;
  readonly #onState: (state: LeaseState, cause: Error | undefined) => void;
  readonly #environment: Environment;
  readonly #lease: Lease;
  readonly #stopping = new AbortController();
  #grant: Grant;
  #state: LeaseState = 'held';
  /** Code of the cause that was told. */
  #told: unknown;
  #cause: Error | undefined;
  #view: GroupView | undefined;
  #running: Promise<void> | undefined;

  constructor({ referee, grant, onState, environment = processEnvironment }: LeaseKeeperOptions) {
    this.#referee = referee;
    this.#grant = grant;
    this.#onState = onState ?? (() => undefined);
    this.#environment = environment;
    this.#lease = new Lease(grant.deadlineMs);
  }

  /** Of the epoch that the keeper was made for, with the lease that is held now. */
  get grant(): Grant {
    return this.#grant;
  }

  /** What the last renewal failed with; undefined once one has succeeded. */
  get cause(): Error | undefined {
    return this.#cause;
  }

  /** What the last renewal has seen; undefined before the first. */
  get view(): GroupView | undefined {
    return this.#view;
  }

  get state(): LeaseState {
    if (this.#lease.isLost) return 'lost';
    return this.holds() ? 'held' : 'expired';
  }

  /** Milliseconds of the boot clock. */
  get deadlineMs(): number {
    return this.#lease.deadlineMs;
  }

  /** Whether acknowledging is allowed now (SAFETY 4.3): to be asked right before, each time. */
  holds(): boolean {
    return this.#lease.holds(this.#environment.bootTime());
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /**
   * Ends the renewals; the lease stays until it ends or is released. From here on `holds` is false.
   */
  async stop(): Promise<void> {
    this.#lease.lost();
    this.#stopping.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { renewEveryMs, ttlMs, marginMs } = this.#referee.timing;
    const { signal } = this.#stopping;
    // When the grant was asked for, or later: what came since has taken of the lease.
    let sentMs = Math.min(this.#environment.bootTime(), this.#grant.deadlineMs - ttlMs + marginMs);
    while (!signal.aborted && !this.#lease.isLost) {
      // After a failure sooner: what is left of the lease is for trying again.
      const everyMs = this.#cause === undefined ? renewEveryMs : renewEveryMs / 4;
      const waitMs = Math.max(0, sentMs + everyMs - this.#environment.bootTime());
      await pause(this.#environment, waitMs, signal, 'unref');
      if (signal.aborted) return;
      sentMs = this.#environment.bootTime();
      await this.#renew(signal);
    }
  }

  async #renew(signal: AbortSignal): Promise<void> {
    try {
      const renewal = await this.#referee.renew(this.#grant, { signal });
      if (renewal !== undefined) {
        this.#lease.renewed(renewal.deadlineMs);
        this.#view = renewal.view;
      } else {
        await this.#regain(signal);
      }
      this.#cause = undefined;
    } catch (error) {
      if (signal.aborted) return;
      this.#cause = error as Error;
    }
    this.#tell();
  }

  /** It has ended, or is somebody else's: nothing is acknowledged until that is known. */
  async #regain(signal: AbortSignal): Promise<void> {
    this.#lease.ended();
    this.#tell();
    const again = await this.#referee.regain(this.#grant, { signal });
    if (again === undefined) {
      this.#lease.lost();
      return;
    }
    this.#grant = again;
    this.#lease.renewed(again.deadlineMs);
  }

  #tell(): void {
    const { signal } = this.#stopping;
    if (signal.aborted) return;
    const { state } = this;
    const code = (this.#cause as { code?: unknown } | undefined)?.code;
    const isNews = state !== this.#state || (state !== 'held' && code !== this.#told);
    if (!isNews) return;
    this.#state = state;
    this.#told = code;
    try {
      this.#onState(state, this.#cause);
    } catch (error) {
      process.nextTick(() => {
        throw error;
      });
    }
  }
}
