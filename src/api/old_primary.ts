import type { NativeInfo, Place } from '../native/native_log.js';
import { isFence } from '../replication/fence.js';
import { compareTerms } from '../replication/history.js';
import type { CommitLevel } from '../replication/level.js';
import { parseStandbys } from '../replication/policy.js';
import { isRemote } from './policy_options.js';

/** What a primary's commits wait for, as a standby was told and recorded it. */
export interface UpstreamRule {
  readonly synchronousCommit: CommitLevel;
  /** null: nobody is named. */
  readonly synchronousStandbys: string | null;
  /** Ids of the nodes whose acknowledgements may count. */
  readonly members: readonly string[];
  /** Whether this node is one of them. */
  readonly member: boolean;
  /** The primary went on alone: what it acknowledged since may be on no standby at all. */
  readonly degraded: boolean;
  /**
   * Whether synchronous commit was in force, as far as this node knows: the level waits for
   * standbys, the primary did not go on alone, and what was acknowledged under an earlier rule
   * meets this one too.
   */
  readonly inForce: boolean;
}

/**
 * What a standby knows of the primary whose place it takes: whoever promotes it decides by this
 * (SAFETY.md 3.5). All of it is as of the last contact.
 */
export interface OldPrimary {
  /** '': unknown. */
  readonly name: string;
  readonly address: string;
  /** The link is up. */
  readonly connected: boolean;
  /** When it was last heard of, ISO 8601; null: unknown. */
  readonly lastContact: string | null;
  /** Last LSN that it said was committed. */
  readonly commitLsn: number;
  /** Last LSN that is on this node's disk. */
  readonly flushLsn: number;
  /** null: it never told. */
  readonly rule: UpstreamRule | null;
}

export function contactTime(milliseconds: number | null): string | null {
  return milliseconds === null ? null : new Date(milliseconds).toISOString();
}

/**
 * The commit place passes the opening of a term only when the opening itself meets the rule
 * (SAFETY.md 1.5), and with it all that is before it. From then on the rule is in force.
 */
export function upstreamRule(info: NativeInfo, commit: Place): UpstreamRule | null {
  const { rule, isRuleOfEarlierTerm, term, history, nodeId } = info;
  if (rule === null || (isRuleOfEarlierTerm && !isFence(term))) return null;
  const opening = history.at(-1);
  const isMet =
    opening !== undefined &&
    compareTerms(opening, term) === 'same' &&
    commit.position > opening.position;
  return {
    ...rule,
    member: rule.members.includes(nodeId),
    inForce: isMet && isRemote(rule.synchronousCommit) && !rule.degraded,
  };
}

/** What the control file of a standby that nobody has open tells. */
export function closedOldPrimary(info: NativeInfo, flushLsn: number): OldPrimary {
  return {
    name: info.primaryName,
    address: info.primaryAddress,
    connected: false,
    lastContact: contactTime(info.lastContact),
    commitLsn: info.commit.lsn,
    flushLsn,
    rule: upstreamRule(info, info.commit),
  };
}

/** The same in words: two lines, or two halves of a sentence. */
export function describeOldPrimary(old: OldPrimary): readonly [string, string] {
  const contact = old.connected
    ? 'is connected'
    : old.lastContact === null
      ? 'was last heard of at an unknown time'
      : `was last heard of at ${old.lastContact}`;
  const who = old.name === '' ? 'the primary' : `the primary ${old.name}`;
  const lsns = `last commit LSN heard of ${old.commitLsn}, flushed here ${old.flushLsn}`;
  return [`${who} ${contact}; ${lsns}`, describeRule(old.rule)];
}

export function describeRule(rule: UpstreamRule | null): string {
  if (rule === null) return 'whether synchronous commit was in force is unknown';
  return `synchronous commit was ${ruleState(rule)}`;
}

/** "in force: ..." or "not in force ...". */
export function ruleState(rule: UpstreamRule): string {
  const { synchronousCommit: level, synchronousStandbys: standbys, inForce } = rule;
  if (standbys === null || !isRemote(level)) return `not in force (${level})`;
  if (rule.degraded) {
    const lost = 'this node may miss what was acknowledged';
    return `degraded: the primary went on alone, ${lost}; asked for: ${level}, ${standbys}`;
  }
  const state = inForce ? 'in force' : 'asked for, and not yet in force as far as is known here';
  return `${state}: ${level}, ${standbys}; ${membership(rule, standbys)}`;
}

/** What this node's part in the rule means for what was acknowledged. */
function membership({ member, members, inForce }: UpstreamRule, standbys: string): string {
  const others = 'what was committed may be on others only';
  const count = members.length;
  if (!member) return `this node is not one of its ${count} members, ${others}`;
  if (count === 1) return 'this node is its only member';
  const one = `this node is one of its ${count} members`;
  return inForce && parseStandbys(standbys).count >= count ? one : `${one}, ${others}`;
}
