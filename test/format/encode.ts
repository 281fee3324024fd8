import { crc32c } from './crc32c.js';
import * as layout from './layout.js';
import { roundUp } from './layout.js';

function putU64(bytes: Buffer, value: number | bigint, at: number): void {
  bytes.writeBigUInt64LE(BigInt(value), at);
}

function putHex(bytes: Buffer, value: string, at: number): void {
  bytes.write(value, at, 'hex');
}

function putEntry(bytes: Buffer, entry: layout.HistoryEntry, at: number): void {
  putU64(bytes, entry.epoch, at);
  putHex(bytes, entry.opener, at + 8);
  bytes.writeUInt32LE(entry.incarnation, at + 24);
  putU64(bytes, entry.position, at + 32);
  putU64(bytes, entry.lsn, at + 40);
}

/** Makes the crc fit changed bytes again, so that a check behind the crc is what refuses them. */
export function mendCrc(bytes: Buffer): Buffer {
  bytes.writeUInt32LE(crc32c(bytes.subarray(8)), 4);
  return bytes;
}

export function encodeSegmentHeader(header: layout.SegmentHeader): Buffer {
  const bytes = Buffer.alloc(layout.SEGMENT_HEADER_BYTES);
  bytes.writeUInt32LE(layout.SEGMENT_MAGIC, 0);
  bytes.writeUInt32LE(layout.FORMAT_VERSION, 8);
  bytes.writeUInt32LE(header.align, 12);
  putHex(bytes, header.logId, 16);
  putU64(bytes, header.salt, 32);
  putU64(bytes, header.start, 40);
  putU64(bytes, header.firstLsn, 48);
  putU64(bytes, header.segmentBytes, 56);
  bytes.writeUInt32LE(header.prevCrc, 64);
  return mendCrc(bytes);
}

export function encodeRecords(records: readonly Uint8Array[]): Buffer {
  const parts: Buffer[] = [];
  for (const record of records) {
    const part = Buffer.alloc(4 + roundUp(record.length, 4));
    part.writeUInt32LE(record.length, 0);
    part.set(record, 4);
    parts.push(part);
  }
  return Buffer.concat(parts);
}

export function encodeHistory(history: readonly layout.HistoryEntry[]): Buffer {
  const bytes = Buffer.alloc(8 + history.length * layout.HISTORY_ENTRY_BYTES);
  bytes.writeUInt32LE(history.length, 0);
  history.forEach((entry, i) => {
    putEntry(bytes, entry, 8 + i * layout.HISTORY_ENTRY_BYTES);
  });
  return bytes;
}

/** What a batch's header says; lengths and crc follow from the payload. */
export type BatchFields = Omit<
  layout.BatchHeader,
  'crc' | 'length' | 'payloadBytes' | 'rawBytes' | 'codec'
>;

export function encodeBatch(fields: BatchFields, payload: Uint8Array, align: number): Buffer {
  const length = roundUp(layout.BATCH_HEADER_BYTES + payload.length, align);
  const bytes = Buffer.alloc(length);
  bytes.writeUInt32LE(layout.BATCH_MAGIC, 0);
  bytes.writeUInt32LE(length, 8);
  bytes.writeUInt8(layout.FORMAT_VERSION, 12);
  bytes.writeUInt8(fields.kind, 13);
  bytes.writeUInt8(fields.flags, 14);
  putHex(bytes, fields.logId, 16);
  putU64(bytes, fields.salt, 32);
  putU64(bytes, fields.position, 40);
  putU64(bytes, fields.epoch, 48);
  putU64(bytes, fields.firstLsn, 56);
  putHex(bytes, fields.opener, 64);
  bytes.writeUInt32LE(fields.incarnation, 80);
  bytes.writeUInt32LE(fields.count, 84);
  bytes.writeUInt32LE(payload.length, 88);
  bytes.writeUInt32LE(payload.length, 92);
  putU64(bytes, fields.wallClock, 96);
  putU64(bytes, fields.watermark, 104);
  bytes.writeUInt32LE(fields.prevCrc, 112);
  putHex(bytes, fields.framer, 120);
  bytes.set(payload, layout.BATCH_HEADER_BYTES);
  return mendCrc(bytes);
}

function putRule(bytes: Buffer, rule: layout.StoredRule): void {
  const { level, standbys, members } = rule;
  const { DEGRADED, OF_EARLIER_TERM, UNDERCUT } = layout.RuleFlag;
  const at = layout.RULE_OFFSET;
  bytes.writeUInt32LE(layout.levels.indexOf(level), at);
  bytes.writeUInt32LE(members.length, at + 4);
  const flags =
    (rule.degraded ? DEGRADED : 0) |
    (rule.ofEarlierTerm ? OF_EARLIER_TERM : 0) |
    (rule.undercut ? UNDERCUT : 0);
  bytes.writeUInt32LE(flags, at + 8);
  members.forEach((member, i) => {
    putHex(bytes, member, at + 16 + i * 16);
  });
  bytes.write(standbys, layout.RULE_TEXT_OFFSET, layout.RULE_TEXT_BYTES - 1, 'utf8');
}

function putMembership(bytes: Buffer, membership: layout.StoredMembership): void {
  const at = layout.COPIES_OFFSET;
  const { generation, tags, quorum, copies, own } = membership;
  putU64(bytes, generation, at);
  bytes.writeUInt32LE(copies.length, at + 8);
  bytes.writeUInt32LE(quorum, at + 12);
  tags.forEach((tag, i) => {
    bytes.writeBigUInt64LE(tag, at + 16 + i * 8);
  });
  const table = at + 16 + layout.GENERATION_TAGS * 8;
  copies.forEach((copy, i) => {
    const entry = table + i * layout.COPY_BYTES;
    putHex(bytes, copy.id, entry);
    bytes.writeUInt32LE(copy.state === 'in' ? 1 : 2, entry + 16);
    bytes.writeUInt16LE(copy.reason, entry + 20);
    bytes.writeUInt16LE(copy.error, entry + 22);
    putU64(bytes, copy.since, entry + 24);
    bytes.write(copy.path, entry + 32, layout.COPY_PATH_BYTES - 1, 'utf8');
  });
  putHex(bytes, own, table + layout.COPY_LIMIT * layout.COPY_BYTES);
}

export function encodeControlCopy(control: layout.Control): Buffer {
  const bytes = Buffer.alloc(layout.CONTROL_COPY_BYTES);
  bytes.writeUInt32LE(layout.CONTROL_MAGIC, 0);
  bytes.writeUInt32LE(layout.FORMAT_VERSION, 8);
  bytes.writeUInt32LE(control.align, 12);
  putU64(bytes, control.sequence, 16);
  putHex(bytes, control.logId, 24);
  putU64(bytes, control.salt, 40);
  putHex(bytes, control.nodeId, 48);
  putU64(bytes, control.segmentBytes, 64);
  putU64(bytes, control.maxRecordBytes, 72);
  bytes.writeUInt32LE(layout.roles.indexOf(control.role), 80);
  const { CLEAN, CUT_UNDER_WAY, COMMIT_EXACT } = layout.ControlFlag;
  const flags =
    (control.clean ? CLEAN : 0) |
    (control.cutUnderWay ? CUT_UNDER_WAY : 0) |
    (control.commitExact ? COMMIT_EXACT : 0);
  bytes.writeUInt32LE(flags, 84);
  putU64(bytes, control.epoch, 88);
  putHex(bytes, control.opener, 96);
  bytes.writeUInt32LE(control.incarnation, 112);
  bytes.writeUInt32LE(control.history.length, 116);
  putU64(bytes, control.watermark.position, 120);
  putU64(bytes, control.watermark.lsn, 128);
  bytes.writeUInt32LE(control.watermark.crc, 136);
  putU64(bytes, control.commit.position, 144);
  putU64(bytes, control.commit.lsn, 152);
  putU64(bytes, control.start.position, 160);
  putU64(bytes, control.forkPosition, 168);
  putU64(bytes, control.lastWallClock, 176);
  putU64(bytes, control.start.lsn, 184);
  bytes.write(control.name, 192, 64, 'utf8');
  bytes.write(control.primaryName, 256, 64, 'utf8');
  bytes.write(control.primaryAddress, 320, 128, 'utf8');
  putU64(bytes, control.lastContact, 448);
  putU64(bytes, control.rebuildFrom, 456);
  putU64(bytes, control.rebuildTo, 464);
  putU64(bytes, control.quorumLsn, 472);
  putU64(bytes, control.quorumMostLsn, 480);
  if (control.rule !== undefined) putRule(bytes, control.rule);
  if (control.membership !== undefined) putMembership(bytes, control.membership);
  control.history.forEach((entry, i) => {
    putEntry(bytes, entry, layout.HISTORY_OFFSET + i * layout.HISTORY_ENTRY_BYTES);
  });
  return mendCrc(bytes);
}

/** A control file of two copies; the older one carries the sequence number before. */
export function encodeControl(control: layout.Control): Buffer {
  const older = { ...control, sequence: control.sequence - 1 };
  return Buffer.concat([encodeControlCopy(older), encodeControlCopy(control)]);
}
