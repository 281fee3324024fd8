import type { Socket } from 'node:net';
import { WalError, type WalErrorCode } from '../api/errors.js';
import type { NodeIdentity } from '../replication/identity.js';
import type { Fetch } from '../wire/range_messages.js';
import type { SeedAsk } from '../wire/seed_messages.js';
import { type RangeHost, readRange } from './range_server.js';
import { giveSeed, type SeedGiverHost } from './seed_giver.js';
import type { ReplicationTiming } from './timing.js';

/** The connection of a peer that does not follow, but asks for something. */
export interface AskingLink {
  readonly socket: Socket;
  /** Nothing more is to be written. */
  readonly isOver: boolean;
  refuse(code: WalErrorCode, message: string): void;
  /** Lets what was written leave, then ends. */
  finish(reason: string, graceMs: number): void;
}

export interface AnswerHost<Link> extends RangeHost, SeedGiverHost {
  readonly timing: ReplicationTiming;
  readonly identity: NodeIdentity;
  /** One more of those that repair a copy; false: there are as many as can be. */
  beginFetch(link: Link): boolean;
  endFetch(): void;
  /** Why nobody is fed now; undefined: who comes is. */
  refusal(): WalError | undefined;
  /**
   * One more of those that are given a snapshot, in the place of an earlier connection of the same
   * node; false: there are as many as can be.
   */
  beginSeed(link: Link, nodeId: string): boolean;
  endSeed(link: Link): void;
}

/** How long a peer may take nothing of a snapshot, as a multiple of `dead`. */
const stallTimes = 12;

/** It repairs a copy of this log, and gets a piece of it. */
export async function answerFetch<Link extends AskingLink>(
  link: Link,
  host: AnswerHost<Link>,
  fetch: Fetch,
): Promise<void> {
  if (!host.beginFetch(link)) {
    link.refuse('WAL_PEER_REFUSED', 'the peer serves as many repairs as it can');
    return;
  }
  onceClosed(link.socket, () => host.endFetch());
  await answered(link, async () => {
    const messages = await readRange(host, host.identity, fetch);
    if (link.isOver) return;
    for (const message of messages) link.socket.write(message);
    link.finish('a repair got what it asked for', host.timing.dead);
  });
}

/** Too little of the log is left for it: it gets a snapshot. */
export async function answerSeed<Link extends AskingLink>(
  link: Link,
  host: AnswerHost<Link>,
  ask: SeedAsk,
): Promise<void> {
  // Who is fenced, or follows nobody, may have what no primary has.
  const refusal = host.refusal();
  if (refusal !== undefined) {
    link.refuse(refusal.code, refusal.message);
    return;
  }
  if (!host.beginSeed(link, ask.nodeId)) {
    link.refuse('WAL_PEER_REFUSED', 'the peer seeds as many standbys as it can');
    return;
  }
  onceClosed(link.socket, () => host.endSeed(link));
  await answered(link, async () => {
    await giveSeed(host, ask, link.socket, stallTimes * host.timing.dead);
    if (!link.isOver) link.finish('it got a snapshot', host.timing.dead);
  });
}

/** It is one of those that are through until then. */
function onceClosed(socket: Socket, then: () => void): void {
  if (socket.closed) then();
  else socket.once('close', then);
}

async function answered(link: AskingLink, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    const known = WalError.from(error);
    if (known instanceof WalError) link.refuse(known.code, known.message);
    else link.refuse('WAL_IO', 'the peer cannot read what was asked for');
  }
}
