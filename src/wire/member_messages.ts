import type { Role } from '../native/native_log.js';
import type { FenceGrant, Standing } from '../replication/standing.js';
import { invalid } from './bytes.js';
import {
  begin,
  finish,
  getHistory,
  getName,
  getPlace,
  getTerm,
  noId,
  noSalt,
  noTerm,
  open,
  putHistory,
  putPlace,
  putTerm,
} from './fields.js';
import { cutText, printable } from './handshake_messages.js';
import { MessageType, maxHelloBytes, maxMessageBytes } from './message_type.js';
import { getRule, putRule } from './rule_message.js';

/**
 * What the members of a group say to each other. The whole exchange of one connection:
 *
 *   who asks                               member
 *      | -- SURVEY ----------------------> |   protocol versions, which log, who asks
 *      | <---------- STANDING or REFUSAL - |   role, term, end of the log, rule; it stores nothing
 *   or
 *      | -- FENCE -----------------------> |   the same, and an epoch
 *      | <------------- GRANT or REFUSAL - |   the epoch is stored for this candidate: the history
 *                                              and the end of the log, which grows no more
 *
 *   SURVEY   | 5 magic u32 | 9 versions u16, u16 | 13 flags u8 | 14 log id 16 B | 30 salt 8 B
 *            | 38 node id 16 B | 54 epoch u64 | 62 name |
 *   FENCE    | the same |
 *   STANDING | 5 version u16 | 7 flags u8 | 8 role u8 | 9 log id 16 B | 25 salt 8 B
 *            | 33 node id 16 B | 49 term | 77 term of the last batch | 105 end: position, LSN
 *            | 121 commit: position, LSN | 137 name | its primary's name | and address | rule |
 *   GRANT    | 5 version u16 | 7 flags u8 | 8 node id 16 B | 24 term | 52 the term before
 *            | 80 end: position, LSN | 96 crc u32 | 100 commit: position, LSN | 116 name
 *            | history | rule |
 *
 * A term is epoch u64, opener 16 B, incarnation u32; a text u16 bytes and UTF-8. `flags` of SURVEY,
 * bit 0: who asks has no log yet, and its ids are zero. `epoch` there is 0. Those of STANDING: bit
 * 0, there is a rule, as in ACCEPT, and else nothing; bit 1, it gets the log from that primary now;
 * bit 2, its log is not empty; bit 3, it is being promoted; bit 4, the rule is that of the
 * last term of which it knows that it was opened; bit 5, it asks a referee. Of GRANT, bit 0: there
 * is a rule; 1, as bit 4.
 */
export interface MemberRequest {
  readonly minVersion: number;
  readonly maxVersion: number;
  /** Of who asks; a candidate, where it is FENCE. */
  readonly name: string;
  /** undefined: it has no log yet. */
  readonly sender:
    | { readonly logId: string; readonly salt: string; readonly nodeId: string }
    | undefined;
  /** To be fenced for; 0: a survey. */
  readonly epoch: number;
}

export interface MemberStanding extends Standing {
  readonly version: number;
  readonly logId: string;
  readonly salt: string;
}

export interface MemberGrant extends FenceGrant {
  readonly version: number;
}

const magic = 0x4d524d57; // "WMRM"
const roles: readonly Role[] = ['primary', 'standby', 'fenced'];
const maxTextBytes = 128;

export function encodeMemberRequest(request: MemberRequest): Uint8Array {
  const { sender, epoch } = request;
  const type = epoch === 0 ? MessageType.SURVEY : MessageType.FENCE;
  const fields = begin(type, maxHelloBytes).u32(magic);
  fields
    .u16(request.minVersion)
    .u16(request.maxVersion)
    .u8(sender === undefined ? 1 : 0);
  fields.hex(sender?.logId ?? noId, 32).hex(sender?.salt ?? noSalt, 16);
  fields.hex(sender?.nodeId ?? noId, 32).u64(epoch);
  return finish(fields.text(request.name));
}

/** `type`: SURVEY or FENCE. */
export function decodeMemberRequest(
  type: number,
  bytes: Uint8Array,
  start: number,
  end: number,
): MemberRequest {
  const fields = open(bytes, start, end);
  if (fields.u32() !== magic) throw invalid('the peer does not speak this protocol');
  const minVersion = fields.u16();
  const maxVersion = fields.u16();
  if (minVersion > maxVersion) throw invalid('a version range is empty');
  const flags = fields.u8();
  if (flags > 1) throw invalid('unknown flags');
  const sender = { logId: fields.hex(32), salt: fields.hex(16), nodeId: fields.hex(32) };
  const epoch = fields.u64();
  const name = getName(fields);
  fields.end();
  const isFence = type === MessageType.FENCE;
  if (isFence !== epoch > 0 || (isFence && flags === 1)) throw invalid('a fence for nobody');
  return { minVersion, maxVersion, name, sender: flags === 1 ? undefined : sender, epoch };
}

export function encodeStanding(standing: MemberStanding): Uint8Array {
  const { rule, last, connected, isCandidate } = standing;
  const fields = begin(MessageType.STANDING, maxMessageBytes).u16(standing.version);
  fields.u8(
    (rule === null ? 0 : 1) |
      (connected ? 2 : 0) |
      (last === undefined ? 0 : 4) |
      (isCandidate ? 8 : 0) |
      (standing.isRuleCurrent ? 16 : 0) |
      (standing.hasReferee ? 32 : 0),
  );
  fields.u8(roles.indexOf(standing.role));
  fields.hex(standing.logId, 32).hex(standing.salt, 16).hex(standing.nodeId, 32);
  putTerm(fields, standing.term);
  putTerm(fields, last ?? noTerm);
  putPlace(fields, standing.end);
  putPlace(fields, standing.commit);
  fields.text(standing.name).text(cutText(standing.primary, maxTextBytes));
  fields.text(cutText(standing.primaryAddress, maxTextBytes));
  if (rule !== null) putRule(fields, { number: 1, rule });
  return finish(fields);
}

export function decodeStanding(bytes: Uint8Array, start: number, end: number): MemberStanding {
  const fields = open(bytes, start, end);
  const version = fields.u16();
  const flags = fields.u8();
  const role = roles[fields.u8()];
  if (flags > 63 || role === undefined) throw invalid('unknown flags');
  const ids = { logId: fields.hex(32), salt: fields.hex(16), nodeId: fields.hex(32) };
  const term = getTerm(fields);
  const last = getTerm(fields);
  const standing = {
    version,
    ...ids,
    role,
    term,
    last: (flags & 4) === 0 ? undefined : last,
    end: getPlace(fields),
    commit: getPlace(fields),
    name: getName(fields),
    primary: printable(fields.text(maxTextBytes)),
    primaryAddress: printable(fields.text(maxTextBytes)),
    connected: (flags & 2) !== 0,
    isCandidate: (flags & 8) !== 0,
    isRuleCurrent: (flags & 16) !== 0,
    hasReferee: (flags & 32) !== 0,
    rule: (flags & 1) === 0 ? null : getRule(fields).rule,
  };
  fields.end();
  return standing;
}

export function encodeGrant(grant: MemberGrant): Uint8Array {
  const { rule } = grant;
  const fields = begin(MessageType.GRANT, maxMessageBytes).u16(grant.version);
  fields.u8((rule === null ? 0 : 1) | (grant.isRuleCurrent ? 2 : 0));
  fields.hex(grant.nodeId, 32);
  putTerm(fields, grant.term);
  putTerm(fields, grant.before);
  putPlace(fields, grant.end);
  putPlace(fields.u32(grant.crc), grant.commit);
  putHistory(fields.text(grant.name), grant.history);
  if (rule !== null) putRule(fields, { number: 1, rule });
  return finish(fields);
}

export function decodeGrant(bytes: Uint8Array, start: number, end: number): MemberGrant {
  const fields = open(bytes, start, end);
  const version = fields.u16();
  const flags = fields.u8();
  if (flags > 3) throw invalid('unknown flags');
  const grant = {
    version,
    nodeId: fields.hex(32),
    term: getTerm(fields),
    before: getTerm(fields),
    end: getPlace(fields),
    crc: fields.u32(),
    commit: getPlace(fields),
    name: getName(fields),
    history: getHistory(fields),
    isRuleCurrent: (flags & 2) !== 0,
    rule: (flags & 1) === 0 ? null : getRule(fields).rule,
  };
  fields.end();
  return grant;
}
