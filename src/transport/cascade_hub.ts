import { WalError } from '../api/errors.js';
import { type Place, type Rule, State, type Term } from '../native/native_log.js';
import { assert } from '../replication/assert.js';
import { compareTerms } from '../replication/history.js';
import type { Progress } from '../replication/progress.js';
import { type NumberedRule, sameRule } from '../replication/rule.js';
import type { ToldSlot } from '../replication/slot.js';
import {
  type LinksOptions,
  type LinksOwner,
  type StandbyChange,
  StandbyLinks,
  type StandbyStatus,
} from './standby_links.js';

/** What a standby knows of its own primary. */
export interface Upstream {
  readonly term: Term;
  readonly commit: Place;
  readonly isStreaming: boolean;
}

export interface CascadeHubOptions
  extends Omit<LinksOptions, 'owner' | 'ring' | 'allocateAligned'> {
  readonly allocateAligned: LinksOptions['allocateAligned'];
  readonly upstream: () => Upstream;
  readonly onStandby: (event: StandbyChange) => void;
  readonly onRefused: (address: string, reason: string) => void;
  readonly onUnreadable: (error: unknown) => void;
}

/**
 * What a log drives as a standby, for those that follow it: it passes the log on while it gets it
 * from its own primary, and in that primary's term alone. Whatever ends or changes that ends their
 * sessions, and each looks anew where its log goes on (SAFETY 4.4): a cut here, a term, a link that
 * is down. Nobody that follows here counts for a commit.
 *
 * It sends copies of the ring, never the ring itself: one that is slow holds up nothing here.
 */
export class CascadeHub implements LinksOwner {
  readonly isPrimary = false;
  readonly witnesses = [];
  readonly #options: CascadeHubOptions;
  readonly #links: StandbyLinks;
  #rule: NumberedRule | undefined;
  #isDue = false;
  #closed = false;

  constructor(options: CascadeHubOptions) {
    this.#options = options;
    this.#links = new StandbyLinks({ ...options, ring: undefined, owner: this });
  }

  open(): void {
    this.#options.door.keptBy(this.#links);
  }

  setRef(holds: boolean): void {
    this.#options.door.setRef(holds);
    this.#links.setRef(holds);
  }

  statuses(): StandbyStatus[] {
    return this.#links.statuses();
  }

  /** The log, its flush or the commit place moved: told at the end of this turn of the loop. */
  moved(): void {
    if (this.#isDue || this.#closed) return;
    this.#isDue = true;
    this.#options.environment.setImmediate(() => {
      this.#isDue = false;
      if (this.#closed) return;
      // A cut that is under way is told when it is durable.
      this.#links.noteCut();
      this.#links.noteEnd();
      this.#links.feedAll();
      this.#links.pushCommit();
    });
  }

  /** The primary told another rule, and it is recorded here. */
  ruleTold(rule: Rule): void {
    if (this.#rule !== undefined && sameRule(this.#rule.rule, rule)) return;
    this.#rule = { number: (this.#rule?.number ?? 0) + 1, rule };
    this.#links.tellRule(this.#rule);
  }

  slotsTold(slots: readonly ToldSlot[] | undefined): void {
    this.#links.tellSlots(slots);
  }

  /** What is passed on is not what it was: those that follow begin anew. */
  endSessions(reason: string): void {
    this.#links.dropFed(reason);
  }

  wasCut(): void {
    this.#links.noteCut();
    this.endSessions('the log was cut');
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#links.close('the standby that it follows closes');
  }

  // -- what the links need --

  term = (): Term => this.#options.upstream().term;
  commitPlace = (): Place => this.#options.upstream().commit;
  writeAcks = (): boolean => false;

  refusal(): WalError | undefined {
    const { term, isStreaming } = this.#options.upstream();
    if (!isStreaming) {
      return new WalError('WAL_PEER_REFUSED', 'this node is a standby, and follows nobody now');
    }
    const { native } = this.#options;
    const { history, rule } = native.info();
    const opening = history.at(-1);
    const has =
      opening !== undefined &&
      compareTerms(opening, term) === 'same' &&
      native.state[State.CLOSED_POSITION]! > opening.position;
    if (has && rule !== null) return undefined;
    return new WalError('WAL_PEER_REFUSED', 'this standby has not got its own term yet');
  }

  admit(_progress: Progress): NumberedRule {
    const { rule } = this.#options.native.info();
    assert(rule !== null, 'who streams has recorded a rule');
    this.ruleTold(rule);
    return this.#rule!;
  }

  acknowledged(): void {}
  gone(): void {}
  /** One that knows of another term was refused; this node hears of that from who opened it. */
  fenced(): void {}

  onStandby(event: StandbyChange): void {
    this.#options.onStandby(event);
  }

  onRefused(address: string, reason: string): void {
    this.#options.onRefused(address, reason);
  }

  onUnreadable(error: unknown): void {
    this.#options.onUnreadable(error);
  }
}
