import type { Rule } from '../native/native_log.js';
import { admits, priorityOf, type SyncStandbys } from './policy.js';
import type { Progress } from './progress.js';
import { maxMembers } from './rule.js';

/**
 * The nodes that a rule for these standbys has to name. `before`: the members of the rule that was
 * recorded last for the same standbys, while standbys are waited for; empty otherwise.
 *
 * ANY: whoever was let in, whether it is there now or not: any `count` of them may have
 * acknowledged. Where there is no room for one more, it takes the place of one that is away, of the
 * oldest such; that one comes in again as any other.
 *
 * FIRST: the `count` of highest priority, among equals those that are in, then those that came
 * first. Nobody else may acknowledge, so that each of them holds all that was acknowledged. One
 * that has to catch up does not take the place of another before it has, and nobody is put out
 * while there is no other.
 */
export function chooseMembers(
  standbys: SyncStandbys,
  connected: Iterable<Progress>,
  before: readonly string[],
): readonly string[] {
  return standbys.method === 'any'
    ? anyMembers(standbys, connected, before)
    : firstMembers(standbys, connected, before);
}

function anyMembers(
  standbys: SyncStandbys,
  connected: Iterable<Progress>,
  before: readonly string[],
): readonly string[] {
  const present = [...connected].filter(({ name }) => admits(standbys, name));
  const isThere = new Set(present.map(({ nodeId }) => nodeId));
  const members = [...before];
  for (const { nodeId } of present) {
    if (members.includes(nodeId)) continue;
    if (members.length === maxMembers) {
      const away = members.findIndex((member) => !isThere.has(member));
      // One that cannot be recorded cannot count. The hub feeds fewer than there is room for.
      if (away < 0) break;
      members.splice(away, 1);
    }
    members.push(nodeId);
  }
  return members;
}

function firstMembers(
  standbys: SyncStandbys,
  connected: Iterable<Progress>,
  before: readonly string[],
): readonly string[] {
  const { count } = standbys;
  const candidates = [...connected].filter(
    ({ name, nodeId, state }) =>
      priorityOf(standbys, name) >= 0 && (state === 'live' || before.includes(nodeId)),
  );
  if (candidates.length < count || count > maxMembers) return before;
  // Among equals who is in stays; then, since sorting is stable, the order of connection counts.
  const isOut = ({ nodeId }: Progress): number => (before.includes(nodeId) ? 0 : 1);
  candidates.sort(
    (a, b) => priorityOf(standbys, a.name) - priorityOf(standbys, b.name) || isOut(a) - isOut(b),
  );
  const chosen = candidates.slice(0, count).map(({ nodeId }) => nodeId);
  const isSame = chosen.length === before.length && chosen.every((id) => before.includes(id));
  return isSame ? before : chosen;
}

/**
 * Whether what meets `before` surely meets `after`: of any `count` members of the one, enough are
 * members of the other.
 */
export function implies(before: Rule, after: Rule, counts: { from: number; to: number }): boolean {
  const gone = before.members.filter((member) => !after.members.includes(member)).length;
  const isAsStrong =
    before.synchronousCommit === after.synchronousCommit ||
    after.synchronousCommit === 'remote_write' ||
    before.synchronousCommit !== 'remote_write';
  return isAsStrong && counts.from - gone >= counts.to;
}
