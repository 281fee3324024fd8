import { performance } from 'node:perf_hooks';
import { WalError, type WalErrorCode } from '../api/errors.js';
import { loadBinding } from '../native/binding.js';
import {
  type Cut,
  type NativeLog,
  type Place,
  type Rule,
  State,
  type Term,
} from '../native/native_log.js';
import { Backoff } from '../replication/backoff.js';
import { compareTerms } from '../replication/history.js';
import type { NodeIdentity } from '../replication/identity.js';
import { KnownCommit } from '../replication/known_commit.js';
import type { Judgement, RejoinMode } from '../replication/rejoin.js';
import { sameRule } from '../replication/rule.js';
import { isFinal, type Returning, type StandbyView } from '../replication/standby_session.js';
import { type DialTarget, receiveBytes } from './dial.js';
import { type Endpoint, showEndpoint } from './endpoint.js';
import { checkFollowHost } from './plaintext.js';
import { PrimaryLink, type PrimaryLinkHost } from './primary_link.js';
import { type LinkSecurity, linkSecurity, type Security, type TlsOptions } from './security.js';
import { type ReplicationTiming, withDefaults } from './timing.js';
import { Waits } from './waits.js';

export interface FollowerEvents {
  /** The commit place moved, or this log reaches further into it. Called synchronously. */
  onCommitMoved(): void;
  onConnected?(link: { readonly primary: string; readonly term: Term }): void;
  onDisconnected?(link: {
    readonly code: WalErrorCode;
    readonly reason: string;
    readonly final: boolean;
  }): void;
  /** This standby cannot go on: its own log failed, or WAL_COMMITTED_LOST. */
  onFailed?(error: WalError): void;
  /** The log was cut, and is durable so. Called before anything of the new history is taken. */
  onCut?(cut: LogCut): void;
  /** An old primary: what its tail was found to be. */
  onJudged?(judgement: Judgement): void;
  /** An old primary is a standby now: nothing of its tail is left. */
  onRejoined?(): void;
}

export interface LogCut {
  /** Where the log ends now. */
  readonly fork: Place;
  /** What went is there. */
  readonly file: string;
}

export interface FollowerOptions extends Endpoint, Security {
  readonly native: NativeLog;
  readonly identity: NodeIdentity;
  readonly events: FollowerEvents;
  /** What an old primary does where records would go that may have been seen. Default 'ask'. */
  readonly rejoin?: RejoinMode | undefined;
  readonly timing?: Partial<ReplicationTiming> | undefined;
  /** Numbers in [0, 1), for the jitter of the delays. */
  readonly random?: (() => number) | undefined;
  /** Page-aligned memory for reading segments. Default: the addon's. */
  readonly allocateAligned?: ((bytes: number) => Uint8Array) | undefined;
  /** Monotone milliseconds. */
  readonly now?: (() => number) | undefined;
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

/** How old the time of the last contact may be that a crash leaves in the control file. */
const contactPeriod = 10_000;

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
  readonly now: () => number;
  readonly allocateAligned: (bytes: number) => Uint8Array;

  readonly #options: FollowerOptions;
  readonly #backoff: Backoff;
  readonly #known: KnownCommit;
  readonly #waits = new Waits();
  #storedTerm: Term;
  #link: PrimaryLink | undefined;
  #busy: Promise<unknown> = Promise.resolve();
  #retryTimer: NodeJS.Timeout | undefined;
  #tickTimer: NodeJS.Timeout | undefined;
  #linkClosed: (() => void) | undefined;
  #stopping: Promise<void> | undefined;
  #flushWaits: { readonly position: number; readonly resolve: () => void } | undefined;
  #state: 'idle' | 'following' | 'failed' | 'stopped' = 'idle';
  #reason = 'not connected yet';
  #primaryName: string;
  #primaryEnd: Place | null = null;
  #lastContactAt = Number.NaN;
  #lastContact: number | null;
  #streamingSince = Number.NaN;
  #appliedLsn = 0;
  #openedAt: number;
  #sharedCommit = 0;
  #holds = true;

  constructor(options: FollowerOptions) {
    checkFollowHost(options.host, options);
    this.#options = options;
    this.native = options.native;
    const { host, port, tls, secret } = options;
    this.target = { host, port, tls, secret, logId: options.identity.logId };
    this.timing = withDefaults(options.timing);
    this.now = options.now ?? (() => performance.now());
    this.allocateAligned =
      options.allocateAligned ?? ((bytes) => loadBinding().allocateAligned(bytes));
    const { retryFirst, retryMost } = this.timing;
    const backoff = { firstMs: retryFirst, mostMs: retryMost };
    this.#backoff = new Backoff(backoff, options.random ?? Math.random);
    const info = options.native.info();
    this.#storedTerm = info.term;
    this.#primaryName = info.primaryName;
    this.#lastContact = info.lastContact;
    this.#known = new KnownCommit(info.commit);
    this.#openedAt = this.#closed().position;
  }

  start(): void {
    if (this.#state !== 'idle') throw new Error('the follower was started already');
    this.#state = 'following';
    const { heartbeat, dead, handshake } = this.timing;
    const period = Math.max(5, Math.min(heartbeat, dead, handshake) / 2);
    this.#tickTimer = setInterval(() => this.#tick(), period);
    this.#connect();
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
   * Ends the connection; afterwards nothing more is taken. What was under way is waited for.
   * Idempotent: every call waits for the one end.
   */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  /** The flush moved, or the ring has room again: to be called from `native.onProgress`. */
  progress(): void {
    if (this.#state !== 'following') return;
    const { state } = this.native;
    if (state[State.FAILED] !== 0) {
      this.#fail(ownFailure(this.native));
      return;
    }
    this.#link?.progress();
    this.#shareCommit();
    const waits = this.#flushWaits;
    if (waits !== undefined && state[State.FLUSH_POSITION]! >= waits.position) waits.resolve();
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

  status(): FollowerStatus {
    const connected = this.#link?.isStreaming === true;
    const now = this.now();
    const at = connected ? now - this.#link!.silence() : this.#lastContactAt;
    return {
      address: showEndpoint(this.target),
      primary: this.#primaryName,
      security: linkSecurity(this.target),
      connected,
      lastContactMs: Number.isNaN(at) ? null : Math.max(0, now - at),
      lastContact: connected ? heardAt(this.#link!) : this.#lastContact,
      reason: connected ? null : this.#reason,
      primaryEnd: this.#primaryEnd,
      primaryCommit: this.#known.told,
    };
  }

  // -- what the link needs --

  appliedLsn = (): number => this.#appliedLsn;

  view(): StandbyView {
    const { history } = this.native.info();
    return {
      identity: this.#options.identity,
      term: this.#storedTerm,
      history,
      closed: this.#closed(),
      crc: this.native.state[State.LAST_CRC]!,
      commit: this.#known.told,
      returning: this.#returning(),
    };
  }

  /** Whether this node was a primary, and is no standby yet. */
  get isReturning(): boolean {
    return this.native.info().role !== 'standby';
  }

  #returning(): Returning | undefined {
    const { role, history, rule, quorumLsn } = this.native.info();
    if (role === 'standby') return undefined;
    return {
      history,
      rule,
      quorumLsn,
      end: this.#closed(),
      commit: this.#known.told,
      mode: this.#options.rejoin ?? 'ask',
      isFenced: role === 'fenced',
    };
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
      if (!sameRule(this.native.info().rule, rule)) await this.native.storeRule(rule);
    });
  }

  cut(position: number, crc: number): Promise<boolean> {
    // What came since the log was opened was never shown past the commit place; what was there may
    // have been, by an earlier process that knew more of it.
    const how = position < this.#openedAt ? 'seen' : 'unseen';
    return this.#exclusively(() => this.#cutTo(position, crc, how));
  }

  judged(judgement: Judgement): void {
    this.#options.events.onJudged?.(judgement);
  }

  rejoin(position: number, crc: number): Promise<boolean> {
    return this.#exclusively(async () => {
      if (this.#closed().position > position) {
        if (!(await this.#cutTo(position, crc, 'returning'))) return false;
      } else {
        const address = showEndpoint(this.target);
        await this.native.storeRole('standby', this.#storedTerm, this.#primaryName, address);
      }
      this.#options.events.onRejoined?.();
      return true;
    });
  }

  /** false: its batch that ends there has another checksum. */
  async #cutTo(position: number, crc: number, how: Cut): Promise<boolean> {
    // A checksum is looked up in what is flushed.
    await this.#flushed(position);
    if (this.#state !== 'following') throw new WalError('WAL_CLOSED', 'the standby stops');
    const own = await this.#ownChecksum(position);
    if (own !== crc) return false;
    const { epoch, incarnation } = this.#storedTerm;
    const at = position.toString(16).padStart(16, '0');
    const name = `${at}-${epoch}-${incarnation}.diverged`;
    const file = await this.native.truncate(position, name, how);
    const fork = this.#closed();
    // What is shown from here on is another history.
    this.#known.sessionFrom(fork);
    this.#sharedCommit = Math.min(this.#sharedCommit, fork.position);
    this.#appliedLsn = Math.min(this.#appliedLsn, fork.lsn);
    this.#openedAt = Math.min(this.#openedAt, fork.position);
    this.#options.events.onCut?.({ fork, file });
    return true;
  }

  streaming(link: PrimaryLink, primary: string, term: Term): void {
    if (link !== this.#link) return;
    this.#streamingSince = this.now();
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
      this.#lastContactAt = this.now() - link.silence();
      this.#storeContact(heardAt(link));
    }
    this.#link = undefined;
    this.#reason = error.message;
    // A link that comes and goes is no reason to hurry; one that held is.
    if (this.now() - this.#streamingSince >= this.timing.dead) this.#backoff.reset();
    this.#streamingSince = Number.NaN;
    this.#linkClosed?.();
    if (this.#state !== 'following') return;
    const { code, message } = error;
    this.#options.events.onDisconnected?.({ code, reason: message, final: isFinal(error) });
    if (this.native.state[State.FAILED] !== 0) this.#fail(ownFailure(this.native));
    else if (error.code === 'WAL_COMMITTED_LOST') this.#fail(error);
    else this.#retry(error);
  }

  // -- inside --

  async #stop(): Promise<void> {
    if (this.#state !== 'failed') this.#state = 'stopped';
    clearTimeout(this.#retryTimer);
    clearInterval(this.#tickTimer);
    const link = this.#link;
    if (link !== undefined) {
      const closed = new Promise<void>((resolve) => {
        this.#linkClosed = resolve;
      });
      link.drop(new WalError('WAL_CLOSED', 'the standby stops following'));
      await closed;
    }
    this.#flushWaits?.resolve();
    await this.#busy.catch(() => undefined);
    this.#waits.rejectAll(new WalError('WAL_CLOSED', 'the standby stopped following'));
  }

  #tick(): void {
    const link = this.#link;
    if (link === undefined) return;
    link.tick(this.now());
    if (!link.isStreaming) return;
    const at = heardAt(link);
    // Also where the clock was set back.
    if (Math.abs(at - (this.#lastContact ?? 0)) >= contactPeriod) this.#storeContact(at);
  }

  /** What an operator decides by after a crash (SAFETY 3.5). A failure is the log's own to tell. */
  #storeContact(at: number): void {
    this.#lastContact = at;
    if (this.native.state[State.FAILED] !== 0) return;
    this.native.storeContact(at).catch(() => undefined);
  }

  #connect(): void {
    if (this.#state !== 'following') return;
    this.#link = new PrimaryLink(this);
    this.#link.setRef(this.#holds);
  }

  #retry(error: WalError): void {
    // An operator has to act; what waits hears of it, and when it was mended the link comes back
    // by itself.
    if (isFinal(error)) this.#waits.rejectAll(error);
    const delay = isFinal(error) ? this.timing.retryMost : this.#backoff.next();
    this.#retryTimer = setTimeout(() => {
      // A cut or a stored term of the last connection may still be under way.
      void this.#busy.then(
        () => this.#connect(),
        () => this.#connect(),
      );
    }, delay);
    if (!this.#holds) this.#retryTimer.unref();
  }

  #fail(error: WalError): void {
    if (this.#state !== 'following') return;
    this.#state = 'failed';
    this.#reason = error.message;
    clearInterval(this.#tickTimer);
    this.#link?.drop(error);
    this.#flushWaits?.resolve();
    this.#waits.rejectAll(error);
    this.#options.events.onFailed?.(error);
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

/** Wall clock time at which the peer was last heard. */
function heardAt(link: PrimaryLink): number {
  return Math.round(Date.now() - link.silence());
}

function ownFailure(native: NativeLog): WalError {
  const failure = WalError.from(native.failure());
  if (failure instanceof WalError) return failure;
  return new WalError('WAL_FAILED', 'the log has failed', { cause: failure });
}
