import { StoreReferee } from '../referee/store_referee.js';
import type { ResolvedOptions } from './options.js';
import type { ThreadReferee } from './thread_calls.js';
import { Tick } from './tick.js';

/**
 * The referee that this thread was given, for a log in a thread of its own: that makes the same one
 * for itself, since a lease is renewed where it is acknowledged by. It is watched whether this
 * thread runs.
 */
export class HandedReferee {
  readonly sent: ThreadReferee;
  readonly #tick: Tick;
  readonly #referee: StoreReferee;

  private constructor(
    referee: StoreReferee,
    spec: ThreadReferee['spec'],
    applicationTimeout: number,
  ) {
    this.#referee = referee;
    this.#tick = new Tick(applicationTimeout);
    this.sent = { spec, tick: this.#tick.shared, applicationTimeout };
  }

  /** undefined: no referee. Throws TypeError for one that another thread cannot have. */
  static of({ referee, applicationTimeout }: ResolvedOptions): HandedReferee | undefined {
    if (referee === undefined) return undefined;
    const spec = referee instanceof StoreReferee ? referee.spec : undefined;
    if (spec !== undefined) {
      return new HandedReferee(referee as StoreReferee, spec, applicationTimeout);
    }
    throw new TypeError(
      "with replicationThread: 'worker' the thread of the log makes its own referee, which it " +
        "can of what etcdReferee() or fileReferee() has made; pass one of these, or 'main'",
    );
  }

  /** What this thread's one has seen is not what counts: it is the other that forgets. */
  standIn(forget: () => Promise<unknown>): void {
    this.#referee.standIn = {
      forget: async () => {
        await forget();
      },
    };
  }

  end(): void {
    this.#tick.stop();
    this.#referee.standIn = undefined;
  }
}
