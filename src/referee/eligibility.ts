import { waitsForStandbys } from '../replication/rule.js';
import type { HolderRecord } from './records.js';
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
  | 'older_copy'
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
  if (holder !== undefined && !mayTakeFrom(holder, claim)) {
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
      if (view.rule?.primary === claim.nodeId) return lacking(claim, view);
      return paused(view) ?? lacking(claim, view);
    case 'promotion':
      // Whom the last primary has kept the group for is promoted by whoever paused automation.
      if (holder?.reserved === true) return lacking(claim, view);
      return paused(view) ?? lacking(claim, view);
  }
}

function paused({ pause }: GroupView): Refusal | undefined {
  if (pause === undefined) return undefined;
  return refuse('paused', `${pause.by} has paused automation: ${pause.reason}`);
}

/**
 * A switchover keeps the group for a node. Who opens a directory has it locked: whoever held the
 * group from that very place does not run any more, and its lease need not be waited for. The node
 * id does not tell: a directory that was copied has the same.
 */
function mayTakeFrom({ nodeId, reserved, place }: HolderRecord, claim: Claim): boolean {
  if (nodeId !== claim.nodeId) return false;
  return reserved || (claim.kind === 'open' && place !== undefined && place === claim.place);
}

/** What the node may lack of what was acknowledged. */
function lacking(claim: Claim, { rule: recorded, progress }: GroupView): Refusal | undefined {
  if (recorded === undefined) {
    return refuse('nothing_known', 'the last primary has recorded no rule for acknowledgements');
  }
  const { rule, epoch } = recorded;
  const isOlder = claim.storedEpoch < epoch;
  if (recorded.primary === claim.nodeId) {
    // It had stored that epoch before its rule was recorded.
    return isOlder ? olderCopy(`the primary of epoch ${epoch}`) : undefined;
  }
  if (rule.degraded) {
    return refuse('degraded', 'the last primary went on alone, and may have what nobody else has');
  }
  if (waitsForStandbys(rule)) {
    if (!rule.members.includes(claim.nodeId)) {
      return refuse('not_a_member', 'it is not of the synchronous set of the last primary');
    }
    // Nor does anybody become a member before.
    return isOlder ? olderCopy(`a member of the synchronous set of epoch ${epoch}`) : undefined;
  }
  const isTold = progress?.epoch === epoch && progress.number >= recorded.number;
  if (progress === undefined || !isTold) {
    return refuse('nothing_known', 'the last primary has not told how far its log is');
  }
  // What it has instead may be many records, of a history that came to nothing.
  if (claim.lastEpoch < epoch) {
    return refuse('lagging', `its log is of epoch ${claim.lastEpoch}: it has nothing of ${epoch}`);
  }
  const lag = progress.lsn - claim.lsn;
  if (lag <= claim.maximumLag) return undefined;
  return refuse('lagging', `it lacks ${lag} records or more; maximumLag is ${claim.maximumLag}`);
}

function olderCopy(what: string): Refusal {
  return refuse('older_copy', `this node was ${what}, and its directory is an older copy`);
}

function refuse(reason: RefusalReason, message: string): Refusal {
  return { reason, message };
}
