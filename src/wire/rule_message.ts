import type { Rule } from '../native/native_log.js';
import { commitLevels } from '../replication/level.js';
import { maxMembers, maxStandbysBytes, type NumberedRule, ruleFault } from '../replication/rule.js';
import { FieldReader, FieldWriter, invalid, putU32 } from './bytes.js';
import { lengthBytes, MessageType } from './message_type.js';
import { type SessionTag, sessionHeaderBytes } from './stream_messages.js';

/**
 * A rule on the wire, at the end of ACCEPT's fixed fields and as RULE of its own:
 *
 *   u32 number | u8 level | u8 members | u16 bytes, text | members, 16 B each
 *
 * Level: 1 off, 2 local, 3 remote_write, 4 remote_flush, 5 remote_apply; bit 7 is set where the
 * primary goes on alone. An empty text names nobody. RULE begins as every message of a session does
 * (stream_messages.ts).
 */
const fixedBytes = 8;
const idBytes = 16;
const degradedBit = 0x80;

export const minRuleBytes = sessionHeaderBytes + fixedBytes;
export const maxRuleBytes = minRuleBytes + maxStandbysBytes + maxMembers * idBytes;

export function putRule(fields: FieldWriter, { number, rule }: NumberedRule): void {
  const level = commitLevels.indexOf(rule.synchronousCommit) + 1;
  fields.u32(number).u8(rule.degraded ? level | degradedBit : level);
  fields.u8(rule.members.length).text(rule.synchronousStandbys ?? '');
  for (const member of rule.members) fields.hex(member, 2 * idBytes);
}

export function getRule(fields: FieldReader): NumberedRule {
  const number = fields.u32();
  const level = fields.u8();
  const degraded = (level & degradedBit) !== 0;
  const synchronousCommit = commitLevels[(level & ~degradedBit) - 1];
  const count = fields.u8();
  if (number === 0) throw invalid('a rule without a number');
  if (synchronousCommit === undefined) throw invalid('a rule of an unknown level');
  if (count > maxMembers) throw invalid('a rule has too many members');
  const text = fields.text(maxStandbysBytes);
  const members = Array.from({ length: count }, () => fields.hex(2 * idBytes));
  const rule: Rule = {
    synchronousCommit,
    synchronousStandbys: text === '' ? null : text,
    members,
    degraded,
  };
  const fault = ruleFault(rule);
  if (fault !== undefined) throw invalid(fault);
  return { number, rule };
}

export function encodeRule(tag: SessionTag, rule: NumberedRule): Uint8Array {
  const fields = new FieldWriter(maxRuleBytes).u32(0).u8(MessageType.RULE).u8(0).u16(0);
  putRule(fields.u32(tag.session).u32(tag.incarnation).u64(tag.epoch), rule);
  const bytes = fields.finish();
  putU32(bytes, 0, bytes.length - lengthBytes);
  return bytes;
}

/** The header is checked by whoever knows the session. */
export function decodeRule(bytes: Uint8Array, start: number, end: number): NumberedRule {
  const fields = new FieldReader(bytes, start + sessionHeaderBytes, end);
  const rule = getRule(fields);
  fields.end();
  return rule;
}
