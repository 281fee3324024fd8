import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { NativeScrubStatus } from '../../src/native/native_log.js';
import { parseStandbys } from '../../src/replication/policy.js';
import type { SessionTag } from '../../src/wire/stream_messages.js';
import {
  encodeCannot,
  maxPieceBytes,
  maxWanted,
  pieceHeaderBytes,
  putPiece,
  type Want,
} from '../../src/wire/want_messages.js';
import { freshDir } from '../helpers/temp.js';
import { payload } from '../native/native.js';
import { PrimaryNode, quick, StandbyNode, until } from './nodes.js';
import { RawStandby } from './raw_standby.js';

const SEGMENT = 262_144;
const RECORD = 4000;
const policy = { synchronousCommit: 'remote_flush', standbys: parseStandbys('ANY 1 (*)') } as const;
const nodeId = 'e'.repeat(32);

let dir: string;
let primary: PrimaryNode;
let standby: StandbyNode | undefined;
/** The damaged segment: where it begins, its file, and what that held. */
let start = 0;
let path: string;
let whole: Buffer;
let damaged: Buffer;
const raws: RawStandby[] = [];
let beat: NodeJS.Timeout | undefined;

async function open(dead = quick.dead): Promise<void> {
  dir = freshDir('a');
  const timing = { ...quick, dead: dead ?? 2000 };
  primary = await PrimaryNode.open({ dir, segmentBytes: SEGMENT }, { policy, timing });
  const { ranges } = primary.hub;
  primary.log.native.repairFrom('a standby', ranges.fetch.bind(ranges), true);
}

beforeEach(() => open());

afterEach(async () => {
  clearInterval(beat);
  for (const raw of raws.splice(0)) raw.socket.destroy();
  await standby?.close();
  standby = undefined;
  await primary.close();
});

async function fill(): Promise<void> {
  for (let i = 0; i < 90; i += 1) await primary.batch(payload(i, RECORD));
  await primary.log.settled();
}

/** A standby made by hand that says that it has flushed all. */
async function liar(id = nodeId, name = 'liar', protocol?: number): Promise<RawStandby> {
  const raw = await RawStandby.admitted(primary.port, id, name, protocol);
  raws.push(raw);
  await flushed(raw);
  return raw;
}

async function flushed(raw: RawStandby): Promise<void> {
  const { position, lsn } = primary.log.closed;
  await until(() => raw.received >= position - 4096);
  const all = { writePosition: position, writeLsn: lsn, flushPosition: position, flushLsn: lsn };
  // Again and again: an acknowledgement counts once the rule that it was told is in it.
  await until(() => {
    raw.ack(all);
    return primary.hub.commit.position === position;
  });
}

/** Damages a part of the first segment, which comes before its last batches. */
function spoil(from = 50_000): void {
  const names = readdirSync(dir).filter((name) => name.endsWith('.wal'));
  path = join(dir, names.sort()[0] ?? '');
  if (from === 50_000) whole = readFileSync(path);
  start = Number(whole.readBigUInt64LE(40));
  damaged = Buffer.from(whole);
  for (let at = from; at < 230_000; at += 1) damaged[at] = (damaged[at] ?? 0) ^ 0xff;
  writeFileSync(path, damaged);
}

/** A log of more than a segment, of which the standbys there have flushed all, damaged. */
async function prepared(protocol?: number): Promise<RawStandby> {
  await fill();
  const raw = await liar(nodeId, 'liar', protocol);
  spoil();
  return raw;
}

async function scrub(): Promise<NativeScrubStatus> {
  const { native } = primary.log;
  const pass = native.scrubNow(false);
  await until(() => native.scrubStatus().passes >= pass);
  return native.scrubStatus();
}

function isRepaired(): boolean {
  return readFileSync(path).equals(whole);
}

function isUntouched(): boolean {
  return readFileSync(path).equals(damaged);
}

function pieceOf(tag: SessionTag, want: Want, at: number, bytes: Uint8Array, isLast: boolean) {
  const message = Buffer.alloc(pieceHeaderBytes + bytes.length);
  putPiece(message, tag, { number: want.number, position: want.from + at, isLast }, bytes.length);
  message.set(bytes, pieceHeaderBytes);
  return message;
}

/** An answer as it should be, but for what `bytes` are. */
function answer(raw: RawStandby, want: Want, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; at += maxPieceBytes) {
    const piece = bytes.subarray(at, at + maxPieceBytes);
    const isLast = at + piece.length === bytes.length;
    raw.socket.write(pieceOf(raw.tag, want, at, piece, isLast));
  }
}

/** What the segment held, from there to its end. */
function rightBytes(want: Want): Buffer {
  return whole.subarray(want.from - start, Math.min(SEGMENT, want.from - start + want.most));
}

/** The scrub ends with nothing written, and the connection of the liar with it. */
async function expectDropped(raw: RawStandby, reason: RegExp): Promise<void> {
  const before = primary.hub.commit;
  await primary.batch('after it');
  const status = await scrub();
  await raw.closed;
  await until(() => primary.heard.length === 2);
  expect(primary.heard[1]).toMatch(/^liar went: /);
  expect(primary.heard[1]).toMatch(reason);
  expect(primary.hub.status()).toMatchObject({ rejected: 1, standbys: [], commit: before });
  expect(status).toMatchObject({ repaired: 0, damagedRanges: 1 });
  expect(status.reason).toMatch(/^liar: /);
  expect(isUntouched()).toBe(true);
}

describe('a primary that repairs its log', () => {
  it('asks a standby that has flushed it, and takes what verifies', async () => {
    const raw = await prepared();
    raw.onWant = (want) => answer(raw, want, rightBytes(want));
    expect(await scrub()).toMatchObject({ damagedRanges: 0, repaired: 1, reason: '' });
    expect(isRepaired()).toBe(true);
    expect(primary.hub.status()).toMatchObject({ rejected: 0 });
    expect(primary.heard).toEqual(['liar came']);
  });

  it('asks none that has not flushed it, nor one of an older protocol', async () => {
    await fill();
    const empty = await RawStandby.admitted(primary.port, 'd'.repeat(32), 'empty');
    raws.push(empty);
    beat = setInterval(() => empty.ack({}), 20); // it has each rule that it is told
    const old = await liar(nodeId, 'old', 1);
    spoil();
    expect((await scrub()).reason).toMatch(/^no standby is connected that has flushed position /);
    expect([...empty.wants, ...old.wants]).toEqual([]);
    expect(isUntouched()).toBe(true);
  });

  it.each<[string, (raw: RawStandby) => Uint8Array]>([
    ['log bytes', (raw) => piece(raw, { number: 1, from: 4096, most: 0 })],
    [
      'a refusal',
      (raw) => encodeCannot(raw.tag, { number: 1, need: 0, code: 'WAL_IO', message: 'no' }),
    ],
  ])('drops a standby that sends %s unasked', async (_, message) => {
    const raw = await prepared();
    raw.socket.write(message(raw));
    await raw.closed;
    await until(() => primary.heard.length === 2);
    expect(primary.heard[1]).toMatch(/^liar went: message type 1[34] is out of turn$/);
    expect(primary.hub.status()).toMatchObject({ rejected: 1, standbys: [] });
    expect(isUntouched()).toBe(true);
  });

  it.each<[string, RegExp, (want: Want) => Uint8Array]>([
    [
      'other bytes',
      /do not verify/,
      (want) => {
        const bytes = Buffer.from(rightBytes(want));
        bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
        return bytes;
      },
    ],
    ['zeros', /do not verify/, () => Buffer.alloc(1000)],
    [
      'batches that verify, of another place',
      /do not verify/,
      () => whole.subarray(4096, 4096 + 40_000),
    ],
    [
      'too many',
      /more log bytes than were wanted/,
      (want) => Buffer.concat([rightBytes(want), Buffer.alloc(want.most)]),
    ],
  ])('drops a standby that gives %s', async (_, reason, bytes) => {
    const raw = await prepared();
    raw.onWant = (want) => answer(raw, want, bytes(want));
    await expectDropped(raw, reason);
  });

  it.each<[string, RegExp, (raw: RawStandby, want: Want) => Uint8Array]>([
    [
      'a piece of another place',
      /log bytes that do not follow/,
      (raw, want) => piece(raw, { ...want, from: want.from + 8 }),
    ],
    [
      'a piece that is not full',
      /a piece that is not full/,
      (raw, want) => pieceOf(raw.tag, want, 0, rightBytes(want).subarray(0, 100), false),
    ],
    [
      'an answer to another request',
      /an answer to what was not asked/,
      (raw, want) => piece(raw, { ...want, number: want.number + 1 }),
    ],
    [
      'an answer of another session',
      /a message of another connection/,
      (raw, want) => pieceOf({ ...raw.tag, session: 99 }, want, 0, Buffer.alloc(9), true),
    ],
    [
      'an answer of another term',
      /a message of another term/,
      (raw, want) => pieceOf({ ...raw.tag, epoch: 99 }, want, 0, Buffer.alloc(9), true),
    ],
    [
      'a batch that takes no more than was wanted',
      /no batch takes an answer of/,
      (raw, want) => told(raw, want, want.most),
    ],
    [
      'a batch that takes more than any',
      /no batch takes an answer of/,
      (raw, want) => told(raw, want, maxWanted + 1),
    ],
    [
      'a refusal after it began',
      /an answer that was begun is not refused/,
      (raw, want) => Buffer.concat([piece(raw, want), told(raw, want, 0)]),
    ],
  ])('drops a standby that sends %s', async (_, reason, message) => {
    const raw = await prepared();
    raw.onWant = (want) => void raw.socket.write(message(raw, want));
    await expectDropped(raw, reason);
  });

  function piece(raw: RawStandby, want: Want): Buffer {
    return pieceOf(raw.tag, want, 0, Buffer.alloc(maxPieceBytes), false);
  }

  function told(raw: RawStandby, { number }: Want, need: number): Uint8Array {
    return encodeCannot(raw.tag, { number, need, code: 'WAL_IO', message: 'too large' });
  }
});

describe('where what lies behind the damage is damaged too', () => {
  /** The rest of the segment, and the beginning of the one that is written to. */
  function spoilToTheEnd(): void {
    const names = readdirSync(dir).filter((name) => name.endsWith('.wal'));
    path = join(dir, names.sort()[0] ?? '');
    whole = readFileSync(path);
    start = Number(whole.readBigUInt64LE(40));
    damaged = Buffer.from(whole);
    damaged.fill(0x5a, 50_000);
    writeFileSync(path, damaged);
    const next = join(dir, names[1] ?? '');
    const active = readFileSync(next);
    active.fill(0x5a, 0, 16_384);
    writeFileSync(next, active);
  }

  it('the standbys that gave what may be right stay, and each is asked once', async () => {
    await fill();
    const first = await liar();
    const second = await liar('d'.repeat(32), 'other');
    spoilToTheEnd();
    for (const raw of [first, second]) {
      raw.onWant = (want) => answer(raw, want, rightBytes(want));
    }
    const status = await scrub();
    expect(status.repaired).toBe(0);
    expect(status.reason).toMatch(/what it gave .* cannot be compared/);
    const began = [first, second].map(({ wants }) =>
      wants.filter(({ from }) => from === wants[0]?.from),
    );
    expect(began.map(({ length }) => length)).toEqual([1, 1]);
    expect(isUntouched()).toBe(true);
    expect(primary.hub.status()).toMatchObject({ rejected: 0 });
    expect(primary.hub.status().standbys.length).toBe(2);
  });
});

describe('where the first standby is of no use, the second', () => {
  async function withSecond(): Promise<RawStandby> {
    await fill();
    const raw = await liar();
    // It is slow, or wrong, but not dead.
    const { position, lsn } = primary.log.closed;
    const all = { writePosition: position, writeLsn: lsn, flushPosition: position, flushLsn: lsn };
    beat = setInterval(() => raw.ack(all), 50);
    standby = await StandbyNode.open(primary.log.native, primary.port, { dir: freshDir('b') });
    await until(() => standby!.end.position === primary.log.closed.position);
    await until(() =>
      primary.hub.status().standbys.every((each) => each.flush.position >= position),
    );
    await until(() => standby!.follower.commit.position === position);
    spoil();
    return raw;
  }

  it('gives what the first has not', async () => {
    const raw = await withSecond();
    raw.onWant = ({ number }) => {
      const cannot = { number, need: 0, code: 'WAL_CORRUPT', message: 'it is damaged too' };
      raw.socket.write(encodeCannot(raw.tag, cannot));
    };
    expect(await scrub()).toMatchObject({ damagedRanges: 0, repaired: 1 });
    expect(raw.wants.length).toBe(1);
    expect(isRepaired()).toBe(true);
    expect(primary.hub.status()).toMatchObject({ rejected: 0 });
    expect(primary.hub.status().standbys.length).toBe(2);
  });

  it('gives it when the first has given other bytes', async () => {
    const raw = await withSecond();
    raw.onWant = (want) => answer(raw, want, Buffer.alloc(1000));
    expect(await scrub()).toMatchObject({ damagedRanges: 0, repaired: 1 });
    expect(isRepaired()).toBe(true);
    await raw.closed;
    await until(() => primary.hub.status().standbys.length === 1);
    expect(primary.hub.status()).toMatchObject({ rejected: 1 });
  });

  it('gives it when the first goes away in mid-answer', async () => {
    const raw = await withSecond();
    raw.onWant = (want) => {
      const piece = rightBytes(want).subarray(0, maxPieceBytes);
      raw.socket.write(pieceOf(raw.tag, want, 0, piece, false), () => raw.socket.destroy());
    };
    expect(await scrub()).toMatchObject({ damagedRanges: 0, repaired: 1 });
    expect(raw.wants.length).toBe(1);
    expect(isRepaired()).toBe(true);
  });

  it('gives it when the first is late, which is asked no more before it has answered', async () => {
    await primary.close();
    await open(1000);
    const raw = await withSecond();
    let answerLate = (): void => undefined;
    raw.onWant = (want) => {
      answerLate = () => answer(raw, want, rightBytes(want));
    };
    expect(await scrub()).toMatchObject({ damagedRanges: 0, repaired: 1 });
    expect(isRepaired()).toBe(true);
    spoil(30_000);
    expect(await scrub()).toMatchObject({ damagedRanges: 0 });
    expect(raw.wants.length).toBe(1);
    // What comes too late is no offence, and of no use.
    answerLate();
    raw.onWant = (want) => answer(raw, want, rightBytes(want));
    spoil(10_000);
    await standby?.close();
    standby = undefined;
    await until(() => primary.hub.status().standbys.length === 1);
    expect(await scrub()).toMatchObject({ damagedRanges: 0 });
    expect(raw.wants.length).toBeGreaterThan(1);
    expect(isRepaired()).toBe(true);
    expect(primary.hub.status()).toMatchObject({ rejected: 0 });
  });
});
