import { createHash } from 'node:crypto';
import { WalError } from '../api/errors.js';
import { unlessAborted } from '../api/unless_aborted.js';
import { type NativeInfo, type NativeLog, type Place, State } from '../native/native_log.js';
import { Backoff } from '../replication/backoff.js';
import { type Environment, pause, type Timer } from '../transport/environment.js';
import type { ArchiveChange, ArchiveGap, ArchiveState, ArchiveStatus } from './archive_status.js';
import { askStore } from './archived_place.js';
import { encodeObjectHeader, objectFormat, type SegmentFacts } from './object_format.js';
import { nameOf } from './object_name.js';
import { ObjectReader } from './object_reader.js';
import { writeObject } from './object_writer.js';
import { CutMeanwhile, SegmentSource } from './segment_source.js';
import type { ArchiveStore } from './store.js';

/** How often it is looked whether there is something to do. */
const lookMs = 1000;
const retry = { firstMs: 500, mostMs: 60_000 };
/** A store that takes and gives nothing for so long has failed. */
const stallMs = 60_000;

/** Fewer could not be kept until they are shipped. */
const leastSegments = 4;

export interface ArchiverSettings {
  readonly store: ArchiveStore;
  /** Of the log that is not archived, so much is kept. */
  readonly maxBytes: number;
  /** Bytes of the log a second, while less than half of that waits. */
  readonly rate: number;
}

export interface ArchiverHost {
  readonly native: NativeLog;
  readonly info: Pick<NativeInfo, 'logId' | 'nodeId' | 'segmentBytes'>;
  readonly environment: Environment;
  /** How far the log is committed, as far as this node knows. */
  commit(): Place;
  /** Whether that is sure now: nothing below it will be cut. */
  mayShip(): boolean;
  /** How often the log was cut. */
  cuts(): number;
  changed(change: ArchiveChange): void;
  /** An error of the engine, as it is told; others as they are. */
  explain(error: unknown): unknown;
  /** Aborted when the log closes. */
  readonly closing: AbortSignal;
}

/**
 * Ships sealed segments that lie wholly below the commit position to a store, in their order and
 * one at a time. What the store does not have yet it keeps from being let go of, within `maxBytes`,
 * from when it is made: before anything can let go. What the store has it is asked, at the start
 * and after a cut of the log; nothing of that is remembered elsewhere.
 */
export class Archiver {
  readonly #host: ArchiverHost;
  readonly #settings: ArchiverSettings;
  readonly #source: SegmentSource;
  readonly #backoff: Backoff;
  readonly #claim: number;
  readonly #segmentBytes: number;
  #timer: Timer | undefined;
  #running: Promise<void> | undefined;
  /** Up to there all is in the store that is in no gap; undefined: the store is to be asked. */
  #archived: Place | undefined;
  #firstLsn: number | null = null;
  #gap: ArchiveGap | null = null;
  /** When the segment that is next was full, milliseconds since 1970. */
  #sealedAt: number | undefined;
  #failure: WalError | undefined;
  #hasStopped = false;
  #isBehind = false;
  /** A call of the store that is under way, and when it last got or gave something. */
  #call: { readonly abort: AbortController; movedAt: number } | undefined;
  #counts = { segments: 0, rawBytes: 0, storedBytes: 0 };

  constructor(host: ArchiverHost, settings: ArchiverSettings) {
    this.#host = host;
    const { segmentBytes } = host.info;
    this.#segmentBytes = segmentBytes;
    const maxBytes = Math.max(settings.maxBytes, leastSegments * segmentBytes);
    this.#settings = { ...settings, maxBytes };
    this.#claim = host.native.retain(0);
    this.#backoff = new Backoff(retry, () => host.environment.random());
    this.#source = new SegmentSource({
      native: host.native,
      allocateAligned: (bytes) => host.environment.binding().allocateAligned(bytes),
      cuts: () => host.cuts(),
      explain: (error) => host.explain(error),
    });
  }

  /** The log is open: begins to ship. */
  start(): void {
    const { environment } = this.#host;
    this.#timer = environment.setInterval(() => this.#look(), lookMs);
    this.#timer.unref();
    this.#running = this.#run();
  }

  /** What lay past a place is of another history: what is in the store may be so too. */
  wasCut(): void {
    this.#archived = undefined;
    this.#sealedAt = undefined;
    this.#source.forget();
    this.#host.native.moveRetain(this.#claim, 0);
  }

  status(): ArchiveStatus {
    const { store } = this.#settings;
    const error = this.#failure;
    return {
      state: this.#state(),
      store: store.description,
      firstLsn: this.#archived === undefined ? null : this.#firstLsn,
      archivedLsn: this.#archivedLsn(),
      oldestUnarchivedMs: this.#oldestMs(),
      heldBytes: this.#held(),
      ...this.#counts,
      gap: this.#gap,
      error: error === undefined ? null : { code: error.code, message: error.message },
    };
  }

  /**
   * Neither the engine nor the store is called any more when it resolves. A call of the store that
   * hangs is left behind.
   */
  async close(): Promise<void> {
    this.#host.environment.clearTimer(this.#timer);
    await this.#source.close();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { environment, closing } = this.#host;
    while (!closing.aborted && !this.#hasStopped) {
      let waitMs = lookMs;
      try {
        await this.#shipAll();
      } catch (error) {
        if (!closing.aborted && !(error instanceof CutMeanwhile)) waitMs = this.#failed(error);
      }
      await pause(environment, waitMs, closing, 'unref');
    }
  }

  async #shipAll(): Promise<void> {
    const { native, closing } = this.#host;
    while (!closing.aborted && this.#host.mayShip()) {
      this.#archived ??= await this.#ask();
      const archived = this.#archived;
      this.#findGap();
      if (this.#archived !== archived) continue;
      const end = archived.position + this.#segmentBytes;
      const flushed = native.state[State.FLUSH_POSITION] ?? 0;
      // What follows a segment tells where its last record is.
      if (Math.min(this.#host.commit().position, flushed) <= end) break;
      await this.#ship(archived);
    }
    if (!closing.aborted && this.#host.mayShip()) this.#worked();
  }

  async #ask(): Promise<Place> {
    const { native, info } = this.#host;
    const { logId, segmentBytes } = info;
    const { store } = this.#settings;
    const cuts = this.#host.cuts();
    const { history } = native.info();
    const start = native.state[State.START_POSITION] ?? 0;
    const startLsn = native.state[State.START_LSN] ?? 0;
    const commit = this.#host.commit().position;
    const found = await this.#during((signal) =>
      askStore(store, { logId, segmentBytes, history, start, commit }, signal),
    );
    const next =
      found.next === start
        ? { position: start, lsn: startLsn }
        : { position: found.next, lsn: await this.#lsnBefore(found.next) };
    const { beforeGap, firstLsn } = found;
    const gap =
      beforeGap === undefined
        ? null
        : { from: (await this.#lastLsnOf(beforeGap)) + 1, to: (firstLsn ?? startLsn + 1) - 1 };
    if (this.#host.cuts() !== cuts) throw new CutMeanwhile();
    this.#firstLsn = firstLsn ?? null;
    if (gap !== null && gap.to !== this.#gap?.to) this.#foundGap(gap);
    this.#gap = gap;
    this.#archived = next;
    this.#hold();
    return next;
  }

  async #lsnBefore(position: number): Promise<number> {
    // The log may end there.
    const flushed = this.#host.native.state[State.FLUSH_POSITION] ?? 0;
    if (position >= flushed) return this.#host.native.state[State.FLUSH_LSN] ?? 0;
    return (await this.#source.head(position)).firstLsn - 1;
  }

  async #lastLsnOf(name: string): Promise<number> {
    const { store } = this.#settings;
    return this.#during(async (signal) => {
      const reader = await this.#open(name, await store.get(name, { signal }));
      await reader.close();
      return reader.header.lastLsn;
    });
  }

  async #ship(from: Place): Promise<void> {
    const { native, info } = this.#host;
    const { store } = this.#settings;
    const claim = native.retain(from.position);
    let storing: Promise<unknown> = Promise.resolve();
    try {
      if ((native.state[State.START_POSITION] ?? 0) > from.position) return;
      const cuts = this.#host.cuts();
      const facts = await this.#source.facts(from.position);
      this.#sealedAt = facts.lastTime / 1000;
      const name = nameOf(info.logId, facts);
      let storedBytes = 0;
      const content = this.#content(facts, (bytes) => {
        storedBytes += bytes;
      });
      const outcome = await this.#during((signal) => {
        const putting = store.put(name, content, { signal, by: info.nodeId });
        storing = putting;
        return putting;
      });
      if (outcome === 'exists') await this.#compare(name, facts);
      if (this.#host.cuts() !== cuts) throw new CutMeanwhile();
      this.#advance(facts);
      if (outcome === 'stored') this.#count(storedBytes);
    } finally {
      // One that was left behind may still read it.
      const letGo = (): void => native.release(claim);
      storing.then(letGo, letGo);
    }
  }

  #advance({ firstLsn, end, lastLsn }: SegmentFacts): void {
    this.#firstLsn ??= firstLsn;
    this.#archived = { position: end, lsn: lastLsn };
    this.#sealedAt = undefined;
    this.#hold();
    this.#worked();
  }

  #count(storedBytes: number): void {
    const { segments, rawBytes, storedBytes: before } = this.#counts;
    this.#counts = {
      segments: segments + 1,
      rawBytes: rawBytes + this.#segmentBytes,
      storedBytes: before + storedBytes,
    };
  }

  async *#content(facts: SegmentFacts, stored: (bytes: number) => void): AsyncGenerator<Buffer> {
    const { environment } = this.#host;
    const { crc32c } = environment.binding();
    for await (const part of writeObject(facts, this.#paced(facts), crc32c)) {
      this.#moved();
      stored(part.length);
      yield part;
    }
  }

  /** While little waits, the log's own work goes before. */
  async *#paced({ start, end }: SegmentFacts): AsyncGenerator<Buffer> {
    const { environment, closing } = this.#host;
    const { rate } = this.#settings;
    const began = environment.now();
    let bytes = 0;
    for await (const piece of this.#source.bytes(start, end)) {
      yield piece;
      bytes += piece.length;
      const early = began + (bytes / rate) * 1000 - environment.now();
      if (early <= 1 || this.#isBehind) continue;
      this.#moved(early);
      await pause(environment, early, closing, 'unref');
    }
  }

  /** Another node may have stored it, or this one in an earlier life: then it is the same. */
  async #compare(name: string, facts: SegmentFacts): Promise<void> {
    const { store } = this.#settings;
    const theirs = await this.#during(async (signal) => {
      const content = await store.get(name, { signal });
      try {
        const reader = await this.#open(name, content);
        for await (const _ of reader.raw()) this.#moved();
        return reader;
      } catch (error) {
        throw error instanceof WalError && error.code === 'WAL_CORRUPT'
          ? this.#conflict(name, error.message)
          : error;
      }
    });
    const hash = createHash('sha256');
    for await (const piece of this.#source.bytes(facts.start, facts.end)) hash.update(piece);
    if (this.#describes(theirs, facts) && hash.digest().equals(theirs.sha256)) return;
    throw this.#conflict(name, 'it is another segment');
  }

  #describes({ header }: ObjectReader, facts: SegmentFacts): boolean {
    const { crc32c } = this.#host.environment.binding();
    const { blockBytes } = objectFormat;
    const encoded = (of: SegmentFacts) => encodeObjectHeader({ ...of, blockBytes }, crc32c);
    return encoded(header).equals(encoded(facts));
  }

  #conflict(name: string, reason: string): WalError {
    const text = `${this.#settings.store.description} has something else under ${name}: ${reason}`;
    return new WalError('WAL_ARCHIVE_CONFLICT', text, { file: name });
  }

  #open(name: string, content: AsyncIterable<Uint8Array>): Promise<ObjectReader> {
    return ObjectReader.open(name, content, this.#host.environment.binding().crc32c);
  }

  /** One call of the store at a time: whatever hangs, nothing piles up behind it. */
  async #during<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { environment, closing } = this.#host;
    closing.throwIfAborted();
    const abort = new AbortController();
    const onClosing = (): void => abort.abort(closing.reason);
    closing.addEventListener('abort', onClosing, { once: true });
    this.#call = { abort, movedAt: environment.now() };
    try {
      return await unlessAborted(work(abort.signal), closing);
    } finally {
      closing.removeEventListener('abort', onClosing);
      this.#call = undefined;
    }
  }

  /** Or will have, in so many milliseconds that the store is not asked for anything. */
  #moved(waitMs = 0): void {
    if (this.#call !== undefined) this.#call.movedAt = this.#host.environment.now() + waitMs;
  }

  // -- from time to time --

  #look(): void {
    if (this.#host.closing.aborted) return;
    this.#hold();
    if (this.#archived !== undefined && this.#hasStopped) this.#findGap();
    const { environment } = this.#host;
    const { description } = this.#settings.store;
    if (this.#call === undefined || environment.now() - this.#call.movedAt < stallMs) return;
    const text = `${description} has neither taken nor given anything for ${stallMs / 1000} s`;
    const error = new WalError('WAL_IO', text);
    this.#call.abort.abort(error);
    this.#call.movedAt = environment.now();
    this.#failed(error);
  }

  /** Keeps what is not archived, and no more of it than is allowed. */
  #hold(): void {
    const { native } = this.#host;
    const { maxBytes } = this.#settings;
    const closed = native.state[State.CLOSED_POSITION] ?? 0;
    native.moveRetain(this.#claim, Math.max(this.#archived?.position ?? 0, closed - maxBytes));
    const wasBehind = this.#isBehind;
    // Told once, not each time that a segment is full.
    this.#isBehind = this.#held() > maxBytes / (wasBehind ? 4 : 2);
    if (this.#isBehind && !wasBehind) this.#tell('behind');
  }

  #held(): number {
    const { state } = this.#host.native;
    const start = state[State.START_POSITION] ?? 0;
    const from = Math.max(this.#archived?.position ?? 0, start);
    return Math.max(0, (state[State.CLOSED_POSITION] ?? 0) - from);
  }

  /** Where log was let go of that is not archived, it goes on behind that. */
  #findGap(): void {
    const { state } = this.#host.native;
    const position = state[State.START_POSITION] ?? 0;
    const lsn = state[State.START_LSN] ?? 0;
    const archived = this.#archived;
    if (archived === undefined || position <= archived.position) return;
    this.#archived = { position, lsn };
    this.#sealedAt = undefined;
    const from = this.#firstLsn === null ? this.#gap?.from : undefined;
    this.#firstLsn = null;
    this.#foundGap({ from: from ?? archived.lsn + 1, to: lsn });
  }

  #foundGap(gap: ArchiveGap): void {
    this.#gap = gap;
    this.#tell('gap');
  }

  // -- what is told --

  #worked(): void {
    this.#backoff.reset();
    if (this.#failure === undefined) return;
    this.#failure = undefined;
    this.#tell('working');
  }

  /** Gives how long to wait. */
  #failed(error: unknown): number {
    const known = asWalError(error);
    const wasTold = this.#failure?.message === known.message;
    this.#failure = known;
    this.#hasStopped = known.code === 'WAL_ARCHIVE_CONFLICT';
    if (!wasTold) this.#tell(this.#hasStopped ? 'stopped' : 'failing', known.message);
    return this.#backoff.next();
  }

  #tell(change: ArchiveChange['change'], reason: string | null = null): void {
    const [archivedLsn, heldBytes] = [this.#archivedLsn(), this.#held()];
    this.#host.changed({ change, archivedLsn, heldBytes, reason, gap: this.#gap });
  }

  #archivedLsn(): number | null {
    return this.#firstLsn === null ? null : (this.#archived?.lsn ?? null);
  }

  #state(): ArchiveState {
    if (this.#hasStopped) return 'stopped';
    if (this.#failure !== undefined) return 'failing';
    if (!this.#host.mayShip()) return 'paused';
    return this.#archived === undefined ? 'starting' : 'working';
  }

  #oldestMs(): number | null {
    if (this.#sealedAt === undefined) return null;
    return Math.max(0, Math.round(this.#host.environment.wallClock() - this.#sealedAt));
  }
}

function asWalError(error: unknown): WalError {
  if (error instanceof WalError) return error;
  const message = error instanceof Error ? error.message : String(error);
  return new WalError('WAL_IO', `the archive: ${message}`, { cause: error });
}
