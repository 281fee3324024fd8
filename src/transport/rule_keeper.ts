import type { NativeLog } from '../native/native_log.js';
import type { CommitPolicy } from '../replication/commit_place.js';
import { CommitRule } from '../replication/commit_rule.js';
import { MissingStandbys } from '../replication/missing_standbys.js';
import type { Progress } from '../replication/progress.js';
import type { Quorum } from '../replication/quorum.js';
import { type NumberedRule, openingRule, waitsForStandbys } from '../replication/rule.js';

/** What a keeper needs of the hub that it belongs to. */
export interface RuleKeeperHost {
  readonly native: NativeLog;
  readonly commitPosition: () => number;
  readonly flushPosition: () => number;
  /** false: this primary has stopped or closes, and its last rule stays. */
  readonly mayChange: () => boolean;
  /** Moves the commit place as far as the rules allow. */
  readonly advance: () => void;
  /** Tells every standby that was let in. */
  readonly tell: (rule: NumberedRule) => void;
  /** This node has recorded a rule: time for `settle`. */
  readonly recorded: () => void;
  /** Another rule is in force. */
  readonly changed: () => void;
  /**
   * Where a referee decides by the rule: resolves when it has it; before, it is not in
   * force.
   */
  readonly recordElsewhere: ((rule: NumberedRule) => Promise<void>) | undefined;
}

/** What `watch` decided: the primary goes on alone, or waits for standbys again. */
export type WatchVerdict = 'alone' | 'back' | undefined;

/**
 * Records a primary's rules, here and by its standbys, and decides with `whenMissing: 'degrade'`
 * when it goes on alone and when it comes back.
 */
export class RuleKeeper {
  readonly rules: CommitRule;
  readonly missing = new MissingStandbys();
  readonly #host: RuleKeeperHost;
  readonly #quorum: Quorum;
  /** Milliseconds without the standbys after which it goes on alone; undefined: it never does. */
  #degradeAfter: number | undefined;
  #inForce = 1;

  constructor(
    host: RuleKeeperHost,
    quorum: Quorum,
    policy: CommitPolicy,
    degradeAfter: number | undefined,
  ) {
    this.#host = host;
    this.#quorum = quorum;
    this.#degradeAfter = degradeAfter;
    const { history } = host.native.info();
    this.rules = new CommitRule(policy, quorum, history.at(-1)?.position ?? 0);
  }

  /** Decides on another policy; it is in force when `isSettled` says so. */
  setPolicy(policy: CommitPolicy, degradeAfter: number | undefined): void {
    this.#degradeAfter = degradeAfter;
    this.rules.setPolicy(policy, degradeAfter !== undefined);
    this.missing.restart();
    this.settle();
  }

  /**
   * Whether the rule in force is that of the policy that was set last, and no other is on its way.
   */
  get isSettled(): boolean {
    const asked = openingRule(this.rules.policy);
    return this.rules.active.every(
      ({ rule }) =>
        !(rule.degraded && this.#degradeAfter === undefined) &&
        rule.synchronousCommit === asked.synchronousCommit &&
        rule.synchronousStandbys === asked.synchronousStandbys,
    );
  }

  /** A standby is let in. Returns the rule to tell it. */
  admit(progress: Progress): NumberedRule {
    this.#quorum.add(progress);
    this.rules.connectedChanged();
    this.settle();
    return this.rules.newest;
  }

  /** A standby has gone; a rule may have waited for it. */
  gone(progress: Progress): void {
    if (!this.#quorum.remove(progress)) return;
    this.rules.connectedChanged();
    this.settle();
  }

  /** Moves the commit place, and the rules with it, as far as they go. */
  settle(): void {
    const { rules } = this;
    this.#host.advance();
    if (!this.#host.mayChange()) return;
    while (rules.update(this.#host.commitPosition())) this.#host.advance();
    const rule = rules.takeToRecord();
    if (rule !== undefined) this.#record(rule);
    if (rules.inForceNumber === this.#inForce) return;
    this.#inForce = rules.inForceNumber;
    this.missing.ruleChanged(this.#host.commitPosition());
    this.#host.changed();
  }

  /** To be called now and then, with monotone milliseconds. */
  watch(nowMs: number): WatchVerdict {
    const { rules, missing } = this;
    rules.stir();
    missing.tick(nowMs, this.#host.commitPosition(), this.#host.flushPosition());
    const verdict = this.#verdict();
    if (verdict !== undefined) {
      rules.setAlone(verdict === 'alone');
      missing.restart();
    }
    this.settle();
    return verdict;
  }

  #verdict(): WatchVerdict {
    const { rules, missing } = this;
    if (this.#degradeAfter === undefined || !waitsForStandbys(rules.policy)) return undefined;
    if (!rules.isAlone) return missing.waited >= this.#degradeAfter ? 'alone' : undefined;
    // They wait for each other from now on: only for standbys that are as good as there.
    const isBack = rules.inForce.rule.degraded && rules.couldMeet(missing.commitBefore);
    return isBack ? 'back' : undefined;
  }

  #record(rule: NumberedRule): void {
    this.#host.tell(rule);
    const here = this.#host.native.storeRule(rule.rule);
    Promise.all([here, this.#host.recordElsewhere?.(rule)]).then(
      () => {
        this.rules.recordedHere(rule.number);
        this.#host.recorded();
      },
      // Not stored: the log has failed, is closed or is no primary any more, and says so itself.
      () => undefined,
    );
  }
}
