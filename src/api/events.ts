import { EventEmitter } from 'node:events';
import type { ArchiveChange } from '../archive/archive_status.js';
import type { Role, Term } from '../native/native_log.js';
import type { LeaseState } from '../referee/lease_keeper.js';
import type { WalError } from './errors.js';
import type { Rebuild } from './rebuild.js';
import type { ScrubStatus } from './scrub.js';
import type { SlotChange } from './slots.js';
import type { Snapshot } from './snapshots.js';

/**
 * Why a log has its role. `opened`: its directory had it; `promoted`, by hand or by the referee, or
 * `forced`; `switchover`: handed over, from or to this node; `demoted`: by `log.demote`; `fenced`:
 * a newer primary was heard of; `rejoined`: an old primary follows.
 */
export type RoleReason =
  | 'opened'
  | 'promoted'
  | 'forced'
  | 'switchover'
  | 'demoted'
  | 'fenced'
  | 'rejoined';

/** What a log tells its listeners. There is no 'error' event: failures reject the waits. */
export interface LogEvents {
  /** The role changed, and why. */
  role: [change: { readonly role: Role; readonly term: Term; readonly reason: RoleReason }];
  /** The log failed for good. Fires once; every present and later wait rejects with this error. */
  failed: [error: WalError];
  /** Primary: a standby came or went. */
  standby: [change: StandbyChange];
  /** Primary: somebody connected and was not let in. `reason` may hold words of that peer. */
  refused: [peer: { readonly address: string; readonly reason: string }];
  /** Primary: too few standbys are there, and commits are met by the local flush from now on. */
  degraded: [change: { readonly reason: string }];
  /** Primary: enough standbys have flushed all that is committed; commits wait for them again. */
  restored: [change: { readonly degradedSince: string }];
  /** Standby: the link to the primary is up. */
  connected: [link: { readonly primary: string; readonly term: Term }];
  /**
   * Standby: the link to the primary is down; it comes back by itself. `final`: not before
   * somebody has acted, since the two do not belong together as they are.
   */
  disconnected: [link: { readonly reason: string; readonly final: boolean }];
  /**
   * Records that may have been read here were removed: state has to be rebuilt from `from` on.
   * Before anything that took their place is shown; after a crash again.
   */
  rebuild: [rebuild: Rebuild];
  /**
   * Primary with a referee: whether it may acknowledge. `expired`: not now, and commits wait;
   * `lost`: another is the primary.
   */
  lease: [lease: { readonly state: LeaseState; readonly reason: string | null }];
  /** What has become of a slot. */
  slot: [change: SlotChange];
  /** A directory was dropped: the log goes on without its copy. */
  copyDropped: [copy: { readonly dir: string; readonly reason: string }];
  /** A directory holds all of the log again. */
  copyRestored: [copy: { readonly dir: string }];
  /**
   * A snapshot was `taken`, or `loaded`; or it was `skipped`, since it is damaged or of another
   * history, which `reason` says.
   */
  snapshot: [snapshot: SnapshotChange];
  /** What has become of the archive. */
  archive: [change: ArchiveChange];
  /** A flush took a second or more. */
  slowFlush: [flush: { readonly milliseconds: number }];
  /** Bytes on the disk do not verify; what is known of them. */
  damage: [scrub: ScrubStatus];
  /** Damage was repaired, from this log itself or from the primary. */
  repaired: [scrub: ScrubStatus];
}

export interface SnapshotChange extends Snapshot {
  readonly what: 'taken' | 'loaded' | 'skipped';
  /** Why it was skipped; null otherwise. */
  readonly reason: string | null;
}

export interface StandbyChange {
  readonly name: string;
  readonly nodeId: string;
  readonly connected: boolean;
  /** Why it went; empty when it came. */
  readonly reason: string;
}

export type LogEventName = keyof LogEvents;
export type LogListener<E extends LogEventName> = (...args: LogEvents[E]) => void;

/** An EventEmitter with the names and arguments of `LogEvents`, and without 'error'. */
export class LogEmitter {
  readonly #emitter = new EventEmitter();

  on<E extends LogEventName>(event: E, listener: LogListener<E>): void {
    this.#emitter.on(checked(event), listener as (...args: unknown[]) => void);
  }

  once<E extends LogEventName>(event: E, listener: LogListener<E>): void {
    this.#emitter.once(checked(event), listener as (...args: unknown[]) => void);
  }

  off<E extends LogEventName>(event: E, listener: LogListener<E>): void {
    this.#emitter.off(checked(event), listener as (...args: unknown[]) => void);
  }

  /**
   * Delivered when the engine is done with what it is at: a listener may call the log, and one that
   * throws stops nothing half way.
   */
  emit<E extends LogEventName>(event: E, ...args: LogEvents[E]): void {
    if (this.#emitter.listenerCount(event) === 0) return;
    process.nextTick(() => this.#emitter.emit(event, ...args));
  }
}

const names: Readonly<Record<LogEventName, true>> = {
  role: true,
  failed: true,
  standby: true,
  refused: true,
  degraded: true,
  restored: true,
  connected: true,
  disconnected: true,
  rebuild: true,
  lease: true,
  slot: true,
  copyDropped: true,
  copyRestored: true,
  snapshot: true,
  archive: true,
  slowFlush: true,
  damage: true,
  repaired: true,
};

export const eventNames = Object.keys(names) as readonly LogEventName[];

function checked(event: string): string {
  if (!Object.hasOwn(names, event)) {
    throw new TypeError(`a log has no event '${event}'; it has ${Object.keys(names).join(', ')}`);
  }
  return event;
}
