import { createHash } from 'node:crypto';
import type { LeaderRecord } from './records.js';
import { absent, type Snapshot, versionOf } from './store.js';

/** A record that is never deleted. */
export interface SeenRecord {
  /** It rises with each write; 0: there was none. */
  readonly version: bigint;
  /** Of the content; '' if there was none. */
  readonly digest: string;
}

/** What was seen of a referee: it has no business to be behind this. */
export interface Seen {
  readonly origin: string;
  readonly revision: bigint;
  /** Of the leader record; 0: there was none. */
  readonly epoch: number;
  readonly leader: SeenRecord;
  readonly rule: SeenRecord;
}

export function seenIn(snapshot: Snapshot, leader: LeaderRecord | undefined): Seen {
  const { origin, revision } = snapshot;
  return {
    origin,
    revision,
    epoch: leader?.epoch ?? 0,
    leader: seenRecord(snapshot, 'leader'),
    rule: seenRecord(snapshot, 'rule'),
  };
}

function seenRecord(snapshot: Snapshot, name: 'leader' | 'rule'): SeenRecord {
  const version = versionOf(snapshot, name);
  const value = snapshot.entries.get(name)?.value ?? '';
  const digest = version === absent ? '' : createHash('sha256').update(value).digest('hex');
  return { version: BigInt(version), digest: digest.slice(0, 32) };
}

/**
 * How `now`, which was asked for after `before` was seen, shows that the referee was restored to
 * the past or is another one; undefined if it does not. What was recorded in between is lost then:
 * an epoch may be given twice, and a set of standbys that lacks what was acknowledged since may
 * look as if it held all. The revision alone does not tell: a restored referee goes on counting,
 * if only because leases end.
 */
export function pastFault(before: Seen, now: Seen): string | undefined {
  if (now.origin !== before.origin) {
    return `it is another one: ${short(now.origin)}, and was ${short(before.origin)}`;
  }
  if (now.revision < before.revision) {
    return `its revision is ${now.revision}, and was ${before.revision} before`;
  }
  if (now.epoch < before.epoch) {
    return now.epoch === 0
      ? `it knows of no primary, and had granted epoch ${before.epoch}`
      : `its epoch is ${now.epoch}, and was ${before.epoch} before`;
  }
  if (isOlder(before.leader, now.leader)) return `epoch ${now.epoch} is another grant than before`;
  if (isOlder(before.rule, now.rule)) return 'the rule for commits is an older one';
  return undefined;
}

function isOlder(before: SeenRecord, now: SeenRecord): boolean {
  if (now.version !== before.version) return now.version < before.version;
  return now.digest !== before.digest;
}

/** The later of the two, where neither is a fault: answers may come in another order. */
export function laterSeen(one: Seen | undefined, other: Seen): Seen {
  return one === undefined || other.revision >= one.revision ? other : one;
}

/** Whether it says of who is promoted what the other said. */
export function decidesAlike(one: Seen | undefined, other: Seen): boolean {
  return (
    one !== undefined &&
    one.origin === other.origin &&
    one.leader.version === other.leader.version &&
    one.rule.version === other.rule.version
  );
}

function short(origin: string): string {
  return origin.slice(0, 12);
}
