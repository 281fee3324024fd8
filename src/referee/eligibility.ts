import { waitsForStandbys } from '../replication/rule.js';
import type { Claim, GroupView } from './referee.js';

/** Why a claim is not granted. */
export type RefusalReason =
  | 'held'
  | 'raced'
  | 'another_log'
  | 'paused'
  | 'not_paused'
  | 'nothing_known'
  | 'not_a_member'
  | 'degraded'
  | 'lagging';

export interface Refusal {
  readonly reason: RefusalReason;
  /** What is wrong, for people. */
  readonly message: string;
}

/**
 * Whether this claim may be granted with these records; undefined if so (SAFETY 4.2).
 *
 * The primary of the recorded rule was the last that may have acknowledged anything: whoever was
 * granted the group after it has recorded no rule, and acknowledges nothing before it has. So that
 * node always has all that was acknowledged.
 */
export function refusalOf(claim: Claim, view: GroupView): Refusal | undefined {
  const { leader, holder } = view;
  if (leader !== undefined && leader.logId !== claim.logId) {
    return refuse('another_log', `these records are of log ${leader.logId.slice(0, 8)}`);
  }
  if (holder !== undefined && !(holder.reserved && holder.nodeId === claim.nodeId)) {
    const by = holder.nodeId === leader?.nodeId ? leader.name : holder.nodeId.slice(0, 8);
    return refuse('held', `${by} holds the lease${holder.reserved ? ', or may take it' : ''}`);
  }
  switch (claim.kind) {
    case 'forced':
      if (view.pause !== undefined) return undefined;
      return refuse('not_paused', 'a promotion is forced only while automation is paused');
    case 'open':
      // Of a group that begins, or whose first primary has not got as far as its rule.
      if (view.rule === undefined && (leader?.nodeId ?? claim.nodeId) === claim.nodeId) return;
      // Who goes on as what it was needs no automation; any other replaces it.
      if (view.rule?.primary === claim.nodeId) return undefined;
      return paused(view) ?? lacking(claim, view);
    case 'promotion':
      return paused(view) ?? lacking(claim, view);
  }
}

function paused({ pause }: GroupView): Refusal | undefined {
  if (pause === undefined) return undefined;
  return refuse('paused', `${pause.by} has paused automation: ${pause.reason}`);
}

/** What the node may lack of what was acknowledged. */
function lacking(claim: Claim, { rule: recorded, progress }: GroupView): Refusal | undefined {
  if (recorded === undefined) {
    return refuse('nothing_known', 'the last primary has recorded no rule for acknowledgements');
  }
  if (recorded.primary === claim.nodeId) return undefined;
  const { rule, epoch } = recorded;
  if (rule.degraded) {
    return refuse('degraded', 'the last primary went on alone, and may have what nobody else has');
  }
  if (waitsForStandbys(rule)) {
    if (rule.members.includes(claim.nodeId)) return undefined;
    return refuse('not_a_member', 'it is not of the synchronous set of the last primary');
  }
  if (progress === undefined || progress.epoch !== epoch) {
    return refuse('nothing_known', 'the last primary has not told how far its log is');
  }
  const lag = progress.lsn - claim.lsn;
  if (lag <= claim.maximumLag) return undefined;
  return refuse('lagging', `it lacks ${lag} records or more; maximumLag is ${claim.maximumLag}`);
}

function refuse(reason: RefusalReason, message: string): Refusal {
  return { reason, message };
}
