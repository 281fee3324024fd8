import type { Progress } from './progress.js';

/** What of a standby's progress is counted. */
export type Measure = 'write' | 'flush' | 'apply';

/** How far `count` of the standbys are; position is 0 for `apply`, which has only LSNs. */
export interface Reached {
  position: number;
  lsn: number;
}

/**
 * The standbys that are connected, at most one connection each: a quorum counts distinct nodes, and
 * a new connection of a node ends the old one's say (SAFETY 4.4).
 */
export class Quorum {
  readonly #byNode = new Map<string, Progress>();

  get size(): number {
    return this.#byNode.size;
  }

  /** Every standby, counted or not, in the order in which they came. */
  get all(): Iterable<Progress> {
    return this.#byNode.values();
  }

  /** Returns the progress that this one takes the place of. */
  add(progress: Progress): Progress | undefined {
    const before = this.#byNode.get(progress.nodeId);
    this.#byNode.set(progress.nodeId, progress);
    return before;
  }

  /** Returns whether it was there: no-op for a progress that was replaced already. */
  remove(progress: Progress): boolean {
    if (this.#byNode.get(progress.nodeId) !== progress) return false;
    return this.#byNode.delete(progress.nodeId);
  }

  /** Names of the standbys that count and have reached `lsn`. */
  namesAt(measure: Measure, lsn: number): string[] {
    const names: string[] = [];
    for (const each of this.all) {
      if (each.counts && lsnOf(each, measure) >= lsn) names.push(each.name);
    }
    return names;
  }
}

/**
 * The place that at least `count` of these standbys have reached, put into `out`; false if there
 * are fewer. Their number is small: comparing all pairs allocates nothing and beats sorting.
 */
export function kth(
  members: readonly Progress[],
  count: number,
  measure: Measure,
  out: Reached,
): boolean {
  let found = false;
  for (const candidate of members) {
    const value = orderOf(candidate, measure);
    let atLeast = 0;
    for (const other of members) if (orderOf(other, measure) >= value) atLeast += 1;
    if (atLeast < count) continue;
    const lsn = lsnOf(candidate, measure);
    if (found && value < out.position) continue;
    // Two standbys at one position: the lower LSN is surely met by both.
    if (found && value === out.position && lsn >= out.lsn) continue;
    out.position = value;
    out.lsn = lsn;
    found = true;
  }
  return found;
}

function orderOf(progress: Progress, measure: Measure): number {
  if (measure === 'write') return progress.writePosition;
  if (measure === 'flush') return progress.flushPosition;
  return progress.applyLsn;
}

function lsnOf(progress: Progress, measure: Measure): number {
  if (measure === 'write') return progress.writeLsn;
  if (measure === 'flush') return progress.flushLsn;
  return progress.applyLsn;
}
