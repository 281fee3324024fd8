import type { Place } from '../native/native_log.js';
import { getU32, getU64, invalid, putU32, putU64 } from './bytes.js';
import { lengthBytes, MessageType } from './message_type.js';

/**
 * The messages of a session that is let in: fixed layouts, read in place.
 *
 *   offset 0        4    5     6    8        12       16
 *         +--------+----+-----+----+--------+--------+
 *       0 | length |type|flags| 0  |session |incarn. |    the session, and the term it belongs to
 *         +--------+----+-----+----+--------+--------+
 *      16 |      epoch      |
 *         +-----------------+-----------------+
 *  DATA   | 24 position     | 32 commit pos.  | 40 commit LSN | 48 log bytes ...
 *  COMMIT | 24 commit pos.  | 32 commit LSN   | 40 end pos.   | 48 end LSN
 *  ACK    | 24 write pos.   | 32 write LSN    | 40 flush pos. | 48 flush LSN | 56 apply LSN
 *         | 64 rule u32, 0 u32
 *
 * `rule` is the number of the newest rule that the standby has recorded (rule_message.ts); with 0
 * it acknowledges nothing.
 * `end` in COMMIT is how far the primary's log goes. `flags` bit 0 in DATA and COMMIT:
 * acknowledge writes at once, somebody waits for them. Every other bit is 0.
 */
export const sessionHeaderBytes = 24;
export const dataHeaderBytes = 48;
export const commitBytes = 56;
export const ackBytes = 72;

/**
 * What each message of a session repeats, so that one of an earlier connection or term is told
 * apart.
 */
export interface SessionTag {
  readonly session: number;
  readonly epoch: number;
  readonly incarnation: number;
}

export function putHeader(
  bytes: Uint8Array,
  length: number,
  type: number,
  flags: number,
  tag: SessionTag,
): void {
  putU32(bytes, 0, length - lengthBytes);
  bytes[4] = type;
  bytes[5] = flags;
  bytes[6] = 0;
  bytes[7] = 0;
  putU32(bytes, 8, tag.session);
  putU32(bytes, 12, tag.incarnation);
  putU64(bytes, 16, tag.epoch);
}

/** Checks that a message belongs to this session and has a length that its type allows. */
export function checkHeader(bytes: Uint8Array, at: number, tag: SessionTag): void {
  if (bytes[at + 5]! > 1 || bytes[at + 6] !== 0 || bytes[at + 7] !== 0) {
    throw invalid('unknown flags');
  }
  if (getU32(bytes, at + 8) !== tag.session) throw invalid('a message of another connection');
  if (getU64(bytes, at + 16) !== tag.epoch || getU32(bytes, at + 12) !== tag.incarnation) {
    throw invalid('a message of another term');
  }
}

/** Writes the envelope of `dataBytes` log bytes into the first 48 bytes. */
export function putDataHeader(
  bytes: Uint8Array,
  tag: SessionTag,
  position: number,
  commit: Place,
  dataBytes: number,
  writeAcks: boolean,
): void {
  putHeader(bytes, dataHeaderBytes + dataBytes, MessageType.DATA, writeAcks ? 1 : 0, tag);
  putU64(bytes, 24, position);
  putU64(bytes, 32, commit.position);
  putU64(bytes, 40, commit.lsn);
}

export function putCommit(
  bytes: Uint8Array,
  tag: SessionTag,
  commit: Place,
  endPosition: number,
  endLsn: number,
  writeAcks: boolean,
): void {
  putHeader(bytes, commitBytes, MessageType.COMMIT, writeAcks ? 1 : 0, tag);
  putU64(bytes, 24, commit.position);
  putU64(bytes, 32, commit.lsn);
  putU64(bytes, 40, endPosition);
  putU64(bytes, 48, endLsn);
}

export function putAck(bytes: Uint8Array, tag: SessionTag, ack: AckFields): void {
  putHeader(bytes, ackBytes, MessageType.ACK, 0, tag);
  putU64(bytes, 24, ack.writePosition);
  putU64(bytes, 32, ack.writeLsn);
  putU64(bytes, 40, ack.flushPosition);
  putU64(bytes, 48, ack.flushLsn);
  putU64(bytes, 56, ack.applyLsn);
  putU32(bytes, 64, ack.rule);
  putU32(bytes, 68, 0);
}

/** How far a standby has come. */
export interface AckFields {
  readonly writePosition: number;
  readonly writeLsn: number;
  readonly flushPosition: number;
  readonly flushLsn: number;
  readonly applyLsn: number;
  readonly rule: number;
}

export function wantsWriteAcks(bytes: Uint8Array, at: number): boolean {
  return bytes[at + 5] === 1;
}

/** One ACK, read in place: valid until the next `at`. */
export class AckView implements AckFields {
  writePosition = 0;
  writeLsn = 0;
  flushPosition = 0;
  flushLsn = 0;
  applyLsn = 0;
  rule = 0;

  at(bytes: Uint8Array, at: number): this {
    this.writePosition = getU64(bytes, at + 24);
    this.writeLsn = getU64(bytes, at + 32);
    this.flushPosition = getU64(bytes, at + 40);
    this.flushLsn = getU64(bytes, at + 48);
    this.applyLsn = getU64(bytes, at + 56);
    this.rule = getU32(bytes, at + 64);
    if (getU32(bytes, at + 68) !== 0) throw invalid('a reserved field is not zero');
    return this;
  }
}

/** The envelope of a DATA message. */
export class DataEnvelopeView {
  position = 0;
  commitPosition = 0;
  commitLsn = 0;
  writeAcks = false;

  at(bytes: Uint8Array, at: number): this {
    this.position = getU64(bytes, at + 24);
    this.commitPosition = getU64(bytes, at + 32);
    this.commitLsn = getU64(bytes, at + 40);
    this.writeAcks = wantsWriteAcks(bytes, at);
    return this;
  }
}

export class CommitView {
  commitPosition = 0;
  commitLsn = 0;
  endPosition = 0;
  endLsn = 0;
  writeAcks = false;

  at(bytes: Uint8Array, at: number): this {
    this.commitPosition = getU64(bytes, at + 24);
    this.commitLsn = getU64(bytes, at + 32);
    this.endPosition = getU64(bytes, at + 40);
    this.endLsn = getU64(bytes, at + 48);
    this.writeAcks = wantsWriteAcks(bytes, at);
    return this;
  }
}
