import type { Place } from '../native/native_log.js';
import { assert } from './assert.js';
import type { ActiveRule } from './commit_rule.js';
import type { CommitLevel } from './level.js';
import type { SyncStandbys } from './policy.js';
import { kth, type Measure, type Reached } from './quorum.js';

/** A log's own policy: what its commit place waits for. */
export interface CommitPolicy {
  readonly synchronousCommit: CommitLevel;
  /** undefined: no remote level can be met. */
  readonly standbys: SyncStandbys | undefined;
}

/** How far the primary's own log is. */
export interface LocalProgress {
  readonly closedLsn: number;
  readonly flushPosition: number;
  readonly flushLsn: number;
}

/** The rules that acknowledgements have to meet, all of them; `CommitRule` is one. */
export interface RulesToMeet {
  readonly active: readonly ActiveRule[];
}

/** A level of one call, or `own`: what the log's own policy asks for, whatever that is by then. */
export type CommitKind = CommitLevel | 'own';

/**
 * The one commit place of a log (SAFETY 1.2) and how far each level is met.
 *
 * Invariants: the commit place never falls, is never past the local flush, and does not move
 * before the opening of the current term meets the policy (SAFETY 1.5): what an earlier term left
 * behind may be on enough standbys and yet be overwritten, until a batch of this term is there
 * too.
 */
export class CommitPlace {
  readonly #rules: RulesToMeet;
  readonly #kth: Reached = { position: 0, lsn: 0 };
  #position: number;
  #lsn: number;
  /** Where the opening of the current term ends. */
  #opened = Number.POSITIVE_INFINITY;

  constructor(rules: RulesToMeet, known: Place) {
    this.#rules = rules;
    this.#position = known.position;
    this.#lsn = known.lsn;
  }

  get position(): number {
    return this.#position;
  }

  get lsn(): number {
    return this.#lsn;
  }

  /**
   * The current term starts at this place, with its opening, or with the filler of a segment that
   * the opening does not fit into; who has all up to `end` has the opening itself. A commit place
   * known from before, from a primary whose log went further than what was received of it, counts
   * only up to the start.
   */
  openedAt(start: Place, end: number): void {
    this.#opened = end;
    if (this.#position <= start.position) return;
    this.#position = start.position;
    this.#lsn = start.lsn;
  }

  /** Moves the commit place as far as every rule allows. Returns whether it moved. */
  update(local: LocalProgress): boolean {
    let position = local.flushPosition;
    let lsn = local.flushLsn;
    for (const each of this.#rules.active) {
      if (each.alone) continue;
      // Applying waits for the commit place, so the commit place does not wait for applying.
      const isWrite = each.rule.synchronousCommit === 'remote_write';
      if (!this.#remote(each, isWrite ? 'write' : 'flush')) return false;
      if (this.#kth.position >= position) continue;
      position = this.#kth.position;
      lsn = this.#kth.lsn;
    }
    if (position < this.#opened || position <= this.#position) return false;
    assert(position <= local.flushPosition, 'commit place <= local flush');
    this.#position = position;
    if (lsn > this.#lsn) this.#lsn = Math.min(lsn, local.flushLsn);
    return true;
  }

  /** LSN up to which a level is met now, by every rule. */
  reached(kind: CommitKind, local: LocalProgress): number {
    if (kind === 'off') return local.closedLsn;
    if (kind === 'local') return local.flushLsn;
    let lsn = local.closedLsn;
    for (const each of this.#rules.active) {
      lsn = Math.min(lsn, this.#reachedBy(each, kind === 'own' ? ownLevel(each) : kind, local));
    }
    return lsn;
  }

  #reachedBy(rule: ActiveRule, level: CommitLevel, local: LocalProgress): number {
    if (level === 'off') return local.closedLsn;
    if (level === 'local') return local.flushLsn;
    if (!this.#remote(rule, level === 'remote_write' ? 'write' : 'flush')) return 0;
    let lsn = Math.min(local.flushLsn, this.#kth.lsn);
    if (this.#kth.position < this.#opened) lsn = Math.min(lsn, this.#lsn);
    if (level !== 'remote_apply') return lsn;
    return this.#remote(rule, 'apply') ? Math.min(lsn, this.#kth.lsn) : 0;
  }

  #remote({ standbys, present }: ActiveRule, measure: Measure): boolean {
    return standbys !== undefined && kth(present, standbys.count, measure, this.#kth);
  }
}

/** What a commit that names no level waits for under this rule. */
export function ownLevel({ rule }: ActiveRule): CommitLevel {
  return rule.degraded ? 'local' : rule.synchronousCommit;
}
