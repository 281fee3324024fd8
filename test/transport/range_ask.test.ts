import { expect, it } from 'vitest';
import { RangeAsk } from '../../src/transport/range_ask.js';
import { decodeWant, minWanted, pieceHeaderBytes, putPiece } from '../../src/wire/want_messages.js';

const tag = { session: 1, epoch: 1, incarnation: 1 };
const DEAD = 20;

/** The whole answer to what was asked, as it comes from the wire. */
function answered(ask: RangeAsk, sent: readonly Uint8Array[], bytes: Uint8Array): void {
  const { number, from } = decodeWant(sent[0]!, 0);
  const message = Buffer.alloc(pieceHeaderBytes + bytes.length);
  putPiece(message, tag, { number, position: from, isLast: true }, bytes.length);
  message.set(bytes, pieceHeaderBytes);
  ask.piece(message, 0, message.length);
}

/** Nothing else runs for so long. */
function block(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}

it('takes an answer that lay there while the event loop was blocked for longer', async () => {
  const sent: Uint8Array[] = [];
  const ask = new RangeAsk((message) => sent.push(message), tag, DEAD);
  const bytes = Buffer.from('log bytes');
  const asked = new Promise<Uint8Array>((resolve, reject) => {
    ask.ask(4096, minWanted).then(resolve, reject);
    // After an immediate come the timers, the deadline's among them, and then what sockets read.
    setImmediate(() => {
      block(3 * DEAD);
      setImmediate(() => answered(ask, sent, bytes));
    });
  });
  expect(Buffer.from(await asked).equals(bytes)).toBe(true);
  expect(ask.isOpen).toBe(false);
});

it('gives up after its time, and takes what comes later for nobody', async () => {
  const sent: Uint8Array[] = [];
  const ask = new RangeAsk((message) => sent.push(message), tag, DEAD);
  await expect(ask.ask(4096, minWanted)).rejects.toMatchObject({ code: 'WAL_IO' });
  expect(ask.isOpen).toBe(true);
  await expect(ask.ask(4096, minWanted)).rejects.toThrow('not answered an earlier request');
  answered(ask, sent, Buffer.from('late'));
  expect(ask.isOpen).toBe(false);
});
