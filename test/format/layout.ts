/**
 * The words of docs/format.md as types and numbers. Written from that page alone: nothing here may
 * be taken from the addon, which is what it is compared with.
 */

export const BLOCK = 4096;
export const SEGMENT_HEADER_BYTES = 4096;
export const BATCH_HEADER_BYTES = 128;
export const CONTROL_COPY_BYTES = 16384;
export const HISTORY_OFFSET = 512;
export const HISTORY_ENTRY_BYTES = 48;
export const HISTORY_LIMIT = 256;
export const RULE_OFFSET = 12800;
export const RuleFlag = { DEGRADED: 1, OF_EARLIER_TERM: 2, UNDERCUT: 4 } as const;
export const MEMBER_LIMIT = 64;
export const RULE_TEXT_OFFSET = RULE_OFFSET + 16 + MEMBER_LIMIT * 16;
export const RULE_TEXT_BYTES = 2048;
export const COPIES_OFFSET = RULE_TEXT_OFFSET + RULE_TEXT_BYTES;
export const COPY_LIMIT = 4;
export const COPY_BYTES = 96;
export const COPY_PATH_BYTES = 64;
export const GENERATION_TAGS = 9;
export const FORMAT_VERSION = 1;

export const SEGMENT_MAGIC = 0x47534d57;
export const BATCH_MAGIC = 0x54424d57;
export const CONTROL_MAGIC = 0x54434d57;

export const Kind = {
  DATA: 0,
  TERM_OPENED: 1,
  LABEL: 2,
  LOAD_ID: 3,
  FORCED_PROMOTION: 4,
  FILLER: 5,
} as const;

export const Flag = { IGNORABLE: 1, PADDED: 2 } as const;
export const ControlFlag = { CLEAN: 1, CUT_UNDER_WAY: 2, COMMIT_EXACT: 4 } as const;
export const roles = ['none', 'primary', 'standby', 'fenced'] as const;
export type StoredRole = (typeof roles)[number];
export const levels = [
  'none',
  'off',
  'local',
  'remote_write',
  'remote_flush',
  'remote_apply',
] as const;
export type StoredLevel = (typeof levels)[number];

export interface StoredRule {
  readonly level: StoredLevel;
  readonly standbys: string;
  readonly members: readonly string[];
  readonly degraded: boolean;
  /** Of the last term in the history. */
  readonly ofEarlierTerm: boolean;
  /** Commits were acknowledged at a level below it. */
  readonly undercut: boolean;
}

/** A directory that holds a copy of the log, as the control files tell it. */
export interface StoredCopy {
  readonly id: string;
  readonly state: 'in' | 'out';
  readonly reason: number;
  readonly error: number;
  readonly since: number;
  readonly path: string;
}

export interface StoredMembership {
  readonly generation: number;
  /** Of this generation and of those before it. */
  readonly tags: readonly bigint[];
  /** Copies that an acknowledgement waits for; 0: all that are in. */
  readonly quorum: number;
  readonly copies: readonly StoredCopy[];
  /** Id of the copy in this directory. */
  readonly own: string;
}

export interface Term {
  readonly epoch: number;
  readonly opener: string;
  readonly incarnation: number;
}

export interface HistoryEntry extends Term {
  readonly position: number;
  readonly lsn: number;
}

export interface SegmentHeader {
  readonly align: number;
  readonly logId: string;
  readonly salt: bigint;
  readonly start: number;
  readonly firstLsn: number;
  readonly segmentBytes: number;
  readonly prevCrc: number;
}

export interface BatchHeader extends Term {
  readonly crc: number;
  readonly length: number;
  readonly kind: number;
  readonly flags: number;
  readonly codec: number;
  readonly logId: string;
  readonly salt: bigint;
  readonly position: number;
  readonly firstLsn: number;
  readonly count: number;
  readonly payloadBytes: number;
  readonly rawBytes: number;
  readonly wallClock: number;
  readonly watermark: number;
  readonly prevCrc: number;
  /** First 8 bytes of the framer's node id, as 16 hexadecimal digits. */
  readonly framer: string;
}

export interface Batch extends BatchHeader {
  /** Where the next batch starts: past the segment's end for a filler. */
  readonly end: number;
  /** Last LSN at the end of this batch. */
  readonly lastLsn: number;
  readonly records: readonly Uint8Array[];
  /** The history that a term-opened batch carries; empty otherwise. */
  readonly history: readonly HistoryEntry[];
  /** Of a forced promotion: why it would have been refused; null: the batch is another. */
  readonly forced: string | null;
}

export interface Control extends Term {
  readonly align: number;
  readonly sequence: number;
  readonly logId: string;
  readonly salt: bigint;
  readonly nodeId: string;
  readonly segmentBytes: number;
  readonly maxRecordBytes: number;
  readonly role: StoredRole;
  readonly clean: boolean;
  readonly cutUnderWay: boolean;
  /** Nothing past the commit place was acknowledged by this node, nor will be. */
  readonly commitExact: boolean;
  readonly watermark: { readonly position: number; readonly lsn: number; readonly crc: number };
  readonly commit: { readonly position: number; readonly lsn: number };
  readonly start: { readonly position: number; readonly lsn: number };
  readonly forkPosition: number;
  readonly lastWallClock: number;
  readonly name: string;
  readonly primaryName: string;
  readonly primaryAddress: string;
  readonly lastContact: number;
  /** Records that were cut and may have been seen, until that was told; 0 and 0: none. */
  readonly rebuildFrom: number;
  readonly rebuildTo: number;
  /** Last record that a quorum is known to have committed, and that it may at most. */
  readonly quorumLsn: number;
  readonly quorumMostLsn: number;
  readonly rule: StoredRule | undefined;
  /** undefined: one directory, as it was created. */
  readonly membership: StoredMembership | undefined;
  readonly history: readonly HistoryEntry[];
}

/** What decoding gives: the thing, or why the bytes are not it. */
export type Decoded<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly reason: string };

export function fail(reason: string): { readonly ok: false; readonly reason: string } {
  return { ok: false, reason };
}

export function roundUp(bytes: number, unit: number): number {
  return Math.ceil(bytes / unit) * unit;
}

/** What a filler takes, and so what every other batch leaves free before its segment's end. */
export function fillerBytes(align: number): number {
  return Math.max(BATCH_HEADER_BYTES, align);
}

/** As in sort; undefined where the terms are a split (one epoch, two openers). */
export function compareTerms(a: Term, b: Term): number | undefined {
  if (a.epoch !== b.epoch) return a.epoch - b.epoch;
  if (a.opener !== b.opener) return undefined;
  return a.incarnation - b.incarnation;
}

export function segmentName(firstLsn: number, start: number): string {
  const hex = (value: number): string => value.toString(16).padStart(16, '0');
  return `${hex(firstLsn)}-${hex(start)}.wal`;
}

export function allZero(bytes: Uint8Array): boolean {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return view.equals(Buffer.alloc(view.length));
}
