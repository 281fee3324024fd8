/**
 * The contract between TypeScript and the C++ addon.
 *
 * Positions, LSNs and byte counts are plain numbers (safe integers). Ids are lower-case hex strings
 * (log id and node id: 32 digits). All callbacks and promises settle on the thread that opened the
 * log. Native errors are `Error`s with `code` (a key of the error table) and, where they apply,
 * `file`, `offset`, `lsn`, `errno`.
 */

/** A point of the log: a batch ends at `position`, and `lsn` is the last record before it. */
export interface Place {
  readonly position: number;
  readonly lsn: number;
}

export interface Term {
  readonly epoch: number;
  readonly opener: string;
  readonly incarnation: number;
}

/** A term and where its opening batch starts; `lsn` is the last LSN before it. */
export interface HistoryEntry extends Term, Place {}

export type Role = 'primary' | 'standby' | 'fenced';

/**
 * What a cut may remove. `unseen`: nothing that anybody can have seen. `seen`: what an application
 * may have seen, which has to be told. `returning`: the same under a newer epoch, below the commit
 * place too; the node is a standby from then on. None removes what a quorum is known to have
 * committed.
 */
export type Cut = 'unseen' | 'seen' | 'returning';

/** What a primary's acknowledgements mean (SAFETY 4.1). At most 64 members. */
export interface Rule {
  /** The log's own level. */
  readonly synchronousCommit: 'off' | 'local' | 'remote_write' | 'remote_flush' | 'remote_apply';
  /** `ANY n (...)` or `FIRST n (...)`, canonical, at most 2047 bytes; null: nobody is named. */
  readonly synchronousStandbys: string | null;
  /** Ids of the nodes whose acknowledgements may count. */
  readonly members: readonly string[];
  /** Too few of them were there, and the primary acknowledges what it alone has flushed. */
  readonly degraded: boolean;
}

export interface NativeOpenOptions {
  readonly dir: string;
  /** Further directories, each with a copy of the log. */
  readonly mirrors?: readonly string[];
  /** Directories whose copies may be gone. */
  readonly acceptMissing?: readonly string[];
  /** A copy that takes so much longer than another is dropped. */
  readonly copyLagMs?: number;
  /** Copies that a batch is flushed on when it is acknowledged, 0: all; default: as recorded. */
  readonly mirrorQuorum?: number;
  /** Bytes a second with which a copy is filled beside the appends. */
  readonly copyFillRate?: number;
  /** Create the log where the directory holds none (the directory itself too). */
  readonly create: boolean;
  /** Role to store when the log is created. */
  readonly role: Role;
  readonly name: string;
  /**
   * Creation only; fixed afterwards. A standby must be created with its primary's `logId` and
   * `salt`.
   */
  readonly segmentBytes: number;
  readonly padded: boolean;
  readonly maxRecordBytes: number;
  readonly logId?: string;
  readonly salt?: string;
  /**
   * Power of two multiple of 4096; at least 2 × maxRecordBytes + 1 MiB (raised silently if less).
   */
  readonly ringBytes: number;
  readonly maxBatchBytes: number;
  readonly maxBatchDelayMs: number;
  /** false: the addon shares no memory with JavaScript (Electron); use `put`. */
  readonly sharedRing: boolean;
}

/** A directory of a log that has several. */
export interface NativeCopy {
  readonly dir: string;
  readonly state: 'in' | 'dropped' | 'resyncing';
  /** Why it is not in; empty where it is. */
  readonly reason: string;
  /** Milliseconds since 1970. */
  readonly since: number;
  /** While it is resynchronised: bytes done, and how many there are. */
  readonly filled: number;
  readonly toFill: number;
  /** Reads that failed or did not verify here, and were served from another copy. */
  readonly badReads: number;
  /** Bytes that others have and this one has yet to write. */
  readonly behind: number;
}

export interface NativeInfo {
  readonly logId: string;
  readonly salt: string;
  readonly nodeId: string;
  readonly name: string;
  readonly created: boolean;
  readonly role: Role;
  readonly primaryName: string;
  readonly primaryAddress: string;
  /** Standby: when its primary was last heard of, milliseconds since 1970; null: unknown. */
  readonly lastContact: number | null;
  /** What was recorded last; null: nothing, or not known. */
  readonly rule: Rule | null;
  /**
   * It is the rule of the last term in `history`, whose records are judged by it, and not of
   * `term`.
   */
  readonly isRuleOfEarlierTerm: boolean;
  /** Some commits were acknowledged at a level below it. */
  readonly isRuleUndercut: boolean;
  /** Of a term that it heard of since, and has no opening of, it was told none. */
  readonly isRuleUntold: boolean;
  /** Nothing past `commit` was acknowledged in the last term of `history`, and nothing will be. */
  readonly isCommitExact: boolean;
  /**
   * Last record that is known to be committed by a quorum, and the last that may be, under a rule
   * that this one took the place of.
   */
  readonly quorumLsn: number;
  readonly quorumMostLsn: number;
  /** Records that were cut though an application may have seen them, and was not told yet. */
  readonly rebuild: { readonly from: number; readonly to: number } | null;
  readonly term: Term;
  /** Oldest first; entries of a history longer than 256 are dropped at the front. */
  readonly history: readonly HistoryEntry[];
  readonly segmentBytes: number;
  readonly padded: boolean;
  readonly maxRecordBytes: number;
  readonly ringBytes: number;
  readonly maxBatchBytes: number;
  /** Where the opening ends that this process wrote, of the last term of `history`; 0: none yet. */
  readonly opened: number;
  /** Where the oldest kept batch starts; `lsn` is the last LSN before it. */
  readonly start: Place;
  readonly io: 'direct' | 'buffered';
  /** Last commit place that this node knew of when it last wrote its control file. */
  readonly commit: Place;
  readonly recovery: {
    readonly clean: boolean;
    readonly scannedBytes: number;
    /** Bytes of a torn tail that were cut off (0: none found). */
    readonly cutBytes: number;
    readonly rewrittenBytes: number;
    readonly milliseconds: number;
  };
  readonly flushes: number;
  readonly flushedBytes: number;
  readonly slowestFlushMs: number;
  /** Of a second or more, and how long the last of them took. */
  readonly slowFlushes: number;
  readonly lastSlowFlushMs: number;
  readonly segments: number;
  readonly spareSegments: number;
  /** Empty where the log has one directory. */
  readonly copies: readonly NativeCopy[];
  /** Copies that a batch is flushed on when it is acknowledged; 0 where there is one directory. */
  readonly copiesAcknowledging: number;
  /** Readers only: grows with each change of which copies are in; 0 where there never was one. */
  readonly generation?: number;
}

/**
 * Indices into `NativeLog.state`. Refreshed by every native call of this thread and before
 * `onProgress`.
 */
export const State = {
  /** Offset in `ring` where the open batch's next record goes, when the batch is empty. */
  CURSOR: 0,
  /**
   * Payload bytes that the open batch can hold (record headers and padding included). 0: call
   * `reserve`.
   */
  CAPACITY: 1,
  CLOSED_POSITION: 2,
  CLOSED_LSN: 3,
  FLUSH_POSITION: 4,
  FLUSH_LSN: 5,
  /** Lowest position whose bytes are still in the ring. */
  RING_FLOOR: 6,
  /** Bytes that the ring could take now. */
  RING_FREE: 7,
  /** crc of the batch that ends at CLOSED_POSITION. */
  LAST_CRC: 8,
  /** 1 after a fatal failure: see `failure()`. */
  FAILED: 9,
  START_POSITION: 10,
  START_LSN: 11,
  /** Bytes up to the end of the last segment that is ready. */
  SEGMENT_FREE: 12,
  /** Flushes that took a second or more: see `info()`. */
  SLOW_FLUSHES: 13,
  /** Goes up with every news of `scrubStatus()`. */
  SCRUB_NEWS: 14,
  /** Changes when `info().copies` tells something new, but for progress. */
  COPY_NEWS: 15,
  /** Flushes since the log was opened, and how long they took in all, in milliseconds. */
  FLUSHES: 16,
  FLUSH_MS: 17,
  /** Shared: bytes of the log that the open batch takes, when this thread last looked. */
  OPEN_BYTES: 18,
  /** 1: other threads append too (`share`). */
  SHARED: 19,
  LENGTH: 20,
} as const;

/** Indices into `NativeLog.words` (Int32, shared with the engine's threads). */
export const Word = {
  /** 0: the ticker sleeps, call `wakeTicker()`; 1: running; 2: the open batch is due, close it. */
  TICK: 0,
} as const;

export interface ReadResult {
  /** Where in the buffer the bytes start (`from` modulo 4096). */
  readonly offset: number;
  /** 0 with `need` > 0: the next batch does not fit; come back with a larger buffer. */
  readonly length: number;
  /**
   * Position after the last whole batch that was read (past zeros and the next segment header after
   * a filler).
   */
  readonly next: number;
  readonly lsn: number;
  readonly need: number;
  /** Ends of batches before `next`, some 256 KiB apart: position, LSN, position, LSN, ... */
  readonly ends: readonly number[];
}

/** Bytes of one segment file that are not what they were. */
export interface DamagedRange {
  /**
   * A segment's header; batches, maybe with the header before them; the zeros that end a segment;
   * a whole file that is missing; a file that is not as long as a segment.
   */
  readonly part: 'header' | 'batches' | 'zeros' | 'segment' | 'length';
  readonly file: string;
  readonly offset: number;
  readonly bytes: number;
  /** Of its first byte in the log. */
  readonly position: number;
  /** The records that lie in it, or next to it; lastLsn < firstLsn: none does. */
  readonly firstLsn: number;
  readonly lastLsn: number;
  readonly reason: string;
}

export interface NativeScrubStatus {
  readonly running: boolean;
  readonly done: number;
  readonly of: number;
  /** How many have ended. */
  readonly passes: number;
  /** Milliseconds since 1970; null: none has ended. */
  readonly finished: number | null;
  readonly damage: readonly DamagedRange[];
  readonly damagedRanges: number;
  readonly found: number;
  readonly repaired: number;
  /** '': nothing to say. */
  readonly reason: string;
}

/**
 * `wrong`: it does not verify, or does not continue the log. `unfit`: it may be right, but what
 * this log holds next to it is damaged too, or cannot be read, and so cannot tell.
 */
export type RefusedRange = 'no' | 'wrong' | 'unfit';

export interface NativeScrub {
  /**
   * Bytes of the log from the batch boundary `from` on, at least `need` of them where the peer has
   * as many and they lie in one segment. What it gives is verified before it is used. `refused`
   * is of what it gave last, and said only to one that has others to ask.
   */
  fetch(from: number, need: number, refused: RefusedRange): Promise<Uint8Array>;
}

/** Appends by one call each, of a log that is shared. */
export interface NativeAppends {
  /**
   * Puts a record, the first `bytes` bytes of `data`, into the open batch, closing what is full or
   * due. Returns its LSN; 0: no room, nothing was taken. Throws why nothing is taken now.
   */
  append(data: Uint8Array, bytes: number): number;
  /**
   * All or none of `count` records, framed as in a batch (length, bytes, zeros to a multiple of 4).
   * Returns the first LSN, or 0.
   */
  appendGroup(records: Uint8Array, bytes: number, count: number): number;
}

/** An open log, for another thread than the one that opened it. */
export interface NativeAttachedLog extends NativeAppends {
  /** Publishes the open batch, if it has records. */
  closeBatch(): void;
  needsDrain(): boolean;
  /** Sends the owner a text, which its `onHeard` gets. false: the owner has ended. */
  ask(text: string): boolean;
  /** What the owner `tell`s, in order; undefined, last: it has ended. */
  onTold(callback: (text: string | undefined) => void): void;
  ref(): void;
  unref(): void;
  /** Detaches. What this thread has appended stays in the open batch. */
  close(): void;
}

export interface NativeLog extends NativeAppends {
  /**
   * The ring, mapped twice in a row (2 × ringBytes long): any range of up to ringBytes is
   * contiguous. Position p lies at p mod ringBytes. undefined where memory cannot be shared.
   */
  readonly ring: ArrayBuffer | undefined;
  readonly state: Float64Array;
  readonly words: Int32Array;

  info(): NativeInfo;
  /**
   * How long flushes took: limit in milliseconds (the last one may be infinite), count, limit,
   * count, ..., by rising limits, those without a flush left out.
   */
  flushTimes(): readonly number[];
  failure(): Error | undefined;
  /**
   * Called after flushes (coalesced), after a failure and when ring space came free. Never
   * re-entrant.
   */
  onProgress(callback: () => void): void;
  /** Keeps the event loop alive while something is waited for. */
  ref(): void;
  unref(): void;

  // -- primary: appending --
  /**
   * Promises that appends which take `bytes` of the log from here on (headers, padding and ends of
   * segments included) find them in the ring and in segments that are ready. 0: done; 1: not yet,
   * missing segments are asked for, and `onProgress` tells of news. Throws WAL_NO_SPACE.
   */
  promise(bytes: number): number;
  /**
   * Closes the open batch if it has records, then makes room for `need` payload bytes in a new one,
   * rolling the segment if it must. 0: done (state refreshed); 1: the ring is full, nothing
   * reserved.
   */
  reserve(payloadBytes: number, count: number, need: number): number;
  /**
   * Frames, checksums and publishes the open batch. Throws on lengths that do not add up. No-op
   * with count 0.
   */
  closeBatch(payloadBytes: number, count: number): void;
  wakeTicker(): void;
  /**
   * Without a shared ring: writes `u32 length`, the bytes and the padding at payload offset `at`.
   */
  put(at: number, data: Uint8Array): void;
  /**
   * Stores the term, the role primary and the rule on both control copies, then writes the term's
   * opening batch; resolves when that is flushed. From then on appends are taken. Any partly
   * received batch is dropped first. Without a rule, none is recorded.
   */
  openTerm(term: Term, rule?: Rule): Promise<void>;

  /**
   * Records in the log, behind the opening and with no batch open, that the promotion was forced,
   * and why: at most 1024 bytes. false: there is no room yet; again after `onProgress`.
   */
  markForced(why: string): boolean;

  // -- standby: receiving --
  /** Bytes inside batches must match this history from now on. Discards a partly received batch. */
  beginIngest(history: readonly HistoryEntry[]): void;
  /**
   * Takes log bytes that continue the log, verifies whole batches and publishes them to the writer.
   * Returns how many bytes were taken: fewer than given if the ring is full. Throws on bytes that
   * do not verify (WAL_PEER_INVALID); nothing of the bad batch is kept.
   */
  ingest(bytes: Uint8Array, start: number, end: number): number;
  /** Position up to which bytes were received (inside a batch, maybe). */
  received(): number;
  /**
   * Cuts the log at a batch boundary, the tail first flushed to a side file (SAFETY 2.5), a plain
   * name that ends in `.diverged`; what has that name already stays, and the tail gets another.
   * Not while the log appends. Resolves with the path of the file; '' where nothing was cut.
   */
  truncate(position: number, sideFile: string, cut?: Cut): Promise<string>;
  /**
   * A standby's log begins anew at the first batch of a segment, past all that it has: `lsn` is the
   * last one before it, `crc` that of the batch that ends there, `history` the terms before it.
   * Durable when it resolves; what was there is gone. Throws WAL_DIVERGED where the log reaches so
   * far, WAL_NOT_STANDBY, WAL_PEER_INVALID.
   */
  beginAt(
    position: number,
    lsn: number,
    crc: number,
    history: readonly HistoryEntry[],
  ): Promise<void>;
  /** The application was told of `info().rebuild`, which is null from then on. */
  storeRebuilt(): Promise<void>;

  // -- control file --
  /**
   * Stores role, term and primary on both copies, flushed, in turn. The rule of the log's last term
   * is kept until another is stored, or the log is cut; a term of incarnation 0, which nobody has
   * opened yet, leaves any as it is. Under another role than primary no appends are taken any more.
   */
  storeRole(role: Role, term: Term, primaryName: string, primaryAddress: string): Promise<void>;
  /** Stores the rule of this term on both copies. */
  storeRule(rule: Rule): Promise<void>;
  /** Before a commit is acknowledged at a level below the rule: stores that there are such. */
  storeUndercut(): Promise<void>;
  /** Standby: stores, on one copy, when its primary was last heard of. */
  storeContact(wallClockMs: number): Promise<void>;
  /** Remembered lazily (with the next control write). Never falls. */
  setCommit(position: number, lsn: number): void;
  /** Nothing is acknowledged from now on: what `setCommit` told last is all. Stored as that is. */
  endCommits(): void;

  // -- reading --
  /**
   * Reads and verifies whole batches from a batch boundary `from` into an aligned buffer, at most
   * up to `upTo` (a batch boundary), never across a segment's end. Runs on the reader thread.
   */
  readInto(buffer: Uint8Array, from: number, upTo: number): Promise<ReadResult>;
  /** The same from the ring, at once. undefined where `from` is no longer in the ring. */
  readRing(buffer: Uint8Array, from: number, upTo: number): ReadResult | undefined;
  /** Start of the batch that holds `lsn` (or of the next batch to come, for lsn = last + 1). */
  locate(lsn: number): Promise<number>;
  /** crc of the batch that ends at this position; rejects if no batch ends there. */
  checksumAt(position: number): Promise<number>;
  /** The same, with the last LSN before that. Also where the log begins. */
  placeAt(position: number): Promise<Place & { readonly crc: number }>;

  // -- memory and retention --
  /**
   * Keeps the ring's bytes from `position` on. Returns a pin; at most 64. Throws WAL_LSN_GONE where
   * they are not there any more.
   */
  pin(position: number): number;
  movePin(pin: number, position: number): void;
  unpin(pin: number): void;
  /** Keeps segments from `position` on. Returns a claim. */
  retain(position: number): number;
  moveRetain(claim: number, position: number): void;
  release(claim: number): void;
  /**
   * Lets whole segments below `position` go, as far as the commit position, flush and claims allow.
   */
  trim(position: number): Promise<void>;

  // -- scrub --
  /** Verifies the sealed segments in the background from now on. */
  setScrub(settings: {
    readonly bytesPerSecond: number;
    readonly firstMs: number;
    readonly everyMs: number;
  }): void;
  /** Asks for one now; `gentle`: not at full speed. Done when `passes` is what this returns. */
  scrubNow(gentle: boolean): number;
  scrubStatus(): NativeScrubStatus;
  /**
   * Damage below the commit position is repaired from there; without `fetch`, from nowhere.
   * `others`: it has several peers to ask.
   */
  repairFrom(peer: string, fetch: NativeScrub['fetch'] | undefined, others?: boolean): void;

  // -- several threads --
  /** By which other threads of the process `attach`. */
  handle(): string;
  /** What those who attached `ask`, in order; undefined, last: that one has gone. */
  onHeard(callback: (from: number, text: string | undefined) => void): void;
  tell(to: number, text: string): void;
  /**
   * The open batch, which is empty, is the engine's from here on: all append by `append` and
   * `appendGroup`, and `reserve` and `closeBatch` are called with no records. Appends are refused
   * until `refuseAppends()` says otherwise. Later calls bring `state` up to date.
   */
  share(): void;
  /** With what appends are refused; nothing: they are taken. */
  refuseAppends(code?: string, message?: string, hint?: string): void;
  /** LSN of the last record, whoever appended it. */
  lastAppended(): number;

  /**
   * Closes the open batch's published part: waits for the flush, stores a clean control file,
   * releases all.
   */
  close(): Promise<void>;
  /** The same, blocking; for the `exit` event. */
  closeSync(): void;
}

export interface VerifyResult {
  readonly start: Place;
  readonly end: Place;
  readonly batches: number;
  readonly records: number;
  readonly bytes: number;
  readonly term: Term;
  readonly damage?: {
    readonly file: string;
    readonly offset: number;
    readonly lsn: number;
    readonly reason: string;
  };
}

/** All damage of a closed log. */
export interface ScrubResult {
  readonly start: Place;
  readonly end: Place;
  readonly batches: number;
  readonly records: number;
  readonly damage: readonly DamagedRange[];
}

export interface RepairedRange extends DamagedRange {
  /** In a dry run: it could be. */
  readonly repaired: boolean;
  /** Why not; '' if it was. */
  readonly why: string;
}

export interface RepairResult extends ScrubResult {
  readonly damage: readonly RepairedRange[];
  readonly writtenBytes: number;
}

export interface NativeRepairOptions {
  readonly dir: string;
  /** Another directory with a copy of the log; or a peer. Neither: what follows from the log. */
  readonly fromDir?: string | undefined;
  /** Name of the peer, for messages. */
  readonly peer?: string | undefined;
  readonly fetch?: NativeScrub['fetch'] | undefined;
  readonly dryRun: boolean;
}

/** How far reading the log is, of how far. */
export type ScrubProgress = (position: number, of: number) => void;

/** Reads a directory without its lock and without changing a byte. */
export interface NativeReader {
  info(): NativeInfo;
  /** End of the valid log on disk when the reader was opened (`refresh` looks again). */
  refresh(): Promise<Place>;
  readInto(buffer: Uint8Array, from: number, upTo: number): Promise<ReadResult>;
  locate(lsn: number): Promise<number>;
  verify(): Promise<VerifyResult>;
  close(): void;
}

export interface NativeBinding {
  open(options: NativeOpenOptions): Promise<NativeLog>;
  openReader(dir: string): Promise<NativeReader>;
  /** Throws WAL_CLOSED where no open log of this process has the handle. */
  attach(handle: string): NativeAttachedLog;
  /** What the control file says of the log, however damaged its segments are. */
  identify(dir: string): { readonly logId: string; readonly salt: string };
  /** Reads a log that nobody has open, and tells all its damage. */
  scrub(dir: string, progress?: ScrubProgress): Promise<ScrubResult>;
  /** Writes anew what is damaged in a log that nobody has open; holds its lock meanwhile. */
  repair(options: NativeRepairOptions, progress?: ScrubProgress): Promise<RepairResult>;
  /** A page-aligned Buffer for `readInto`. */
  allocateAligned(bytes: number): Buffer;
  crc32c(data: Uint8Array, seed?: number): number;
  /** Names of the implementations that this processor can run; the first is in use. */
  crc32cImplementations(): readonly string[];
  crc32cWith(implementation: string, data: Uint8Array): number;
  /**
   * Milliseconds since the machine was started, with fractions, time of suspension included
   * (CLOCK_BOOTTIME); comparable between the processes of one machine. Never falls. NaN where the
   * kernel has no such clock.
   */
  bootTime(): number;
  /**
   * Takes an exclusive lock on a file, which is created where there is none, and returns what
   * releases it; the system releases it when the process ends. Throws WAL_LOCKED, at once, where
   * another process, or another call of this one, has it.
   */
  lockFile(path: string): () => void;
}
