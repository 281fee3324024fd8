import {
  type HistoryEntry,
  type Place,
  type Role,
  State,
  type Term,
} from '../native/native_log.js';
import type { CandidateSight } from '../referee/candidate.js';
import type { HeldGroup } from '../referee/held_group.js';
import { ClosedTimes } from '../replication/closed_times.js';
import { hasGivenUp } from '../replication/fence.js';
import { type Judgement, mayGo } from '../replication/rejoin.js';
import { CascadeHub } from '../transport/cascade_hub.js';
import type { DialTarget } from '../transport/dial.js';
import { showEndpoint } from '../transport/endpoint.js';
import { fetchRange } from '../transport/fetch_range.js';
import { Follower } from '../transport/follower.js';
import type { LogCut } from '../transport/follower_events.js';
import type { TlsOptions } from '../transport/security.js';
import type { Seeder } from '../transport/seed_taker.js';
import { withDefaults } from '../transport/timing.js';
import type { LogCore } from './core.js';
import type { Driver, UpstreamLink } from './driver.js';
import { WalError } from './errors.js';
import { type MemberAnswer, primaryAmong } from './members.js';
import { contactTime, type OldPrimary, upstreamRule } from './old_primary.js';
import type { Endpoint } from './options.js';
import type { RefereeNow } from './referee_status.js';
import type { Seeding } from './seeding.js';
import { StandbyBook } from './standby_book.js';
import { type LogStatus, type UpstreamStatus, unknownTail } from './status.js';

/**
 * A standby: it takes the log from its primary, and nothing from anybody else. An old primary that
 * comes back is one too, once what its log holds past the new primary's is out of the way.
 */
export class StandbyDriver implements Driver {
  /** `fenced`: an old primary that is no standby yet. */
  role: Role;
  readonly commits = undefined;
  readonly #core: LogCore;
  #endpoint: Endpoint;
  readonly #follower: Follower;
  readonly #hub: CascadeHub | undefined;
  readonly #book = new StandbyBook();
  readonly #ended = new AbortController();
  promoting = false;
  /** While a primary hands over to it: takes what it was granted as a candidate just then. */
  takesGroup: ((group: HeldGroup) => void) | undefined;
  /** It was demoted by hand: no candidate before it has followed somebody. */
  standsBack = false;
  /** What a candidate sees of the referee. */
  sight: CandidateSight = { view: undefined, reason: null };

  constructor(core: LogCore, endpoint: Endpoint) {
    this.#core = core;
    this.#endpoint = endpoint;
    const isReturning = core.native.info().role !== 'standby';
    this.role = isReturning ? 'fenced' : 'standby';
    if (isReturning) core.rejoin = unknownTail;
    this.#hub = this.#newHub();
    const { slots } = core.retention;
    slots.onNews = () => this.#hub?.slotsTold(slots.toTell);
    this.#follower = new Follower({
      native: core.native,
      environment: core.environment,
      identity: { ...core.info, name: core.options.name },
      ...endpoint,
      rejoin: core.options.rejoin,
      hasReferee: core.options.referee !== undefined,
      seeder: core.snapshots && this.#seeder(core.snapshots.seeding),
      seekFirst: core.members !== undefined,
      findPrimary: () => this.#findPrimary(),
      events: {
        onCommitMoved: () => {
          core.commitMoved();
          this.#hub?.moved();
        },
        onReceived: () => this.#hub?.moved(),
        onRule: (rule) => this.#hub?.ruleTold(rule),
        onSlots: (told) => {
          slots.told(told);
          core.retention.changed();
        },
        onConnected: (link) => {
          this.standsBack = false;
          core.events.emit('connected', link);
        },
        onDisconnected: (link) => {
          this.#hub?.endSessions('the link to its own primary has ended');
          core.noteError({ code: link.code, message: link.reason });
          const isSplit = link.code === 'WAL_SPLIT' && this.role === 'fenced';
          if (isSplit) core.rejoin = { ...unknownTail, state: 'split' };
          core.events.emit('disconnected', { reason: link.reason, final: link.final });
        },
        onFailed: (error) => core.fail(error),
        onCut: (cut) => {
          this.#hub?.wasCut();
          this.#wasCut(cut);
        },
        onJudged: (judgement) => this.#judged(judgement),
        onRejoined: () => this.#rejoined(),
      },
    });
  }

  get commit(): Place {
    return this.#follower.commit;
  }

  get primaryName(): string {
    return this.#follower.status().primary;
  }

  /** Where its primary is, as far as it knows. */
  get endpoint(): Endpoint {
    return this.#endpoint;
  }

  get hasStopped(): boolean {
    return this.#ended.signal.aborted;
  }

  /** Those that follow here go on with another log then. */
  #seeder(seeding: Seeding): Seeder {
    return {
      get isAllowed() {
        return seeding.isAllowed;
      },
      fetch: (target, signal) => seeding.fetch(target, signal),
      begun: (beginning) => {
        this.#hub?.wasCut();
        seeding.begun(beginning);
      },
    };
  }

  start(): void {
    this.#hub?.open();
    this.#follower.start();
    const { logId, salt } = this.#core.info;
    const { signal } = this.#ended;
    const { environment } = this.#core;
    // What is damaged here is fetched again from the primary, and verified before it is used.
    this.#core.scrub.repairFrom(showEndpoint(this.#endpoint), (from) =>
      fetchRange({ ...this.#endpoint, logId, salt, from, signal, environment }),
    );
  }

  refusal(): WalError {
    return new WalError('WAL_IS_STANDBY', `this log is a standby of ${this.#where()}`, {
      hint: 'Append on the primary, or promote this standby.',
      outcome: 'refused',
    });
  }

  #judged(judgement: Judgement): void {
    const { verdict, tail } = judgement;
    const { firstLsn, lastLsn, records, seenLsn, quorumLsn } = tail;
    const isAsking = !mayGo(judgement, this.#core.options.rejoin);
    const state = verdict === 'never' ? 'refused' : isAsking ? 'asks' : 'waiting';
    this.#core.rejoin =
      records === 0
        ? { ...unknownTail, state }
        : {
            state,
            firstLsn,
            lastLsn,
            records,
            file: null,
            seenLsn: seenLsn < firstLsn ? 0 : seenLsn,
            quorumLsn: quorumLsn < firstLsn ? 0 : quorumLsn,
          };
  }

  #wasCut({ fork, file }: LogCut): void {
    const core = this.#core;
    if (core.rejoin !== null && core.rejoin.records > 0) core.rejoin = { ...core.rejoin, file };
    core.wasCut(fork, file);
  }

  /** Stored by then, in one step with the cut. */
  #rejoined(): void {
    const core = this.#core;
    core.rejoin = { ...(core.rejoin ?? unknownTail), state: 'done' };
    if (this.role === 'standby') return;
    this.role = 'standby';
    core.roleSince = core.timestamp();
    core.roleChanged('standby', core.native.info().term, 'rejoined');
  }

  async connected(signal: AbortSignal | undefined): Promise<void> {
    await this.#follower.connected(signal === undefined ? {} : { signal });
  }

  async stop(how: 'drop' | 'leave' = 'drop'): Promise<void> {
    if (!this.#ended.signal.aborted) this.#core.scrub.repairFrom('', undefined);
    this.#ended.abort();
    await Promise.all([this.#follower.stop(how), this.#hub?.close()]);
  }

  setRef(holds: boolean): void {
    this.#follower.setRef(holds);
    this.#hub?.setRef(holds);
  }

  /**
   * What a standby has to know of another term it hears when it follows its primary. The link may
   * have been made with a member that was a primary when its address was tried, and follows another
   * one itself by now: what is acknowledged to that one does not count. And whom it was fenced for
   * may never open that epoch.
   */
  surveyed(answers: readonly MemberAnswer[]): void {
    const { term } = this.#follower;
    if (answers.some(({ standing }) => hasGivenUp(standing, term))) this.#follower.release(term);
    const { address, connected } = this.#follower.status();
    const primary = primaryAmong(answers, term);
    if (!connected || primary === undefined || showEndpoint(primary.endpoint) === address) return;
    this.#follower.hold(`the primary is ${primary.standing.name}, and not at ${address}`)();
  }

  fence(term: Term, candidate: string): Promise<void> {
    return this.#follower.fence(term, candidate);
  }

  /** Nothing is followed until the function that this returns is called. */
  hold(reason: string): () => void {
    return this.#follower.hold(reason);
  }

  /** Resolves when nothing that it has begun is under way: a cut, say. */
  quiet(): Promise<void> {
    return this.#follower.quiet();
  }

  /** Takes what a member has past the end here, up to `to`, while nothing is followed. */
  extend(
    history: readonly HistoryEntry[],
    to: number,
    from: Endpoint,
    signal: AbortSignal,
  ): Promise<void> {
    const { environment } = this.#core;
    const { logId, salt } = this.#core.info;
    const fetch = (position: number): Promise<Uint8Array> =>
      fetchRange({ ...from, logId, salt, from: position, signal, environment });
    return this.#follower.extend(history, to, fetch, signal);
  }

  /** Who is the primary by now, where members are known: rejects never. */
  async #findPrimary(): Promise<DialTarget | undefined> {
    const core = this.#core;
    try {
      const found = await core.members?.findPrimary(this.#follower.term);
      if (found === undefined) return undefined;
      this.#endpoint = found;
      return { ...found, logId: core.info.logId };
    } catch {
      return undefined;
    }
  }

  /** Those that follow this standby, where it listens. */
  #newHub(): CascadeHub | undefined {
    const { native, info, options, door, desk, events, environment } = this.#core;
    if (door === undefined) return undefined;
    return new CascadeHub({
      ...{ native, door, desk, environment, timing: withDefaults() },
      identity: { ...info, name: options.name },
      allocateAligned: (bytes) => environment.binding().allocateAligned(bytes),
      toTell: () => this.#core.retention.slots.toTell,
      seeds: this.#core.snapshots?.seeds,
      upstream: () => this.#follower,
      onStandby: ({ name, nodeId, connected, reason, last }) => {
        if (connected) this.#book.came({ name, nodeId });
        else this.#book.left(last, reason, environment.wallClock());
        events.emit('standby', { name, nodeId, connected, reason });
      },
      onRefused: (address, reason) => events.emit('refused', { address, reason }),
      onUnreadable: (error) => void this.#core.explain(error),
    });
  }

  batchClosed(): void {}
  ringWanted(): void {}

  progressed(): void {
    this.#follower.progress();
    const { applier } = this.#core;
    if (applier !== undefined) this.applied(applier.appliedLsn);
  }

  /** An application that is ahead of this log has applied, of this log, what there is of it. */
  applied(lsn: number): void {
    this.#follower.applied(Math.min(lsn, this.#core.native.state[State.FLUSH_LSN] ?? 0));
  }

  rejectWaits(): void {}

  reloadTls(tls: TlsOptions): void {
    const { door } = this.#core;
    if (door?.security.tls !== undefined) door.reloadTls(tls);
    if (this.#endpoint.tls === undefined) return;
    this.#endpoint = { ...this.#endpoint, tls };
    this.#follower.reloadTls(tls);
  }

  status(): Pick<LogStatus, 'standbys' | 'policy' | 'upstream' | 'listening'> {
    const { environment, native } = this.#core;
    const { state } = native;
    const position = state[State.CLOSED_POSITION] ?? 0;
    const lsn = state[State.CLOSED_LSN] ?? 0;
    const nowMs = environment.now();
    return {
      standbys: this.#book.status(this.#hub?.statuses() ?? [], {
        closed: { position, lsn },
        times: new ClosedTimes(position, lsn, nowMs),
        nowMs,
        wallMs: environment.wallClock(),
      }),
      policy: null,
      upstream: this.#upstream(),
      listening: this.#core.door?.listening ?? null,
    };
  }

  referee(): RefereeNow {
    return { lease: null, ...this.sight };
  }

  upstream(): UpstreamLink {
    const { address, primary, connected } = this.#follower.status();
    return {
      ...{ told: this.#follower.told, address, primary, connected },
      isCandidate: this.promoting,
    };
  }

  /** What whoever promotes this standby decides by. */
  oldPrimary(): OldPrimary {
    const { primary, address, connected, lastContact, primaryCommitLsn, rule } = this.#upstream();
    const flushLsn = this.#core.native.state[State.FLUSH_LSN] ?? 0;
    const commitLsn = primaryCommitLsn;
    return { name: primary, address, connected, lastContact, commitLsn, flushLsn, rule };
  }

  #upstream(): UpstreamStatus {
    const { primaryEnd, primaryCommit, lastContact, ...link } = this.#follower.status();
    return {
      ...link,
      lastContact: contactTime(lastContact),
      primaryLsn: primaryEnd?.lsn ?? null,
      primaryCommitLsn: primaryCommit.lsn,
      rule: upstreamRule(this.#core.native.info(), this.commit),
    };
  }

  async close(): Promise<void> {
    await this.stop('leave');
  }

  #where(): string {
    const where = showEndpoint(this.#endpoint);
    const name = this.primaryName;
    return name === '' ? where : `${name} at ${where}`;
  }
}
