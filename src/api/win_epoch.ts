import type { NativeInfo, Term } from '../native/native_log.js';
import { CallSignal } from '../referee/call_signal.js';
import {
  bestOf,
  candidateAhead,
  type Doubt,
  doubtsOf,
  isPrefixOf,
  openedTerm,
  standingFenced,
  witnesses,
} from '../replication/candidacy.js';
import { isFence } from '../replication/fence.js';
import { compareTerms, showTerm } from '../replication/history.js';
import type { RecordedRule } from '../replication/rule.js';
import type { FenceGrant, Standing } from '../replication/standing.js';
import { pause } from '../transport/environment.js';
import type { LogCore } from './core.js';
import { WalError } from './errors.js';
import type { FencedDriver } from './fenced_driver.js';
import {
  describeSilent,
  type FencedMember,
  type MemberAnswer,
  type MemberSilence,
  type MemberSurvey,
  type Members,
} from './members.js';
import { StandbyDriver } from './standby_driver.js';

/** Whoever may be promoted; a log that is fenced only by force. */
export type Promotable = StandbyDriver | FencedDriver;

export interface Candidacy {
  /** Promotes although what was acknowledged may be lost. */
  readonly force: boolean;
  /** Records that may be lacking where commits waited for no standby. Default 0. */
  readonly maximumLag?: number;
  /** The rule by which a referee has granted it; undefined: the rules that members know decide. */
  readonly recorded?: RecordedRule | undefined;
  /** The epoch to open, above the one given, by a referee; undefined: one above all known. */
  readonly grant: ((known: number) => Promise<number>) | undefined;
  readonly signal: AbortSignal | undefined;
  /** Nothing speaks against it: from now on nothing may be followed. */
  readonly begin: () => void;
}

/** The right to open an epoch, as far as the members give it. */
export interface WonEpoch {
  readonly term: Term;
  /** Whose part in the terms before it is all in the log that it opens with (`witnesses`). */
  readonly witnesses: readonly string[];
  /** Why it would have been refused, where it was forced; null: nothing spoke against it. */
  readonly forced: string | null;
  /**
   * To be asked when nothing is followed any more: throws WAL_FENCED where another candidate has
   * come in between, and WAL_PROMOTION_REFUSED where more is known by now.
   */
  requireMine(): void;
}

/** Attempts, since two candidates may stand in each other's way, and the pause after one. */
const attempts = 3;
const pauseMs = 50;
/** How long a candidate that is ahead is waited for, before its place is taken. */
const yieldMs = 5000;

/**
 * Asks the members how they stand, fences those that answer, and takes the best log among them
 * (SAFETY 3.3, 3.4). Nothing is stored anywhere before it is known that enough answer. Where no
 * member is known, or none answers, this node decides by what it knows itself.
 */
export async function winEpoch(
  core: LogCore,
  standby: Promotable,
  candidacy: Candidacy,
): Promise<WonEpoch> {
  const { environment } = core;
  const yieldUntil = environment.now() + yieldMs;
  const replaced = openedEpoch(core);
  for (let attempt = 1; ; ) {
    const mayYield = candidacy.grant === undefined && environment.now() < yieldUntil;
    try {
      // While another candidate was waited for, this node may have begun to follow it.
      if (openedEpoch(core) !== replaced) throw anotherOne(core);
      const won = await attemptEpoch(core, standby, candidacy, mayYield);
      if (won !== undefined) return won;
    } catch (error) {
      const isRaced = error instanceof WalError && error.code === 'WAL_FENCED';
      if (!isRaced || attempt === attempts || candidacy.grant !== undefined) throw error;
      attempt += 1;
    }
    const call = new CallSignal([core.closing.signal, candidacy.signal]);
    await pause(environment, pauseMs * attempt * (1 + environment.random()), call.signal);
    call.done();
    candidacy.signal?.throwIfAborted();
  }
}

/** undefined: another candidate is ahead. */
async function attemptEpoch(
  core: LogCore,
  standby: Promotable,
  { force, maximumLag = 0, recorded, grant, signal, begin }: Candidacy,
  mayYield: boolean,
): Promise<WonEpoch | undefined> {
  const { members } = core;
  const doubtsBy = (own: Standing, others: readonly Standing[]): readonly Doubt[] =>
    doubtsOf(own, others, maximumLag, recorded);
  const found = members === undefined ? nobody : await askMembers(core, members, doubtsBy, signal);
  if (members !== undefined) core.requireOpen();
  const own = core.desk.standing();
  const others = found.answers.map(({ standing }) => standing);
  const doubts = doubtsBy(own, others);
  if (doubts.length > 0 && !force) throw refused(core, doubts, found);
  if (mayYield && candidateAhead(own, others) !== undefined) return undefined;
  // A referee grants no epoch twice: by itself this node goes above all that anybody has stored.
  const heard = others.map(({ term }) =>
    grant === undefined ? term.epoch : epochBefore(term, own.nodeId),
  );
  const known = Math.max(knownEpoch(core.native.info()), ...heard);
  const epoch = grant === undefined ? known + 1 : await grant(known);
  if (epoch <= known) {
    throw new WalError('WAL_FENCED', `epoch ${epoch} is not above ${known}, which is known`);
  }
  const term: Term = { epoch, opener: own.nodeId, incarnation: 1 };
  if (members === undefined || others.length === 0) {
    const requireMine = (): void => {
      requireTerm(core, own.term);
      // What this node knows may have changed until it follows nobody any more.
      const doubts = force ? [] : doubtsBy(core.desk.standing(), []);
      if (doubts.length > 0) throw refused(core, doubts, nobody);
    };
    return { term, witnesses: [], forced: describeAll(core, doubts), requireMine };
  }
  begin();
  // This node first: an epoch that it has asked others for is never asked for again.
  const mine = await core.desk.fenceOwn(standby, epoch);
  // By what they told now: the rule may have changed since they were asked, and more may be known.
  const doubtsLeft = (some: readonly FencedMember[]): readonly Doubt[] => {
    const fenced = some.map(({ answer, grant }) => standingFenced(answer.standing, grant));
    return doubtsBy(standingFenced(own, mine), fenced);
  };
  const enough = (some: readonly FencedMember[]): boolean => doubtsLeft(some).length === 0;
  const asked = await members.fence(found.answers, epoch, signal, enough);
  const { granted, refused: silent } = asked;
  const left = doubtsLeft(granted);
  if (left.length > 0 && !force) throw lostBetween(core, left, epoch, silent);
  await takeBest(core, standby, mine, granted, { force, signal });
  const forced = describeAll(core, left.length > 0 ? left : doubts);
  // Where it is forced, the best log need not have been taken.
  const grants: [FenceGrant, ...FenceGrant[]] = [mine, ...granted.map((each) => each.grant)];
  const told = force ? [] : witnesses(grants);
  return { term, witnesses: told, forced, requireMine: () => requireTerm(core, mine.term) };
}

const nobody: MemberSurvey = { answers: [], silent: [] };

async function askMembers(
  core: LogCore,
  members: Members,
  doubtsBy: (own: Standing, others: readonly Standing[]) => readonly Doubt[],
  signal: AbortSignal | undefined,
): Promise<MemberSurvey> {
  const own = core.desk.standing();
  const enough = (answers: readonly MemberAnswer[]): boolean =>
    doubtsBy(
      own,
      answers.map(({ standing }) => standing),
    ).length === 0;
  return members.survey({ signal, enough });
}

/** Those who were fenced acknowledge nothing more to anybody older: another attempt may succeed. */
function lostBetween(
  core: LogCore,
  doubts: readonly Doubt[],
  epoch: number,
  silent: readonly MemberSilence[],
): WalError {
  const why = silent.length === 0 ? '' : `; not fenced: ${describeSilent(silent)}`;
  const text = `${describeDoubts(core, doubts)}, in epoch ${epoch}${why}`;
  if (!doubts.some(({ kind }) => kind === 'too_few')) {
    return new WalError('WAL_PROMOTION_REFUSED', text);
  }
  const hint = 'Promote again, here or elsewhere: it takes a higher epoch.';
  return new WalError('WAL_FENCED', text, { hint });
}

/**
 * What was acknowledged is in one of these logs, so it is in the best of them. Who was fenced goes
 * on with its own history: by its operator's word, or because it is the best.
 */
async function takeBest(
  core: LogCore,
  standby: Promotable,
  own: FenceGrant,
  granted: readonly FencedMember[],
  { force, signal }: Pick<Candidacy, 'force' | 'signal'>,
): Promise<void> {
  const follows = standby instanceof StandbyDriver && standby.role === 'standby';
  if (!follows && force) return;
  const best = bestOf([own, ...granted.map(({ grant }) => grant)]);
  const member = granted.find(({ grant }) => grant === best);
  if (member === undefined) return;
  if (!follows || !isPrefixOf(own, best)) {
    if (force) return;
    const text = `the log of ${best.name} is the best one, and this one does not go on as it does`;
    throw new WalError('WAL_PROMOTION_REFUSED', text, { hint: `Promote ${best.name} instead.` });
  }
  const call = new CallSignal([core.closing.signal, signal]);
  try {
    const { endpoint } = member.answer;
    await standby.extend(best.history, best.end.position, endpoint, call.signal);
  } finally {
    call.done();
  }
}

/**
 * The highest epoch that this node may not open, by what another knows. Who was demoted for it is
 * bound to it for one that nobody has opened; one that it has asked for itself it knows itself.
 */
function epochBefore(term: Term, ownId: string): number {
  return isFence(term) && term.opener === ownId ? term.epoch - 1 : term.epoch;
}

/** Of the primary whose place is to be taken. */
function openedEpoch(core: LogCore): number {
  return openedTerm(core.desk.standing())?.epoch ?? 0;
}

function anotherOne(core: LogCore): WalError {
  const { primary, term } = core.desk.standing();
  const text = `${primary} was promoted meanwhile, and is the primary, of epoch ${term.epoch}`;
  return new WalError('WAL_PROMOTION_REFUSED', text, { hint: 'Follow it, or promote again.' });
}

function requireTerm(core: LogCore, expected: Term): void {
  const { term } = core.native.info();
  if (term.epoch === 0 || compareTerms(term, expected) === 'same') return;
  const text = `another node came in between: this one knows term ${showTerm(term)} by now`;
  throw new WalError('WAL_FENCED', text, {
    hint: 'See who is the primary; promote again if none.',
  });
}

/** A term that this node heard of is stored before anything is taken under it: these are all. */
export function knownEpoch({ term, history }: Pick<NativeInfo, 'term' | 'history'>): number {
  return Math.max(...[term, ...history].map(({ epoch }) => epoch));
}

function refused(core: LogCore, doubts: readonly Doubt[], { silent }: MemberSurvey): WalError {
  const texts = [describeDoubts(core, doubts)];
  const isTooFew = doubts.some(({ kind }) => kind === 'too_few');
  if (isTooFew && silent.length > 0) texts.push(`did not answer: ${describeSilent(silent)}`);
  const hint =
    isTooFew && core.members === undefined
      ? 'Open the log with `members`, so that the others can be asked; or `force: true`.'
      : undefined;
  return new WalError('WAL_PROMOTION_REFUSED', texts.join('; '), { hint });
}

function describeAll(core: LogCore, doubts: readonly Doubt[]): string | null {
  return doubts.length === 0 ? null : describeDoubts(core, doubts);
}

export function describeDoubts(
  { members }: Pick<LogCore, 'members'>,
  doubts: readonly Doubt[],
): string {
  const name = (id: string): string => members?.nameOf(id) ?? id.slice(0, 8);
  return doubts
    .map(({ text, missing }) =>
      missing.length === 0 ? text : `${text}; missing: ${missing.map(name).join(', ')}`,
    )
    .join('; ');
}
