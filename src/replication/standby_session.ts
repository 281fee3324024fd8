import { errorCodes, WalError, type WalErrorCode } from '../api/errors.js';
import type { HistoryEntry, Place, Rule, Term } from '../native/native_log.js';
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
import {
  compareTerms,
  firstPosition,
  forkPoint,
  isHistory,
  showPast,
  showTerm,
} from './history.js';
import { identityMismatch, type NodeIdentity } from './identity.js';
import {
  describeTail,
  type Judgement,
  judgeTail,
  type RejoinMode,
  type ReturningLog,
} from './rejoin.js';

/** What a session sees of its standby, looked up when it is needed. */
export interface StandbyView {
  readonly identity: NodeIdentity;
  readonly term: Term;
  readonly history: readonly HistoryEntry[];
  readonly closed: Place;
  /** crc of the batch that ends at `closed`. */
  readonly crc: number;
  /** The highest commit place this node was told of. */
  readonly commit: Place;
  /** This node was a primary, and is no standby yet. */
  readonly returning?: Returning | undefined;
}

export interface Returning extends ReturningLog {
  readonly mode: RejoinMode;
  /** It heard of a newer primary before, and has stored so. */
  readonly isFenced: boolean;
}

/** What the driver has to do, in order. After `refuse` or `fail` the connection is closed. */
export type StandbyAction =
  | { readonly do: 'hello'; readonly hello: StandbyHello }
  /** Store role and term durably, then call `stored`. */
  | { readonly do: 'store'; readonly term: Term; readonly primaryName: string }
  | { readonly do: 'position'; readonly position: StandbyPosition }
  /** Store the rule durably, then call `recorded`. */
  | { readonly do: 'record'; readonly rule: Rule }
  /** An old primary: what its tail was found to be. */
  | { readonly do: 'judged'; readonly judgement: Judgement }
  /**
   * An old primary: the same check and cut as below, where its log goes on, and be a standby, in
   * one step; then call `rejoined`.
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
 * An old primary that comes back stores the newer term as fenced, and is a standby only when its
 * tail is cut (SAFETY 3.8): what its own acknowledgements meant is known until then, so that
 * whatever interrupts it, the next session judges the same tail by the same facts.
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
    const { identity, term, returning } = this.#view();
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
    if (returning?.isFenced === false && hello.term.epoch === term.epoch) {
      return this.#refuse('WAL_SPLIT', `epoch ${term.epoch} was opened by this node too`);
    }
    switch (compareTerms(hello.term, term)) {
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

  stored(): StandbyAction[] {
    assert(this.#state === 'storing', 'a term was to be stored');
    this.#state = 'accept';
    const { closed, crc, history, returning, ...known } = this.#view();
    // What it committed itself binds this node, which judges it, and not the new primary.
    const commit = returning === undefined ? known.commit : { position: firstPosition, lsn: 0 };
    return [{ do: 'position', position: { end: closed, crc, commit, history } }];
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
      { history: view.history, end: view.closed },
    );
    if (fork?.position !== accept.start) {
      return this.#fail('WAL_PEER_INVALID', 'the primary starts elsewhere than the logs fork');
    }
    const own = view.history.at(-1);
    const isLonger = view.closed.position > fork.position;
    if (isLonger && (own === undefined || compareTerms(own, this.#term!) !== 'older')) {
      return this.#refuse('WAL_DIVERGED', 'the primary has less of its own term than this standby');
    }
    const lost = this.#lost(view, accept, fork);
    if (lost !== undefined) return lost;
    const judged = this.#judge(view, fork);
    if (judged.isRefused) return judged.actions;
    if (!isLonger && fork.position > firstPosition && accept.crc !== view.crc) {
      return this.#refuse('WAL_DIVERGED', `the logs differ at LSN ${view.closed.lsn}`);
    }
    this.#accept = accept;
    if (view.returning !== undefined) {
      this.#state = 'rejoining';
      return [...judged.actions, { do: 'rejoin', position: accept.start, crc: accept.crc }];
    }
    this.#isLonger = isLonger;
    this.#state = 'recording';
    return [{ do: 'record', rule: accept.rule.rule }];
  }

  rejoined(): StandbyAction[] {
    assert(this.#state === 'rejoining', 'an old primary was to rejoin');
    assert(this.#view().closed.position === this.accepted.start, 'the log ends at the fork');
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

  /** SAFETY 3.8: what an old primary may drop. Refuses what may not go, or not without a word. */
  #judge({ returning }: StandbyView, fork: Place) {
    if (returning === undefined) return { isRefused: false, actions: [] };
    const judgement = judgeTail(returning, fork, this.#primary.nodeId);
    const { verdict, tail } = judgement;
    const told: StandbyAction = { do: 'judged', judgement };
    if (verdict === 'follow' || (verdict === 'ask' && returning.mode === 'auto')) {
      return { isRefused: false, actions: [told] };
    }
    const went = `${this.#primary.name}, the new primary, went another way`;
    const missing = `${describeTail(tail)}: ${went}`;
    if (verdict === 'ask') {
      const text = `this log was a primary and holds ${missing} after LSN ${fork.lsn}`;
      return { isRefused: true, actions: [told, ...this.#refuse('WAL_WAS_PRIMARY', text)] };
    }
    const text =
      `this log was a primary and holds ${missing} after LSN ${fork.lsn}, though a quorum had ` +
      `committed up to LSN ${returning.quorumLsn}: that is never removed`;
    return { isRefused: true, actions: [told, ...this.#refuse('WAL_DIVERGED', text)] };
  }

  /** SAFETY 2.5 in the same epoch, 3.8 under a newer one. */
  #lost(view: StandbyView, accept: Accept, fork: Place): StandbyAction[] | undefined {
    if (view.returning !== undefined) return undefined;
    const isLonger = view.closed.position > fork.position;
    const { commit } = view;
    if (view.history.at(-1)?.epoch === this.#term!.epoch) {
      const bound = isLonger ? fork : accept.end;
      if (commit.position <= bound.position) return undefined;
      return this.#refuse(
        'WAL_COMMITTED_LOST',
        `this standby knows ${showPast(commit, bound)}; ` +
          `the primary's log ends or differs before it`,
      );
    }
    if (!isLonger || commit.position <= fork.position) return undefined;
    return this.#refuse(
      'WAL_DIVERGED',
      `this standby knows ${showPast(commit, fork)}; the new primary's log does not have that`,
    );
  }

  cut(): StandbyAction[] {
    assert(this.#state === 'cutting', 'a cut was under way');
    assert(this.#view().closed.position === this.accepted.start, 'the log ends at the cut');
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

  #refuse(code: WalErrorCode, message: string): StandbyAction[] {
    this.#state = 'over';
    const { term } = this.#view();
    return [
      { do: 'refuse', refusal: { code, message, term } },
      { do: 'fail', error: new WalError(code, message) },
    ];
  }

  #fail(code: WalErrorCode, message: string): StandbyAction[] {
    this.#state = 'over';
    return [{ do: 'fail', error: new WalError(code, message) }];
  }
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
