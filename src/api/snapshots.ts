import { join } from 'node:path';
import { State } from '../native/native_log.js';
import { compareTerms } from '../replication/history.js';
import type { LogCore } from './core.js';
import { WalError } from './errors.js';
import { Seeding } from './seeding.js';
import type { SnapshotDisk } from './snapshot_disk.js';
import {
  beginPieces,
  readSnapshot,
  SaveFailed,
  type SnapshotBody,
  type SnapshotPieces,
  type SnapshotSource,
  verifySnapshot,
  writeSnapshot,
} from './snapshot_file.js';
import { partName, type SnapshotHeader, snapshotName } from './snapshot_format.js';
import type { ResolvedSnapshot, TakeSnapshotOptions } from './snapshot_options.js';
import { SnapshotSeeds } from './snapshot_seeds.js';
import {
  asWalError,
  isOfHistory,
  type SnapshotEntry,
  SnapshotShelf,
  termAt,
} from './snapshot_shelf.js';
import { unlessAborted } from './unless_aborted.js';
import * as check from './validate.js';
import { untilShown } from './wait_for.js';

/** A snapshot that was taken, or loaded. */
export interface Snapshot {
  /** The last record that is in the state: the log is read from the next one on. */
  readonly lsn: number;
  /** What the application wrote, in bytes. */
  readonly bytes: number;
  /** ISO 8601 by the clock of the machine that took it. */
  readonly takenAt: string;
}

/** A snapshot of the directory, as the status tells of it. */
export interface SnapshotStatus extends Snapshot {
  readonly file: string;
  /**
   * `good`: it can be loaded; `damaged`: not; `foreign`: it is whole, but of records that this log
   * does not have, of another history say.
   */
  readonly state: 'good' | 'damaged' | 'foreign';
  /** Why it is not good; null where it is. */
  readonly reason: string | null;
}

/**
 * The application's snapshots. A file that has its final name counts: it is whole, was read back
 * and verified, and the commit position has passed its LSN (SAFETY.md 8). That it is of this log's
 * history is asked of the history each time: a cut changes what it answers, durably and at once.
 */
export class Snapshots {
  readonly #core: LogCore;
  readonly #options: ResolvedSnapshot;
  readonly #shelf: SnapshotShelf;
  /** How this node comes by one of its primary. */
  readonly seeding: Seeding;
  /** Those that standbys are given. */
  readonly seeds: SnapshotSeeds;
  #loaded: Snapshot | undefined;
  /** Why nothing goes on with the state as it is, and from where on it has to be rebuilt. */
  #stale: { readonly lsn: number; readonly text: string } | undefined;
  #isLoading = false;
  #isFirstLoaded = false;
  #isReady = false;
  #isStarting = false;
  #busy: { readonly lsn: number; readonly cut: AbortController } | undefined;
  #work: Promise<unknown> | undefined;

  constructor(core: LogCore, options: ResolvedSnapshot, disk: SnapshotDisk) {
    this.#core = core;
    this.#options = options;
    this.#shelf = new SnapshotShelf(core.options.dir, disk);
    this.seeding = new Seeding(core, this.#shelf);
    this.seeds = new SnapshotSeeds(this.#shelf, options.sendRate ?? 0, () => this.#kept());
  }

  /** What the state came from; undefined: from nothing, or the log was cut below it since. */
  get loaded(): Snapshot | undefined {
    return this.#loaded;
  }

  /** The state that the log opens with is there. */
  get isReady(): boolean {
    return this.#isReady;
  }

  /** Looks for those that there are: once, before the log has a role. */
  async find(): Promise<void> {
    await this.#shelf.find(true);
    await this.#setAsidePastTheEnd();
  }

  /** Once, as long as the log opens. Throws WAL_SNAPSHOT_MISSING where the state cannot be had. */
  async loadFirst(signal: AbortSignal | undefined): Promise<void> {
    if (this.#isFirstLoaded) return;
    this.#isFirstLoaded = true;
    await this.#exclusively(() => this.#load(signal, { isFirst: true }));
    this.#isReady = true;
  }

  /**
   * What had counted was flushed: where the log ends before that, it was cut, or the directory was
   * put back to the past. The records that come there now are others, and may be of a term that is
   * called the same: of a primary that is opened again, of a standby that is promoted again. But
   * for the one that a standby was given to begin with, and is promoted by nobody without.
   */
  async #setAsidePastTheEnd(): Promise<void> {
    const { info, native } = this.#core;
    const last = native.state[State.CLOSED_LSN] ?? 0;
    // What cannot be read now may be read later.
    const isOurs = ({ header }: SnapshotEntry): boolean =>
      header === undefined || header.logId === info.logId;
    const awaited = info.role === 'standby' ? this.awaited(last) : undefined;
    const past = this.#shelf.entries.filter(
      (each) => isOurs(each) && shown(each).lsn > last && each.header?.lsn !== (awaited ?? 0),
    );
    await this.#setAside(past, `the log ends with LSN ${last}`);
  }

  async #setAside(entries: readonly SnapshotEntry[], reason: string): Promise<void> {
    await this.#shelf.setAside(entries);
    for (const entry of entries) {
      const text = `the snapshot of LSN ${shown(entry).lsn} is set aside: ${reason}`;
      const where = { ...shown(entry), file: `${entry.path}.foreign` };
      this.#core.news.tell('warn', 'snapshot', text, where);
    }
  }

  /**
   * Where an application that says nothing else reads on; undefined: from the beginning. Throws
   * WAL_REBUILD where its state is of records that were cut, or half of one.
   */
  get readFrom(): number | undefined {
    this.#requireSoundState();
    return this.#loaded === undefined ? undefined : this.#loaded.lsn + 1;
  }

  #requireSoundState(): void {
    if (this.#stale === undefined) return;
    const { lsn, text } = this.#stale;
    throw new WalError('WAL_REBUILD', text, {
      lsn,
      hint: 'Call `log.loadSnapshot()` first; where it gives null, begin with no state at all.',
    });
  }

  /** The application goes on, and has said from where where the state was not sound. */
  goesOn(): void {
    if (this.#isLoading) throw new TypeError('a snapshot is being loaded; await that first');
    this.#stale = undefined;
  }

  /** The newest good one; undefined: there is none, and the log is whole. */
  async load(signal?: AbortSignal): Promise<Snapshot | undefined> {
    const core = this.#core;
    // One that was under way at a cut ends first: whoever rebuilds cannot know of it.
    while (this.#work !== undefined && this.#isAfterCut) {
      const ends = [core.closing.signal, ...(signal === undefined ? [] : [signal])];
      await unlessAborted(
        this.#work.catch(() => undefined),
        AbortSignal.any(ends),
      );
    }
    if (core.applier?.ended === false) {
      throw new TypeError('the log has an applier, which goes on: await its stop() first');
    }
    return this.#exclusively(() => this.#load(signal, { isFirst: false }));
  }

  /** State is to be rebuilt, or what is under way is of records that went. */
  get #isAfterCut(): boolean {
    return this.#core.rebuild.pending !== null || this.#busy?.cut.signal.aborted === true;
  }

  take(options: unknown): Promise<Snapshot> {
    const raw = check.optionsObject(options, 'log.snapshot', ['lsn', 'signal']);
    const signal = check.abortSignal(raw.signal, 'signal');
    const request = this.#lsnOf(raw as TakeSnapshotOptions);
    const { pending } = this.#core.rebuild;
    if (pending !== null) {
      const text = `state has to be rebuilt from LSN ${pending.from} on: none is taken before that`;
      throw new WalError('WAL_REBUILD', text, { lsn: pending.from });
    }
    // Of a state that is not of this log none is taken.
    this.#requireSoundState();
    signal?.throwIfAborted();
    return this.#exclusively(() => this.#take(request, signal));
  }

  /** How far the log may be let go of: every kept snapshot can be read on from (SAFETY.md 8). */
  trimmable(lsn: number): number {
    const oldest = this.#kept()[this.#options.keep - 1];
    return oldest?.header === undefined ? 1 : Math.min(lsn, oldest.header.lsn + 1);
  }

  /** What lies past that LSN is another history now. */
  wasCut(lsn: number): void {
    if (this.#loaded !== undefined && this.#loaded.lsn > lsn) {
      this.#loaded = undefined;
      const text = `the loaded state is of records that went, from LSN ${lsn + 1} on`;
      this.#stale = { lsn: lsn + 1, text };
    }
    if (this.#busy === undefined || this.#busy.lsn <= lsn) return;
    const text = `the log was cut behind LSN ${lsn}, below the snapshot of LSN ${this.#busy.lsn}`;
    this.#busy.cut.abort(new WalError('WAL_REBUILD', text, { lsn: lsn + 1 }));
  }

  /**
   * The LSN of the newest snapshot that this node was given, where there is no other for its log
   * and that ends before it, with LSN `last`.
   */
  awaited(last: number): number | undefined {
    const { native, info } = this.#core;
    if ((native.state[State.START_LSN] ?? 0) === 0 || this.#kept().length > 0) return undefined;
    const given = this.#shelf.entries.find(
      ({ header, damage }) =>
        damage === undefined && header?.logId === info.logId && header.lsn > last,
    );
    return given?.header?.lsn;
  }

  /** The log begins behind that LSN now, and what was before it is in a snapshot. */
  wasReplaced(lsn: number): void {
    this.#loaded = undefined;
    this.#stale = { lsn: 1, text: `the log begins behind LSN ${lsn} now, with a snapshot` };
    this.#busy?.cut.abort(new WalError('WAL_REBUILD', this.#stale.text, { lsn: 1 }));
  }

  /** What is under way has ended: by the signal of the log, say. */
  async ended(): Promise<void> {
    await this.#work?.catch(() => undefined);
  }

  status(): readonly SnapshotStatus[] {
    return this.#shelf.entries.map((entry) => {
      const reason = this.#whyNot(entry);
      const state = entry.damage !== undefined ? 'damaged' : reason === null ? 'good' : 'foreign';
      return { ...shown(entry), file: entry.path, state, reason };
    });
  }

  /** What was asked for, as long as nothing else is under way. */
  async #exclusively<T>(work: () => Promise<T>): Promise<T> {
    if (this.#work !== undefined || this.#isStarting) {
      throw new TypeError('a snapshot is being taken or loaded; await that first');
    }
    // The application may call back in this very turn.
    this.#isStarting = true;
    let running: Promise<T>;
    try {
      running = this.#core.keepAlive.during(work());
    } finally {
      this.#isStarting = false;
    }
    this.#work = running;
    try {
      return await running;
    } finally {
      this.#work = undefined;
      this.#busy = undefined;
    }
  }

  /** Aborted with the caller's signal, with the log, and by a cut below `lsn`. */
  #begin(lsn: number, signal: AbortSignal | undefined): AbortSignal {
    const cut = new AbortController();
    this.#busy = { lsn, cut };
    const signals = [cut.signal, this.#core.closing.signal];
    return AbortSignal.any(signal === undefined ? signals : [...signals, signal]);
  }

  // -- loading --

  async #load(
    signal: AbortSignal | undefined,
    { isFirst }: { readonly isFirst: boolean },
  ): Promise<Snapshot | undefined> {
    /** Of a `load` that was called, and left half of a state. */
    let half: unknown;
    for (const { name } of this.#shelf.entries) {
      // A cut while one is loaded changes what the others are worth.
      const entry = this.#shelf.entries.find((each) => each.name === name);
      if (entry === undefined) continue;
      const reason = this.#whyNot(entry);
      if (reason !== null) {
        const damage = await this.#damageOf(entry, signal);
        this.#skipped(entry, damage ?? reason);
        // The history forgets its oldest terms, and could not tell for ever.
        if (isFirst && damage === undefined && this.#isReplaced(entry)) {
          await this.#setAside([entry], reason);
        }
      } else {
        const failed = await this.#loadOne(entry, signal);
        if (failed === undefined) return this.#noteLoaded(entry);
        half = failed.isCalled ? failed.error : half;
      }
    }
    this.#loaded = undefined;
    const start = this.#core.native.state[State.START_LSN] ?? 0;
    if (start > 0 && (!isFirst || this.#options.required)) throw this.#missing(start);
    // Nobody asks an application that has just begun whether its state is empty.
    if (isFirst && half !== undefined) throw half;
    this.#stale = undefined;
    return undefined;
  }

  /** Of one that is of another log, by its header: that may be what is damaged. */
  async #damageOf(entry: SnapshotEntry, given: AbortSignal | undefined) {
    if (entry.damage !== undefined) return entry.damage;
    const signal = this.#begin(0, given);
    try {
      await verifySnapshot(this.#shelf.disk, entry.path, signal);
      return undefined;
    } catch (error) {
      signal.throwIfAborted();
      const damage = textOf(error);
      this.#shelf.noteDamage(entry, damage);
      return damage;
    }
  }

  /** undefined: it is loaded; else it is damaged, or was cut away meanwhile. */
  async #loadOne(
    entry: SnapshotEntry,
    given: AbortSignal | undefined,
  ): Promise<{ readonly isCalled: boolean; readonly error: unknown } | undefined> {
    const lsn = entry.header?.lsn ?? 0;
    const signal = this.#begin(lsn, given);
    const cut = this.#busy!.cut.signal;
    const { disk } = this.#shelf;
    let body: SnapshotBody | undefined;
    try {
      const content = await verifySnapshot(disk, entry.path, signal);
      signal.throwIfAborted();
      body = readSnapshot(disk, entry.path, content);
      const { stream } = body;
      stream.on('error', () => undefined);
      this.#loaded = undefined;
      this.#stale = { lsn: 1, text: 'the state is what a `load` has left that did not end well' };
      this.#isLoading = true;
      const loading = Promise.resolve(this.#options.load(stream, lsn, { signal }));
      // A cut does not leave it behind: it would go on while another is loaded.
      const closing = this.#core.closing.signal;
      const ends = AbortSignal.any(given === undefined ? [closing] : [closing, given]);
      await unlessAborted(loading, ends);
      cut.throwIfAborted();
      if (body.fault() !== undefined) throw body.fault();
      this.#loaded = shown(entry);
      this.#stale = undefined;
      return undefined;
    } catch (error) {
      const isCalled = body !== undefined;
      if (cut.aborted) {
        this.#skipped(entry, 'the log was cut below it');
        return { isCalled, error };
      }
      signal.throwIfAborted();
      const fault = body === undefined ? error : body.fault();
      if (fault === undefined) throw error;
      const damage = textOf(fault);
      this.#shelf.noteDamage(entry, damage);
      this.#skipped(entry, damage);
      return { isCalled, error: fault };
    } finally {
      this.#isLoading = false;
      body?.stream.destroy();
    }
  }

  #noteLoaded(entry: SnapshotEntry): Snapshot {
    const loaded = shown(entry);
    this.#core.events.emit('snapshot', { ...loaded, what: 'loaded', reason: null });
    const text = `the state of LSN ${loaded.lsn} was loaded, ${loaded.bytes} bytes`;
    this.#core.news.tell('info', 'snapshot', text, { ...loaded });
    return loaded;
  }

  #skipped(entry: SnapshotEntry, reason: string): void {
    const skipped = shown(entry);
    this.#core.events.emit('snapshot', { ...skipped, what: 'skipped', reason });
    const text = `the snapshot of LSN ${skipped.lsn} is not loaded: ${reason}`;
    this.#core.news.tell('warn', 'snapshot', text, { ...skipped, file: entry.path });
  }

  #missing(start: number): WalError {
    const found = this.status().map(({ lsn, reason }) => `that of LSN ${lsn}: ${reason}`);
    const why = found.length === 0 ? 'there is none' : found.join('; ');
    const text = `LSN 1 to ${start} were trimmed, and no good snapshot holds them: ${why}`;
    return new WalError('WAL_SNAPSHOT_MISSING', text, {
      lsn: start + 1,
      file: this.#shelf.directory,
    });
  }

  /** Why it cannot be loaded; null: nothing speaks against it. */
  #whyNot({ header, damage }: SnapshotEntry): string | null {
    if (damage !== undefined) return damage;
    const { native, info } = this.#core;
    const { state } = native;
    if (header === undefined || header.logId !== info.logId) return 'it is of another log';
    const last = state[State.CLOSED_LSN] ?? 0;
    if (header.lsn > last) return `the log ends with LSN ${last}`;
    const first = (state[State.START_LSN] ?? 0) + 1;
    if (header.lsn + 1 < first) return `the log begins with LSN ${first}`;
    if (isOfHistory(header, native.info().history)) return null;
    return 'a new primary has other records there';
  }

  #isReplaced({ header }: SnapshotEntry): boolean {
    const { native, info } = this.#core;
    if (header === undefined || header.logId !== info.logId) return false;
    return !isOfHistory(header, native.info().history);
  }

  #kept(): readonly SnapshotEntry[] {
    const good = this.#shelf.entries.filter((entry) => this.#whyNot(entry) === null);
    return good.slice(0, this.#options.keep);
  }

  // -- taking --

  /** undefined: where the applier is. */
  #lsnOf({ lsn }: TakeSnapshotOptions): number | undefined {
    const { applier, appender, native } = this.#core;
    const last = Math.max(appender.lsn, native.state[State.CLOSED_LSN] ?? 0);
    if (applier?.ended === false) {
      if (lsn === undefined) return undefined;
      throw new TypeError('lsn is for a log without an applier: leave it out');
    }
    if (lsn !== undefined) return check.integer(lsn, 'lsn', 1, last);
    throw new TypeError(
      'snapshot needs to know the last record in the state: pass lsn, or run an applier',
    );
  }

  async #take(asked: number | undefined, signal: AbortSignal | undefined): Promise<Snapshot> {
    const core = this.#core;
    const { applier } = core;
    if (asked !== undefined || applier === undefined) return this.#save(asked ?? 0, signal);
    // A snapshot that is given up does not hold up the applier.
    let write: (() => Promise<Snapshot>) | undefined;
    const ends = this.#begin(Number.POSITIVE_INFINITY, signal);
    const visit = applier.between(async () => {
      ends.throwIfAborted();
      write = await this.#begun(applier.appliedLsn, signal);
    });
    await unlessAborted(visit, ends);
    if (write === undefined) throw new Error('the applier let nobody in');
    return write();
  }

  async #save(lsn: number, signal: AbortSignal | undefined): Promise<Snapshot> {
    const write = await this.#begun(lsn, signal);
    return write();
  }

  /** Asks for the state at once; what this resolves with stores it. */
  async #begun(lsn: number, given: AbortSignal | undefined): Promise<() => Promise<Snapshot>> {
    const core = this.#core;
    const term = termAt(core.native.info().history, lsn);
    if (lsn < 1 || term === undefined) {
      throw new RangeError(`there is no record to take a snapshot behind: LSN ${lsn}`);
    }
    const { logId } = core.info;
    const { epoch, opener, incarnation } = term;
    const takenAt = core.environment.wallClock();
    const header = { logId, lsn, term: { epoch, opener, incarnation }, takenAt };
    const there = this.#kept().find((entry) => entry.name === snapshotName(header));
    if (there !== undefined) return () => this.#givenAgain(there, this.#begin(lsn, given));
    const kept = this.#kept();
    const oldest = kept[this.#options.keep - 1]?.header?.lsn ?? 0;
    if (lsn < oldest) {
      throw new RangeError(`the snapshots that are kept are all of later records than LSN ${lsn}`);
    }
    const signal = this.#begin(lsn, given);
    const pieces = await this.#ask(lsn, signal);
    try {
      await unlessAborted(pieces.first, signal);
    } catch (error) {
      pieces.letGo();
      throw error;
    }
    return () => this.#write(header, pieces, signal);
  }

  /** Verified, as one is that was just taken: it may have decayed since. */
  async #givenAgain(entry: SnapshotEntry, signal: AbortSignal): Promise<Snapshot> {
    try {
      await verifySnapshot(this.#shelf.disk, entry.path, signal);
    } catch (error) {
      signal.throwIfAborted();
      this.#shelf.noteDamage(entry, textOf(error));
      throw asWalError(error, entry.path);
    }
    // A cut aborts the signal, which was looked at before the last piece.
    signal.throwIfAborted();
    return shown(entry);
  }

  /** In this turn, and the first piece too where `save` returns at once. */
  async #ask(lsn: number, signal: AbortSignal): Promise<SnapshotPieces> {
    const saved = this.#options.save(lsn, { signal });
    if (isSource(saved)) return beginPieces(saved);
    const late = Promise.resolve(saved);
    const source = await unlessAborted(late, signal).catch((error: unknown) => {
      late.then(
        (source) => isSource(source) && beginPieces(source).letGo(),
        () => undefined,
      );
      throw error;
    });
    if (isSource(source)) return beginPieces(source);
    const what = 'snapshot.save gives a stream, or an async generator';
    throw new TypeError(`${what}; got ${check.shown(source)}`);
  }

  async #write(
    header: SnapshotHeader,
    pieces: SnapshotPieces,
    signal: AbortSignal,
  ): Promise<Snapshot> {
    const { directory, disk } = this.#shelf;
    const name = snapshotName(header);
    const path = join(directory, name);
    const part = join(directory, partName(name));
    let isCreated = false;
    let bytes = 0;
    try {
      await disk.prepare(directory);
      const beforeEnd = () => this.#counted(header, signal);
      isCreated = true;
      const written = await writeSnapshot(disk, part, header, pieces, beforeEnd, signal);
      const { trailer } = await verifySnapshot(disk, part, signal);
      if (!trailer.sha256.equals(written.sha256))
        throw new Error(`${part} is not what was written`);
      this.#requireUncut(header);
      bytes = written.bytes;
      await disk.rename(part, path);
      isCreated = false;
      await disk.syncDirectory(directory);
    } catch (error) {
      pieces.letGo();
      if (isCreated) await disk.remove(part).catch(() => undefined);
      if (signal.aborted) throw signal.reason;
      throw error instanceof SaveFailed ? error.cause : asWalError(error, path);
    }
    return this.#taken({ name, path, header, bytes, damage: undefined });
  }

  /** Resolves when the commit position has passed its LSN: with where the log is read on. */
  async #counted(header: SnapshotHeader, signal: AbortSignal): Promise<number> {
    const core = this.#core;
    await untilShown(core, header.lsn, signal);
    this.#requireUncut(header);
    return core.native.locate(header.lsn + 1);
  }

  /** The record may have gone and come back as another one. */
  #requireUncut({ lsn, term }: SnapshotHeader): void {
    this.#core.requireOpen();
    const found = termAt(this.#core.native.info().history, lsn);
    if (found !== undefined && compareTerms(found, term) === 'same') return;
    const text = `a new primary has another record in the place of LSN ${lsn}`;
    throw new WalError('WAL_REBUILD', text, { lsn });
  }

  async #taken(entry: SnapshotEntry): Promise<Snapshot> {
    const { events, news } = this.#core;
    this.#shelf.add(entry);
    const taken = shown(entry);
    events.emit('snapshot', { ...taken, what: 'taken', reason: null });
    const text = `a snapshot of LSN ${taken.lsn} was taken, ${taken.bytes} bytes`;
    news.tell('info', 'snapshot', text, { ...taken });
    const kept = this.#kept();
    if (kept.length < this.#options.keep) return taken;
    try {
      // One that this node was just given: its log may be about to begin with it.
      const last = this.#core.native.state[State.CLOSED_LSN] ?? 0;
      const given = this.#shelf.entries.filter(({ header }) => (header?.lsn ?? 0) > last);
      await this.#shelf.keepOnly([...kept, ...given]);
    } catch (error) {
      const why = `older snapshots could not be removed: ${(error as Error).message}`;
      news.tell('warn', 'snapshot', why, {});
    }
    return taken;
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function isSource(value: unknown): value is SnapshotSource {
  return typeof (value as Partial<SnapshotSource> | null)?.[Symbol.asyncIterator] === 'function';
}

function shown({ header, bytes, name }: SnapshotEntry): Snapshot {
  return {
    lsn: header?.lsn ?? Number.parseInt(name.slice(0, 16), 16),
    bytes,
    takenAt: new Date(header?.takenAt ?? 0).toISOString(),
  };
}

export function requireSnapshots({
  snapshots,
}: {
  readonly snapshots: Snapshots | undefined;
}): Snapshots {
  if (snapshots !== undefined) return snapshots;
  throw new TypeError('the log has no snapshots: pass snapshot: { save, load } to Log.open');
}
