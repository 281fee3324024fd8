import type { LogStatus, MemberStatus, RefereeStatus } from '../api/status.js';
import { showAddress } from './options.js';
import { count } from './terminal.js';

/** A node of the group, as far as one of them knows; null: not known. */
export interface GroupNode {
  readonly name: string | null;
  readonly role: LogStatus['role'] | null;
  readonly epoch: number | null;
  readonly lsn: number | null;
  readonly commitLsn: number | null;
  /** Records of the longest log of the group that its own lacks. */
  readonly lag: number | null;
  /** Whom it takes for the primary; null: nobody, or it is the primary itself. */
  readonly follows: string | null;
  /** Whether it gets the log from there; null of a primary. */
  readonly connected: boolean | null;
  readonly address: string | null;
  /** Why it did not answer; null: it did. */
  readonly reason: string | null;
}

/** This node first, then the others in the order of `members`. */
export function groupOf(status: LogStatus): readonly GroupNode[] {
  const { listening, upstream, role } = status;
  const own = {
    name: status.name,
    role,
    epoch: status.term.epoch,
    lsn: status.closedLsn,
    commitLsn: status.commitLsn,
    follows: upstream === null || upstream.primary === '' ? null : upstream.primary,
    connected: upstream?.connected ?? null,
    address: listening === null ? null : showAddress(listening),
    reason: null,
  };
  const nodes = [own, ...status.members.map(nodeOf)];
  const longest = Math.max(...nodes.map(({ lsn }) => lsn ?? 0));
  return nodes.map((node) => ({ ...node, lag: node.lsn === null ? null : longest - node.lsn }));
}

function nodeOf(member: MemberStatus): Omit<GroupNode, 'lag'> {
  const { name, role, epoch, lsn, commitLsn, primary, connected, address, reason } = member;
  const isPrimary = role === 'primary';
  return {
    ...{ name, role, epoch, lsn, commitLsn, address, reason },
    follows: isPrimary || primary === '' ? null : primary,
    connected: isPrimary ? null : connected,
  };
}

const heads = ['NAME', 'ROLE', 'EPOCH', 'LSN', 'LAG', 'FOLLOWS', 'ADDRESS'] as const;

/** In columns, for a terminal. */
export function describeGroup(nodes: readonly GroupNode[]): string {
  const rows = nodes.map((node) => [
    node.name ?? '?',
    node.role ?? `no answer: ${node.reason ?? ''}`,
    shown(node.epoch),
    shown(node.lsn),
    shown(node.lag),
    followed(node),
    node.address ?? '-',
  ]);
  const widths = heads.map((head, i) =>
    Math.max(head.length, ...rows.map((row) => row[i]!.length)),
  );
  return [heads, ...rows]
    .map((row) =>
      row
        .map((text, i) => text.padEnd(widths[i]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

function shown(value: number | null): string {
  return value === null ? '-' : count(value);
}

function followed({ follows, connected }: GroupNode): string {
  if (follows === null) return '-';
  return connected === false ? `${follows} (not connected)` : follows;
}

/** One line about the referee. */
export function describeReferee({ lease, leader, held, pause, reason }: RefereeStatus): string {
  const who = leader === null ? 'nobody was granted' : `${leader.name}, epoch ${leader.epoch},`;
  const is = held === null ? 'not known yet' : held ? 'holds the lease' : 'holds no lease';
  const parts = [leader === null && held !== true ? who : `${who} ${is}`];
  if (lease !== null) parts.push(`the lease of this node is ${lease}`);
  if (pause !== null) parts.push(`paused by ${pause.by} since ${pause.at}: ${pause.reason}`);
  if (reason !== null) parts.push(reason);
  return parts.join('; ');
}
