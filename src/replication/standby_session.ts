import { errorCodes, WalError, type WalErrorCode } from '../api/errors.js';
import type { HistoryEntry, Place, Role, Rule, Term } from '../native/native_log.js';
import type {
  Accept,
  PrimaryHello,
  Refusal,
  StandbyHello,
  StandbyPosition,
} from '../wire/handshake_messages.js';
import { maxProtocol, minProtocol } from '../wire/message_type.js';
import type { SessionTag } from '../wire/stream_messages.js';
import { assert } from './assert.js';
import { isFence } from './fence.js';
import {
  compareTerms,
  firstPosition,
  forkPoint,
  isHistory,
  showPast,
  showTerm,
  type TermOrder,
} from './history.js';
import { identityMismatch, type NodeIdentity } from './identity.js';
import {
  describeTail,
  type Judgement,
  judgeTail,
  mayGo,
  type RejoinMode,
  type ReturningLog,
} from './rejoin.js';

/** What a session sees of its standby, looked up when it is needed. */
export interface StandbyView extends ReturningLog {
  readonly identity: NodeIdentity;
  readonly term: Term;
  /** `primary`: it was one, and is no standby yet; `fenced`: and has stored a newer term. */
  readonly role: Role;
  /** crc of the batch that ends at `end`. */
  readonly crc: number;
  readonly rejoin: RejoinMode;
  /** A referee grants epochs, each to one node of the group. */
  readonly hasReferee: boolean;
  /** Whom it was fenced for has said that it never opens that epoch (`hasGivenUp`). */
  readonly isReleased: boolean;
}

/** What the driver has to do, in order. After `refuse` or `fail` the connection is closed. */
export type StandbyAction =
  | { readonly do: 'hello'; readonly hello: StandbyHello }
  /** Store role and term durably, then call `stored`. */
  | { readonly do: 'store'; readonly term: Term; readonly primaryName: string }
  | { readonly do: 'position'; readonly position: StandbyPosition }
  /** Store the rule durably, then call `recorded`. */
  | { readonly do: 'record'; readonly rule: Rule }
  /** Under a newer epoch: what the tail of this log was found to be. */
  | { readonly do: 'judged'; readonly judgement: Judgement }
  /**
   * Under a newer epoch: the same check and cut as below, where the log goes on, and be a standby,
   * in one step; then call `rejoined`.
   */
  | { readonly do: 'rejoin'; readonly position: number; readonly crc: number }
  /** Check that our batch that ends here has this crc, cut the log here, then call `cut`. */
  | { readonly do: 'cut'; readonly position: number; readonly crc: number }
  /** Take log bytes of this history from here on. */
  | { readonly do: 'begin'; readonly history: readonly HistoryEntry[] }
  /** Tell the primary why, then close. */
  | { readonly do: 'refuse'; readonly refusal: Refusal }
  | { readonly do: 'fail'; readonly error: WalError };

type State =
  | 'hello'
  | 'storing'
  | 'accept'
  | 'rejoining'
  | 'recording'
  | 'cutting'
  | 'streaming'
  | 'over';

/** Trying again cannot help with these: an operator has to act. */
const final: readonly WalErrorCode[] = [
  'WAL_COMMITTED_LOST',
  'WAL_DIVERGED',
  'WAL_WAS_PRIMARY',
  'WAL_SPLIT',
  'WAL_NOT_A_LOG',
  'WAL_VERSION',
  'WAL_LSN_GONE',
  'WAL_AUTH_FAILED',
];

export function isFinal(error: unknown): boolean {
  return error instanceof WalError && final.includes(error.code);
}

/**
 * The standby's half of the handshake of one connection.
 *
 *   hello --onHello--> storing --stored--> accept --onAccept--> [rejoining --rejoined-->] recording
 *   recording --recorded--> [cutting --cut-->] streaming
 *     any of them --refusal, either side's--> over
 *
 * A newer term is stored durably before anything is accepted under it (SAFETY 2.3), and the
 * primary's rule before anything is acknowledged under it (SAFETY 4.1). The fork point is computed
 * here again: a primary cannot make a standby drop what it knows to be committed.
 *
 * Under a newer epoch what lies past the fork point is judged first (SAFETY 3.8): of an old
 * primary, which stores that epoch as fenced and is a standby only when its tail is cut, and of a
 * standby that is longer than the new primary. What the acknowledgements meant is known until then,
 * so that whatever interrupts it, the next session judges the same tail by the same facts.
 */
export class StandbySession {
  readonly #view: () => StandbyView;
  #state: State = 'hello';
  #term: Term | undefined;
  #accept: Accept | undefined;
  #version = 0;
  #isLonger = false;
  #primary: { readonly nodeId: string; readonly name: string } = { nodeId: '', name: '' };

  constructor(view: () => StandbyView) {
    this.#view = view;
  }

  get state(): State {
    return this.#state;
  }

  /** Of the protocol, once the primary has answered the hello. */
  get version(): number {
    return this.#version;
  }

  /** What every message of this session carries. Valid once it was accepted. */
  get tag(): SessionTag {
    assert(this.#accept !== undefined && this.#term !== undefined, 'a session that was accepted');
    const { epoch, incarnation } = this.#term;
    return { session: this.#accept.session, epoch, incarnation };
  }

  get accepted(): Accept {
    assert(this.#accept !== undefined, 'a session that was accepted');
    return this.#accept;
  }

  start(): StandbyAction[] {
    const { identity, term } = this.#view();
    const { logId, salt, nodeId, name } = identity;
    const sender = { logId, salt, nodeId, term };
    return [
      { do: 'hello', hello: { minVersion: minProtocol, maxVersion: maxProtocol, name, sender } },
    ];
  }

  onHello(hello: PrimaryHello): StandbyAction[] {
    assert(this.#state === 'hello', 'a hello comes first');
    const { identity, term, role } = this.#view();
    if (hello.version < minProtocol || hello.version > maxProtocol) {
      return this.#fail('WAL_VERSION', `the primary chose protocol version ${hello.version}`);
    }
    this.#version = hello.version;
    const mismatch = identityMismatch(identity, hello);
    if (mismatch !== undefined) {
      return this.#fail('WAL_NOT_A_LOG', `${hello.name} cannot be followed: ${mismatch}`);
    }
    if (hello.nodeId === identity.nodeId) {
      return this.#fail('WAL_PEER_REFUSED', 'a standby cannot follow itself');
    }
    this.#term = hello.term;
    this.#primary = hello;
    if (role === 'primary' && hello.term.epoch === term.epoch) {
      // A standby that passes on what this node framed: it may open an epoch of its own yet.
      const isOwn = hello.term.opener === identity.nodeId;
      if (isOwn && hello.term.incarnation <= term.incarnation) {
        return this.#refuse('WAL_FENCED', `${hello.name} is a standby of this node's own term`);
      }
      return this.#refuse('WAL_SPLIT', `epoch ${term.epoch} was opened by this node too`);
    }
    switch (this.#orderOf(hello.term)) {
      case 'older':
        return this.#refuse(
          'WAL_FENCED',
          `${hello.name} is of term ${showTerm(hello.term)}, this standby knows ${showTerm(term)}`,
        );
      case 'split':
        return this.#refuse('WAL_SPLIT', `epoch ${term.epoch} was opened by two nodes`);
      case 'newer':
      case 'same':
        // Also when the term is known: the name or the address of the primary may have changed.
        this.#state = 'storing';
        return [{ do: 'store', term: hello.term, primaryName: hello.name }];
    }
  }

  /**
   * An epoch that this node wanted to open itself, and did not, binds it to nobody. Nor does one
   * that it was fenced for, or handed over, once the candidate never opens it: by its own word, or
   * since a referee has granted it to another after it was handed over.
   */
  #orderOf(term: Term): TermOrder {
    const { identity, term: known, role, history, hasReferee, isReleased } = this.#view();
    const isOwn = known.opener === identity.nodeId;
    const hasHandedOver = role === 'standby' && history.at(-1)?.opener === identity.nodeId;
    const isOpened = known.epoch === term.epoch && isFence(known) && !isFence(term);
    const isFree = isOwn || isReleased || (hasReferee && hasHandedOver);
    return isOpened && isFree ? 'newer' : compareTerms(term, known);
  }

  stored(): StandbyAction[] {
    assert(this.#state === 'storing', 'a term was to be stored');
    this.#state = 'accept';
    const view = this.#view();
    const { end, crc, history } = view;
    // What was committed under an older epoch binds this node, which judges it, and not the
    // primary.
    const commit = this.#judges(view) ? { position: firstPosition, lsn: 0 } : view.commit;
    return [{ do: 'position', position: { end, crc, commit, history } }];
  }

  onAccept(accept: Accept): StandbyAction[] {
    assert(this.#state === 'accept', 'an acceptance follows the position');
    const view = this.#view();
    const last = accept.history.at(-1);
    if (!isHistory(accept.history) || last === undefined) {
      return this.#fail('WAL_PEER_INVALID', 'the history of the primary is none');
    }
    if (compareTerms(last, this.#term!) !== 'same' || last.position >= accept.end.position) {
      return this.#fail('WAL_PEER_INVALID', 'the history of the primary is not of its term');
    }
    const fork = forkPoint(
      { history: accept.history, end: accept.end },
      { history: view.history, end: view.end },
    );
    if (fork?.position !== accept.start) {
      return this.#fail('WAL_PEER_INVALID', 'the primary starts elsewhere than the logs fork');
    }
    const own = view.history.at(-1);
    const isLonger = view.end.position > fork.position;
    if (isLonger && (own === undefined || compareTerms(own, this.#term!) !== 'older')) {
      return this.#refuse('WAL_DIVERGED', 'the primary has less of its own term than this standby');
    }
    const isRejoin = view.role !== 'standby' || (isLonger && this.#judges(view));
    const next = accept.history.find(({ position }) => position >= fork.position);
    const judged = isRejoin
      ? this.#judge(view, fork, next, accept.witnesses)
      : this.#lost(view, accept, fork);
    if (judged.some((action) => action.do === 'fail')) return judged;
    if (!isLonger && fork.position > firstPosition && accept.crc !== view.crc) {
      return this.#refuse('WAL_DIVERGED', `the logs differ at LSN ${view.end.lsn}`);
    }
    this.#accept = accept;
    if (isRejoin) {
      this.#state = 'rejoining';
      return [...judged, { do: 'rejoin', position: accept.start, crc: accept.crc }];
    }
    this.#isLonger = isLonger;
    this.#state = 'recording';
    return [{ do: 'record', rule: accept.rule.rule }];
  }

  rejoined(): StandbyAction[] {
    assert(this.#state === 'rejoining', 'a log was to rejoin');
    assert(this.#view().end.position === this.accepted.start, 'the log ends at the fork');
    this.#state = 'recording';
    return [{ do: 'record', rule: this.accepted.rule.rule }];
  }

  recorded(): StandbyAction[] {
    assert(this.#state === 'recording', 'a rule was to be recorded');
    if (!this.#isLonger) return this.#begin();
    this.#state = 'cutting';
    const { start, crc } = this.accepted;
    return [{ do: 'cut', position: start, crc }];
  }

  /** Whether the log is all of epochs before that of its primary. */
  #judges({ history }: StandbyView): boolean {
    const own = history.at(-1);
    return own !== undefined && own.epoch < this.#term!.epoch;
  }

  /** SAFETY 3.8: refuses what may not go, or not without a word. */
  #judge(
    view: StandbyView,
    fork: Place,
    next: HistoryEntry | undefined,
    told: readonly string[],
  ): StandbyAction[] {
    // Of the primary, also where a standby passes its log on.
    const primaryId = this.#term!.opener;
    // Those of another term say nothing of what was acknowledged before this one.
    const isOfNext = next !== undefined && compareTerms(next, this.#term!) === 'same';
    const witnesses = isOfNext ? told : [];
    const judgement = judgeTail(view, fork, { primaryId, next, witnesses });
    const tell: StandbyAction = { do: 'judged', judgement };
    if (mayGo(judgement, view.rejoin)) return [tell];
    const { verdict, tail } = judgement;
    const wasPrimary = view.role !== 'standby';
    const text =
      `this log ${wasPrimary ? 'was a primary and ' : ''}holds ${describeTail(tail)}: ` +
      `${this.#primary.name}, the new primary, went another way after LSN ${fork.lsn}`;
    if (verdict === 'never') {
      const why = `${text}, though a quorum had committed up to LSN ${view.quorumLsn}: that is`;
      return [tell, ...this.#refuse('WAL_DIVERGED', `${why} never removed`)];
    }
    const hint = rejoinHint(verdict, fork.lsn);
    return [tell, ...this.#refuse(wasPrimary ? 'WAL_WAS_PRIMARY' : 'WAL_DIVERGED', text, hint)];
  }

  /** SAFETY 2.5, in one epoch. */
  #lost(view: StandbyView, accept: Accept, fork: Place): StandbyAction[] {
    const { commit } = view;
    if (this.#judges(view)) return [];
    const bound = view.end.position > fork.position ? fork : accept.end;
    if (commit.position <= bound.position) return [];
    return this.#refuse(
      'WAL_COMMITTED_LOST',
      `this standby knows ${showPast(commit, bound)}; ` +
        `the primary's log ends or differs before it`,
    );
  }

  cut(): StandbyAction[] {
    assert(this.#state === 'cutting', 'a cut was under way');
    assert(this.#view().end.position === this.accepted.start, 'the log ends at the cut');
    return this.#begin();
  }

  /** Our batch at the fork point is not the primary's: nothing was cut. */
  cutRefused(): StandbyAction[] {
    const { state } = this;
    assert(state === 'cutting' || state === 'rejoining', 'a cut was under way');
    return this.#refuse('WAL_DIVERGED', 'the logs differ where their histories are the same');
  }

  onRefusal(refusal: Refusal): StandbyAction[] {
    this.#state = 'over';
    return [{ do: 'fail', error: refusalError(refusal) }];
  }

  #begin(): StandbyAction[] {
    this.#state = 'streaming';
    return [{ do: 'begin', history: this.accepted.history }];
  }

  #refuse(code: WalErrorCode, message: string, hint?: string): StandbyAction[] {
    this.#state = 'over';
    const { term } = this.#view();
    return [
      { do: 'refuse', refusal: { code, message, term } },
      { do: 'fail', error: new WalError(code, message, { hint }) },
    ];
  }

  #fail(code: WalErrorCode, message: string): StandbyAction[] {
    this.#state = 'over';
    return [{ do: 'fail', error: new WalError(code, message) }];
  }
}

function rejoinHint(verdict: Judgement['verdict'], lsn: number): string {
  const look = `Look at them: \`walmirror dump --from ${lsn + 1}\`.`;
  if (verdict === 'ask') return `${look} \`rejoin: 'auto'\` sets them aside in a file and follows.`;
  return (
    `${look} Another standby may have them too: promote that one. \`rejoin: ${lsn}\` sets aside ` +
    'all that lies past that LSN and follows.'
  );
}

/**
 * A peer's refusal as an error of ours; a code that this release does not know is named in the
 * text.
 */
export function refusalError(refusal: Refusal): WalError {
  if (Object.hasOwn(errorCodes, refusal.code)) {
    return new WalError(refusal.code as WalErrorCode, `refused by the peer: ${refusal.message}`);
  }
  return new WalError('WAL_PEER_REFUSED', `${refusal.code}: ${refusal.message}`);
}
