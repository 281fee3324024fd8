import type { Rule } from '../native/native_log.js';
import type { CommitPolicy } from './commit_place.js';
import { formatStandbys, parseStandbys } from './policy.js';

/** What a recorded rule has room for: members, and bytes of `ANY n (...)`. */
export const maxMembers = 64;
export const maxStandbysBytes = 2047;

/** A rule as it goes to the standbys; the numbers of a term's rules rise from 1. */
export interface NumberedRule {
  readonly number: number;
  readonly rule: Rule;
}

/** A rule as a referee has it. */
export interface RecordedRule {
  readonly epoch: number;
  /** The id of the node that acknowledged by it. */
  readonly primary: string;
  readonly rule: Rule;
}

/** The rule that a term begins with: nobody is a member yet. */
export function openingRule({ synchronousCommit, standbys }: CommitPolicy): Rule {
  const synchronousStandbys = standbys === undefined ? null : formatStandbys(standbys);
  return { synchronousCommit, synchronousStandbys, members: [], degraded: false };
}

/** Whether it asks for more than the primary's own flush, degraded or not. */
export function waitsForStandbys({ synchronousCommit }: Pick<Rule, 'synchronousCommit'>): boolean {
  return synchronousCommit !== 'off' && synchronousCommit !== 'local';
}

/** What is wrong with a rule that a peer tells, or undefined. */
export function ruleFault(rule: Rule): string | undefined {
  const { synchronousStandbys, members, degraded } = rule;
  if (new Set(members).size !== members.length) return 'a rule names a member twice';
  if (degraded && !waitsForStandbys(rule)) return 'a rule is degraded and waits for nobody';
  if (synchronousStandbys === null) {
    const isLocal = !waitsForStandbys(rule) && members.length === 0;
    return isLocal ? undefined : 'a rule waits for standbys and names none';
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
    a.degraded === b.degraded &&
    a.members.length === b.members.length &&
    a.members.every((member, i) => member === b.members[i])
  );
}
