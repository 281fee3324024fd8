import { type Place, type Role, State } from '../native/native_log.js';
import type { Judgement } from '../replication/rejoin.js';
import { showEndpoint } from '../transport/endpoint.js';
import { fetchRange } from '../transport/fetch_range.js';
import { Follower, type LogCut } from '../transport/follower.js';
import type { TlsOptions } from '../transport/security.js';
import type { LogCore } from './core.js';
import type { Driver } from './driver.js';
import { WalError } from './errors.js';
import { contactTime, type OldPrimary, upstreamRule } from './old_primary.js';
import type { Endpoint } from './options.js';
import type { LogStatus, RejoinStatus, UpstreamStatus } from './status.js';

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
  readonly #ended = new AbortController();
  promoting = false;

  constructor(core: LogCore, endpoint: Endpoint) {
    this.#core = core;
    this.#endpoint = endpoint;
    const isReturning = core.native.info().role !== 'standby';
    this.role = isReturning ? 'fenced' : 'standby';
    if (isReturning) core.rejoin = unknownTail;
    this.#follower = new Follower({
      native: core.native,
      identity: { ...core.info, name: core.options.name },
      ...endpoint,
      rejoin: core.options.rejoin,
      events: {
        onCommitMoved: () => core.commitMoved(),
        onConnected: (link) => core.events.emit('connected', link),
        onDisconnected: (link) => {
          core.noteError({ code: link.code, message: link.reason });
          core.events.emit('disconnected', { reason: link.reason, final: link.final });
        },
        onFailed: (error) => core.fail(error),
        onCut: (cut) => this.#wasCut(cut),
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

  start(): void {
    this.#follower.start();
    const { logId, salt } = this.#core.info;
    const { signal } = this.#ended;
    // What is damaged here is fetched again from the primary, and verified before it is used.
    this.#core.scrub.repairFrom(showEndpoint(this.#endpoint), (from) =>
      fetchRange({ ...this.#endpoint, logId, salt, from, signal }),
    );
  }

  refusal(): WalError {
    return new WalError('WAL_IS_STANDBY', `this log is a standby of ${this.#where()}`, {
      hint: 'Append on the primary, or promote this standby.',
      outcome: 'refused',
    });
  }

  #judged({ verdict, tail }: Judgement): void {
    const { firstLsn, lastLsn, records, seenLsn } = tail;
    const isAsking = verdict === 'ask' && this.#core.options.rejoin !== 'auto';
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
    this.role = 'standby';
    core.roleSince = new Date();
    core.events.emit('role', { role: 'standby', term: core.native.info().term });
  }

  async connected(signal: AbortSignal | undefined): Promise<void> {
    await this.#follower.connected(signal === undefined ? {} : { signal });
  }

  async stop(): Promise<void> {
    if (!this.#ended.signal.aborted) this.#core.scrub.repairFrom('', undefined);
    this.#ended.abort();
    await this.#follower.stop();
  }

  setRef(holds: boolean): void {
    this.#follower.setRef(holds);
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
    if (this.#endpoint.tls === undefined) return;
    this.#endpoint = { ...this.#endpoint, tls };
    this.#follower.reloadTls(tls);
  }

  status(): Pick<LogStatus, 'standbys' | 'policy' | 'upstream' | 'listening'> {
    return { standbys: [], policy: null, upstream: this.#upstream(), listening: null };
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
    await this.stop();
  }

  #where(): string {
    const where = showEndpoint(this.#endpoint);
    const name = this.primaryName;
    return name === '' ? where : `${name} at ${where}`;
  }
}

const unknownTail: RejoinStatus = {
  state: 'waiting',
  firstLsn: 0,
  lastLsn: 0,
  records: 0,
  seenLsn: 0,
  file: null,
};
