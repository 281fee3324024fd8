import type { Rule } from '../../src/native/native_log.js';
import type { RefereeMemory } from '../../src/referee/memory.js';
import type { Answer, Claim, Grant } from '../../src/referee/referee.js';
import type { Seen } from '../../src/referee/seen.js';

export const logId = '1'.repeat(32);

export function nodeId(name: string): string {
  return name.repeat(32).slice(0, 32);
}

/** A claim of the node of this one letter. */
export function claimOf(name: string, part: Partial<Claim> = {}): Claim {
  const id = nodeId(name);
  const place = `the place of ${name}`;
  const common = { logId, nodeId: id, name, place, lsn: 0, maximumLag: 0 };
  return { ...common, kind: 'open', epoch: 0, storedEpoch: 1000, lastEpoch: 1000, ...part };
}

export function grantOf(answer: Answer): Grant {
  if ('grant' in answer) return answer.grant;
  throw new Error(`refused: ${answer.refusal.reason}: ${answer.refusal.message}`);
}

export function reasonOf(answer: Answer): string {
  return 'grant' in answer ? 'granted' : answer.refusal.reason;
}

/** A rule that waits for any one of these nodes. */
export function syncRule(...names: readonly string[]): Rule {
  return {
    synchronousCommit: 'remote_flush',
    synchronousStandbys: 'ANY 1 (*)',
    members: names.map(nodeId),
    degraded: false,
  };
}

export const asyncRule: Rule = {
  synchronousCommit: 'local',
  synchronousStandbys: null,
  members: [],
  degraded: false,
};

/** What a node saw, as long as the test runs. */
export class KeptMemory implements RefereeMemory {
  seen: Seen | undefined;
  stores = 0;

  load(): Promise<Seen | undefined> {
    return Promise.resolve(this.seen);
  }

  store(seen: Seen): Promise<void> {
    this.stores += 1;
    this.seen = seen;
    return Promise.resolve();
  }

  clear(): Promise<void> {
    this.seen = undefined;
    return Promise.resolve();
  }
}
