import { WalError } from '../api/errors.js';
import {
  type Cut,
  type HistoryEntry,
  type NativeLog,
  type Place,
  type Rule,
  State,
  type Term,
} from '../native/native_log.js';
import { Backoff } from '../replication/backoff.js';
import { mayFence } from '../replication/fence.js';
import { compareTerms, showTerm } from '../replication/history.js';
import type { NodeIdentity } from '../replication/identity.js';
import { KnownCommit } from '../replication/known_commit.js';
import type { Judgement, RejoinMode } from '../replication/rejoin.js';
import { sameRule } from '../replication/rule.js';
import type { ToldSlot } from '../replication/slot.js';
import { isFinal, type StandbyView } from '../replication/standby_session.js';
import { type DialTarget, receiveBytes } from './dial.js';
import { type Endpoint, showEndpoint } from './endpoint.js';
import { type Environment, processEnvironment, type Timer } from './environment.js';
import type { FollowerEvents } from './follower_events.js';
import { LastContact } from './last_contact.js';
import { checkFollowHost } from './plaintext.js';
import { asWalError, PrimaryLink, type PrimaryLinkHost } from './primary_link.js';
import { type LinkSecurity, linkSecurity, type Security, type TlsOptions } from './security.js';
import { type Beginning, type Seeder, SeedTaker } from './seed_taker.js';
import { type ReplicationTiming, withDefaults } from './timing.js';
import { Waits } from './waits.js';

export interface FollowerOptions extends Endpoint, Security {
  readonly native: NativeLog;
  readonly identity: NodeIdentity;
  readonly events: FollowerEvents;
  /** What becomes of records that a new primary lacks, and that may have been seen; or 'ask'. */
  readonly rejoin?: RejoinMode | undefined;
  /** Default false. */
  readonly hasReferee?: boolean;
  /** `findPrimary` is asked before the address is tried: it may be of another time. */
  readonly seekFirst?: boolean | undefined;
  /**
   * Where the primary may be by now, when a link has ended or did not come about; undefined: where
   * it was, for all that is known. Rejects never.
   */
  readonly findPrimary?: (() => Promise<DialTarget | undefined>) | undefined;
  /** How it comes by what its primary has let go of; undefined: not at all. */
  readonly seeder?: Seeder | undefined;
  readonly timing?: Partial<ReplicationTiming> | undefined;
  /** Page-aligned memory for reading segments. Default: the addon's. */
  readonly allocateAligned?: ((bytes: number) => Uint8Array) | undefined;
  readonly environment?: Environment | undefined;
}

export interface FollowerStatus {
  readonly address: string;
  readonly primary: string;
  readonly security: LinkSecurity;
  readonly connected: boolean;
  /** Milliseconds since the primary was last heard; null if not since this log was opened. */
  readonly lastContactMs: number | null;
  /** When that was, in milliseconds since 1970, known across restarts; null if never. */
  readonly lastContact: number | null;
  /** Why the link is down; null while it is up. */
  readonly reason: string | null;
  /** Where the primary's log ended when it last said so. */
  readonly primaryEnd: Place | null;
  /** The highest commit place that it told, also past the end of this log. */
  readonly primaryCommit: Place;
}

/**
 * What a log drives as a standby: one connection to its primary at a time, made again with
 * growing delays. Whatever a primary sends, it can only make the log longer, or cut what is not
 * known to be committed; of an old primary's log also what was committed by itself alone, when
 * that was allowed (SAFETY 3.8). Used from the thread that opened the log.
 */
export class Follower implements PrimaryLinkHost {
  readonly native: NativeLog;
  target: DialTarget;
  readonly buffer = new Uint8Array(receiveBytes);
  readonly timing: ReplicationTiming;
  readonly environment: Environment;
  readonly allocateAligned: (bytes: number) => Uint8Array;

  readonly #options: FollowerOptions;
  readonly #backoff: Backoff;
  readonly #known: KnownCommit;
  readonly #waits = new Waits();
  #storedTerm: Term;
  #released: Term = { epoch: 0, opener: '', incarnation: 0 };
  #link: PrimaryLink | undefined;
  #busy: Promise<unknown> = Promise.resolve();
  #retryTimer: Timer | undefined;
  #tickTimer: Timer | undefined;
  #linkClosed: (() => void) | undefined;
  #stopping: Promise<void> | undefined;
  #flushWaits: { readonly position: number; readonly resolve: () => void } | undefined;
  #state: 'idle' | 'following' | 'failed' | 'stopped' = 'idle';
  #reason = 'not connected yet';
  #primaryName: string;
  #primaryEnd: Place | null = null;
  #lastContactAt = Number.NaN;
  readonly #contact: LastContact;
  #streamingSince = Number.NaN;
  #appliedLsn = 0;
  #openedAt: number;
  #sharedCommit = 0;
  #cutFailure: WalError | undefined;
  #holds = true;
  /** How many want that nothing is followed meanwhile. */
  #held = 0;
  #seeking = false;
  readonly #seeds: SeedTaker;
  #progressWaits: (() => void)[] = [];

  constructor(options: FollowerOptions) {
    checkFollowHost(options.host, options);
    this.#options = options;
    this.native = options.native;
    const { host, port, tls, secret, environment = processEnvironment } = options;
    this.environment = environment;
    this.target = { host, port, tls, secret, logId: options.identity.logId, environment };
    this.timing = withDefaults(options.timing);
    this.allocateAligned =
      options.allocateAligned ?? ((bytes) => environment.binding().allocateAligned(bytes));
    const { retryFirst, retryMost } = this.timing;
    const backoff = { firstMs: retryFirst, mostMs: retryMost };
    this.#backoff = new Backoff(backoff, () => environment.random());
    const info = options.native.info();
    this.#storedTerm = info.term;
    this.#primaryName = info.primaryName;
    this.#contact = new LastContact(options.native);
    this.#known = new KnownCommit(info.commit);
    this.#openedAt = this.#closed().position;
    this.#seeds = new SeedTaker(options.seeder, {
      begin: (beginning, seeder) => this.#exclusively(() => this.#begin(beginning, seeder)),
      seeded: () => {
        this.#backoff.reset();
        this.#seek();
      },
      notSeeded: (error) => this.#notSeeded(error),
    });
  }

  start(): void {
    if (this.#state !== 'idle') throw new Error('the follower was started already');
    this.#state = 'following';
    const { heartbeat, dead, handshake } = this.timing;
    const period = Math.max(5, Math.min(heartbeat, dead, handshake) / 2);
    this.#tickTimer = this.environment.setInterval(() => this.#tick(), period);
    if (this.#options.seekFirst === true) this.#seek();
    else this.#connect();
    this.setRef(this.#holds);
  }

  /** Whether following keeps the process alive. Default true. */
  setRef(holds: boolean): void {
    this.#holds = holds;
    for (const timer of [this.#tickTimer, this.#retryTimer]) {
      if (holds) timer?.ref();
      else timer?.unref();
    }
    this.#link?.setRef(holds);
  }

  /**
   * Resolves when the link is up; rejects where trying again does not help, and with the signal's
   * reason.
   */
  connected(options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    if (this.#link?.isStreaming === true) return Promise.resolve();
    if (this.#state === 'stopped' || this.#state === 'failed') {
      return Promise.reject(new WalError('WAL_CLOSED', `not following any more: ${this.#reason}`));
    }
    return this.#waits.wait(options.signal);
  }

  /**
   * Ends the connection, at once or (`leave`) in order, which waits for the primary a moment;
   * afterwards nothing more is taken. What was under way is waited for. Idempotent: every call
   * waits for the one end.
   */
  stop(how: 'drop' | 'leave' = 'drop'): Promise<void> {
    this.#stopping ??= this.#stop(how);
    return this.#stopping;
  }

  /** The flush moved, or the ring has room again: to be called from `native.onProgress`. */
  progress(): void {
    if (this.#state !== 'following') return;
    const { state } = this.native;
    this.#wakeAll();
    if (state[State.FAILED] !== 0) {
      this.#fail(ownFailure(this.native));
      return;
    }
    this.#link?.progress();
    this.#options.events.onReceived?.();
    this.#shareCommit();
    const waits = this.#flushWaits;
    if (waits !== undefined && state[State.FLUSH_POSITION]! >= waits.position) waits.resolve();
  }

  /** Nothing is followed until the function that this returns is called. */
  hold(reason: string): () => void {
    this.#held += 1;
    this.#seeds.abort(new WalError('WAL_CLOSED', reason));
    this.#link?.drop(new WalError('WAL_CLOSED', reason));
    return () => {
      this.#held -= 1;
      const isIdle = this.#link === undefined && this.#retryTimer === undefined;
      // What ends a seeding comes before anything else is followed: `notSeeded`.
      if (this.#held === 0 && isIdle && !this.#seeds.isUnderWay) this.#seek();
    };
  }

  /** Resolves when nothing that it has begun is under way: a cut, say. */
  async quiet(): Promise<void> {
    await this.#busy.catch(() => undefined);
  }

  /**
   * Takes and acknowledges nothing more of an older term: resolves when all that was received is
   * flushed and the term stored (SAFETY 3.4). Rejects with WAL_FENCED where it may not be.
   */
  async fence(term: Term, candidate: string): Promise<void> {
    const release = this.hold(`this node is fenced for ${candidate}, epoch ${term.epoch}`);
    try {
      await this.#exclusively(async () => {
        const known = this.native.info();
        if (!mayFence(known.term, term.epoch, term.opener)) throw notFenced(known.term);
        await this.#flushed(this.#closed().position);
        this.#requireFollowing();
        const role = known.role === 'standby' ? 'standby' : 'fenced';
        await this.native.storeRole(role, term, candidate, '');
        this.#storedTerm = term;
        this.#primaryName = candidate;
      });
    } finally {
      release();
    }
  }

  /**
   * Takes what a member has of the log past the end here, up to `to`, while nothing is followed
   * (`hold`). It is verified as what a primary sends is: only what goes on from here is taken.
   */
  async extend(
    history: readonly HistoryEntry[],
    to: number,
    fetch: (from: number) => Promise<Uint8Array>,
    signal: AbortSignal,
  ): Promise<void> {
    await this.#exclusively(async () => {
      this.native.beginIngest(history);
      while (this.#closed().position < to) {
        const from = this.#closed().position;
        const bytes = await fetch(from);
        for (let at = 0; at < bytes.length || this.#closed().position < from + bytes.length; ) {
          this.#requireFollowing();
          signal.throwIfAborted();
          const taken = this.native.ingest(bytes, at, bytes.length);
          at += taken;
          const waits = at < bytes.length ? taken === 0 : this.#closed().position < from + at;
          if (waits) await this.#progressed(signal);
        }
      }
    });
  }

  /** Certificates for the connections from now on, and whom the present one may lead to. */
  reloadTls(tls: TlsOptions): void {
    this.target = { ...this.target, tls };
    this.#link?.revoke(tls.allow);
  }

  /** The application has applied everything up to this LSN. */
  applied(lsn: number): void {
    if (lsn <= this.#appliedLsn) return;
    this.#appliedLsn = lsn;
    this.#link?.acknowledgeSoon();
  }

  /**
   * The commit place as far as this log reaches; records up to min(commit, own flush) may be
   * shown.
   */
  get commit(): Place {
    return this.#known.within(this.#closed());
  }

  /** The highest commit place that this node knows, also past the end of its log. */
  get told(): Place {
    return this.#known.told;
  }

  get term(): Term {
    return this.#storedTerm;
  }

  /** Whom this node is fenced for, by this term, never opens that epoch: another may. */
  release(fence: Term): void {
    this.#released = fence;
  }

  get isStreaming(): boolean {
    return this.#link?.isStreaming === true;
  }

  status(): FollowerStatus {
    const connected = this.#link?.isStreaming === true;
    const now = this.environment.now();
    const at = connected ? now - this.#link!.silence() : this.#lastContactAt;
    return {
      address: showEndpoint(this.target),
      primary: this.#primaryName,
      security: linkSecurity(this.target),
      connected,
      lastContactMs: Number.isNaN(at) ? null : Math.max(0, now - at),
      lastContact: connected ? this.#heardAt(this.#link!) : this.#contact.at,
      reason: connected ? null : this.#reason,
      primaryEnd: this.#primaryEnd,
      primaryCommit: this.#known.told,
    };
  }

  // -- what the link needs --

  appliedLsn = (): number => this.#appliedLsn;

  view(): StandbyView {
    const info = this.native.info();
    const { role, history, term } = info;
    const last = history.at(-1);
    const isOfLog =
      info.isRuleOfEarlierTerm || (last !== undefined && compareTerms(last, term) === 'same');
    return {
      identity: this.#options.identity,
      term: this.#storedTerm,
      role,
      history,
      end: this.#closed(),
      crc: this.native.state[State.LAST_CRC]!,
      commit: this.#known.told,
      isCommitExact: info.isCommitExact,
      quorumLsn: info.quorumLsn,
      quorumMostLsn: info.quorumMostLsn,
      rule: isOfLog ? info.rule : null,
      isRuleUndercut: info.isRuleUndercut,
      rejoin: this.#options.rejoin ?? 'ask',
      hasReferee: this.#options.hasReferee ?? false,
      isReleased: compareTerms(this.#storedTerm, this.#released) === 'same',
    };
  }

  /** Whether this node was a primary, and is no standby yet. */
  get isReturning(): boolean {
    return this.native.info().role !== 'standby';
  }

  store(term: Term, primaryName: string): Promise<void> {
    return this.#exclusively(async () => {
      const address = showEndpoint(this.target);
      const info = this.native.info();
      // An old primary is a standby only when its tail is judged and gone.
      const role = info.role === 'standby' ? 'standby' : 'fenced';
      const isKnown =
        info.role === role &&
        compareTerms(term, info.term) === 'same' &&
        info.primaryName === primaryName &&
        info.primaryAddress === address;
      if (!isKnown) await this.native.storeRole(role, term, primaryName, address);
      this.#storedTerm = term;
      this.#primaryName = primaryName;
    });
  }

  record(rule: Rule): Promise<void> {
    return this.#exclusively(async () => {
      // It would take the place of the rule that the tail is judged by.
      if (this.isReturning) throw new WalError('WAL_CLOSED', 'the old primary has not rejoined');
      const known = this.native.info();
      if (known.isRuleOfEarlierTerm || !sameRule(known.rule, rule)) {
        await this.native.storeRule(rule);
      }
      this.#options.events.onRule?.(rule);
    });
  }

  slotsTold(slots: readonly ToldSlot[]): void {
    this.#options.events.onSlots?.(slots);
  }

  cut(position: number, crc: number): Promise<boolean> {
    const how = this.#mayHaveShownPast(position) ? 'seen' : 'unseen';
    return this.#exclusively(() => this.#cutTo(position, crc, how));
  }

  judged(judgement: Judgement): void {
    this.#options.events.onJudged?.(judgement);
  }

  rejoin(position: number, crc: number): Promise<boolean> {
    return this.#exclusively(async () => {
      this.#requireFree();
      if (this.#closed().position > position) {
        const isPlain = !this.isReturning && !this.#mayHaveShownPast(position);
        if (!(await this.#cutTo(position, crc, isPlain ? 'unseen' : 'returning'))) return false;
      } else {
        const address = showEndpoint(this.target);
        await this.native.storeRole('standby', this.#storedTerm, this.#primaryName, address);
      }
      this.#options.events.onRejoined?.();
      return true;
    });
  }

  /**
   * What came since the log was opened was never shown past the commit place; what was there may
   * have been, by an earlier process that knew more of it.
   */
  #mayHaveShownPast(position: number): boolean {
    return position < Math.max(this.#openedAt, this.#known.told.position);
  }

  /** false: its batch that ends there has another checksum. */
  async #cutTo(position: number, crc: number, how: Cut): Promise<boolean> {
    // A checksum is looked up in what is flushed.
    await this.#flushed(position);
    if (this.#state !== 'following') throw new WalError('WAL_CLOSED', 'the standby stops');
    const own = await this.#ownChecksum(position);
    if (own !== crc) return false;
    this.#requireFree();
    const { epoch, incarnation } = this.#storedTerm;
    const at = position.toString(16).padStart(16, '0');
    const name = `${at}-${epoch}-${incarnation}.diverged`;
    const file = await this.native.truncate(position, name, how).catch((error: unknown) => {
      // A disk that is full or damaged: the log is as it was, and trying again does not help.
      const known = WalError.from(error);
      if (known instanceof WalError) this.#cutFailure = known;
      throw known;
    });
    const fork = this.#closed();
    // What is shown from here on is another history.
    this.#known.sessionFrom(fork);
    this.#sharedCommit = Math.min(this.#sharedCommit, fork.position);
    this.#appliedLsn = Math.min(this.#appliedLsn, fork.lsn);
    this.#openedAt = Math.min(this.#openedAt, fork.position);
    this.#options.events.onCut?.({ fork, file });
    return true;
  }

  received(): void {
    this.#options.events.onReceived?.();
  }

  streaming(link: PrimaryLink, primary: string, term: Term): void {
    if (link !== this.#link) return;
    this.#streamingSince = this.environment.now();
    this.#known.sessionFrom(this.#closed());
    this.#waits.resolveAll();
    this.#options.events.onConnected?.({ primary, term });
  }

  committed(commit: Place, end: Place | undefined): void {
    if (end !== undefined) this.#primaryEnd = end;
    if (this.#known.tell(commit.position, commit.lsn)) this.#shareCommit();
  }

  closed(link: PrimaryLink, error: WalError): void {
    if (link !== this.#link) return;
    if (link.greeted) {
      this.#lastContactAt = this.environment.now() - link.silence();
      this.#contact.ended(this.#heardAt(link));
    }
    this.#link = undefined;
    this.#reason = error.message;
    // A link that comes and goes is no reason to hurry; one that held is.
    if (this.environment.now() - this.#streamingSince >= this.timing.dead) this.#backoff.reset();
    this.#streamingSince = Number.NaN;
    this.#linkClosed?.();
    if (error.code === 'WAL_SPLIT') this.#storeSplit();
    if (this.#state !== 'following') return;
    const { code, message } = error;
    const isSeeded = code === 'WAL_LSN_GONE' && this.#seeds.isAllowed && this.#held === 0;
    const final = !isSeeded && this.#needsOperator(error);
    this.#options.events.onDisconnected?.({ code, reason: message, final });
    if (this.native.state[State.FAILED] !== 0) this.#fail(ownFailure(this.native));
    else if (isSeeded) this.#seeds.take(this.target);
    else if (error.code === 'WAL_COMMITTED_LOST') this.#fail(error);
    else this.#retry(error);
  }

  // -- inside --

  async #stop(how: 'drop' | 'leave'): Promise<void> {
    if (this.#state !== 'failed') this.#state = 'stopped';
    this.environment.clearTimer(this.#retryTimer);
    this.environment.clearTimer(this.#tickTimer);
    this.#seeds.abort(new WalError('WAL_CLOSED', 'the standby stops following'));
    const link = this.#link;
    if (link !== undefined) {
      const closed = new Promise<void>((resolve) => {
        this.#linkClosed = resolve;
      });
      link[how](new WalError('WAL_CLOSED', 'the standby stops following'));
      await closed;
    }
    // A promotion stores that there is nobody to be in contact with.
    if (how === 'leave') this.#contact.store();
    this.#flushWaits?.resolve();
    this.#wakeAll();
    await this.#seeds.ended();
    await this.#busy.catch(() => undefined);
    this.#waits.rejectAll(new WalError('WAL_CLOSED', 'the standby stopped following'));
  }

  #tick(): void {
    const link = this.#link;
    if (link === undefined) return;
    link.tick(this.environment.now());
    if (!link.isStreaming) return;
    this.#contact.heard(this.#heardAt(link));
  }

  /** An old primary of an epoch that has another one opens as neither again (SAFETY 2.1). */
  #storeSplit(): void {
    const store = async (): Promise<void> => {
      const { role, term } = this.native.info();
      if (role !== 'primary' || this.native.state[State.FAILED] !== 0) return;
      await this.native.storeRole('fenced', term, '', '');
    };
    this.#exclusively(store).catch(() => undefined);
  }

  #notSeeded(error: unknown): void {
    if (this.#state !== 'following') return;
    const known = asWalError(error);
    this.#reason = `not seeded: ${known.message}`;
    if (this.native.state[State.FAILED] !== 0) this.#fail(ownFailure(this.native));
    // Whoever held it connects anew.
    else if (this.#held === 0) {
      const final = this.#needsOperator(known);
      this.#options.events.onDisconnected?.({ code: known.code, reason: this.#reason, final });
      this.#retry(known);
    }
  }

  async #begin(beginning: Beginning, seeder: Seeder): Promise<void> {
    const { start, crc, history } = beginning;
    this.#requireFollowing();
    await this.#flushed(this.#closed().position);
    this.#requireFollowing();
    this.#requireFree();
    await this.native.beginAt(start.position, start.lsn, crc, history);
    const { term } = this.native.info();
    if (compareTerms(term, this.#storedTerm) === 'newer') this.#storedTerm = term;
    this.#known.tell(start.position, start.lsn);
    seeder.begun(beginning);
    this.#shareCommit();
  }

  #connect(): void {
    if (this.#state !== 'following' || this.#held > 0 || this.#link !== undefined) return;
    this.#link = new PrimaryLink(this);
    this.#link.setRef(this.#holds);
  }

  #retry(error: WalError): void {
    // What waits hears of it, and when it was mended the link comes back by itself.
    const final = this.#needsOperator(error);
    if (final) this.#waits.rejectAll(error);
    const delay = final ? this.timing.retryMost : this.#backoff.next();
    this.#retryTimer = this.environment.setTimeout(() => {
      this.#retryTimer = undefined;
      this.#contact.store();
      this.#seek();
    }, delay);
    if (!this.#holds) this.#retryTimer.unref();
  }

  #needsOperator(error: WalError): boolean {
    return isFinal(error) || error === this.#cutFailure;
  }

  /** Connects to where the primary is by now. */
  #seek(): void {
    if (this.#seeking || this.#held > 0) return;
    this.#seeking = true;
    const connect = async (): Promise<void> => {
      const found = await this.#options.findPrimary?.();
      this.#seeking = false;
      if (found !== undefined && this.#link === undefined) {
        this.target = { ...found, environment: this.environment };
      }
      this.#connect();
    };
    // A cut or a stored term of the last connection may still be under way.
    void this.#busy.then(connect, connect);
  }

  #requireFollowing(): void {
    if (this.#state === 'following' && this.native.state[State.FAILED] === 0) return;
    throw new WalError('WAL_CLOSED', 'the standby stops');
  }

  /** Who holds it wants the log as it is. */
  #requireFree(): void {
    if (this.#held > 0) throw new WalError('WAL_CLOSED', 'nothing is followed for now');
  }

  async #progressed(signal: AbortSignal): Promise<void> {
    const wake = (): void => this.#wakeAll();
    signal.addEventListener('abort', wake);
    await new Promise<void>((resolve) => this.#progressWaits.push(resolve));
    signal.removeEventListener('abort', wake);
  }

  #wakeAll(): void {
    for (const resolve of this.#progressWaits.splice(0)) resolve();
  }

  #fail(error: WalError): void {
    this.#contact.store();
    if (this.#state !== 'following') return;
    this.#state = 'failed';
    this.#reason = error.message;
    this.environment.clearTimer(this.#retryTimer);
    this.environment.clearTimer(this.#tickTimer);
    this.#seeds.abort(error);
    this.#link?.drop(error);
    this.#flushWaits?.resolve();
    this.#wakeAll();
    this.#waits.rejectAll(error);
    this.#options.events.onFailed?.(error);
  }

  /** Wall clock time at which the peer was last heard. */
  #heardAt(link: PrimaryLink): number {
    return Math.round(this.environment.wallClock() - link.silence());
  }

  #closed(): Place {
    const { state } = this.native;
    return { position: state[State.CLOSED_POSITION]!, lsn: state[State.CLOSED_LSN]! };
  }

  /** Remembers the commit place in the log, and says so, when it moved within it. */
  #shareCommit(): void {
    const { position, lsn } = this.commit;
    if (position <= this.#sharedCommit) return;
    this.#sharedCommit = position;
    this.native.setCommit(position, lsn);
    this.#options.events.onCommitMoved();
  }

  #exclusively<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#busy.then(work, work);
    this.#busy = result;
    return result;
  }

  async #flushed(position: number): Promise<void> {
    if (this.native.state[State.FLUSH_POSITION]! >= position) return;
    // Nobody looks at the flush any more.
    this.#requireFollowing();
    await new Promise<void>((resolve) => {
      this.#flushWaits = { position, resolve };
    });
    this.#flushWaits = undefined;
  }

  async #ownChecksum(position: number): Promise<number | undefined> {
    try {
      return await this.native.checksumAt(position);
    } catch (error) {
      if ((error as { code?: unknown }).code === 'WAL_DIVERGED') return undefined;
      throw error;
    }
  }
}

function notFenced(known: Term): WalError {
  return new WalError('WAL_FENCED', `this node knows term ${showTerm(known)}`);
}

function ownFailure(native: NativeLog): WalError {
  const failure = WalError.from(native.failure());
  if (failure instanceof WalError) return failure;
  return new WalError('WAL_FAILED', 'the log has failed', { cause: failure });
}
