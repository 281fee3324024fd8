import type { HistoryEntry, Place } from '../native/native_log.js';
import type { DialTarget } from './dial.js';

/** Where a log is to begin. */
export interface Beginning {
  readonly start: Place;
  /** crc of the batch that ends there. */
  readonly crc: number;
  /** The terms before it. */
  readonly history: readonly HistoryEntry[];
}

/** What takes the place of a log that its primary does not go on with. */
export interface Seeder {
  /** Whether it may. */
  readonly isAllowed: boolean;
  /** Stores all of it but the log; resolves with where that is to begin. */
  fetch(target: DialTarget, signal: AbortSignal): Promise<Beginning>;
  /** The log begins there, durably. */
  begun(beginning: Beginning): void;
}

export interface SeedTakerHost {
  /** Throws where it may not begin now. */
  begin(beginning: Beginning, seeder: Seeder): Promise<void>;
  /** The log can be followed from now on. */
  seeded(): void;
  notSeeded(error: unknown): void;
}

/** Has a follower seeded, one time after the other. */
export class SeedTaker {
  readonly #seeder: Seeder | undefined;
  readonly #host: SeedTakerHost;
  #ending: AbortController | undefined;
  #taking: Promise<void> | undefined;

  constructor(seeder: Seeder | undefined, host: SeedTakerHost) {
    this.#seeder = seeder;
    this.#host = host;
  }

  get isAllowed(): boolean {
    return this.#seeder?.isAllowed === true;
  }

  /** Nothing is to be followed as long as it is: it may replace the log. */
  get isUnderWay(): boolean {
    return this.#taking !== undefined;
  }

  /** Ends the one that is under way: `notSeeded` is told so. */
  abort(reason: Error): void {
    this.#ending?.abort(reason);
  }

  /** Resolves when none is under way: no file is written, and no socket open, for it. */
  async ended(): Promise<void> {
    await this.#taking;
  }

  /** While none is under way. */
  take(target: DialTarget): void {
    this.#taking = this.#take(target);
  }

  async #take(target: DialTarget): Promise<void> {
    const seeder = this.#seeder!;
    const ending = new AbortController();
    this.#ending = ending;
    try {
      const beginning = await seeder.fetch(target, ending.signal);
      ending.signal.throwIfAborted();
      await this.#host.begin(beginning, seeder);
    } catch (error) {
      this.#end();
      this.#host.notSeeded(error);
      return;
    }
    this.#end();
    this.#host.seeded();
  }

  #end(): void {
    this.#ending = undefined;
    this.#taking = undefined;
  }
}
