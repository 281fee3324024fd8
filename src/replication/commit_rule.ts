import type { Rule } from '../native/native_log.js';
import type { CommitPolicy } from './commit_place.js';
import { chooseMembers, implies } from './members.js';
import { admits, type SyncStandbys } from './policy.js';
import type { Progress } from './progress.js';
import { kth, type Quorum, type Reached } from './quorum.js';
import { type NumberedRule, openingRule, sameRule, waitsForStandbys } from './rule.js';

/** A rule that acknowledgements have to meet now. */
export interface ActiveRule {
  readonly rule: Rule;
  /** It asks for the primary's own flush and no more. */
  readonly alone: boolean;
  /** undefined: nobody is named. */
  readonly standbys: SyncStandbys | undefined;
  /** Its members that are connected. */
  present: readonly Progress[];
}

/**
 * The rule that a primary acknowledges under, who has recorded it, and the rule that takes its
 * place (SAFETY 4.1). A rule changes because a standby is let in, because with FIRST others have
 * the highest priority, because the policy is set, because the primary goes on alone or comes back.
 *
 *   decided --all that was acknowledged meets it--> recording
 *   recording --recorded here and by each standby that is connected--> in force
 *
 * From the decision on acknowledgements must meet every one of these three; there is one of each
 * kind at most. What is decided may be taken back or replaced: nobody was told of it. What is
 * being recorded may not: some node may know that rule and no other.
 *
 * Scenario for the first step: x is the only member; the primary goes over to y alone, which lacks
 * a record that x acknowledged. If y records that, and the primary is lost, then by what y has
 * recorded it holds whatever was acknowledged. Scenario for the second step, with `ANY 1 (*)`: y
 * becomes a member beside x, and acknowledges a record that x lacks; the primary is lost before x
 * was told. By what x has recorded it alone holds all, and it is promoted without that record.
 *
 * Who is let in later records what is newest by then before its first acknowledgement, so it does
 * not undo what is in force.
 *
 * All that was acknowledged so far is more than the commit place may know: whoever is promoted has
 * it all in its log, and may have heard of its being committed for a part. So what the term began
 * with counts as acknowledged too. Scenario: a standby that is far behind is the first that follows
 * the new primary, and records that it alone counts before it has what the old one acknowledged;
 * the new primary is lost. By what that standby has recorded it holds whatever was acknowledged.
 */
export class CommitRule {
  readonly #quorum: Quorum;
  readonly #termStart: number;
  readonly #reached: Reached = { position: 0, lsn: 0 };
  #policy: CommitPolicy;
  #alone = false;
  #inForce: ActiveRule;
  #inForceNumber = 1;
  #recording: ActiveRule | undefined;
  /** Of the rule that was told last: what is being recorded, or in force. */
  #number = 1;
  #decided: ActiveRule | undefined;
  #active: readonly ActiveRule[] = [];
  #toRecord: NumberedRule | undefined;
  #recordedHere = 1;
  /** Who should be a member may have changed. */
  #stirred = true;
  #live = 0;

  /** The opening rule was recorded with the term, which begins at this position of the log. */
  constructor(policy: CommitPolicy, quorum: Quorum, termStart: number) {
    this.#policy = policy;
    this.#quorum = quorum;
    this.#termStart = termStart;
    this.#inForce = this.#activate(openingRule(policy));
    this.#refresh();
  }

  /** The rule that was told last. */
  get newest(): NumberedRule {
    return { number: this.#number, rule: this.#told };
  }

  get inForce(): NumberedRule {
    return { number: this.#inForceNumber, rule: this.#inForce.rule };
  }

  get inForceNumber(): number {
    return this.#inForceNumber;
  }

  /** All that an acknowledgement has to meet; what is in force comes first. */
  get active(): readonly ActiveRule[] {
    return this.#active;
  }

  get policy(): CommitPolicy {
    return this.#policy;
  }

  /** Whether the primary goes on alone, or is about to. */
  get isAlone(): boolean {
    return this.#alone;
  }

  /** Another policy; degraded stays degraded only if `mayStayAlone`. Then call `update`. */
  setPolicy(policy: CommitPolicy, mayStayAlone: boolean): void {
    this.#policy = policy;
    this.#alone = this.#alone && mayStayAlone && waitsForStandbys(policy);
    this.#stirred = true;
  }

  /** The primary goes on alone, or comes back. Then call `update`. */
  setAlone(alone: boolean): void {
    this.#alone = alone && waitsForStandbys(this.#policy);
    this.#stirred = true;
  }

  /** A standby came or went, or anything else that is not told of: then call `update`. */
  stir(): void {
    this.#stirred = true;
  }

  /** A standby came or went: who of the members is there counts from now on. Then call `update`. */
  connectedChanged(): void {
    this.#stirred = true;
    this.#refresh();
  }

  /** This node's own control file holds the rule of this number. Then call `update`. */
  recordedHere(number: number): void {
    if (number > this.#recordedHere) this.#recordedHere = number;
  }

  /** Whether enough standbys have flushed up to `position` for the primary not to be alone. */
  couldMeet(position: number): boolean {
    const rule = this.#ruleFor(false);
    return this.#hasFlushed(this.#activate(rule), position);
  }

  /**
   * Takes every step that can be taken, with the commit place at `commitPosition`. Returns whether
   * acknowledgements have to meet something else than before. To be called again when the commit
   * place has moved by that; after it, `takeToRecord`.
   */
  update(commitPosition: number): boolean {
    const isNews = this.#stirred || this.#countLive() !== this.#live;
    if (!isNews && this.#recording === undefined && this.#decided === undefined) return false;
    const isInForce = this.#settle();
    const isDecided = (isNews || isInForce) && this.#decide();
    const isBegun = this.#begin(commitPosition);
    if (!isInForce && !isDecided && !isBegun) return false;
    this.#refresh();
    return true;
  }

  /** A rule that is to be recorded from now on: here, and by every standby that is connected. */
  takeToRecord(): NumberedRule | undefined {
    const rule = this.#toRecord;
    this.#toRecord = undefined;
    return rule;
  }

  get #told(): Rule {
    return (this.#recording ?? this.#inForce).rule;
  }

  #settle(): boolean {
    if (this.#recording === undefined) return false;
    let number = this.#recordedHere;
    for (const { rule } of this.#quorum.all) number = Math.min(number, rule);
    if (number < this.#number) return false;
    this.#inForce = this.#recording;
    this.#inForceNumber = this.#number;
    this.#recording = undefined;
    return true;
  }

  /** Returns whether something else is decided than was. */
  #decide(): boolean {
    this.#stirred = false;
    this.#live = this.#countLive();
    const before = this.#decided;
    const rule = this.#ruleFor(this.#alone);
    if (sameRule(this.#told, rule)) {
      this.#decided = undefined;
      return before !== undefined;
    }
    if (before !== undefined && sameRule(before.rule, rule)) return false;
    this.#decided = this.#activate(rule);
    return true;
  }

  #begin(commitPosition: number): boolean {
    const decided = this.#decided;
    if (decided === undefined || this.#recording !== undefined) return false;
    if (!this.#isMet(decided, commitPosition)) return false;
    this.#recording = decided;
    this.#decided = undefined;
    this.#number += 1;
    this.#toRecord = this.newest;
    return true;
  }

  /** Whether all that was acknowledged so far meets it; what is in force, it meets. */
  #isMet(next: ActiveRule, commitPosition: number): boolean {
    if (next.alone) return true;
    const { rule, alone, standbys } = this.#inForce;
    if (next.standbys === undefined) return false;
    const to = next.standbys.count;
    const place = Math.max(commitPosition, this.#termStart);
    if (alone || standbys === undefined) return this.#hasFlushed(next, place);
    const from = standbys.count;
    if (rule.members.length >= from) {
      return implies(rule, next.rule, { from, to }) || this.#hasFlushed(next, place);
    }
    // By so few nothing was acknowledged, so it says nothing of what was before. By fewer than are
    // asked for each one alone is taken to hold it all.
    return this.#hasFlushed(next, place, Math.min(to, next.rule.members.length));
  }

  /** Flushed, whatever the level: it may be what a standby alone is asked for later. */
  #hasFlushed(
    { standbys, present }: ActiveRule,
    position: number,
    count = standbys?.count ?? 0,
  ): boolean {
    if (standbys === undefined) return false;
    const isThere = kth(present, count, 'flush', this.#reached);
    return isThere && this.#reached.position >= position;
  }

  #ruleFor(degraded: boolean): Rule {
    const { standbys } = this.#policy;
    const opening = openingRule(this.#policy);
    if (standbys === undefined) return opening;
    const told = this.#told;
    const isOfPolicy = told.synchronousStandbys === opening.synchronousStandbys;
    // While it is alone nobody's acknowledgement counts, so the members do not change.
    if (degraded) return { ...opening, members: isOfPolicy ? told.members : [], degraded };
    const before = isOfPolicy && !told.degraded ? told.members : [];
    return { ...opening, members: chooseMembers(standbys, this.#quorum.all, before) };
  }

  #activate(rule: Rule): ActiveRule {
    const { standbys } = this.#policy;
    const alone = rule.degraded || !waitsForStandbys(rule);
    const active: ActiveRule = { rule, alone, standbys, present: [] };
    this.#findPresent(active);
    return active;
  }

  #findPresent(active: ActiveRule): void {
    const { rule, standbys } = active;
    active.present = [...this.#quorum.all].filter(
      ({ nodeId, name }) =>
        standbys !== undefined && rule.members.includes(nodeId) && admits(standbys, name),
    );
  }

  #refresh(): void {
    const all = [this.#inForce, this.#recording, this.#decided];
    this.#active = all.filter((each) => each !== undefined);
    for (const each of this.#active) this.#findPresent(each);
    const { rule, present } = this.#inForce;
    for (const each of this.#quorum.all) each.counts = !rule.degraded && present.includes(each);
  }

  /** Only FIRST asks who is live. */
  #countLive(): number {
    if (this.#policy.standbys?.method !== 'first') return 0;
    let live = 0;
    for (const { state } of this.#quorum.all) if (state === 'live') live += 1;
    return live;
  }
}
