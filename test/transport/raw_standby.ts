import { connect, type Socket } from 'node:net';
import type { Place, Term } from '../../src/native/native_log.js';
import type { NumberedRule } from '../../src/replication/rule.js';
import type { ToldSlot } from '../../src/replication/slot.js';
import { FrameReader } from '../../src/wire/frame_reader.js';
import {
  type Accept,
  decodeAccept,
  decodePrimaryHello,
  decodeRefusal,
  encodePosition,
  encodeStandbyHello,
  type PrimaryHello,
  type Refusal,
} from '../../src/wire/handshake_messages.js';
import { MessageType, maxProtocol } from '../../src/wire/message_type.js';
import { decodeRule } from '../../src/wire/rule_message.js';
import { decodeSlots } from '../../src/wire/slots_message.js';
import {
  type AckFields,
  ackBytes,
  CommitView,
  DataEnvelopeView,
  putAck,
  type SessionTag,
} from '../../src/wire/stream_messages.js';
import { decodeWant, type Want } from '../../src/wire/want_messages.js';

/** A standby made by hand: it says what a test wants it to say, true or not. */
export class RawStandby {
  readonly socket: Socket;
  readonly closed: Promise<void>;
  hello: PrimaryHello | undefined;
  accept: Accept | undefined;
  refusal: Refusal | undefined;
  /** The rules that it was told, oldest first. */
  readonly rules: NumberedRule[] = [];
  /** The slots that it was told, oldest first. */
  readonly slots: ToldSlot[][] = [];
  /** What it was asked for, oldest first. */
  readonly wants: Want[] = [];
  /** Answers WANT. */
  onWant: ((want: Want) => void) | undefined;
  /** Takes what comes of the proof of a secret. */
  onAuth: ((message: Uint8Array) => void) | undefined;
  /** The other side has proved the secret. */
  proved = false;
  /** The newest version of the protocol that it says it speaks. */
  protocol = maxProtocol;
  received = 0;
  commits = 0;
  /** The last one that it was told. */
  commit: Place | undefined;
  readonly #commitView = new CommitView();
  readonly #dataView = new DataEnvelopeView();
  #reader = new FrameReader(Object.values(MessageType));
  #changed: (() => void)[] = [];

  constructor(port: number) {
    this.socket = connect({ port, host: '127.0.0.1', noDelay: true });
    this.socket.on('data', (chunk) => {
      this.#reader.push(chunk, 0, chunk.length, this);
      for (const wake of this.#changed.splice(0)) wake();
    });
    this.socket.on('error', () => undefined);
    this.closed = new Promise((resolve) => {
      this.socket.on('close', () => {
        resolve();
        for (const wake of this.#changed.splice(0)) wake();
      });
    });
  }

  /** An empty standby of this log, let in. */
  static async admitted(
    port: number,
    nodeId: string,
    name: string,
    protocol = maxProtocol,
  ): Promise<RawStandby> {
    const raw = new RawStandby(port);
    raw.protocol = protocol;
    await raw.greet(nodeId, name);
    raw.socket.write(
      encodePosition({
        end: { position: 4096, lsn: 0 },
        crc: 0,
        commit: { position: 0, lsn: 0 },
        history: [],
      }),
    );
    await raw.until(() => raw.accept !== undefined);
    return raw;
  }

  /** A standby of this log that has stored a newer term than its primary's, and says so. */
  static async ofTerm(port: number, epoch: number): Promise<RawStandby> {
    const raw = new RawStandby(port);
    const nodeId = 'e'.repeat(32);
    await raw.#greet(nodeId, 'newer', { epoch, opener: nodeId, incarnation: 1 });
    return raw;
  }

  /** Asks who the primary is, then says that it is a standby of it. */
  async greet(nodeId: string, name: string): Promise<void> {
    await this.#greet(nodeId, name);
    await this.until(() => this.hello !== undefined);
  }

  async #greet(nodeId: string, name: string, newer?: Term): Promise<void> {
    const asking = new RawStandby((this.socket as Socket).remotePort ?? (await this.#port()));
    asking.socket.write(
      encodeStandbyHello({ minVersion: 1, maxVersion: 1, name: 'x', sender: undefined }),
    );
    await asking.until(() => asking.hello !== undefined);
    const { logId, salt, term } = asking.hello!;
    const sender = { logId, salt, nodeId, term: newer ?? term };
    const maxVersion = this.protocol;
    this.socket.write(encodeStandbyHello({ minVersion: 1, maxVersion, name, sender }));
  }

  get tag(): SessionTag {
    const { epoch, incarnation } = this.hello!.term;
    return { session: this.accept!.session, epoch, incarnation };
  }

  ack(fields: Partial<AckFields>, tag: SessionTag = this.tag): void {
    this.socket.write(this.ackMessage(fields, tag));
  }

  ackMessage(fields: Partial<AckFields>, tag: SessionTag = this.tag): Buffer {
    const bytes = Buffer.alloc(ackBytes);
    const none = { writePosition: 0, writeLsn: 0, flushPosition: 0, flushLsn: 0, applyLsn: 0 };
    putAck(bytes, tag, { ...none, rule: this.rules.at(-1)!.number, ...fields });
    return bytes;
  }

  async until(condition: () => boolean): Promise<void> {
    while (!condition()) {
      if (this.socket.destroyed) throw new Error(`closed: ${JSON.stringify(this.refusal)}`);
      await new Promise<void>((resolve) => this.#changed.push(resolve));
    }
  }

  message(type: number, bytes: Uint8Array, start: number, end: number): void {
    if (type === MessageType.PRIMARY_HELLO) this.hello = decodePrimaryHello(bytes, start, end);
    if (type === MessageType.ACCEPT) {
      this.accept = decodeAccept(bytes, start, end, this.hello!.version);
      this.rules.push(this.accept.rule);
    }
    if (type === MessageType.SLOTS) this.slots.push(decodeSlots(bytes, start, end));
    if (type === MessageType.RULE) this.rules.push(decodeRule(bytes, start, end));
    if (type === MessageType.REFUSAL) this.refusal = decodeRefusal(bytes, start, end);
    if (type === MessageType.AUTH_CHALLENGE || type === MessageType.AUTH_PROOF) {
      this.proved = type === MessageType.AUTH_PROOF;
      this.onAuth?.(bytes.slice(start, end));
    }
    if (type === MessageType.WANT) {
      this.wants.push(decodeWant(bytes, start));
      this.onWant?.(this.wants.at(-1)!);
    }
    if (type === MessageType.COMMIT) {
      this.commits += 1;
      const view = this.#commitView.at(bytes, start);
      this.commit = { position: view.commitPosition, lsn: view.commitLsn };
    }
  }

  data(bytes: Uint8Array, start: number): void {
    const view = this.#dataView.at(bytes, start);
    this.commit = { position: view.commitPosition, lsn: view.commitLsn };
  }

  dataBytes(_: Uint8Array, start: number, end: number): number {
    this.received += end - start;
    return end - start;
  }

  async #port(): Promise<number> {
    await new Promise((resolve) => this.socket.once('connect', resolve));
    return this.socket.remotePort!;
  }
}
