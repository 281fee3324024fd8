import type { Socket } from 'node:net';
import type { WalError } from '../api/errors.js';
import type { NativeLog, Place, Term } from '../native/native_log.js';
import { State } from '../native/native_log.js';
import { BatchEnds } from '../replication/batch_ends.js';
import type { NodeIdentity } from '../replication/identity.js';
import type { PrimaryAction, PrimaryView } from '../replication/primary_session.js';
import type { Progress, ProgressState } from '../replication/progress.js';
import type { NumberedRule } from '../replication/rule.js';
import type { ToldSlot } from '../replication/slot.js';
import type { Door, DoorKeeper } from './door.js';
import type { Environment } from './environment.js';
import type { Gate } from './gate.js';
import type { MemberDesk } from './member_desk.js';
import { Retention, type SlotKeeper } from './retention.js';
import { type LinkSecurity, linkSecurity, type TlsOptions } from './security.js';
import type { SeedShelf } from './seed_shelf.js';
import { StandbyLink, type StandbyLinkHost } from './standby_link.js';
import { StandbyRanges } from './standby_ranges.js';
import { maxFetches, maxSeeds, maxStandbys, type ReplicationTiming } from './timing.js';

/** A standby came or went. */
export interface StandbyChange {
  readonly name: string;
  readonly nodeId: string;
  readonly connected: boolean;
  /** Why it went; empty when it came. */
  readonly reason: string;
  /** As it is now, or was when it went. */
  readonly last: StandbyStatus;
}

export interface StandbyStatus {
  readonly name: string;
  readonly nodeId: string;
  readonly address: string;
  readonly security: LinkSecurity;
  readonly state: ProgressState;
  /** Since when, in milliseconds since 1970; looked at with each message and each tick. */
  readonly stateSince: number;
  /** Whether its acknowledgements count: it is a member by the rule in force. */
  readonly counts: boolean;
  readonly sentPosition: number;
  readonly sentLsn: number;
  readonly write: Place;
  readonly flush: Place;
  readonly applyLsn: number;
  /** Log bytes that it has not flushed yet. */
  readonly lagBytes: number;
  /** Milliseconds since it was last heard. */
  readonly silence: number;
  /** Memory that feeding it takes beside the log's own. */
  readonly bufferBytes: number;
}

/** What the role decides of those that are fed. */
export interface LinksOwner {
  readonly term: () => Term;
  readonly commitPlace: () => Place;
  readonly writeAcks: () => boolean;
  /** Whether it frames the log itself; else it passes on what it has, and may lack some. */
  readonly isPrimary: boolean;
  /** Of its term (`Accept.witnesses`). */
  readonly witnesses: readonly string[];
  /** Why nobody is fed now; undefined: who comes is. */
  refusal(): WalError | undefined;
  /** The rule to tell a standby that is let in, which names it if it may count. */
  admit(progress: Progress): NumberedRule;
  acknowledged(): void;
  /** A standby that was let in has gone. */
  gone(progress: Progress): void;
  /** A standby brought the news that acknowledging has to stop. */
  fenced(link: StandbyLink, action: PrimaryAction & { do: 'fenced' | 'split' | 'lost' }): void;
  onStandby(event: StandbyChange): void;
  /** Somebody connected, and was not let in. */
  onRefused(address: string, reason: string): void;
  /** The log could not be read for a standby, which is turned away. */
  onUnreadable(error: unknown): void;
}

export interface LinksOptions {
  readonly native: NativeLog;
  readonly identity: NodeIdentity;
  /** undefined: nothing is sent from the ring itself, but from copies of it. */
  readonly ring: Uint8Array | undefined;
  readonly timing: ReplicationTiming;
  readonly environment: Environment;
  readonly allocateAligned: (bytes: number) => Uint8Array;
  readonly door: Door;
  readonly desk?: MemberDesk | undefined;
  /** What keeps the log for standbys over restarts; nothing does without. */
  readonly slots?: SlotKeeper | undefined;
  /** The slots that standbys are told when they are let in; they are told nothing without. */
  readonly toTell?: (() => readonly ToldSlot[] | undefined) | undefined;
  /** Snapshots for standbys that need them; nobody is given one without. */
  readonly seeds?: SeedShelf | undefined;
  readonly owner: LinksOwner;
}

/** All connections that came in by a node's door while it had one role. */
export class StandbyLinks implements StandbyLinkHost, DoorKeeper {
  readonly native: NativeLog;
  readonly ring: Uint8Array | undefined;
  readonly ringBytes: number;
  readonly batchEnds = new BatchEnds();
  readonly timing: ReplicationTiming;
  readonly environment: Environment;
  readonly allocateAligned: (bytes: number) => Uint8Array;
  readonly desk: MemberDesk | undefined;
  /** What the connected standbys hold of the log, to repair this copy from. */
  readonly ranges = new StandbyRanges(() => this.admitted);

  readonly #options: LinksOptions;
  readonly #owner: LinksOwner;
  readonly #door: Door;
  readonly #retention: Retention;
  readonly #links = new Set<StandbyLink>();
  readonly #admitted = new Map<string, StandbyLink>();
  #sessions = 0;
  #rejected = 0;
  #fetches = 0;
  /** By the id of the node that is given a snapshot. */
  readonly #seeding = new Map<string, StandbyLink>();

  constructor(options: LinksOptions) {
    this.#options = options;
    this.#owner = options.owner;
    this.#door = options.door;
    this.native = options.native;
    this.ring = options.ring;
    this.ringBytes = options.native.info().ringBytes;
    this.timing = options.timing;
    this.environment = options.environment;
    this.allocateAligned = options.allocateAligned;
    this.desk = options.desk;
    this.#retention = new Retention(options.native);
    this.noteEnd();
  }

  /** Those that were let in. */
  get admitted(): Iterable<StandbyLink> {
    return this.#admitted.values();
  }

  get size(): number {
    return this.#admitted.size;
  }

  /** Standbys whose connection was ended for something that they sent. */
  get rejectedCount(): number {
    return this.#rejected;
  }

  /** Where the log ends now. */
  noteEnd(): void {
    const { state } = this.native;
    this.batchEnds.push(state[State.CLOSED_POSITION]!, state[State.CLOSED_LSN]!);
  }

  /** The log may have been cut; to be told before it goes on. */
  noteCut(): void {
    this.batchEnds.cut(this.native.state[State.CLOSED_POSITION]!);
  }

  /** More was closed: it is sent at once. */
  feedAdmitted(): void {
    for (const link of this.#admitted.values()) link.feed();
  }

  /** More was flushed: of that, too, a handshake may wait for something. */
  feedAll(): void {
    for (const link of this.#links) link.feed();
  }

  pushCommit(): void {
    for (const link of this.#admitted.values()) link.pushCommit();
  }

  tellSlots(slots: readonly ToldSlot[] | undefined): void {
    if (slots === undefined) return;
    for (const link of this.#admitted.values()) link.tellSlots(slots);
  }

  tellRule(rule: NumberedRule): void {
    for (const link of this.#admitted.values()) link.tellRule(rule);
  }

  setRef(holds: boolean): void {
    for (const { socket } of this.#links) setRef(socket, holds);
  }

  statuses(): StandbyStatus[] {
    return [...this.#admitted.values()].map((link) => this.#statusOf(link));
  }

  /** Ends all but one, and but members that wait for an answer. */
  dropAll(reason: string, but?: StandbyLink): void {
    for (const each of this.#links) if (each !== but && !each.isAnswering) each.drop(reason);
  }

  /** Ends those that are fed, or are about to be. Who asks something still gets its answer. */
  dropFed(reason: string): void {
    for (const each of this.#links) if (each.isFed) each.drop(reason);
  }

  /**
   * Nobody is let in any more; lets what was sent leave, then ends all. Resolves when they are
   * closed: nothing refers to the ring then. A member that waits for its answer gets it, whatever
   * the role is by then, and is not waited for: it may wait for this very change. Idempotent.
   */
  async close(reason: string): Promise<void> {
    this.#door.leftBy(this);
    const ended = [...this.#links].filter((link) => !link.isAnswering);
    const closed = ended.map(
      ({ socket }) =>
        new Promise<void>((resolve) => {
          if (socket.closed) resolve();
          else socket.once('close', () => resolve());
        }),
    );
    for (const link of ended) link.endGently(reason);
    const { environment } = this;
    const deadline = environment.setTimeout(() => {
      for (const link of ended) link.drop(reason);
    }, this.timing.close);
    await Promise.all(closed);
    environment.clearTimer(deadline);
    this.#retention.releaseAll();
  }

  // -- what the door tells --

  onConnection(socket: Socket, acceptedAt: number): void {
    setRef(socket, this.#door.holds);
    this.#sessions = (this.#sessions + 1) >>> 0;
    this.#links.add(new StandbyLink(socket, acceptedAt, this.#sessions, this));
  }

  onRefused(address: string, reason: string): void {
    this.#owner.onRefused(address, reason);
  }

  revoke(allow: TlsOptions['allow']): void {
    for (const link of this.#links) link.revoke(allow);
  }

  tick(nowMs: number): void {
    for (const link of this.#links) link.tick(nowMs);
    this.#boundAway(nowMs);
  }

  // -- what links need --

  commitPlace = (): Place => this.#owner.commitPlace();
  writeAcks = (): boolean => this.#owner.writeAcks();

  get identity(): NodeIdentity {
    return this.#options.identity;
  }

  view(): PrimaryView {
    const { state } = this.native;
    const { position, lsn } = this.#owner.commitPlace();
    return {
      identity: this.#options.identity,
      term: this.#owner.term(),
      isPrimary: this.#owner.isPrimary,
      history: this.native.info().history,
      closed: { position: state[State.CLOSED_POSITION]!, lsn: state[State.CLOSED_LSN]! },
      commit: { position, lsn },
      start: state[State.START_POSITION]!,
      witnesses: this.#owner.witnesses,
    };
  }

  refusal(): WalError | undefined {
    return this.#owner.refusal();
  }

  gate(socket: Socket): Gate {
    return this.#door.gate(socket);
  }

  get allow(): TlsOptions['allow'] | undefined {
    return this.#door.security.tls?.allow;
  }

  claim({ nodeId, name, sentLsn: lsn }: Progress, position: number): void {
    this.#retention.claim(nodeId, position);
    this.#options.slots?.came(name, nodeId, { position, lsn });
  }

  hasRoom(nodeId: string): boolean {
    return this.#admitted.size < maxStandbys || this.#admitted.has(nodeId);
  }

  served(link: StandbyLink): void {
    this.#door.admitted(link.socket);
  }

  beginFetch(link: StandbyLink): boolean {
    if (this.#fetches >= maxFetches) return false;
    this.#fetches += 1;
    this.served(link);
    return true;
  }

  endFetch(): void {
    this.#fetches -= 1;
  }

  beginSeed(link: StandbyLink, nodeId: string): boolean {
    const before = this.#seeding.get(nodeId);
    if (before === undefined && this.#seeding.size >= maxSeeds) return false;
    this.#seeding.set(nodeId, link);
    // The network may have lost it without a word.
    before?.drop('the standby has a newer connection');
    this.served(link);
    return true;
  }

  endSeed(link: StandbyLink): void {
    for (const [nodeId, each] of this.#seeding) if (each === link) this.#seeding.delete(nodeId);
  }

  get term(): Term {
    return this.#owner.term();
  }

  get seeds(): SeedShelf | undefined {
    return this.#options.seeds;
  }

  /** As for one that was let in, and has gone: it is bounded like those. */
  holdForSeed(nodeId: string, position: number): void {
    if (this.#admitted.has(nodeId)) return;
    this.#retention.claim(nodeId, position);
    this.#retention.away(nodeId, this.environment.now());
  }

  admit(link: StandbyLink, progress: Progress): NumberedRule {
    if (link.fingerprint !== undefined) this.#endOthersOf(link.fingerprint, progress);
    return this.#owner.admit(progress);
  }

  accepted(link: StandbyLink, progress: Progress): void {
    this.#door.admitted(link.socket);
    const before = this.#admitted.get(progress.nodeId);
    this.#admitted.set(progress.nodeId, link);
    if (before !== undefined) {
      const reason = 'the standby has a newer connection';
      this.#announce(before, false, reason);
      before.drop(reason);
    }
    // Also that there are none: what it knows may be of before.
    const slots = this.#options.toTell?.();
    if (slots !== undefined) link.tellSlots(slots);
    this.#announce(link, true, '');
  }

  acknowledged(progress: Progress): void {
    this.#retention.moved(progress.nodeId, progress.flushPosition);
    this.#options.slots?.moved(progress.name, progress.nodeId, progress.flush);
    this.#owner.acknowledged();
  }

  rejected(): void {
    this.#rejected += 1;
  }

  refused(address: string, reason: string): void {
    this.#owner.onRefused(address, reason);
  }

  unreadable(error: unknown): void {
    this.#owner.onUnreadable(error);
  }

  fenced(link: StandbyLink, action: PrimaryAction & { do: 'fenced' | 'split' | 'lost' }): void {
    this.#owner.fenced(link, action);
  }

  closed(link: StandbyLink, reason: string): void {
    this.#links.delete(link);
    const { progress } = link;
    if (progress === undefined) return;
    if (this.#admitted.get(progress.nodeId) === link) {
      this.#admitted.delete(progress.nodeId);
      this.#left(link, progress);
      this.#announce(link, false, reason);
    }
    this.#owner.gone(progress);
  }

  // -- inside --

  #left({ hasRefused }: StandbyLink, { name, nodeId }: Progress): void {
    const hasSlot = this.#options.slots?.away(name, nodeId) ?? false;
    if (hasRefused || hasSlot) this.#retention.forget(nodeId);
    else this.#retention.away(nodeId, this.environment.now());
  }

  /** Standbys that are away hold no more than is given to them. */
  #boundAway(nowMs: number): void {
    const { slots } = this.#options;
    if (slots === undefined) return;
    const end = this.native.state[State.CLOSED_POSITION]!;
    this.#retention.bound(end - slots.maxSlotBytes, nowMs - slots.maxSlotAge);
  }

  /**
   * Under TLS a name is that of a certificate, and a node id only a word: one certificate counts
   * once, whatever ids, and which of its names, it is shown with; and so does one name. A standby
   * that was wiped has another id as well.
   */
  #endOthersOf(fingerprint: string, { name, nodeId }: Progress): void {
    for (const [id, link] of this.#admitted) {
      if (id === nodeId) continue;
      const named = link.name === name;
      if (!named && link.fingerprint !== fingerprint) continue;
      const what = named ? `of the name ${name}` : `with the certificate of ${link.name}`;
      const reason = `another node ${what} has connected, with another node id`;
      // At once: its acknowledgements may not count beside those of the other.
      this.closed(link, reason);
      link.drop(reason);
    }
  }

  #announce(link: StandbyLink, connected: boolean, reason: string): void {
    const last = this.#statusOf(link);
    const { name, nodeId } = last;
    this.#owner.onStandby({ name, nodeId, connected, reason, last });
  }

  #statusOf(link: StandbyLink): StandbyStatus {
    const progress = link.progress!;
    const lag = this.native.state[State.CLOSED_POSITION]! - progress.flushPosition;
    return {
      name: progress.name,
      nodeId: progress.nodeId,
      address: link.address,
      security: linkSecurity(this.#door.security),
      state: progress.state,
      stateSince: link.stateSince,
      counts: progress.counts,
      sentPosition: progress.sentPosition,
      sentLsn: progress.sentLsn,
      write: progress.write,
      flush: progress.flush,
      applyLsn: progress.applyLsn,
      lagBytes: lag,
      silence: link.silence(),
      bufferBytes: link.feeder?.bufferBytes ?? 0,
    };
  }
}

function setRef(socket: Socket, holds: boolean): void {
  if (holds) socket.ref();
  else socket.unref();
}
