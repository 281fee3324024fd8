import type { Rule } from '../native/native_log.js';
import type { CommitPolicy } from './commit_place.js';
import { admits, formatStandbys, parseStandbys } from './policy.js';
import type { Progress } from './progress.js';

/** What a recorded rule has room for: members, and bytes of `ANY n (...)`. */
export const maxMembers = 64;
export const maxStandbysBytes = 2047;

/** A rule as it goes to the standbys; the numbers of a term's rules rise from 1. */
export interface NumberedRule {
  readonly number: number;
  readonly rule: Rule;
}

/** The rule that a term begins with: nobody is a member yet. */
export function openingRule({ synchronousCommit, standbys }: CommitPolicy): Rule {
  const synchronousStandbys = standbys === undefined ? null : formatStandbys(standbys);
  return { synchronousCommit, synchronousStandbys, members: [] };
}

/** What is wrong with a rule that a peer tells, or undefined. */
export function ruleFault({ synchronousCommit, synchronousStandbys, members }: Rule) {
  if (new Set(members).size !== members.length) return 'a rule names a member twice';
  if (synchronousStandbys === null) {
    const isLocal = synchronousCommit === 'off' || synchronousCommit === 'local';
    return isLocal && members.length === 0 ? undefined : 'a rule waits for standbys and names none';
  }
  try {
    const canonical = formatStandbys(parseStandbys(synchronousStandbys));
    return canonical === synchronousStandbys ? undefined : 'a rule is not in its canonical form';
  } catch {
    return 'the standbys of a rule cannot be read';
  }
}

export function sameRule(a: Rule | null, b: Rule): boolean {
  return (
    a !== null &&
    a.synchronousCommit === b.synchronousCommit &&
    a.synchronousStandbys === b.synchronousStandbys &&
    a.members.length === b.members.length &&
    a.members.every((member, i) => member === b.members[i])
  );
}

/**
 * The rule that a primary acknowledges under, and who has recorded it (SAFETY 4.1). Level and
 * standbys are fixed with the term; what changes is that a standby becomes a member when it is
 * first let in.
 *
 *   decided --recorded here and by each standby that is connected--> in force
 *
 * A member counts once a rule that names it is in force: until then commits need the members from
 * before, which meets both rules. Otherwise: x is the only member; y comes and acknowledges a
 * record that x lacks; the primary is lost before x was told. By what x has recorded it holds
 * whatever was acknowledged, and it is promoted without that record.
 *
 * What is in force stays so, whoever comes: who is let in later records the newest rule before its
 * first acknowledgement.
 */
export class CommitRule {
  readonly #policy: CommitPolicy;
  /** Members, and the number of the first rule that names them. */
  readonly #since = new Map<string, number>();
  #newest: NumberedRule;
  #recordedHere = 1;
  #inForce = 1;

  /** The opening rule was recorded with the term. */
  constructor(policy: CommitPolicy) {
    this.#policy = policy;
    this.#newest = { number: 1, rule: openingRule(policy) };
  }

  get newest(): NumberedRule {
    return this.#newest;
  }

  get inForce(): number {
    return this.#inForce;
  }

  /** A standby is let in. Returns whether there is a newer rule: to be recorded and told. */
  admit(progress: Progress): boolean {
    const { nodeId } = progress;
    const isNew = this.#admits(progress) && !this.#since.has(nodeId);
    // One that cannot be recorded cannot count.
    const isAdded = isNew && this.#since.size < maxMembers;
    if (isAdded) {
      const number = this.#newest.number + 1;
      this.#since.set(nodeId, number);
      const rule = { ...this.#newest.rule, members: [...this.#since.keys()] };
      this.#newest = { number, rule };
    }
    progress.counts = this.#counts(progress);
    return isAdded;
  }

  /** This node's own control file holds the rule of this number. */
  recordedHere(number: number): void {
    if (number > this.#recordedHere) this.#recordedHere = number;
  }

  /** To be called when a rule was recorded or a standby has gone; returns whether more count. */
  settle(connected: Iterable<Progress>): boolean {
    if (this.#inForce === this.#newest.number) return false;
    const all = [...connected];
    const number = all.reduce((least, { rule }) => Math.min(least, rule), this.#recordedHere);
    if (number <= this.#inForce) return false;
    this.#inForce = number;
    for (const each of all) each.counts = this.#counts(each);
    return true;
  }

  #admits({ name }: Progress): boolean {
    const { standbys } = this.#policy;
    return standbys !== undefined && admits(standbys, name);
  }

  #counts(progress: Progress): boolean {
    const since = this.#since.get(progress.nodeId);
    return since !== undefined && since <= this.#inForce && this.#admits(progress);
  }
}
