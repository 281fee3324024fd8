import { WalError } from '../api/errors.js';
import { refusalError } from '../replication/standby_session.js';
import { invalid } from '../wire/bytes.js';
import { FrameReader, type FrameSink } from '../wire/frame_reader.js';
import {
  decodeTaken,
  encodeHandover,
  type Handover,
  type Taken,
} from '../wire/handover_messages.js';
import { decodeRefusal, type Refusal } from '../wire/handshake_messages.js';
import {
  decodeGrant,
  decodeStanding,
  encodeMemberRequest,
  type MemberGrant,
  type MemberRequest,
  type MemberStanding,
} from '../wire/member_messages.js';
import { handoverProtocol, MessageType, maxProtocol, minProtocol } from '../wire/message_type.js';
import { dial, type Peer } from './dial.js';
import { type Endpoint, showEndpoint } from './endpoint.js';
import { type Environment, processEnvironment } from './environment.js';
import { checkFollowHost } from './plaintext.js';
import type { Security } from './security.js';

export interface AskMemberOptions extends Endpoint, Security {
  /** Of this node. */
  readonly name: string;
  /** undefined: it has no log yet. */
  readonly sender: MemberRequest['sender'];
  readonly deadlineMs: number;
  readonly signal?: AbortSignal | undefined;
  readonly environment?: Environment | undefined;
}

/** How a member stands. It stores nothing for that. */
export function survey(options: AskMemberOptions): Promise<MemberStanding> {
  return ask(options, request(options, 0), MessageType.STANDING, (bytes, start, end) => {
    const standing = decodeStanding(bytes, start, end);
    const { sender } = options;
    if (sender === undefined) return standing;
    if (standing.logId === sender.logId && standing.salt === sender.salt) return standing;
    throw new WalError('WAL_NOT_A_LOG', `${standing.name} has another log`);
  });
}

/** Fences a member for this node, which wants to open the epoch. */
export function fence(options: AskMemberOptions, epoch: number): Promise<MemberGrant> {
  return ask(options, request(options, epoch), MessageType.GRANT, (bytes, start, end) => {
    const grant = decodeGrant(bytes, start, end);
    if (grant.term.epoch !== epoch || grant.term.opener !== options.sender?.nodeId) {
      throw invalid('a fence for another candidate');
    }
    return grant;
  });
}

/** Hands the log over to a member, `to` by its node id: resolves when it is the primary. */
export function handOver(
  options: AskMemberOptions,
  handover: Omit<Handover, 'minVersion' | 'maxVersion' | 'name'>,
  to: string,
): Promise<Taken> {
  const versions = { minVersion: handoverProtocol, maxVersion: maxProtocol };
  const message = encodeHandover({ ...handover, ...versions, name: options.name });
  return ask(options, message, MessageType.TAKEN, (bytes, start, end) => {
    const taken = decodeTaken(bytes, start, end);
    const { term } = taken;
    if (term.opener === to && term.epoch >= handover.epoch) return taken;
    throw invalid('another node took over, or another epoch');
  });
}

function request({ name, sender }: AskMemberOptions, epoch: number): Uint8Array {
  const versions = { minVersion: minProtocol, maxVersion: maxProtocol };
  return encodeMemberRequest({ ...versions, name, sender, epoch });
}

type Decode<T> = (bytes: Uint8Array, start: number, end: number) => T;

/** One question, one answer, within the deadline. */
async function ask<T extends { readonly name: string }>(
  options: AskMemberOptions,
  message: Uint8Array,
  answerType: number,
  decode: Decode<T>,
): Promise<T> {
  checkFollowHost(options.host, options);
  const { sender, signal, deadlineMs, environment = processEnvironment } = options;
  signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    const buffer = new Uint8Array(4096);
    const reader = new FrameReader([answerType, MessageType.REFUSAL]);
    const finish = (settle: () => void): void => {
      environment.clearTimer(timer);
      signal?.removeEventListener('abort', onAbort);
      settle();
      socket.destroy();
    };
    let peer: Peer | undefined;
    const sink = answerSink(decode, {
      found: (answer) => {
        peer!.requireName(answer.name);
        finish(() => resolve(answer));
      },
      refused: (refusal) => finish(() => reject(refusalError(refusal))),
    });
    const socket = dial({ ...options, logId: sender?.logId }, buffer, {
      onConnect: (connected) => {
        peer = connected;
        socket.write(message);
      },
      onRead: (count) => {
        try {
          reader.push(buffer, 0, count, sink);
        } catch (error) {
          finish(() => reject(error));
        }
        return !socket.destroyed;
      },
      onClose: (error) => finish(() => reject(error)),
    });
    const onAbort = (): void => finish(() => reject(signal!.reason));
    signal?.addEventListener('abort', onAbort, { once: true });
    const late = new WalError('WAL_IO', `${showEndpoint(options)} did not answer in time`);
    const timer = environment.setTimeout(() => finish(() => reject(late)), deadlineMs);
  });
}

interface Answered<T> {
  found(answer: T): void;
  refused(refusal: Refusal): void;
}

function answerSink<T>(decode: Decode<T>, { found, refused }: Answered<T>): FrameSink {
  return {
    message: (type, bytes, start, end) => {
      if (type === MessageType.REFUSAL) refused(decodeRefusal(bytes, start, end));
      else found(decode(bytes, start, end));
    },
    data: () => undefined,
    dataBytes: () => 0,
  };
}
