import type { Socket } from 'node:net';
import { WalError, type WalErrorCode } from '../api/errors.js';
import { type NativeLog, type Place, State } from '../native/native_log.js';
import type { BatchEnds } from '../replication/batch_ends.js';
import { Heartbeat } from '../replication/heartbeat.js';
import {
  type PrimaryAction,
  PrimarySession,
  type PrimaryView,
} from '../replication/primary_session.js';
import type { Progress, ProgressState } from '../replication/progress.js';
import type { NumberedRule } from '../replication/rule.js';
import type { ToldSlot } from '../replication/slot.js';
import { invalid } from '../wire/bytes.js';
import { FrameReader, type FrameSink } from '../wire/frame_reader.js';
import {
  type Accept,
  decodePosition,
  decodeRefusal,
  decodeStandbyHello,
  encodeAccept,
  encodePrimaryHello,
  encodeRefusal,
  type Refusal,
} from '../wire/handshake_messages.js';
import { MessageType, slotsProtocol, wantProtocol } from '../wire/message_type.js';
import { decodeFetch } from '../wire/range_messages.js';
import { encodeRule } from '../wire/rule_message.js';
import { decodeSeedAsk } from '../wire/seed_messages.js';
import { encodeSlots } from '../wire/slots_message.js';
import {
  AckView,
  checkHeader,
  commitBytes,
  putCommit,
  type SessionTag,
} from '../wire/stream_messages.js';
import { peerAddress } from './endpoint.js';
import type { Environment, Timer } from './environment.js';
import { Feeder } from './feeder.js';
import type { Gate } from './gate.js';
import { type AnswerHost, type AskingLink, answerFetch, answerSeed } from './link_answers.js';
import { decodeQuestion, deskFor, type MemberQuestion, memberAnswer } from './member_answer.js';
import type { MemberDesk } from './member_desk.js';
import { RangeAsk } from './range_ask.js';
import type { TlsOptions } from './security.js';
import type { RangeHolder } from './standby_ranges.js';
import type { ReplicationTiming } from './timing.js';

const maxCommitsUnderWay = 64;

const inSession = [MessageType.ACK, MessageType.REFUSAL] as const;
/** While the standby answers WANT. */
const whileAsked = [...inSession, MessageType.PIECE, MessageType.CANNOT] as const;

/** What a link needs of the hub that it belongs to. */
export interface StandbyLinkHost extends AnswerHost<StandbyLink> {
  readonly native: NativeLog;
  readonly ring: Uint8Array | undefined;
  readonly ringBytes: number;
  readonly batchEnds: BatchEnds;
  readonly timing: ReplicationTiming;
  readonly environment: Environment;
  readonly allocateAligned: (bytes: number) => Uint8Array;
  readonly commitPlace: () => Place;
  readonly writeAcks: () => boolean;
  view(): PrimaryView;
  /** What a peer has to show first. */
  gate(socket: Socket): Gate;
  /** The names that are let in now; undefined without TLS. */
  readonly allow: TlsOptions['allow'] | undefined;
  /** The log from `position` on is kept for this standby from now on. */
  claim(progress: Progress, position: number): void;
  /** Whether this node can be let in; it may take the place of its earlier connection. */
  hasRoom(nodeId: string): boolean;
  /** Who answers members; nobody without. */
  readonly desk: MemberDesk | undefined;
  /** Why nobody is fed now; undefined: who comes is. */
  refusal(): WalError | undefined;
  /** This peer is answered, and is no stranger any more. */
  served(link: StandbyLink): void;
  /** A standby is let in: the rule to tell it, which names it if it may count. */
  admit(link: StandbyLink, progress: Progress): NumberedRule;
  /** The handshake is through. */
  accepted(link: StandbyLink, progress: Progress): void;
  /** An acknowledgement was taken. */
  acknowledged(progress: Progress): void;
  /** What a peer sent was wrong. */
  rejected(): void;
  /** A peer was not let in. */
  refused(address: string, reason: string): void;
  /** The log could not be read for a standby. */
  unreadable(error: unknown): void;
  /** This link brought the news that acknowledging has to stop. */
  fenced(link: StandbyLink, action: PrimaryAction & { do: 'fenced' | 'split' | 'lost' }): void;
  closed(link: StandbyLink, reason: string): void;
}

/**
 * The primary's end of one connection: drives a PrimarySession, then a Feeder. Whatever is wrong
 * with a peer ends its connection and nothing else.
 */
export class StandbyLink implements FrameSink, RangeHolder, AskingLink {
  readonly socket: Socket;
  readonly #host: StandbyLinkHost;
  readonly #session: PrimarySession;
  readonly #gate: Gate;
  readonly #reader: FrameReader;
  readonly #heartbeat: Heartbeat;
  readonly #deadline: number;
  readonly #ack = new AckView();
  readonly #sessionNumber: number;
  readonly #address: string;
  readonly #onCommitWritten = (): void => {
    this.#commitsUnderWay -= 1;
  };
  #feeder: Feeder | undefined;
  #progress: Progress | undefined;
  #hasRefused = false;
  #tag: SessionTag | undefined;
  #asked: RangeAsk | undefined;
  #checksumAt = -1;
  /** It has passed the gate. */
  #known = false;
  /** A member waits for its answer. */
  #isAnswering = false;
  /** It is given a snapshot. */
  #isAsking = false;
  /** Ends it by itself, since it may outlive the role that would end it. */
  #answerLimit: Timer | undefined;
  #commitSent = -1;
  #commitsUnderWay = 0;
  /** Keeps the log until the handshake is through; -1 otherwise. */
  #claim = -1;
  /** For how long the standby has not recorded what it was told, as far as time was looked at. */
  #ruleWait = 0;
  /** Position of the log bytes that were sent before the newest rule. */
  #ruleBehind = 0;
  /** What the standby had said of its progress at the last tick. */
  #heard = 0;
  #tickedAt: number;
  #stateSince: { readonly state: ProgressState; readonly at: number };
  #destroyAt = Number.POSITIVE_INFINITY;
  #reason = 'the standby closed the connection';

  /** `acceptedAt`: the handshake is to be through in its time after that. */
  constructor(socket: Socket, acceptedAt: number, sessionNumber: number, host: StandbyLinkHost) {
    this.socket = socket;
    this.#host = host;
    this.#gate = host.gate(socket);
    this.#reader = new FrameReader(this.#gate.expects);
    this.#sessionNumber = sessionNumber;
    this.#session = new PrimarySession(() => host.view(), sessionNumber);
    const now = host.environment.now();
    this.#stateSince = { state: 'handshake', at: host.environment.wallClock() };
    const { heartbeat, dead, handshake } = host.timing;
    this.#heartbeat = new Heartbeat({ intervalMs: heartbeat, deadMs: dead }, now);
    this.#deadline = acceptedAt + handshake;
    this.#tickedAt = now;
    this.#address = peerAddress(socket);
    socket.setNoDelay(true);
    socket.on('data', (chunk: Buffer) => this.#received(chunk));
    socket.on('error', (error) => {
      this.#reason = error.message;
    });
    // What is not written yet would meet nobody.
    socket.on('end', () => {
      if (!this.#isEnding) socket.destroy();
    });
    socket.on('close', () => this.#closed());
  }

  /** It does not follow, as it is: nothing has to be kept for it. */
  get hasRefused(): boolean {
    return this.#hasRefused;
  }

  /** undefined until the handshake is through. */
  get progress(): Progress | undefined {
    return this.#progress;
  }

  /** It is let in, or is about to be: it has said who it is, to be fed. */
  get isFed(): boolean {
    return this.#session.state !== 'hello';
  }

  /** Of the protocol that the standby and this node speak. */
  get version(): number {
    return this.#session.version;
  }

  /** A member waits here for its answer. */
  get isAnswering(): boolean {
    return this.#isAnswering;
  }

  get feeder(): Feeder | undefined {
    return this.#feeder;
  }

  get address(): string {
    return this.#address;
  }

  /** Since when its progress is in this state, in milliseconds since 1970. */
  get stateSince(): number {
    this.#noteState();
    return this.#stateSince.at;
  }

  #noteState(): void {
    const state = this.#progress?.state ?? 'handshake';
    if (state === this.#stateSince.state) return;
    this.#stateSince = { state, at: this.#host.environment.wallClock() };
  }

  /** Tells the certificate of the standby from others; undefined without TLS. */
  get fingerprint(): string | undefined {
    return this.#gate.fingerprint;
  }

  silence(): number {
    return this.#heartbeat.silence(this.#host.environment.now());
  }

  /** Ends the connection where its peer may not be there any more. */
  revoke(allow: TlsOptions['allow']): void {
    if (this.#gate.isRevoked(allow)) this.drop('`allow` does not name it any more');
  }

  /** Ends the connection at once. */
  drop(reason: string): void {
    if (this.socket.destroyed) return;
    this.#reason = reason;
    this.socket.destroy();
  }

  /** Tells the commit place a last time, lets what was sent leave, then ends the connection. */
  endGently(reason: string): void {
    if (this.socket.destroyed || this.#isEnding) return;
    this.#reason = reason;
    this.pushCommit();
    this.#end();
  }

  /** Nothing may be written after this: it would cut off what was written before. */
  #end(last?: Uint8Array, graceMs = this.#host.timing.close): void {
    this.#feeder?.stop();
    this.#destroyAt = this.#host.environment.now() + graceMs;
    if (last === undefined) this.socket.end();
    else this.socket.end(last);
  }

  get #isEnding(): boolean {
    return this.#destroyAt !== Number.POSITIVE_INFINITY;
  }

  /** More was closed or flushed. */
  feed(): void {
    if (this.#isEnding) return;
    if (this.#checksumAt >= 0) this.#lookUpChecksum();
    this.#feeder?.feed();
  }

  tick(nowMs: number): void {
    if (nowMs >= this.#destroyAt) this.socket.destroy();
    if (this.#isEnding) return;
    if (this.#progress === undefined) {
      if (nowMs < this.#deadline || this.#isAnswering || this.#isAsking) return;
      this.#host.refused(this.#address, 'the handshake took too long');
      this.drop('the handshake took too long');
      return;
    }
    this.#noteState();
    this.#waitForRule(nowMs);
    const verdict = this.#heartbeat.tick(nowMs);
    if (verdict === 'dead') this.drop('the standby was silent for too long');
    else if (this.#ruleWait > this.#host.timing.dead) {
      // It is connected, so the rule waits for it; only its connection can be given up.
      this.drop('the standby did not record the rule for commits in time');
    } else if (verdict === 'speak') this.#sendCommit();
  }

  /**
   * An event loop that was blocked has not looked: what came meanwhile is not read yet. A standby
   * that takes the log bytes which were sent before the rule is on its way to it.
   */
  #waitForRule(nowMs: number): void {
    const step = Math.min(nowMs - this.#tickedAt, this.#host.timing.heartbeat);
    const { rule, ruleTold, flush, heard } = this.#progress!;
    const nears = flush.position < this.#ruleBehind && heard > this.#heard;
    this.#ruleWait = rule < ruleTold && !nears ? this.#ruleWait + step : 0;
    this.#heard = heard;
    this.#tickedAt = nowMs;
  }

  /** The commit place moved: pushed at once, unless it went along with data already. */
  pushCommit(): void {
    if (this.#isEnding) return;
    if (this.#progress !== undefined && this.#commitSent < this.#host.commitPlace().position) {
      this.#sendCommit();
    }
  }

  /** There is a newer rule. */
  tellRule(rule: NumberedRule): void {
    const progress = this.#progress!;
    if (this.socket.destroyed || this.#isEnding) return;
    progress.ruleTold = rule.number;
    this.#ruleBehind = progress.sentPosition;
    this.socket.write(encodeRule(this.#tag!, rule));
  }

  /** All slots there are. */
  tellSlots(slots: readonly ToldSlot[]): void {
    const { socket } = this;
    if (this.#progress === undefined || socket.destroyed || this.#isEnding) return;
    if (this.#session.version >= slotsProtocol) socket.write(encodeSlots(this.#tag!, slots));
  }

  // -- what it is asked for a repair --

  get name(): string {
    return this.#progress?.name ?? '';
  }

  get nodeId(): string {
    return this.#progress?.nodeId ?? '';
  }

  get holdsTo(): number {
    if (this.#asked === undefined || this.socket.destroyed || this.#isEnding) return 0;
    return this.#session.version < wantProtocol ? 0 : this.#progress!.flushPosition;
  }

  async askRange(from: number, most: number): Promise<Uint8Array> {
    if (this.holdsTo === 0) throw new WalError('WAL_IO', 'it went away');
    const answer = this.#asked!.ask(from, most);
    this.#expectSession();
    return answer;
  }

  rejectRange(reason: string): void {
    if (this.socket.destroyed) return;
    this.#host.rejected();
    this.drop(reason);
  }

  #expectSession(): void {
    this.#reader.expect(this.#asked?.isOpen === true ? whileAsked : inSession);
  }

  // -- messages --

  message(type: number, bytes: Uint8Array, start: number, end: number): void {
    switch (type) {
      case MessageType.ACK:
        checkHeader(bytes, start, this.#tag!);
        this.#acknowledged(this.#ack.at(bytes, start));
        return;
      case MessageType.PIECE:
        checkHeader(bytes, start, this.#tag!);
        this.#asked!.piece(bytes, start, end);
        this.#expectSession();
        return;
      case MessageType.CANNOT:
        checkHeader(bytes, start, this.#tag!);
        this.#asked!.cannot(bytes, start, end);
        this.#expectSession();
        return;
      case MessageType.AUTH_START:
      case MessageType.AUTH_PROOF:
        this.socket.write(this.#gate.take(type, bytes, start, end));
        this.#reader.expect(this.#gate.expects);
        return;
      case MessageType.STANDBY_HELLO: {
        // One hello, and nothing else before it is answered.
        this.#reader.expect([]);
        const hello = decodeStandbyHello(bytes, start, end);
        this.#pass(hello.name);
        const refusal = hello.sender === undefined ? undefined : this.#host.refusal();
        if (refusal !== undefined) this.#refuse(refusal.code, refusal.message);
        else this.#perform(this.#session.onHello(hello));
        return;
      }
      case MessageType.SURVEY:
      case MessageType.FENCE:
      case MessageType.HANDOVER: {
        this.#reader.expect([]);
        const question = decodeQuestion(type, bytes, start, end);
        this.#pass(question.name);
        void this.#answerMember(question);
        return;
      }
      case MessageType.FETCH: {
        this.#reader.expect([]);
        const fetch = decodeFetch(bytes, start, end);
        this.#pass(undefined);
        void answerFetch(this, this.#host, fetch);
        return;
      }
      case MessageType.SEED_ASK: {
        this.#reader.expect([]);
        const ask = decodeSeedAsk(bytes, start, end);
        this.#pass(ask.name);
        // It is no stranger, and takes as long as the snapshot is large.
        this.#isAsking = true;
        void answerSeed(this, this.#host, ask);
        return;
      }
      case MessageType.POSITION:
        this.#reader.expect([]);
        this.#perform(this.#session.onPosition(decodePosition(bytes, start, end)));
        return;
      case MessageType.REFUSAL: {
        const refusal = decodeRefusal(bytes, start, end);
        this.#hasRefused = true;
        this.drop(`refused by the standby: ${refusal.code}: ${refusal.message}`);
        return;
      }
      default:
        throw invalid(`message type ${type} is not for a primary`);
    }
  }

  data(): void {
    throw invalid('a primary takes no log bytes');
  }

  dataBytes(): number {
    throw invalid('a primary takes no log bytes');
  }

  #received(chunk: Buffer): void {
    if (this.socket.destroyed || this.#isEnding) return;
    this.#heartbeat.heard(this.#host.environment.now());
    this.#guarded(() => {
      this.#gate.look(chunk);
      this.#reader.push(chunk, 0, chunk.length, this);
    });
  }

  /** Whatever is wrong ends this connection, and nothing else. */
  #guarded(body: () => void): void {
    try {
      body();
    } catch (thrown) {
      const error = WalError.from(thrown);
      if (!(error instanceof WalError)) throw error;
      if (error !== thrown) {
        // The engine's own error says nothing about the peer.
        this.drop(error.message);
        return;
      }
      this.#host.rejected();
      if (this.#progress === undefined) this.#refuse(error.code, error.message);
      else this.drop(error.message);
    }
  }

  #pass(name: string | undefined): void {
    this.#gate.requireOpen(name);
    const { allow } = this.#host;
    if (allow !== undefined && this.#gate.isRevoked(allow)) {
      throw new WalError('WAL_AUTH_FAILED', '`allow` does not name it any more');
    }
    this.#known = true;
  }

  #acknowledged(ack: AckView): void {
    const progress = this.#progress!;
    const wrong = progress.acknowledge(ack);
    if (wrong !== undefined) throw invalid(wrong);
    this.#host.acknowledged(progress);
  }

  // -- handshake --

  #perform(actions: readonly PrimaryAction[]): void {
    for (const action of actions) {
      switch (action.do) {
        case 'hello':
          this.#answerHello(encodePrimaryHello(action.hello));
          break;
        case 'refuse':
          this.#sendRefusal(action.refusal);
          break;
        case 'checksum':
          this.#checksumAt = action.position;
          this.#lookUpChecksum();
          break;
        case 'accept':
          this.#accept(action.accept, action.progress);
          break;
        default:
          this.#host.fenced(this, action);
      }
    }
  }

  /** Not a standby: a member that asks how this one stands, or of which is to be the primary. */
  async #answerMember(question: MemberQuestion): Promise<void> {
    const host = this.#host;
    try {
      const desk = deskFor(host, question);
      host.served(this);
      this.#isAnswering = true;
      this.#reason = 'a member got its answer';
      this.#endWithin(host.timing.answer);
      const isThere = (): boolean => !this.socket.destroyed && !this.#isEnding;
      const answer = await memberAnswer(desk, host.identity, question, isThere);
      if (!this.socket.destroyed && !this.#isEnding) this.#end(answer);
    } catch (error) {
      const known = WalError.from(error);
      if (!(known instanceof WalError)) throw error;
      this.#refuse(known.code, known.message);
    } finally {
      // Who got its answer, and stays, is waited for like anybody else.
      this.#isAnswering = false;
      this.#endWithin(host.timing.close);
    }
  }

  #endWithin(ms: number): void {
    const { environment } = this.#host;
    environment.clearTimer(this.#answerLimit);
    if (this.socket.destroyed) return;
    this.#answerLimit = environment.setTimeout(() => this.socket.destroy(), ms);
    this.#answerLimit.unref();
  }

  // -- one that asks for something, and does not follow --

  /** Nothing more is to be written. */
  get isOver(): boolean {
    return this.socket.destroyed || this.#isEnding;
  }

  refuse(code: WalErrorCode, message: string): void {
    this.#refuse(code, message);
  }

  finish(reason: string, graceMs: number): void {
    this.#reason = reason;
    this.#end(undefined, graceMs);
  }

  #answerHello(message: Uint8Array): void {
    if (this.#session.askedOnly) {
      this.#end(message);
      return;
    }
    this.#reader.expect([MessageType.POSITION, MessageType.REFUSAL]);
    this.socket.write(message);
  }

  /**
   * The batch may have been sent before it was flushed here, and only what is flushed can be
   * looked up.
   */
  #lookUpChecksum(): void {
    const { native } = this.#host;
    const position = this.#checksumAt;
    if (native.state[State.FLUSH_POSITION]! < position) return;
    this.#checksumAt = -1;
    this.#claim = native.retain(position);
    native.checksumAt(position).then(
      (crc) => this.#guarded(() => this.#checksum(crc)),
      (error: unknown) => this.#guarded(() => this.#noChecksum(error)),
    );
  }

  #checksum(crc: number | undefined): void {
    if (this.#session.state !== 'checksum' || this.socket.destroyed || this.#isEnding) return;
    this.#perform(this.#session.onChecksum(crc));
  }

  #noChecksum(error: unknown): void {
    const code = (error as { code?: unknown }).code;
    if (code === 'WAL_DIVERGED') {
      this.#checksum(undefined);
      return;
    }
    const known = code === 'WAL_LSN_GONE' || code === 'WAL_CORRUPT' ? code : 'WAL_IO';
    this.#refuse(known, 'the primary cannot read its log where the standby goes on');
  }

  #accept(accept: Omit<Accept, 'rule'>, progress: Progress): void {
    const host = this.#host;
    const { socket } = this;
    if (!host.hasRoom(progress.nodeId)) {
      this.#refuse('WAL_PEER_REFUSED', 'the primary feeds as many standbys as it can');
      return;
    }
    // Claimed before it is looked up how far the log reaches back; let go when this is refused.
    if (this.#claim < 0) this.#claim = host.native.retain(accept.start);
    if (host.native.info().start.position > accept.start) {
      this.#refuse('WAL_LSN_GONE', 'the primary has just trimmed what the standby needs next');
      return;
    }
    host.claim(progress, accept.start);
    this.#releaseClaim();
    const { epoch, incarnation } = this.#session.term;
    this.#tag = { session: this.#sessionNumber, epoch, incarnation };
    this.#progress = progress;
    this.#commitSent = accept.commit.position;
    const ask = (message: Uint8Array): void => void socket.write(message);
    this.#asked = new RangeAsk(ask, this.#tag, host.timing.dead, host.environment);
    this.#expectSession();
    const rule = host.admit(this, progress);
    progress.ruleTold = rule.number;
    socket.write(encodeAccept({ ...accept, rule }, this.#session.version));
    const now = host.environment.now();
    this.#heartbeat.heard(now);
    this.#feeder = new Feeder({
      native: host.native,
      ring: host.ring,
      ringBytes: host.ringBytes,
      batchEnds: host.batchEnds,
      allocateAligned: host.allocateAligned,
      commit: host.commitPlace,
      writeAcks: host.writeAcks,
      socket,
      progress,
      tag: this.#tag,
      onSent: () => this.#sent(),
      onFailure: (error) => this.#feedFailed(error),
    });
    host.accepted(this, progress);
    this.#feeder.feed();
  }

  #sent(): void {
    this.#noteState();
    this.#heartbeat.spoke(this.#host.environment.now());
    this.#commitSent = this.#host.commitPlace().position;
  }

  #sendCommit(): void {
    // Once the end is on its way, a write would only tear down what was sent before it.
    if (!this.socket.writable) return;
    // A peer may acknowledge and yet read nothing: then these must not pile up.
    if (this.#commitsUnderWay >= maxCommitsUnderWay) return;
    const { native, commitPlace, writeAcks } = this.#host;
    const message = Buffer.allocUnsafe(commitBytes);
    const { state } = native;
    const [end, lsn] = [state[State.CLOSED_POSITION]!, state[State.CLOSED_LSN]!];
    putCommit(message, this.#tag!, commitPlace(), end, lsn, writeAcks());
    this.#commitsUnderWay += 1;
    this.socket.write(message, this.#onCommitWritten);
    this.#sent();
  }

  #feedFailed(error: unknown): void {
    const text = error instanceof Error ? error.message : String(error);
    this.#host.unreadable(error);
    // What is whole before it leaves first.
    this.endGently(`the log could not be read for the standby: ${text}`);
  }

  #refuse(code: WalErrorCode, message: string): void {
    // The log may be closed by then.
    if (this.socket.destroyed || this.#isEnding) return;
    // Who has not shown what it has to is told no more than it was already.
    const term = this.#known ? this.#host.view().term : undefined;
    this.#sendRefusal({ code, message, term });
  }

  #sendRefusal(refusal: Refusal): void {
    if (this.socket.destroyed || this.#isEnding) return;
    this.#reason = `refused: ${refusal.code}: ${refusal.message}`;
    this.#host.refused(this.#address, `${refusal.code}: ${refusal.message}`);
    this.#reader.expect([]);
    this.#end(encodeRefusal(refusal));
  }

  #releaseClaim(): void {
    if (this.#claim >= 0) this.#host.native.release(this.#claim);
    this.#claim = -1;
  }

  #closed(): void {
    this.#feeder?.end();
    this.#asked?.end(new WalError('WAL_IO', `it went away: ${this.#reason}`));
    this.#releaseClaim();
    this.#host.environment.clearTimer(this.#answerLimit);
    this.#host.closed(this, this.#reason);
  }
}
