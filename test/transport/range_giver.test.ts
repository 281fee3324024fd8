import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { RangeGiver } from '../../src/transport/range_giver.js';
import { MessageType } from '../../src/wire/message_type.js';
import {
  type Cannot,
  decodeCannot,
  decodePiece,
  maxPieceBytes,
  minWanted,
  pieceHeaderBytes,
} from '../../src/wire/want_messages.js';
import { freshDir } from '../helpers/temp.js';
import { binding, payload, TestLog } from '../native/native.js';
import { until } from './nodes.js';

const FIRST = 4096;
const tag = { session: 1, epoch: 1, incarnation: 1 };

/** Takes what is written, and says that it has left when it is told to. */
class HeldSocket {
  writable = true;
  readonly messages: Uint8Array[] = [];
  #left: (() => void)[] = [];

  write(message: Uint8Array, written?: () => void): void {
    this.messages.push(message);
    if (written !== undefined) this.#left.push(written);
  }

  let(): void {
    for (const written of this.#left.splice(0)) written();
  }
}

let log: TestLog;
let dir: string;
let socket: HeldSocket;
let commit = { position: 0, lsn: 0 };
let giver: RangeGiver;
/** Where each batch ends, the opening first. */
let ends: number[];
let numbers = 0;

beforeEach(async () => {
  dir = freshDir('b');
  log = await TestLog.openPrimary({ dir, segmentBytes: 1 << 20, maxRecordBytes: 64 << 10 });
  ends = [(await log.settled()).position];
  for (let i = 0; i < 20; i += 1) ends.push((await log.batch(payload(i, 20_000))).position);
  commit = await log.settled();
  socket = new HeldSocket();
  const host = {
    native: log.native,
    allocateAligned: (bytes: number) => binding.allocateAligned(bytes),
    get commit() {
      return commit;
    },
  };
  giver = new RangeGiver(host, socket as unknown as Socket, tag);
});

afterEach(async () => {
  await log.close();
});

/** What comes for a range, all of it let through: the bytes, or why there are none. */
async function given(from: number, most: number): Promise<Buffer | Cannot> {
  socket.messages.length = 0;
  numbers += 1;
  giver.give({ number: numbers, from, most });
  const bytes: Uint8Array[] = [];
  for (let at = from; ; ) {
    const seen = bytes.length;
    await until(() => socket.messages.length > seen);
    const message = socket.messages[seen]!;
    if (message[4] === MessageType.CANNOT) return decodeCannot(message, 0, message.length);
    const piece = decodePiece(message, 0);
    expect(piece).toMatchObject({ number: numbers, position: at });
    bytes.push(message.subarray(pieceHeaderBytes));
    at += message.length - pieceHeaderBytes;
    if (piece.isLast) return Buffer.concat(bytes);
    expect(message.length).toBe(pieceHeaderBytes + maxPieceBytes);
    socket.let();
  }
}

function onDisk(from: number, to: number): Buffer {
  const [name] = readdirSync(dir).filter((each) => each.endsWith('.wal'));
  return readFileSync(join(dir, name ?? '')).subarray(from, to);
}

describe('what a standby gives of its log', () => {
  it('is whole batches as they lie on its disk, no more than were wanted', async () => {
    for (const [from, batches] of [
      [FIRST, 3],
      [ends[4]!, 10],
      [ends[7]!, 1],
    ] as const) {
      const first = from === FIRST ? -1 : ends.indexOf(from);
      const to = ends[first + batches]!;
      const bytes = (await given(from, to - from + 5000)) as Buffer;
      expect(bytes.length).toBeLessThanOrEqual(to - from + 5000);
      const last = ends.indexOf(from + bytes.length);
      expect(last).toBeGreaterThanOrEqual(Math.max(0, first + batches - 1));
      expect(bytes.equals(onDisk(from, from + bytes.length))).toBe(true);
    }
  });

  it('goes one piece at a time: nothing that is written after it waits for more', async () => {
    giver.give({ number: 1, from: FIRST, most: 200_000 });
    await until(() => socket.messages.length === 1);
    await log.native.readInto(binding.allocateAligned(65_536), FIRST, commit.position);
    expect(socket.messages.length).toBe(1);
    socket.let();
    expect(socket.messages.length).toBe(2);
    expect(() => giver.give({ number: 2, from: FIRST, most: 200_000 })).toThrow(
      expect.objectContaining({ code: 'WAL_PEER_INVALID' }),
    );
  });

  it('ends at the commit position, also where more is flushed', async () => {
    commit = { position: ends[5]!, lsn: 5 };
    const bytes = await given(FIRST, 1 << 20);
    expect((bytes as Buffer).length).toBe(ends[5]! - FIRST);
    expect(await given(ends[5]!, 1 << 20)).toMatchObject({
      code: 'WAL_LSN_GONE',
      need: 0,
      message: `the log of the peer has nothing that is committed at position ${ends[5]}`,
    });
    // A standby may know of commits that have not come to it.
    commit = { position: Number.MAX_SAFE_INTEGER, lsn: 1 };
    expect(await given(ends.at(-1)!, 1 << 20)).toMatchObject({ code: 'WAL_LSN_GONE' });
  });

  it('is nothing but how much it takes where one batch is larger', async () => {
    const told = (await given(ends[0]!, minWanted)) as Cannot;
    expect(told.need).toBeGreaterThan(20_000);
    const bytes = (await given(ends[0]!, told.need)) as Buffer;
    expect(bytes.length).toBe(ends[1]! - ends[0]!);
  });

  it('is nothing where no batch begins, or none verifies; no file is named', async () => {
    expect(await given(FIRST + 8, 1 << 20)).toMatchObject({ code: 'WAL_CORRUPT', need: 0 });
    const [name] = readdirSync(dir).filter((each) => each.endsWith('.wal'));
    const path = join(dir, name ?? '');
    const content = readFileSync(path);
    content[ends[3]! + 300] = (content[ends[3]! + 300] ?? 0) ^ 1;
    writeFileSync(path, content);
    const told = (await given(ends[3]!, 1 << 20)) as Cannot;
    expect(told).toMatchObject({ code: 'WAL_CORRUPT', need: 0 });
    expect(told.message).toBe(`the peer has no batch that verifies at position ${ends[3]}`);
    // What is whole before it is given, and nothing of it.
    expect(await given(FIRST, 1 << 20)).toHaveLength(ends[3]! - FIRST);
  });

  it('is nothing of a log that is closed', async () => {
    await log.close();
    expect(await given(FIRST, 1 << 20)).toMatchObject({ code: 'WAL_CLOSED', need: 0 });
    log = await TestLog.open({ dir });
  });
});
