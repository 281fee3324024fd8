import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { WalError } from '../../src/api/errors.js';
import { FrameReader, type FrameSink } from '../../src/wire/frame_reader.js';
import { encodeRefusal } from '../../src/wire/handshake_messages.js';
import {
  MessageType,
  maxDataBytes,
  maxHelloBytes,
  maxMessageBytes,
} from '../../src/wire/message_type.js';
import { ackBytes, putAck, putCommit, putDataHeader } from '../../src/wire/stream_messages.js';

const tag = { session: 1, epoch: 1, incarnation: 1 };
const everything = Object.values(MessageType);

/** Writes down what a reader hands over; takes log bytes in pieces of `atMost`. */
class Recorder implements FrameSink {
  readonly story: string[] = [];
  readonly bytes: number[] = [];
  refuseEvery = Number.POSITIVE_INFINITY;
  #calls = 0;

  message(type: number, bytes: Uint8Array, start: number, end: number): void {
    this.story.push(`${type}:${Buffer.from(bytes.subarray(start, end)).toString('hex')}`);
  }

  data(bytes: Uint8Array, start: number, dataBytes: number): void {
    const envelope = Buffer.from(bytes.subarray(start, start + 48)).toString('hex');
    this.story.push(`data:${envelope}:${dataBytes}`);
  }

  dataBytes(bytes: Uint8Array, start: number, end: number): number {
    this.#calls += 1;
    const taken =
      this.#calls % this.refuseEvery === 0 ? Math.floor((end - start) / 2) : end - start;
    for (let i = start; i < start + taken; i += 1) this.bytes.push(bytes[i]!);
    return taken;
  }
}

function dataMessage(content: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(48 + content.length);
  putDataHeader(bytes, tag, 4096, { position: 4096, lsn: 0 }, content.length, false);
  bytes.set(content, 48);
  return bytes;
}

function commitMessage(lsn: number): Uint8Array {
  const bytes = new Uint8Array(56);
  putCommit(bytes, tag, { position: 1, lsn }, 2, lsn, false);
  return bytes;
}

const message = fc.oneof(
  fc.nat({ max: 1000 }).map(commitMessage),
  fc.uint8Array({ minLength: 1, maxLength: 700 }).map(dataMessage),
  fc
    .string({ maxLength: 100 })
    .map((text) => encodeRefusal({ code: 'WAL_IO', message: text, term: undefined })),
);

describe('the frame reader', () => {
  it('hands over the same whatever the chunks and the pace of the sink', () => {
    fc.assert(
      fc.property(
        fc.array(message, { maxLength: 12 }),
        fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1, maxLength: 20 }),
        fc.integer({ min: 2, max: 5 }),
        (messages, sizes, refuseEvery) => {
          const stream = Buffer.concat(messages);
          const whole = new Recorder();
          expect(new FrameReader(everything).push(stream, 0, stream.length, whole)).toBe(
            stream.length,
          );
          const pieces = new Recorder();
          pieces.refuseEvery = refuseEvery;
          const reader = new FrameReader(everything);
          for (let at = 0, i = 0; at < stream.length; i += 1) {
            const end = Math.min(stream.length, at + sizes[i % sizes.length]!);
            // A chunk of its own: what the reader keeps must be a copy.
            const chunk = Uint8Array.prototype.slice.call(stream, at, end);
            let from = 0;
            while (from < chunk.length) from = reader.push(chunk, from, chunk.length, pieces);
            chunk.fill(0xee);
            at = end;
          }
          expect(pieces.story).toEqual(whole.story);
          expect(pieces.bytes).toEqual(whole.bytes);
        },
      ),
    );
  });

  it('takes any bytes without failing otherwise than by name, and without growing', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 400 }), { maxLength: 20 }), (chunks) => {
        const reader = new FrameReader(everything);
        try {
          for (const chunk of chunks) reader.push(chunk, 0, chunk.length, new Recorder());
        } catch (error) {
          expect(error).toBeInstanceOf(WalError);
          expect((error as WalError).code).toBe('WAL_PEER_INVALID');
        }
        expect(reader.memory).toBeLessThanOrEqual(maxMessageBytes);
      }),
      { numRuns: 500 },
    );
  });

  it('takes changed streams without failing otherwise than by name', () => {
    const change = fc.tuple(fc.nat(), fc.nat({ max: 255 }));
    fc.assert(
      fc.property(
        fc.array(message, { minLength: 1, maxLength: 8 }),
        fc.array(change, { minLength: 1, maxLength: 4 }),
        (messages, changes) => {
          const stream = Buffer.concat(messages);
          for (const [at, value] of changes) stream[at % stream.length] = value;
          try {
            new FrameReader(everything).push(stream, 0, stream.length, new Recorder());
          } catch (error) {
            expect(error).toBeInstanceOf(WalError);
          }
        },
      ),
    );
  });

  function announced(type: number, length: number): Uint8Array {
    const bytes = Buffer.alloc(5);
    bytes.writeUInt32LE(length - 4);
    bytes[4] = type;
    return bytes;
  }

  it.each([
    ['a hello past 1 KiB', MessageType.STANDBY_HELLO, maxHelloBytes + 1],
    ['a position past its limit', MessageType.POSITION, maxMessageBytes + 1],
    ['data past its limit', MessageType.DATA, 48 + maxDataBytes + 1],
    ['data without bytes', MessageType.DATA, 48],
    ['an acknowledgement that is short', MessageType.ACK, 63],
    ['4 GiB', MessageType.ACCEPT, 0xffffffff],
    ['less than nothing', MessageType.ACCEPT, 4],
    ['an unknown type', 77, 100],
    ['type 0', 0, 100],
  ])('refuses %s as soon as it is announced', (_, type, length) => {
    const reader = new FrameReader(everything);
    const bytes = announced(type, length);
    expect(() => reader.push(bytes, 0, 5, new Recorder())).toThrow(WalError);
    const slow = new FrameReader(everything);
    expect(() => {
      for (let i = 0; i < 5; i += 1) slow.push(bytes, i, i + 1, new Recorder());
    }).toThrow(WalError);
    expect(reader.memory).toBeLessThanOrEqual(256);
  });

  it('refuses what is out of turn', () => {
    const reader = new FrameReader([MessageType.STANDBY_HELLO]);
    const ack = new Uint8Array(ackBytes);
    const nothing = { writePosition: 0, writeLsn: 0, flushPosition: 0, flushLsn: 0, applyLsn: 0 };
    putAck(ack, tag, { ...nothing, rule: 0 });
    expect(() => reader.push(ack, 0, ack.length, new Recorder())).toThrow(/out of turn/);
    reader.expect([MessageType.ACK]);
    expect(new FrameReader([MessageType.ACK]).push(ack, 0, ackBytes, new Recorder())).toBe(
      ackBytes,
    );
  });

  it('allocates for what arrived, not for what was announced', () => {
    const reader = new FrameReader(everything);
    reader.push(announced(MessageType.ACCEPT, maxMessageBytes), 0, 5, new Recorder());
    expect(reader.memory).toBe(256);
    reader.push(new Uint8Array(1000), 0, 1000, new Recorder());
    expect(reader.memory).toBe(1024);
  });
});
