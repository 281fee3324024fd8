import type { Socket } from 'node:net';
import { WalError } from '../api/errors.js';
import { type Place, type Rule, State, type Term } from '../native/native_log.js';
import { Heartbeat } from '../replication/heartbeat.js';
import type { Judgement } from '../replication/rejoin.js';
import type { NumberedRule } from '../replication/rule.js';
import type { ToldSlot } from '../replication/slot.js';
import {
  type StandbyAction,
  StandbySession,
  type StandbyView,
} from '../replication/standby_session.js';
import { invalid } from '../wire/bytes.js';
import { FrameReader, type FrameSink } from '../wire/frame_reader.js';
import {
  decodeAccept,
  decodePrimaryHello,
  decodeRefusal,
  encodePosition,
  encodeRefusal,
  encodeStandbyHello,
} from '../wire/handshake_messages.js';
import { MessageType, slotsProtocol, wantProtocol } from '../wire/message_type.js';
import { decodeRule } from '../wire/rule_message.js';
import { decodeSlots } from '../wire/slots_message.js';
import {
  ackBytes,
  CommitView,
  checkHeader,
  DataEnvelopeView,
  putAck,
  type SessionTag,
} from '../wire/stream_messages.js';
import { decodeWant } from '../wire/want_messages.js';
import { type DialTarget, dial, type Peer } from './dial.js';
import type { Environment } from './environment.js';
import { RangeGiver, type RangeGiverHost } from './range_giver.js';
import type { TlsOptions } from './security.js';
import type { ReplicationTiming } from './timing.js';

/** What a link needs of the follower that it belongs to. */
export interface PrimaryLinkHost extends RangeGiverHost {
  readonly target: DialTarget;
  readonly buffer: Uint8Array;
  readonly timing: ReplicationTiming;
  readonly environment: Environment;
  readonly appliedLsn: () => number;
  view(): StandbyView;
  /** Stores role and term durably. */
  store(term: Term, primaryName: string): Promise<void>;
  /** Stores durably what the primary's acknowledgements mean; one after the other. */
  record(rule: Rule): Promise<void>;
  /** The slots of the primary. */
  slotsTold(slots: readonly ToldSlot[]): void;
  /** Under a newer epoch: what the tail of the log was found to be. */
  judged(judgement: Judgement): void;
  /**
   * Under a newer epoch: as `cut`, where the log goes on there; a standby then. One step: what
   * interrupts it leaves all as it was, or all done.
   */
  rejoin(position: number, crc: number): Promise<boolean>;
  /** Cuts the log, after its batch that ends there was compared. false: it is not the primary's. */
  cut(position: number, crc: number): Promise<boolean>;
  /** The log is the primary's up to its end; log bytes come from now on. */
  streaming(link: PrimaryLink, primaryName: string, term: Term): void;
  /** More of the log may be here. */
  received(): void;
  /** The primary's commit place, and how far its log goes if it said so. */
  committed(commit: Place, end: Place | undefined): void;
  closed(link: PrimaryLink, error: WalError): void;
}

const inSession = [
  MessageType.DATA,
  MessageType.COMMIT,
  MessageType.RULE,
  MessageType.REFUSAL,
] as const;

/** Acknowledgements wait for the socket when more than this is unsent. */
const maxUnsent = 64 * 1024;

/**
 * The standby's end of one connection: drives a StandbySession, then feeds the log with what
 * arrives. When the ring is full the socket is not read, so memory is bounded by the ring and one
 * buffer.
 */
export class PrimaryLink implements FrameSink {
  readonly #host: PrimaryLinkHost;
  readonly #socket: Socket;
  readonly #session: StandbySession;
  readonly #reader = new FrameReader([MessageType.PRIMARY_HELLO, MessageType.REFUSAL]);
  readonly #heartbeat: Heartbeat;
  readonly #deadline: number;
  readonly #envelope = new DataEnvelopeView();
  readonly #commit = new CommitView();
  #peer: Peer | undefined;
  /** What came before the log streams. */
  #slots: readonly ToldSlot[] | undefined;
  #primaryName = '';
  #greeted = false;
  #tag: SessionTag | undefined;
  #giver: RangeGiver | undefined;
  /** Newest rule that came, and that is recorded. */
  #ruleTold = 0;
  /** Came while an old primary rejoined: it is recorded after that. */
  #newerRule: NumberedRule | undefined;
  #ruleRecorded = 0;
  /** Where the next log byte belongs. */
  #expected = 0;
  /** Part of the buffer that is not taken yet; the socket is paused meanwhile. */
  #pendingFrom = 0;
  #pendingTo = 0;
  #taking = false;
  #writeAcks = false;
  #ackSoon = false;
  #ackedWrite = -1;
  #ackedFlush = -1;
  #ackedApply = -1;
  #ended = false;
  #leaving = false;
  #failure: WalError | undefined;

  constructor(host: PrimaryLinkHost) {
    this.#host = host;
    this.#session = new StandbySession(() => host.view());
    const now = host.environment.now();
    const { heartbeat, dead, handshake } = host.timing;
    this.#heartbeat = new Heartbeat({ intervalMs: heartbeat, deadMs: dead }, now);
    this.#deadline = now + handshake;
    this.#socket = dial(host.target, host.buffer, {
      onConnect: (peer) => {
        this.#peer = peer;
        if (this.#isRevoked()) return;
        this.#perform(this.#session.start());
      },
      onRead: (count) => this.#received(count),
      onClose: (error) => this.#closed(error),
    });
  }

  get isStreaming(): boolean {
    return this.#session.state === 'streaming' && !this.#ended;
  }

  /** Whether the primary, and nobody else, answered. */
  get greeted(): boolean {
    return this.#greeted;
  }

  silence(): number {
    return this.#heartbeat.silence(this.#host.environment.now());
  }

  /** Whether the connection keeps the process alive. */
  setRef(holds: boolean): void {
    if (holds) this.#socket.ref();
    else this.#socket.unref();
  }

  drop(error: WalError): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#failure = error;
    this.#socket.destroy();
  }

  /**
   * Ends it so that the primary sees an end and no fault: what still comes is read and left out
   * until the primary has ended too, or for as long as an orderly close may take.
   */
  leave(error: WalError): void {
    if (!this.isStreaming) {
      this.drop(error);
      return;
    }
    this.#ended = true;
    this.#leaving = true;
    this.#failure = error;
    const { environment, timing } = this.#host;
    const timer = environment.setTimeout(() => this.#socket.destroy(), timing.close);
    this.#socket.once('close', () => environment.clearTimer(timer));
    this.#socket.end();
    this.#socket.resume();
  }

  /** Ends the connection where the primary may not be there any more. */
  revoke(allow: TlsOptions['allow']): void {
    if (this.#peer === undefined || this.#peer.isAllowed(allow)) return;
    this.drop(new WalError('WAL_AUTH_FAILED', '`allow` does not name the primary any more'));
  }

  /** The names may have changed since it was dialled. */
  #isRevoked(): boolean {
    const { tls } = this.#host.target;
    if (tls !== undefined) this.revoke(tls.allow);
    return this.#ended;
  }

  /** The ring has room again, or the flush moved. */
  progress(): void {
    if (!this.isStreaming) return;
    this.#guard(() => this.#drain());
    if (this.isStreaming) this.#sendAckIfMoved();
  }

  /** An acknowledgement in this turn of the event loop. */
  acknowledgeSoon(): void {
    if (this.#ackSoon || !this.isStreaming) return;
    this.#ackSoon = true;
    this.#host.environment.setImmediate(() => {
      this.#ackSoon = false;
      if (this.isStreaming) this.#sendAckIfMoved();
    });
  }

  tick(nowMs: number): void {
    if (this.#ended) return;
    if (this.#tag === undefined) {
      // Storing a term and cutting take as long as this node's own disk takes.
      if (nowMs >= this.#deadline && this.#isPrimarysTurn()) {
        this.drop(new WalError('WAL_IO', 'the primary did not answer in time'));
      }
      return;
    }
    // While nothing is read here, silence says nothing about the primary.
    if (this.#pendingTo > this.#pendingFrom) this.#heartbeat.heard(nowMs);
    // One missed word of the engine must not hold up the stream for good.
    this.progress();
    const verdict = this.#heartbeat.tick(nowMs);
    if (verdict === 'dead') {
      this.drop(new WalError('WAL_IO', 'the primary was silent for too long'));
    } else if (verdict === 'speak') this.#sendAck();
  }

  // -- messages --

  message(type: number, bytes: Uint8Array, start: number, end: number): void {
    switch (type) {
      case MessageType.PRIMARY_HELLO: {
        this.#reader.expect([]);
        const hello = decodePrimaryHello(bytes, start, end);
        this.#peer!.requireName(hello.name);
        if (this.#isRevoked()) return;
        this.#primaryName = hello.name;
        const actions = this.#session.onHello(hello);
        this.#greeted = this.#session.state === 'storing';
        this.#perform(actions);
        return;
      }
      case MessageType.ACCEPT:
        this.#expectSession();
        this.#perform(
          this.#session.onAccept(decodeAccept(bytes, start, end, this.#session.version)),
        );
        return;
      case MessageType.RULE:
        checkHeader(bytes, start, this.#tag!);
        this.#ruleCame(decodeRule(bytes, start, end));
        return;
      case MessageType.SLOTS:
        checkHeader(bytes, start, this.#tag!);
        this.#slotsCame(decodeSlots(bytes, start, end));
        return;
      case MessageType.WANT:
        checkHeader(bytes, start, this.#tag!);
        // Before anything was acknowledged here nothing can be wanted of it.
        if (this.#giver === undefined) throw invalid('a range is wanted before the log streams');
        this.#giver.give(decodeWant(bytes, start));
        return;
      case MessageType.REFUSAL:
        this.#perform(this.#session.onRefusal(decodeRefusal(bytes, start, end)));
        return;
      case MessageType.COMMIT:
        checkHeader(bytes, start, this.#tag!);
        this.#commitMoved(this.#commit.at(bytes, start));
        return;
      default:
        throw invalid(`message type ${type} is not for a standby`);
    }
  }

  data(bytes: Uint8Array, start: number, dataBytes: number): void {
    checkHeader(bytes, start, this.#tag!);
    const envelope = this.#envelope.at(bytes, start);
    if (envelope.position !== this.#expected) throw invalid('log bytes that do not follow');
    this.#expected += dataBytes;
    this.#writeAcks = envelope.writeAcks;
    if (this.#session.state !== 'streaming') return;
    this.#host.committed({ position: envelope.commitPosition, lsn: envelope.commitLsn }, undefined);
  }

  dataBytes(bytes: Uint8Array, start: number, end: number): number {
    // A cut is under way: what follows waits in the socket.
    if (this.#session.state !== 'streaming') return 0;
    const taken = this.#host.native.ingest(bytes, start, end);
    this.#host.received();
    return taken;
  }

  #commitMoved(view: CommitView): void {
    if (view.commitPosition > view.endPosition || view.commitLsn > view.endLsn) {
      throw invalid('a commit place past the end of the log');
    }
    this.#writeAcks = view.writeAcks;
    if (this.#session.state !== 'streaming') return;
    this.#host.committed(
      { position: view.commitPosition, lsn: view.commitLsn },
      { position: view.endPosition, lsn: view.endLsn },
    );
    if (this.#writeAcks) this.#acknowledgeWrites();
  }

  // -- receiving --

  #received(count: number): boolean {
    if (this.#ended) return this.#leaving;
    this.#heartbeat.heard(this.#host.environment.now());
    this.#pendingFrom = 0;
    this.#pendingTo = count;
    this.#guard(() => this.#take());
    return this.#leaving || (!this.#ended && this.#pendingFrom === this.#pendingTo);
  }

  #take(): void {
    const { buffer } = this.#host;
    this.#taking = true;
    try {
      this.#pendingFrom = this.#reader.push(buffer, this.#pendingFrom, this.#pendingTo, this);
    } finally {
      this.#taking = false;
    }
    if (this.#writeAcks) this.#acknowledgeWrites();
  }

  /** Goes on with what could not be taken, then reads again. */
  #drain(): void {
    const { native, buffer } = this.#host;
    if (this.#pendingFrom === this.#pendingTo) {
      // The end of a segment may lie in the ring already and have waited for the next segment's
      // file.
      const waits = native.received() > native.state[State.CLOSED_POSITION]!;
      if (waits) native.ingest(buffer, 0, 0);
      return;
    }
    this.#take();
    if (this.#pendingFrom === this.#pendingTo && !this.#ended) this.#socket.resume();
  }

  #guard(step: () => void): void {
    try {
      step();
    } catch (error) {
      const known = WalError.from(error);
      if (!(known instanceof WalError)) throw error;
      this.drop(known);
    }
  }

  // -- acknowledging --

  #acknowledgeWrites(): void {
    if (this.#host.native.state[State.CLOSED_POSITION]! > this.#ackedWrite) this.acknowledgeSoon();
  }

  #sendAckIfMoved(): void {
    const { state } = this.#host.native;
    const wrote = this.#writeAcks && state[State.CLOSED_POSITION]! > this.#ackedWrite;
    const flushed = state[State.FLUSH_POSITION]! > this.#ackedFlush;
    if (wrote || flushed || this.#applied() > this.#ackedApply) this.#sendAck();
  }

  /**
   * Never more than is flushed: after a restart the application may remember more than the log
   * kept.
   */
  #applied(): number {
    return Math.min(this.#host.appliedLsn(), this.#host.native.state[State.FLUSH_LSN]!);
  }

  #sendAck(): void {
    // The primary does not read: the next acknowledgement says all that this one would.
    if (this.#socket.writableLength > maxUnsent) return;
    const message = Buffer.allocUnsafe(ackBytes);
    const { state } = this.#host.native;
    if (this.#session.state !== 'streaming') {
      putAck(message, this.#tag!, { ...nothing, rule: this.#ruleRecorded });
    } else {
      this.#ackedWrite = state[State.CLOSED_POSITION]!;
      this.#ackedFlush = state[State.FLUSH_POSITION]!;
      this.#ackedApply = this.#applied();
      putAck(message, this.#tag!, {
        writePosition: this.#ackedWrite,
        writeLsn: state[State.CLOSED_LSN]!,
        flushPosition: this.#ackedFlush,
        flushLsn: state[State.FLUSH_LSN]!,
        applyLsn: this.#ackedApply,
        rule: this.#ruleRecorded,
      });
    }
    this.#socket.write(message);
    this.#heartbeat.spoke(this.#host.environment.now());
  }

  // -- handshake --

  #isPrimarysTurn(): boolean {
    return this.#session.state === 'hello' || this.#session.state === 'accept';
  }

  #perform(actions: readonly StandbyAction[]): void {
    for (const action of actions) {
      switch (action.do) {
        case 'hello':
          this.#socket.write(encodeStandbyHello(action.hello));
          break;
        case 'store':
          this.#await(this.#host.store(action.term, action.primaryName), () => {
            this.#reader.expect([MessageType.ACCEPT, MessageType.REFUSAL]);
            return this.#session.stored();
          });
          break;
        case 'position':
          this.#socket.write(encodePosition(action.position));
          break;
        case 'judged':
          this.#host.judged(action.judgement);
          break;
        case 'rejoin':
          this.#begin();
          this.#await(this.#host.rejoin(action.position, action.crc), (done) =>
            done ? this.#session.rejoined() : this.#session.cutRefused(),
          );
          break;
        case 'record': {
          this.#begin();
          const newest = this.#newerRule ?? this.#session.accepted.rule;
          this.#record(newest, () => this.#session.recorded());
          break;
        }
        case 'cut':
          this.#await(this.#host.cut(action.position, action.crc), (done) =>
            done ? this.#session.cut() : this.#session.cutRefused(),
          );
          break;
        case 'begin':
          this.#stream();
          break;
        case 'refuse':
          this.#socket.write(encodeRefusal(action.refusal));
          break;
        case 'fail':
          this.#end(action.error);
          break;
      }
    }
  }

  #await<T>(work: Promise<T>, then: (result: T) => StandbyAction[]): void {
    work.then(
      (result) => {
        if (!this.#ended) this.#guard(() => this.#perform(then(result)));
      },
      (error: unknown) => this.drop(asWalError(error)),
    );
  }

  #ruleCame(rule: NumberedRule): void {
    if (this.#session.state !== 'rejoining') {
      if (rule.number <= Math.max(this.#ruleTold, this.#newerRule?.number ?? 0)) throw notNewer();
      // Of those that come while one is stored the last is enough.
      if (this.#ruleTold > this.#ruleRecorded) this.#newerRule = rule;
      else this.#record(rule, () => []);
      return;
    }
    const before = this.#newerRule ?? this.#session.accepted.rule;
    if (rule.number <= before.number) throw notNewer();
    this.#newerRule = rule;
  }

  /**
   * The primary's newer rules wait for it to be recorded here, so it is told at once, of that alone
   * where a cut has to come first.
   */
  #record({ number, rule }: NumberedRule, then: () => StandbyAction[]): void {
    if (number <= this.#ruleTold) throw notNewer();
    this.#ruleTold = number;
    this.#await(this.#host.record(rule), () => {
      this.#ruleRecorded = number;
      this.#sendAck();
      const newer = this.#newerRule;
      if (newer !== undefined && newer.number > number) this.#record(newer, () => []);
      return then();
    });
  }

  #expectSession(): void {
    const { version } = this.#session;
    const mayWant = version >= wantProtocol ? [MessageType.WANT] : [];
    const maySlots = version >= slotsProtocol ? [MessageType.SLOTS] : [];
    this.#reader.expect([...inSession, ...mayWant, ...maySlots]);
  }

  /** From here on messages of the session come; its log bytes wait until it streams. */
  #begin(): void {
    if (this.#tag !== undefined) return;
    this.#tag = this.#session.tag;
    this.#expected = this.#session.accepted.start;
  }

  /** Their places are in the log that this one is to be: not before it is. */
  #slotsCame(slots: readonly ToldSlot[]): void {
    if (this.isStreaming) this.#host.slotsTold(slots);
    else this.#slots = slots;
  }

  #stream(): void {
    const { native } = this.#host;
    const { history, commit, end } = this.#session.accepted;
    native.beginIngest(history);
    this.#giver = new RangeGiver(this.#host, this.#socket, this.#tag!);
    this.#host.streaming(this, this.#primaryName, history.at(-1)!);
    this.#host.committed(commit, end);
    if (this.#slots !== undefined) this.#host.slotsTold(this.#slots);
    this.#sendAck();
    // What arrived while the log was cut.
    if (!this.#taking && this.#pendingFrom < this.#pendingTo) this.#drain();
  }

  #end(error: WalError): void {
    this.#failure = error;
    this.#ended = true;
    // A primary that had accepted goes on to send: that is of no session.
    this.#reader.expect([]);
    this.#socket.end();
    // The refusal leaves, and no peer holds the connection open for long.
    this.#socket.destroySoon();
  }

  #closed(error: WalError): void {
    this.#ended = true;
    this.#host.closed(this, this.#failure ?? error);
  }
}

const nothing = { writePosition: 0, writeLsn: 0, flushPosition: 0, flushLsn: 0, applyLsn: 0 };

function notNewer(): Error {
  return invalid('a rule that is not newer');
}

/** What ended it, as an error that has a code. */
export function asWalError(error: unknown): WalError {
  const known = WalError.from(error);
  if (known instanceof WalError) return known;
  return new WalError('WAL_IO', error instanceof Error ? error.message : String(error));
}
