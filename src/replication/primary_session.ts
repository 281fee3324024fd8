import type { WalErrorCode } from '../api/errors.js';
import type { HistoryEntry, Place, Term } from '../native/native_log.js';
import type {
  Accept,
  PrimaryHello,
  Refusal,
  StandbyHello,
  StandbyPosition,
} from '../wire/handshake_messages.js';
import { maxProtocol, minProtocol } from '../wire/message_type.js';
import { assert } from './assert.js';
import {
  compareTerms,
  firstPosition,
  forkPoint,
  isHistory,
  showPast,
  showTerm,
} from './history.js';
import type { NodeIdentity } from './identity.js';
import { Progress } from './progress.js';

/** What a session sees of its primary, looked up when it is needed. */
export interface PrimaryView {
  readonly identity: NodeIdentity;
  readonly term: Term;
  /** Whether it frames the log; else it passes on what it has of it, and may lack some. */
  readonly isPrimary: boolean;
  readonly history: readonly HistoryEntry[];
  readonly closed: Place;
  readonly commit: Place;
  /** Where the oldest kept batch starts. */
  readonly start: number;
  /** Of its term (`Accept.witnesses`). */
  readonly witnesses: readonly string[];
}

/** What the driver has to do, in order. After `refuse` nothing more is sent on the connection. */
export type PrimaryAction =
  | { readonly do: 'hello'; readonly hello: PrimaryHello }
  | { readonly do: 'refuse'; readonly refusal: Refusal }
  /**
   * Keep the log from here on, look up the checksum of the batch that ends here, call `checksum`.
   */
  | { readonly do: 'checksum'; readonly position: number }
  /** Let the standby in under the newest rule, which may name it. */
  | {
      readonly do: 'accept';
      readonly accept: Omit<Accept, 'rule'>;
      readonly progress: Progress;
    }
  /** A newer term than ours exists: this primary acknowledges nothing any more. */
  | { readonly do: 'fenced'; readonly term: Term }
  /** Another node opened our epoch too. */
  | { readonly do: 'split'; readonly term: Term }
  /** The standby knows more to be committed than this log holds. */
  | { readonly do: 'lost'; readonly position: number; readonly lsn: number };

type State = 'hello' | 'position' | 'checksum' | 'streaming' | 'over';

/**
 * The primary's half of the handshake of one connection.
 *
 *   hello --onHello--> position --onPosition--> checksum --onChecksum--> streaming
 *     any of them --refusal--> over
 *
 * The term is fixed when the hello is answered; every later message of the session carries it.
 */
export class PrimarySession {
  readonly #view: () => PrimaryView;
  readonly #session: number;
  #state: State = 'hello';
  #term: Term | undefined;
  #hello: StandbyHello | undefined;
  #version = 0;
  #position: StandbyPosition | undefined;
  #start: Place = { position: firstPosition, lsn: 0 };

  constructor(view: () => PrimaryView, session: number) {
    this.#view = view;
    this.#session = session;
  }

  get state(): State {
    return this.#state;
  }

  /** The session's term, once the hello was answered. */
  get term(): Term {
    assert(this.#term !== undefined, 'a session has a term after its hello');
    return this.#term;
  }

  /** Of the protocol, once the hello was answered. */
  get version(): number {
    return this.#version;
  }

  /** The standby's node id, once its hello was answered. */
  get nodeId(): string {
    const sender = this.#hello?.sender;
    assert(sender !== undefined, 'a standby with a log has said its node id');
    return sender.nodeId;
  }

  /** A standby that has no log yet asked only who we are; nothing more may follow. */
  get askedOnly(): boolean {
    return this.#hello !== undefined && this.#hello.sender === undefined;
  }

  onHello(hello: StandbyHello): PrimaryAction[] {
    assert(this.#state === 'hello', 'a hello comes first');
    const { identity, term } = this.#view();
    const version = Math.min(maxProtocol, hello.maxVersion);
    if (version < Math.max(minProtocol, hello.minVersion)) {
      const ours = `${minProtocol} to ${maxProtocol}`;
      return this.#refuse(
        'WAL_VERSION',
        `the primary speaks protocol versions ${ours}, the standby ` +
          `${hello.minVersion} to ${hello.maxVersion}`,
      );
    }
    const refused = this.#refuseSender(hello, identity, term);
    if (refused !== undefined) return refused;
    this.#hello = hello;
    this.#version = version;
    this.#term = term;
    this.#state = 'position';
    return [{ do: 'hello', hello: { ...identity, term, version } }];
  }

  #refuseSender(
    hello: StandbyHello,
    identity: NodeIdentity,
    term: Term,
  ): PrimaryAction[] | undefined {
    const { sender } = hello;
    if (sender === undefined) return undefined;
    if (sender.logId !== identity.logId || sender.salt !== identity.salt) {
      return this.#refuse('WAL_NOT_A_LOG', `${hello.name} holds another log than this primary`);
    }
    if (sender.nodeId === identity.nodeId) {
      return this.#refuse('WAL_PEER_REFUSED', 'the standby has the node id of this primary');
    }
    const order = compareTerms(sender.term, term);
    if (order === 'newer') {
      const text = `${hello.name} knows term ${showTerm(sender.term)}, this primary is older`;
      return [...this.#refuse('WAL_FENCED', text), { do: 'fenced', term: sender.term }];
    }
    if (order === 'split') {
      const text = `epoch ${term.epoch} was opened by two nodes`;
      return [...this.#refuse('WAL_SPLIT', text), { do: 'split', term: sender.term }];
    }
    return undefined;
  }

  onPosition(position: StandbyPosition): PrimaryAction[] {
    assert(this.#state === 'position' && !this.askedOnly, 'a position follows the hello');
    const view = this.#view();
    if (!isHistory(position.history) || position.end.position < firstPosition) {
      return this.#refuse('WAL_PEER_INVALID', 'the history of the standby is none');
    }
    const fork = forkPoint({ history: view.history, end: view.closed }, position);
    if (fork === undefined) {
      return this.#refuse('WAL_DIVERGED', 'the histories have nothing in common any more');
    }
    const refused =
      this.#refuseAhead(position, fork, view) ??
      this.#refuseAmnesia(position, fork.position, view) ??
      this.#refuseLost(position, fork, view) ??
      this.#refuseGone(fork.position, view);
    if (refused !== undefined) return refused;
    this.#position = position;
    this.#start = fork;
    this.#state = 'checksum';
    if (fork.position <= firstPosition) return this.onChecksum(0);
    return [{ do: 'checksum', position: fork.position }];
  }

  /** One that passes the log on may have got less of it than a standby had from elsewhere. */
  #refuseAhead(
    position: StandbyPosition,
    fork: Place,
    view: PrimaryView,
  ): PrimaryAction[] | undefined {
    if (view.isPrimary) return undefined;
    const last = position.history.at(-1);
    if (last === undefined) return undefined;
    const isLonger = position.end.position > fork.position;
    const isAllOfIt = fork.position === view.closed.position;
    const hasMore = isLonger && (isAllOfIt || compareTerms(last, this.term) !== 'older');
    const bound = isLonger ? fork : view.closed;
    const knowsMore = last.epoch === this.term.epoch && position.commit.position > bound.position;
    if (!hasMore && !knowsMore) return undefined;
    const text = 'this node is a standby itself, and has less of the log so far';
    return this.#refuse('WAL_PEER_REFUSED', text);
  }

  /**
   * A term has one writer, so a standby cannot have more of the current one than the primary
   * itself.
   */
  #refuseAmnesia(
    position: StandbyPosition,
    fork: number,
    view: PrimaryView,
  ): PrimaryAction[] | undefined {
    const last = position.history.at(-1);
    if (last === undefined || position.end.position <= fork) return undefined;
    if (compareTerms(last, this.term) === 'older') return undefined;
    const text = `the standby has more of term ${showTerm(view.term)} than its primary`;
    return this.#refuse('WAL_DIVERGED', text);
  }

  /**
   * SAFETY 2.5: nothing is cut below what the standby knows to be committed. Under a newer epoch
   * that is the standby's own to judge (SAFETY 3.8).
   */
  #refuseLost(
    position: StandbyPosition,
    fork: Place,
    view: PrimaryView,
  ): PrimaryAction[] | undefined {
    const { commit } = position;
    const isLonger = position.end.position > fork.position;
    if (position.history.at(-1)?.epoch !== this.term.epoch) return undefined;
    const bound = isLonger ? fork : view.closed;
    if (commit.position <= bound.position) return undefined;
    const text =
      `the standby knows ${showPast(commit, bound)}; ` +
      `the primary's log ends or differs before it`;
    return [...this.#refuse('WAL_COMMITTED_LOST', text), { do: 'lost', ...commit }];
  }

  #refuseGone(fork: number, view: PrimaryView): PrimaryAction[] | undefined {
    if (fork >= view.start) return undefined;
    return this.#refuse(
      'WAL_LSN_GONE',
      'the primary has trimmed what the standby needs next; the standby has to be seeded anew ' +
        '(a slot of its name keeps the log for it while it is away): with `snapshot` and ' +
        "`reseed: 'auto'` it is by itself",
    );
  }

  /**
   * `crc`: of the primary's batch that ends where the stream is to start; undefined if none does.
   */
  onChecksum(crc: number | undefined): PrimaryAction[] {
    assert(this.#state === 'checksum', 'a checksum was asked for');
    const position = this.#position!;
    const view = this.#view();
    const isLonger = position.end.position > this.#start.position;
    if (crc === undefined || (!isLonger && crc !== position.crc)) {
      return this.#refuse(
        'WAL_DIVERGED',
        `the logs differ at LSN ${position.end.lsn}, where they should be the same`,
      );
    }
    this.#state = 'streaming';
    const progress = new Progress(this.#hello!.sender!.nodeId, this.#hello!.name);
    progress.accepted(this.#start);
    const accept = {
      session: this.#session,
      start: this.#start.position,
      crc,
      end: view.closed,
      commit: view.commit,
      history: view.history,
      witnesses: view.witnesses,
    };
    return [{ do: 'accept', accept, progress }];
  }

  #refuse(code: WalErrorCode, message: string): PrimaryAction[] {
    this.#state = 'over';
    return [{ do: 'refuse', refusal: { code, message, term: this.#view().term } }];
  }
}
