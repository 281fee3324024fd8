import { type Place, State } from '../native/native_log.js';
import { compareTerms, firstPosition, forkPoint, showTerm } from '../replication/history.js';
import type { DialTarget } from '../transport/dial.js';
import { fetchSeed } from '../transport/fetch_seed.js';
import type { Beginning, Seeder } from '../transport/seed_taker.js';
import type { SeedOffer } from '../wire/seed_messages.js';
import type { LogCore } from './core.js';
import { WalError } from './errors.js';
import { SeedReceiver } from './seed_receiver.js';
import type { SnapshotShelf } from './snapshot_shelf.js';

/** How far a standby has got that is given a snapshot, since too little of the log is left. */
export interface SeedingStatus {
  /** `snapshot`: it is on its way; `log`: it is there, and the log has to reach it. */
  readonly phase: 'snapshot' | 'log';
  /** LSN of the snapshot; null until it was offered. */
  readonly lsn: number | null;
  /** Bytes of the snapshot that are stored, and all of them; 0 and 0 in the phase `log`. */
  readonly bytes: number;
  readonly totalBytes: number;
}

/**
 * A standby of whose place in the log too little is left on its primary is given a snapshot of the
 * application's state, and its log begins where that one is read on (SAFETY 8). The snapshot is
 * durable first; from then on the log is one that was trimmed, and is promoted by nobody before it
 * reaches the snapshot: until then there is no state for it.
 */
export class Seeding implements Seeder {
  readonly #core: LogCore;
  readonly #shelf: SnapshotShelf;
  #status: SeedingStatus | undefined;

  constructor(core: LogCore, shelf: SnapshotShelf) {
    this.#core = core;
    this.#shelf = shelf;
  }

  /** null: it is not being seeded. */
  get status(): SeedingStatus | null {
    if (this.#status !== undefined) return this.#status;
    const lsn = this.awaited;
    return lsn === undefined ? null : { phase: 'log', lsn, bytes: 0, totalBytes: 0 };
  }

  /**
   * Whether what it has of the log may go for it: nothing, or what is of no use without more, or
   * the owner said so. Not of an old primary, which judges first what it alone has.
   */
  get isAllowed(): boolean {
    const { native, options } = this.#core;
    if (native.info().role !== 'standby') return false;
    const isEmpty = native.state[State.CLOSED_POSITION] === firstPosition;
    return options.reseed === 'auto' || isEmpty || this.awaited !== undefined;
  }

  /** The LSN that the log has to reach before there is state for it; undefined: it has. */
  get awaited(): number | undefined {
    const { snapshots, hasRole, native } = this.#core;
    if (!hasRole || this.#core.driver.role !== 'standby') return undefined;
    return snapshots?.awaited(native.state[State.FLUSH_LSN] ?? 0);
  }

  /** Resolves when the log reaches the snapshot that it was given. */
  async reached(signal: AbortSignal | undefined): Promise<void> {
    const core = this.#core;
    if (this.awaited === undefined) return;
    await core.moved.until(() => {
      core.requireReadable();
      return this.awaited === undefined;
    }, signal);
  }

  /** Throws where nobody may make this node the primary. */
  requireReached(): void {
    const lsn = this.awaited;
    if (lsn === undefined) return;
    const last = this.#core.native.state[State.FLUSH_LSN] ?? 0;
    const text =
      `this standby is being seeded: it was given the state of LSN ${lsn}, ` +
      `and its log ends with LSN ${last}`;
    throw new WalError('WAL_SNAPSHOT_MISSING', text, {
      lsn: last + 1,
      hint: 'Promote another standby; this one has no state for what its log holds.',
    });
  }

  /** Fetches a snapshot from there. Resolves with where the log is to begin. */
  async fetch(target: DialTarget, signal: AbortSignal): Promise<Beginning> {
    const { info, options } = this.#core;
    const { logId, salt, nodeId, segmentBytes } = info;
    this.#status = { phase: 'snapshot', lsn: null, bytes: 0, totalBytes: 0 };
    const receiver = new SeedReceiver(this.#shelf, { logId, segmentBytes }, (bytes, all) =>
      this.#progressed(bytes, all),
    );
    try {
      const ask = {
        ...{ logId, salt, nodeId, name: options.name },
        end: this.#end,
        have: await receiver.found(),
      };
      const sink = {
        offered: async (offer: SeedOffer) => {
          this.#requireContinued(offer);
          this.#status = { phase: 'snapshot', lsn: offer.snapshot.lsn, bytes: 0, totalBytes: 0 };
          await receiver.offered(offer);
        },
        write: (bytes: Uint8Array, offset: number) => receiver.write(bytes, offset),
      };
      const offer = await fetchSeed({ target, ask, signal }, sink);
      const entry = await receiver.finish();
      this.#shelf.add(entry);
      return offer;
    } finally {
      await receiver.close();
      this.#status = undefined;
    }
  }

  /** The log begins elsewhere, durably: what the application has is not its state any more. */
  begun({ start }: Beginning): void {
    const core = this.#core;
    const text = `the log begins behind LSN ${start.lsn}, with a snapshot of the primary`;
    core.news.tell('warn', 'seed', text, { lsn: start.lsn });
    core.wasReplaced(start);
  }

  /** What goes is the beginning of what comes: all of it is in the snapshot. */
  #requireContinued(offer: SeedOffer): void {
    const end = this.#end;
    const { history, term } = this.#core.native.info();
    const order = compareTerms(offer.term, term);
    if (order === 'older' || order === 'split') {
      const known = `this standby knows ${showTerm(term)}`;
      throw new WalError('WAL_FENCED', `the peer is of term ${showTerm(offer.term)}, ${known}`);
    }
    if (end.position === firstPosition) return;
    const fork = forkPoint({ history: offer.history, end: offer.start }, { history, end });
    if (fork?.position === end.position) return;
    const text = `the log here, up to LSN ${end.lsn}, holds records that the primary has not`;
    throw new WalError('WAL_DIVERGED', text, {
      hint: 'They are never removed unasked: move the directory away, and open an empty one.',
    });
  }

  #progressed(bytes: number, totalBytes: number): void {
    this.#status = { phase: 'snapshot', lsn: this.#status?.lsn ?? null, bytes, totalBytes };
    const { onSeeding } = this.#core.options;
    const status = this.#status;
    // What it throws is its own.
    if (onSeeding !== undefined) queueMicrotask(() => onSeeding(status));
  }

  get #end(): Place {
    const { state } = this.#core.native;
    return { position: state[State.CLOSED_POSITION] ?? 0, lsn: state[State.CLOSED_LSN] ?? 0 };
  }
}
