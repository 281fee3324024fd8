import {
  isSlotName,
  latestTime,
  maxSlotNameBytes,
  maxSlots,
  type ToldSlot,
} from '../replication/slot.js';
import { FieldReader, FieldWriter, invalid, putU32 } from './bytes.js';
import { lengthBytes, MessageType } from './message_type.js';
import { type SessionTag, sessionHeaderBytes } from './stream_messages.js';

/**
 * All slots of the primary, as they are stored there, so that its standbys keep the log for them
 * too:
 *
 *   SLOTS | 24 count u32 | slots ...
 *   slot  | flags u8 | node id 16 B | position u64 | LSN u64 | created, last seen, away: u64 each |
 *         | name: u16 bytes, text |
 *
 * From version 5 of the protocol on: behind ACCEPT, and whenever they have changed. SLOTS begins as
 * every message of a session does (stream_messages.ts), with flags 0. Times are in milliseconds,
 * `created` and `last seen` since 1970. Flags: bit 0, its standby is connected; bit 1, it is lost;
 * bit 2, a node has used it; bit 3, `last seen` is known.
 */
const fixedBytes = 1 + 16 + 5 * 8 + 2;
const noNode = '0'.repeat(32);

export const minSlotsBytes = sessionHeaderBytes + 4;
export const maxSlotsBytes = minSlotsBytes + maxSlots * (fixedBytes + maxSlotNameBytes);

export function encodeSlots(tag: SessionTag, slots: readonly ToldSlot[]): Uint8Array {
  const fields = new FieldWriter(maxSlotsBytes).u32(0).u8(MessageType.SLOTS).u8(0).u16(0);
  fields.u32(tag.session).u32(tag.incarnation).u64(tag.epoch).u32(slots.length);
  for (const slot of slots) {
    const { isActive, lost, nodeId, lastSeenAt } = slot;
    const bits = [isActive, lost, nodeId !== null, lastSeenAt !== null];
    fields.u8(bits.reduce((flags, bit, i) => flags | (Number(bit) << i), 0));
    fields
      .hex(nodeId ?? noNode, 32)
      .u64(slot.position)
      .u64(slot.lsn);
    fields.u64(Math.round(slot.createdAt)).u64(Math.round(lastSeenAt ?? 0));
    fields.u64(Math.round(slot.awayMs)).text(slot.name);
  }
  const bytes = fields.finish();
  putU32(bytes, 0, bytes.length - lengthBytes);
  return bytes;
}

/** The header is checked by whoever knows the session; its flags here. */
export function decodeSlots(bytes: Uint8Array, start: number, end: number): ToldSlot[] {
  if (bytes[start + 5] !== 0) throw invalid('unknown flags');
  const fields = new FieldReader(bytes, start + sessionHeaderBytes, end);
  const count = fields.u32();
  if (count > maxSlots) throw invalid('there are too many slots');
  const slots = Array.from({ length: count }, () => getSlot(fields));
  fields.end();
  const names = new Set(slots.map(({ name }) => name));
  if (names.size !== slots.length) throw invalid('two slots have one name');
  return slots;
}

function getSlot(fields: FieldReader): ToldSlot {
  const flags = fields.u8();
  if (flags > 15) throw invalid('unknown flags of a slot');
  const nodeId = fields.hex(32);
  const [position, lsn, createdAt] = [fields.u64(), fields.u64(), fields.u64()];
  const [lastSeenAt, awayMs] = [fields.u64(), fields.u64()];
  const name = fields.text(maxSlotNameBytes);
  if (Math.max(createdAt, lastSeenAt, awayMs) > latestTime) throw invalid('a slot of no time');
  if (!isSlotName(name)) throw invalid('a slot has a name that no node can have');
  const isUsed = (flags & 4) !== 0;
  const isSeen = (flags & 8) !== 0;
  if ((!isUsed && nodeId !== noNode) || (!isSeen && lastSeenAt !== 0)) {
    throw invalid('a slot says what it does not know');
  }
  return {
    ...{ name, nodeId: isUsed ? nodeId : null, position, lsn, createdAt, awayMs },
    ...{ lastSeenAt: isSeen ? lastSeenAt : null },
    ...{ lost: (flags & 2) !== 0, isActive: (flags & 1) !== 0 },
  };
}
