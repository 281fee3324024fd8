import { crc32c } from './crc32c.js';
import * as layout from './layout.js';
import { type Decoded, fail, Kind, roundUp } from './layout.js';

function u64(bytes: Buffer, at: number): number {
  return Number(bytes.readBigUInt64LE(at));
}

function hex(bytes: Buffer, at: number, length: number): string {
  return bytes.toString('hex', at, at + length);
}

function text(bytes: Buffer, at: number, length: number): string {
  const field = bytes.subarray(at, at + length);
  const end = field.indexOf(0);
  return field.toString('utf8', 0, end < 0 ? length : end);
}

function decodeEntry(bytes: Buffer, at: number): layout.HistoryEntry {
  return {
    epoch: u64(bytes, at),
    opener: hex(bytes, at + 8, 16),
    incarnation: bytes.readUInt32LE(at + 24),
    position: u64(bytes, at + 32),
    lsn: u64(bytes, at + 40),
  };
}

/** Decodes the first 4096 bytes of a segment file. */
export function decodeSegmentHeader(bytes: Buffer): Decoded<layout.SegmentHeader> {
  if (bytes.length < layout.SEGMENT_HEADER_BYTES) return fail('short');
  const header = bytes.subarray(0, layout.SEGMENT_HEADER_BYTES);
  if (header.readUInt32LE(0) !== layout.SEGMENT_MAGIC) return fail('magic');
  if (header.readUInt32LE(4) !== crc32c(header.subarray(8))) return fail('crc');
  if (header.readUInt32LE(8) !== layout.FORMAT_VERSION) return fail('version');
  if (!layout.allZero(header.subarray(68))) return fail('zeros');
  const value = {
    align: header.readUInt32LE(12),
    logId: hex(header, 16, 16),
    salt: header.readBigUInt64LE(32),
    start: u64(header, 40),
    firstLsn: u64(header, 48),
    segmentBytes: u64(header, 56),
    prevCrc: header.readUInt32LE(64),
  };
  if (value.align !== 8 && value.align !== layout.BLOCK) return fail('align');
  if (value.segmentBytes === 0 || value.segmentBytes % layout.BLOCK !== 0)
    return fail('segment bytes');
  if (value.start % value.segmentBytes !== 0) return fail('start position');
  return { ok: true, value };
}

/** The fields of a batch header, unchecked. `bytes` holds at least 128 from `at`. */
export function decodeBatchHeader(bytes: Buffer, at: number): layout.BatchHeader {
  return {
    crc: bytes.readUInt32LE(at + 4),
    length: bytes.readUInt32LE(at + 8),
    kind: bytes.readUInt8(at + 13),
    flags: bytes.readUInt8(at + 14),
    codec: bytes.readUInt8(at + 15),
    logId: hex(bytes, at + 16, 16),
    salt: bytes.readBigUInt64LE(at + 32),
    position: u64(bytes, at + 40),
    epoch: u64(bytes, at + 48),
    firstLsn: u64(bytes, at + 56),
    opener: hex(bytes, at + 64, 16),
    incarnation: bytes.readUInt32LE(at + 80),
    count: bytes.readUInt32LE(at + 84),
    payloadBytes: bytes.readUInt32LE(at + 88),
    rawBytes: bytes.readUInt32LE(at + 92),
    wallClock: u64(bytes, at + 96),
    watermark: u64(bytes, at + 104),
    prevCrc: bytes.readUInt32LE(at + 112),
    framer: hex(bytes, at + 120, 8),
  };
}

/** What a log fixes at its creation. */
export interface LogIdentity {
  readonly logId: string;
  readonly salt: bigint;
  readonly align: number;
  readonly segmentBytes: number;
}

/**
 * Checks that a batch stands alone at `at` of its segment's bytes: everything that needs no
 * knowledge of the batches before it.
 */
export function decodeAlone(
  segment: Buffer,
  at: number,
  start: number,
  log: LogIdentity,
): Decoded<layout.Batch> {
  if (at + layout.BATCH_HEADER_BYTES > segment.length) return fail('past the file');
  if (segment.readUInt32LE(at) !== layout.BATCH_MAGIC) return fail('magic');
  if (segment.readUInt8(at + 12) !== layout.FORMAT_VERSION) return fail('version');
  const header = decodeBatchHeader(segment, at);
  const { kind, length } = header;
  const room = log.segmentBytes - at - (kind === Kind.FILLER ? 0 : layout.fillerBytes(log.align));
  if (length < layout.BATCH_HEADER_BYTES || length > room) return fail('length');
  if (length % log.align !== 0 || at + length > segment.length) return fail('length');
  if (header.crc !== crc32c(segment.subarray(at + 8, at + length))) return fail('crc');
  if (header.logId !== log.logId) return fail('log id');
  if (header.salt !== log.salt) return fail('salt');
  if (header.position !== start + at) return fail('position');
  if (segment.readUInt32LE(at + 116) !== 0) return fail('zero field');
  if ((header.flags & ~(layout.Flag.IGNORABLE | layout.Flag.PADDED)) !== 0) return fail('flags');
  if (header.codec !== 0 || header.rawBytes !== header.payloadBytes) return fail('codec');
  const unpadded = layout.BATCH_HEADER_BYTES + header.payloadBytes;
  if (length !== roundUp(unpadded, log.align)) return fail('payload length');
  if (!layout.allZero(segment.subarray(at + unpadded, at + length))) return fail('padding');
  const payload = segment.subarray(at + layout.BATCH_HEADER_BYTES, at + unpadded);
  const content = decodePayload(header, payload);
  if (!content.ok) return content;
  const end =
    kind === Kind.FILLER
      ? start + log.segmentBytes + layout.SEGMENT_HEADER_BYTES
      : start + at + length;
  const lastLsn = header.firstLsn + header.count - 1;
  return { ok: true, value: { ...header, ...content.value, end, lastLsn } };
}

type Content = Pick<layout.Batch, 'records' | 'history' | 'forced'>;

function decodePayload(header: layout.BatchHeader, payload: Buffer): Decoded<Content> {
  const { kind, count } = header;
  if (kind === Kind.DATA) return decodeRecords(payload, count);
  if (kind > Kind.FILLER && (header.flags & layout.Flag.IGNORABLE) === 0)
    return fail('unknown kind');
  if (count !== 0) return fail('count');
  if (kind === Kind.TERM_OPENED) return decodeHistory(header, payload);
  if (kind === Kind.FORCED_PROMOTION) {
    return { ok: true, value: { records: [], history: [], forced: payload.toString() } };
  }
  if (kind === Kind.FILLER && payload.length !== 0) return fail('filler payload');
  return { ok: true, value: { records: [], history: [], forced: null } };
}

function decodeRecords(payload: Buffer, count: number): Decoded<Content> {
  if (count === 0) return fail('count');
  const records: Uint8Array[] = [];
  let at = 0;
  while (records.length < count) {
    if (at + 4 > payload.length) return fail('record length');
    const length = payload.readUInt32LE(at);
    const padded = roundUp(length, 4);
    if (at + 4 + padded > payload.length) return fail('record length');
    if (!layout.allZero(payload.subarray(at + 4 + length, at + 4 + padded)))
      return fail('record padding');
    records.push(payload.subarray(at + 4, at + 4 + length));
    at += 4 + padded;
  }
  return at === payload.length
    ? { ok: true, value: { records, history: [], forced: null } }
    : fail('record length');
}

function decodeHistory(header: layout.BatchHeader, payload: Buffer): Decoded<Content> {
  if (payload.length < 8) return fail('history length');
  const entries = payload.readUInt32LE(0);
  if (payload.readUInt32LE(4) !== 0) return fail('history flags');
  if (entries === 0 || entries > layout.HISTORY_LIMIT) return fail('history entries');
  if (payload.length !== 8 + entries * layout.HISTORY_ENTRY_BYTES) return fail('history length');
  const history: layout.HistoryEntry[] = [];
  for (let at = 8; at < payload.length; at += layout.HISTORY_ENTRY_BYTES) {
    if (payload.readUInt32LE(at + 28) !== 0) return fail('history zero');
    history.push(decodeEntry(payload, at));
  }
  const last = history.at(-1);
  if (last === undefined || layout.compareTerms(last, header) !== 0) return fail('history term');
  // The term may have begun with the filler before: only a walk along the log knows.
  if (last.position > header.position || last.lsn !== header.firstLsn - 1) {
    return fail('history place');
  }
  return { ok: true, value: { records: [], history, forced: null } };
}

function decodeRule(bytes: Buffer): Decoded<layout.StoredRule | undefined> {
  const at = layout.RULE_OFFSET;
  const level = layout.levels[bytes.readUInt32LE(at)];
  const count = bytes.readUInt32LE(at + 4);
  if (level === undefined) return fail('rule level');
  if (count > layout.MEMBER_LIMIT) return fail('rule members');
  if (level === 'none') {
    return layout.allZero(bytes.subarray(at, layout.COPIES_OFFSET))
      ? { ok: true, value: undefined }
      : fail('zeros');
  }
  const ids = at + 16;
  const standbys = text(bytes, layout.RULE_TEXT_OFFSET, layout.RULE_TEXT_BYTES);
  const textEnd = layout.RULE_TEXT_OFFSET + Buffer.byteLength(standbys);
  const flags = bytes.readUInt32LE(at + 8);
  const { DEGRADED, OF_EARLIER_TERM, UNDERCUT } = layout.RuleFlag;
  if ((flags & ~(DEGRADED | OF_EARLIER_TERM | UNDERCUT)) !== 0) return fail('rule flags');
  if (!layout.allZero(bytes.subarray(at + 12, ids))) return fail('zeros');
  if (!layout.allZero(bytes.subarray(ids + count * 16, layout.RULE_TEXT_OFFSET)))
    return fail('zeros');
  if (!layout.allZero(bytes.subarray(textEnd, layout.COPIES_OFFSET))) return fail('zeros');
  const members = Array.from({ length: count }, (_, i) => hex(bytes, ids + i * 16, 16));
  const degraded = (flags & DEGRADED) !== 0;
  const ofEarlierTerm = (flags & OF_EARLIER_TERM) !== 0;
  const undercut = (flags & UNDERCUT) !== 0;
  return { ok: true, value: { level, standbys, members, degraded, ofEarlierTerm, undercut } };
}

function decodeMembership(bytes: Buffer): Decoded<layout.StoredMembership | undefined> {
  const at = layout.COPIES_OFFSET;
  const generation = u64(bytes, at);
  const count = bytes.readUInt32LE(at + 8);
  if (generation === 0) {
    return layout.allZero(bytes.subarray(at)) ? { ok: true, value: undefined } : fail('zeros');
  }
  if (count > layout.COPY_LIMIT) return fail('copies');
  const table = at + 16 + layout.GENERATION_TAGS * 8;
  const own = table + layout.COPY_LIMIT * layout.COPY_BYTES;
  const quorum = bytes.readUInt32LE(at + 12);
  if (quorum > layout.COPY_LIMIT) return fail('quorum');
  if (!layout.allZero(bytes.subarray(table + count * layout.COPY_BYTES, own))) return fail('zeros');
  if (!layout.allZero(bytes.subarray(own + 16))) return fail('zeros');
  const copies: layout.StoredCopy[] = [];
  for (let entry = table; copies.length < count; entry += layout.COPY_BYTES) {
    const state = bytes.readUInt32LE(entry + 16);
    if (state !== 1 && state !== 2) return fail('copy state');
    copies.push({
      id: hex(bytes, entry, 16),
      state: state === 1 ? 'in' : 'out',
      reason: bytes.readUInt16LE(entry + 20),
      error: bytes.readUInt16LE(entry + 22),
      since: u64(bytes, entry + 24),
      path: text(bytes, entry + 32, layout.COPY_PATH_BYTES),
    });
  }
  const tags = Array.from({ length: layout.GENERATION_TAGS }, (_, i) =>
    bytes.readBigUInt64LE(at + 16 + i * 8),
  );
  return { ok: true, value: { generation, tags, quorum, copies, own: hex(bytes, own, 16) } };
}

/** Decodes one 16 KiB copy of the control file. */
export function decodeControlCopy(bytes: Buffer): Decoded<layout.Control> {
  if (bytes.length !== layout.CONTROL_COPY_BYTES) return fail('short');
  if (bytes.readUInt32LE(0) !== layout.CONTROL_MAGIC) return fail('magic');
  if (bytes.readUInt32LE(4) !== crc32c(bytes.subarray(8))) return fail('crc');
  if (bytes.readUInt32LE(8) !== layout.FORMAT_VERSION) return fail('version');
  const entries = bytes.readUInt32LE(116);
  if (entries > layout.HISTORY_LIMIT) return fail('history entries');
  const role = layout.roles[bytes.readUInt32LE(80)];
  if (role === undefined || role === 'none') return fail('role');
  const flags = bytes.readUInt32LE(84);
  const historyEnd = layout.HISTORY_OFFSET + entries * layout.HISTORY_ENTRY_BYTES;
  if (!layout.allZero(bytes.subarray(488, 512))) return fail('zeros');
  if (!layout.allZero(bytes.subarray(historyEnd, layout.RULE_OFFSET))) return fail('zeros');
  const rule = decodeRule(bytes);
  if (!rule.ok) return rule;
  const membership = decodeMembership(bytes);
  if (!membership.ok) return membership;
  const history: layout.HistoryEntry[] = [];
  for (let at = layout.HISTORY_OFFSET; at < historyEnd; at += layout.HISTORY_ENTRY_BYTES) {
    history.push(decodeEntry(bytes, at));
  }
  const value: layout.Control = {
    align: bytes.readUInt32LE(12),
    sequence: u64(bytes, 16),
    logId: hex(bytes, 24, 16),
    salt: bytes.readBigUInt64LE(40),
    nodeId: hex(bytes, 48, 16),
    segmentBytes: u64(bytes, 64),
    maxRecordBytes: u64(bytes, 72),
    role,
    clean: (flags & layout.ControlFlag.CLEAN) !== 0,
    cutUnderWay: (flags & layout.ControlFlag.CUT_UNDER_WAY) !== 0,
    commitExact: (flags & layout.ControlFlag.COMMIT_EXACT) !== 0,
    epoch: u64(bytes, 88),
    opener: hex(bytes, 96, 16),
    incarnation: bytes.readUInt32LE(112),
    watermark: { position: u64(bytes, 120), lsn: u64(bytes, 128), crc: bytes.readUInt32LE(136) },
    commit: { position: u64(bytes, 144), lsn: u64(bytes, 152) },
    start: { position: u64(bytes, 160), lsn: u64(bytes, 184) },
    forkPosition: u64(bytes, 168),
    lastWallClock: u64(bytes, 176),
    name: text(bytes, 192, 64),
    primaryName: text(bytes, 256, 64),
    primaryAddress: text(bytes, 320, 128),
    lastContact: u64(bytes, 448),
    rebuildFrom: u64(bytes, 456),
    rebuildTo: u64(bytes, 464),
    quorumLsn: u64(bytes, 472),
    quorumMostLsn: u64(bytes, 480),
    rule: rule.value,
    membership: membership.value,
    history,
  };
  return { ok: true, value };
}

export interface ControlFile {
  readonly copies: readonly [Decoded<layout.Control>, Decoded<layout.Control>];
  /** The valid copy with the higher sequence number. */
  readonly current: layout.Control | undefined;
}

export function decodeControl(bytes: Buffer): ControlFile {
  const copies = [
    decodeControlCopy(bytes.subarray(0, layout.CONTROL_COPY_BYTES)),
    decodeControlCopy(bytes.subarray(layout.CONTROL_COPY_BYTES)),
  ] as const;
  const valid = copies.flatMap((copy) => (copy.ok ? [copy.value] : []));
  valid.sort((a, b) => b.sequence - a.sequence);
  return { copies, current: valid[0] };
}
