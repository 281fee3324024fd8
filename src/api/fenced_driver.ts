import { type Place, type Role, State, type Term } from '../native/native_log.js';
import { isFence, mayFence } from '../replication/fence.js';
import { RefusingOwner } from '../transport/refusing_owner.js';
import type { TlsOptions } from '../transport/security.js';
import { StandbyLinks } from '../transport/standby_links.js';
import { withDefaults } from '../transport/timing.js';
import type { LogCore } from './core.js';
import type { Driver, UpstreamLink } from './driver.js';
import { WalError } from './errors.js';
import { closedOldPrimary, type OldPrimary } from './old_primary.js';
import { nothingSeen, type RefereeNow } from './referee_status.js';
import type { LogStatus } from './status.js';

/**
 * A primary that heard of a newer one, or of another one of its own epoch: it acknowledges nothing
 * any more (SAFETY.md 2.1, 2.6).
 */
export class FencedDriver implements Driver {
  /** `fenced` once that is stored, so that no crash takes back what was shown (SAFETY.md 2.2). */
  role: Role = 'primary';
  readonly commits = undefined;
  readonly commit: Place;
  promoting = false;
  readonly #core: LogCore;
  readonly #hubClosed: Promise<void>;
  /** Settles when the first term is stored; what failed then fails the log. */
  stored: Promise<void> = Promise.resolve();
  #links: StandbyLinks | undefined;
  /** Who comes meets nobody. */
  hasStopped = false;
  #term: Term;
  #newer: string;

  constructor(core: LogCore, commit: Place, term: Term, newer: string, hubClosed: Promise<void>) {
    this.#core = core;
    this.commit = commit;
    this.#term = term;
    this.#newer = newer;
    this.#hubClosed = hubClosed;
  }

  /** Who comes is told of the newer primary, and members are answered. */
  open(): void {
    const core = this.#core;
    const { door, desk, native, info, options, environment } = core;
    this.hasStopped = false;
    if (door === undefined) return;
    const owner = new RefusingOwner({
      refusal: () => this.refusal(),
      term: () => native.info().term,
      commitPlace: () => this.commit,
      onRefused: (address, reason) => core.events.emit('refused', { address, reason }),
    });
    this.#links = new StandbyLinks({
      ...{ native, door, desk, owner, environment, ring: undefined, timing: withDefaults() },
      identity: { ...info, name: options.name },
      allocateAligned: (bytes) => environment.binding().allocateAligned(bytes),
    });
    door.keptBy(this.#links);
  }

  refusal(): WalError {
    return fencedError(this.#term, 'refused', this.#core.info.nodeId);
  }

  batchClosed(): void {}
  ringWanted(): void {}

  progressed(): void {
    this.#links?.feedAll();
  }

  applied(): void {}

  setRef(holds: boolean): void {
    this.#core.door?.setRef(holds);
    this.#links?.setRef(holds);
  }

  rejectWaits(): void {}

  reloadTls(tls: TlsOptions): void {
    const { door } = this.#core;
    if (door?.security.tls !== undefined) door.reloadTls(tls);
  }

  status(): Pick<LogStatus, 'standbys' | 'policy' | 'upstream' | 'listening'> {
    const listening = this.#core.door?.listening ?? null;
    return { standbys: [], policy: null, upstream: null, listening };
  }

  referee(): RefereeNow {
    return nothingSeen;
  }

  upstream(): UpstreamLink {
    const link = { primary: this.#newer, address: '', connected: false };
    return { told: this.commit, ...link, isCandidate: this.promoting };
  }

  surveyed(): void {}

  async fence(term: Term, candidate: string): Promise<void> {
    // A higher one may be on its way to the disk.
    await this.stored;
    const { native } = this.#core;
    const { term: known, nodeId } = native.info();
    if (!mayFence(known, term.epoch, term.opener)) throw fencedError(known, 'refused', nodeId);
    await native.storeRole('fenced', term, candidate, '');
    this.#term = term;
    this.#newer = candidate;
  }

  async close(): Promise<void> {
    await Promise.all([this.#hubClosed, this.#links?.close('the log closes')]);
  }

  /** For who gives the log another role: all that it did as a primary is over. */
  stop(): Promise<void> {
    this.hasStopped = true;
    return this.close();
  }

  /** It follows nobody. */
  hold(): () => void {
    return () => undefined;
  }

  async quiet(): Promise<void> {}

  oldPrimary(): OldPrimary {
    const { native } = this.#core;
    return closedOldPrimary(native.info(), native.state[State.FLUSH_LSN] ?? 0);
  }
}

/** Who is fenced by a term that it has opened has met another node that opened the same epoch. */
export function fencedError(term: Term, outcome: 'refused' | 'unknown', ownId: string): WalError {
  if (term.opener === ownId && !isFence(term)) {
    const text = `epoch ${term.epoch} was opened by another node too`;
    return new WalError('WAL_SPLIT', text, { outcome });
  }
  return new WalError(
    'WAL_FENCED',
    `a newer primary exists (epoch ${term.epoch}, opened by ${term.opener.slice(0, 8)})`,
    { outcome },
  );
}
