import { WalError } from '../api/errors.js';
import type { NodeIdentity } from '../replication/identity.js';
import { decodeHandover, encodeTaken, type Handover } from '../wire/handover_messages.js';
import {
  decodeMemberRequest,
  encodeGrant,
  encodeStanding,
  type MemberRequest,
} from '../wire/member_messages.js';
import { MessageType, maxProtocol, minProtocol } from '../wire/message_type.js';
import type { MemberDesk } from './member_desk.js';

/** What a member asks, instead of following. */
export type MemberQuestion = { readonly name: string } & (
  | { readonly ask: MemberRequest }
  | { readonly handover: Handover }
);

/** `type`: SURVEY, FENCE or HANDOVER. */
export function decodeQuestion(
  type: number,
  bytes: Uint8Array,
  start: number,
  end: number,
): MemberQuestion {
  if (type === MessageType.HANDOVER) {
    const handover = decodeHandover(bytes, start, end);
    return { name: handover.name, handover };
  }
  const ask = decodeMemberRequest(type, bytes, start, end);
  return { name: ask.name, ask };
}

/** Throws unless this node and who asks can talk about one log. Returns who answers. */
export function deskFor(
  { desk, identity }: { readonly desk: MemberDesk | undefined; readonly identity: NodeIdentity },
  question: MemberQuestion,
): MemberDesk {
  const { minVersion, maxVersion } = 'ask' in question ? question.ask : question.handover;
  if (Math.min(maxProtocol, maxVersion) < Math.max(minProtocol, minVersion)) {
    const text = `the peer speaks protocol ${minProtocol} to ${maxProtocol}`;
    throw new WalError('WAL_VERSION', text);
  }
  const sender = 'ask' in question ? question.ask.sender : question.handover;
  const { logId, salt, name } = identity;
  if (sender !== undefined && (sender.logId !== logId || sender.salt !== salt)) {
    throw new WalError('WAL_NOT_A_LOG', `${name} has another log`);
  }
  if (desk === undefined) throw new WalError('WAL_PEER_REFUSED', 'the peer answers no members');
  return desk;
}

/** Rejects with why there is no answer. `isThere`: who asks still waits for it. */
export async function memberAnswer(
  desk: MemberDesk,
  { logId, salt }: NodeIdentity,
  question: MemberQuestion,
  isThere: () => boolean,
): Promise<Uint8Array> {
  if ('handover' in question) {
    const { handover } = question;
    const version = Math.min(maxProtocol, handover.maxVersion);
    return encodeTaken({ ...(await desk.takeOver(handover)), version });
  }
  const { sender, name, epoch, maxVersion } = question.ask;
  const version = Math.min(maxProtocol, maxVersion);
  if (epoch === 0 || sender === undefined) {
    return encodeStanding({ ...desk.standing(), version, logId, salt });
  }
  const candidate = { nodeId: sender.nodeId, name, epoch };
  return encodeGrant({ ...(await desk.fence(candidate, isThere)), version });
}
