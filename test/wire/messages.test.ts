import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { WalError } from '../../src/api/errors.js';
import { commitLevels } from '../../src/replication/level.js';
import { formatStandbys, type SyncStandbys } from '../../src/replication/policy.js';
import { maxMembers, maxStandbysBytes, type NumberedRule } from '../../src/replication/rule.js';
import type { ToldSlot } from '../../src/replication/slot.js';
import { getU64, putU64 } from '../../src/wire/bytes.js';
import {
  type Accept,
  decodeAccept,
  decodePosition,
  decodePrimaryHello,
  decodeRefusal,
  decodeStandbyHello,
  encodeAccept,
  encodePosition,
  encodePrimaryHello,
  encodeRefusal,
  encodeStandbyHello,
} from '../../src/wire/handshake_messages.js';
import {
  maxHelloBytes,
  maxMessageBytes,
  maxProtocol,
  witnessProtocol,
} from '../../src/wire/message_type.js';
import {
  decodeFetch,
  decodeRangeHeader,
  encodeFetch,
  fetchBytes,
  putRangeHeader,
  rangeHeaderBytes,
} from '../../src/wire/range_messages.js';
import { decodeRule, encodeRule, maxRuleBytes } from '../../src/wire/rule_message.js';
import { decodeSlots, encodeSlots, maxSlotsBytes } from '../../src/wire/slots_message.js';
import {
  AckView,
  ackBytes,
  CommitView,
  checkHeader,
  DataEnvelopeView,
  putAck,
  putCommit,
  putDataHeader,
} from '../../src/wire/stream_messages.js';
import {
  type Cannot,
  decodeCannot,
  decodePiece,
  decodeWant,
  encodeCannot,
  encodeWant,
  maxCannotBytes,
  maxWanted,
  minWanted,
  pieceHeaderBytes,
  putPiece,
  wantBytes,
} from '../../src/wire/want_messages.js';

const tag = { session: 0xfffffff0, epoch: Number.MAX_SAFE_INTEGER, incarnation: 3 };
const u32 = fc.nat({ max: 0xffffffff });
const u64 = fc.maxSafeNat();
const id = fc
  .uint8Array({ minLength: 16, maxLength: 16 })
  .map((b) => Buffer.from(b).toString('hex'));
const salt = fc
  .uint8Array({ minLength: 8, maxLength: 8 })
  .map((b) => Buffer.from(b).toString('hex'));
const term = fc.record({ epoch: u64, opener: id, incarnation: u32 });
const place = fc.record({ position: u64, lsn: u64 });
const entry = fc.tuple(term, place).map(([t, p]) => ({ ...t, ...p }));
const history = fc.array(entry, { maxLength: 256 });
const name = fc
  .string({ maxLength: 16, unit: 'grapheme' })
  .filter((text) => Buffer.byteLength(text) <= 64 && !/\p{Cc}/u.test(text));
const sender = fc.record({ logId: id, salt, nodeId: id, term });

const standbyHello = fc.record({
  minVersion: fc.nat({ max: 100 }),
  maxVersion: fc.integer({ min: 100, max: 65535 }),
  name,
  sender: fc.option(sender, { nil: undefined }),
});
const primaryHello = fc
  .tuple(
    sender,
    fc.record({
      version: fc.nat({ max: 65535 }),
      name,
      padded: fc.boolean(),
      segmentBytes: u64,
      maxRecordBytes: u64,
    }),
  )
  .map(([a, b]) => ({ ...a, ...b }));
const refusal = fc.record({
  code: fc.constantFrom('WAL_FENCED', 'WAL_SPLIT', 'SOMETHING_NEW'),
  message: name,
  term: fc.option(term, { nil: undefined }),
});
const position = fc.record({ end: place, crc: u32, commit: place, history });
const level = fc.constantFrom(...commitLevels);
const standbys = fc
  .tuple(
    fc.constantFrom('any', 'first'),
    fc.integer({ min: 1, max: 1000 }),
    fc.array(name, { minLength: 1, maxLength: 30 }),
  )
  .map(([method, count, names]) => ({ method, count, names: names.map((each) => `${each}x`) }))
  .map((each) => formatStandbys(each as SyncStandbys));
const rule = fc
  .oneof(
    fc.record({
      synchronousCommit: level,
      synchronousStandbys: standbys,
      members: fc.uniqueArray(id, { maxLength: maxMembers }),
      degraded: fc.boolean(),
    }),
    fc.record({
      synchronousCommit: fc.constantFrom('off', 'local'),
      synchronousStandbys: fc.constant(null),
      members: fc.constant([]),
      degraded: fc.constant(false),
    }),
  )
  .filter((each) => Buffer.byteLength(each.synchronousStandbys ?? '') <= maxStandbysBytes)
  .filter((each) => !each.degraded || each.synchronousCommit.startsWith('remote'));
const numberedRule = fc.record({ number: fc.integer({ min: 1, max: 0xffffffff }), rule });
const accept = fc.record({
  rule: numberedRule,
  session: u32,
  start: u64,
  crc: u32,
  end: place,
  commit: place,
  history,
  witnesses: fc.array(id, { maxLength: 32 }),
});

const cannot = fc.record({
  number: u32,
  need: u32,
  code: fc.constantFrom('WAL_CORRUPT', 'WAL_LSN_GONE', 'SOMETHING_NEW'),
  message: name,
});

const time = fc.nat({ max: 8.64e15 });
/** As nodes are named. */
const nodeName = fc.stringMatching(/^[\w.-]{1,63}$/);
const slots = fc.uniqueArray(
  fc.record({
    ...{ name: nodeName, nodeId: fc.option(id), position: u64, lsn: u64, createdAt: time },
    ...{ lastSeenAt: fc.option(time), awayMs: time, lost: fc.boolean(), isActive: fc.boolean() },
  }),
  { maxLength: 64, selector: ({ name: each }) => each },
);

const kinds = [
  ['standby hello', standbyHello, encodeStandbyHello, decodeStandbyHello],
  ['primary hello', primaryHello, encodePrimaryHello, decodePrimaryHello],
  ['refusal', refusal, encodeRefusal, decodeRefusal],
  ['position', position, encodePosition, decodePosition],
  [
    'accept',
    accept,
    (each: Accept) => encodeAccept(each, maxProtocol),
    (bytes: Uint8Array, start: number, end: number) => decodeAccept(bytes, start, end, maxProtocol),
  ],
  ['cannot', cannot, (each: Cannot) => encodeCannot(tag, each), decodeCannot],
  ['rule', numberedRule, (each: NumberedRule) => encodeRule(tag, each), decodeRule],
  ['slots', slots, (each: ToldSlot[]) => encodeSlots(tag, each), decodeSlots],
] as unknown as [
  string,
  fc.Arbitrary<object>,
  (message: object) => Uint8Array,
  (bytes: Uint8Array, start: number, end: number) => object,
][];

const limits: Readonly<Record<string, number>> = {
  position: maxMessageBytes,
  accept: maxMessageBytes,
  rule: maxRuleBytes,
  slots: maxSlotsBytes,
  cannot: maxCannotBytes,
};

describe.each(kinds)('%s', (label, arbitrary, encode, decode) => {
  it('reads back what was written, wherever it lies', () => {
    fc.assert(
      fc.property(arbitrary, fc.nat({ max: 9 }), (message, shift) => {
        const bytes = encode(message);
        const limit = limits[label] ?? maxHelloBytes;
        expect(bytes.length).toBeLessThanOrEqual(limit);
        const moved = new Uint8Array(shift + bytes.length + 3);
        moved.set(bytes, shift);
        expect(decode(moved, shift, shift + bytes.length)).toEqual(message);
      }),
    );
  });

  it('of the wrong length is refused by name', () => {
    fc.assert(
      fc.property(arbitrary, fc.nat(), (message, cut) => {
        const bytes = encode(message);
        const wrong = cut % bytes.length;
        expect(() => decode(bytes, 0, Math.max(5, wrong))).toThrow(WalError);
        const longer = new Uint8Array(bytes.length + 1);
        longer.set(bytes);
        expect(() => decode(longer, 0, longer.length)).toThrow(WalError);
      }),
    );
  });

  it('with bytes changed is read or refused, and nothing else', () => {
    const change = fc.tuple(fc.nat(), fc.nat({ max: 255 }));
    fc.assert(
      fc.property(
        arbitrary,
        fc.array(change, { minLength: 1, maxLength: 8 }),
        (message, changes) => {
          const bytes = encode(message);
          for (const [at, value] of changes) bytes[5 + (at % (bytes.length - 5))] = value;
          try {
            decode(bytes, 0, bytes.length);
          } catch (error) {
            expect(error).toBeInstanceOf(WalError);
            expect((error as WalError).code).toBe('WAL_PEER_INVALID');
          }
        },
      ),
    );
  });
});

describe('a refusal', () => {
  it('keeps a text to the byte, with a byte order mark too', () => {
    const sent = encodeRefusal({ code: 'WAL_IO', message: '\ufeffdisk', term: undefined });
    expect(decodeRefusal(sent, 0, sent.length).message).toBe('\ufeffdisk');
  });

  it('is cut to what a stranger may send, and brings no control characters', () => {
    const bytes = encodeRefusal({
      code: 'X',
      message: `\u001b[2J${'é'.repeat(2000)}`,
      term: undefined,
    });
    expect(bytes.length).toBeLessThanOrEqual(maxHelloBytes);
    const { message } = decodeRefusal(bytes, 0, bytes.length);
    expect(message).toMatch(/^ \[2Jé+$/);
  });
});

describe('a rule', () => {
  const members = Array.from({ length: maxMembers }, (_, i) => i.toString(16).padStart(32, '0'));
  const longest = `ANY 1 (${'n'.repeat(maxStandbysBytes - 8)})`;
  const largest: NumberedRule = {
    number: 0xffffffff,
    rule: {
      synchronousCommit: 'remote_apply',
      synchronousStandbys: longest,
      members,
      degraded: true,
    },
  };

  it('of the largest size fits its message, and an ACCEPT beside the longest history', () => {
    const bytes = encodeRule(tag, largest);
    expect(bytes.length).toBe(maxRuleBytes);
    expect(decodeRule(bytes, 0, bytes.length)).toEqual(largest);
    checkHeader(bytes, 0, tag);
    const first = { epoch: 1, opener: members[0]!, incarnation: 1, position: 4096, lsn: 0 };
    const place = { position: 4096, lsn: 0 };
    const message = {
      session: 1,
      start: 4096,
      crc: 0,
      end: place,
      commit: place,
      rule: largest,
      history: Array.from({ length: 256 }, () => first),
      witnesses: Array.from({ length: 32 }, () => 'd'.repeat(32)),
    };
    const accepted = encodeAccept(message, maxProtocol);
    expect(accepted.length).toBeLessThanOrEqual(maxMessageBytes);
    expect(decodeAccept(accepted, 0, accepted.length, maxProtocol)).toEqual(message);
    // Older releases know nothing of witnesses.
    const before = encodeAccept(message, witnessProtocol - 1);
    const without = { ...message, witnesses: [] };
    expect(decodeAccept(before, 0, before.length, witnessProtocol - 1)).toEqual(without);
    // What does not fit is not told.
    const many = { ...message, witnesses: Array.from({ length: 64 }, () => 'e'.repeat(32)) };
    const told = encodeAccept(many, maxProtocol);
    expect(told.length).toBeLessThanOrEqual(maxMessageBytes);
    expect(decodeAccept(told, 0, told.length, maxProtocol).witnesses).toHaveLength(32);
  });

  const text = (standbys: string, then: object = {}): NumberedRule => ({
    number: 1,
    rule: { ...largest.rule, members: [], synchronousStandbys: standbys, ...then },
  });

  it.each<[string, NumberedRule]>([
    ['without a number', { ...largest, number: 0 }],
    ['with a member twice', text('ANY 1 (a)', { members: [members[0], members[0]] })],
    ['of a remote level that names nobody', text('')],
    ['of nobody with members', text('', { synchronousCommit: 'local', members })],
    ['in another form', text('any 1 (a)')],
    ['that means FIRST in another form', text('a, b')],
    ['degraded, and local', text('ANY 1 (a)', { synchronousCommit: 'local' })],
    ['that is no rule', text('\u001b[2J')],
    ['with control characters', text('ANY 1 ("\u001b[2J")')],
    ['of none', text('ANY 0 (a)')],
    ['of an unknown level', text('ANY 1 (a)', { synchronousCommit: 'remote' })],
  ])('%s is refused by name', (_, wrong) => {
    const bytes = encodeRule(tag, wrong);
    expect(() => decodeRule(bytes, 0, bytes.length)).toThrow(
      expect.objectContaining({ code: 'WAL_PEER_INVALID' }),
    );
  });

  it.each([
    ['65 members', 29, [65]],
    ['255 members', 29, [255]],
    ['a level of 6', 28, [6]],
    ['a text longer than there can be', 30, [0, 8]],
    ['a text past the end', 30, [255, 255]],
  ])('that announces %s is refused by name', (_, at, values) => {
    const bytes = encodeRule(tag, largest);
    bytes.set(values, at);
    expect(() => decodeRule(bytes, 0, bytes.length)).toThrow(
      expect.objectContaining({ code: 'WAL_PEER_INVALID' }),
    );
  });
});

describe('messages of a session', () => {
  it('are read in place as they were written', () => {
    fc.assert(
      fc.property(place, place, u64, fc.boolean(), (one, other, apply, flag) => {
        const bytes = new Uint8Array(ackBytes);
        putDataHeader(bytes, tag, one.position, other, 1000, flag);
        checkHeader(bytes, 0, tag);
        expect(new DataEnvelopeView().at(bytes, 0)).toMatchObject({
          position: one.position,
          commitPosition: other.position,
          commitLsn: other.lsn,
          writeAcks: flag,
        });
        putCommit(bytes, tag, one, other.position, other.lsn, flag);
        checkHeader(bytes, 0, tag);
        expect(new CommitView().at(bytes, 0)).toMatchObject({
          commitPosition: one.position,
          commitLsn: one.lsn,
          endPosition: other.position,
          endLsn: other.lsn,
          writeAcks: flag,
        });
        const ack = {
          writePosition: one.position,
          writeLsn: one.lsn,
          flushPosition: other.position,
          flushLsn: other.lsn,
          applyLsn: apply,
          rule: apply % 2 ** 32,
        };
        putAck(bytes, tag, ack);
        checkHeader(bytes, 0, tag);
        expect(new AckView().at(bytes, 0)).toMatchObject(ack);
      }),
    );
  });

  it.each([
    ['session', { ...tag, session: 1 }],
    ['epoch', { ...tag, epoch: 1 }],
    ['incarnation', { ...tag, incarnation: 2 }],
  ])('of another %s are refused', (_, other) => {
    const bytes = new Uint8Array(64);
    putCommit(bytes, other, { position: 1, lsn: 1 }, 1, 1, false);
    expect(() => checkHeader(bytes, 0, tag)).toThrow(WalError);
  });

  it('with unknown flags are refused', () => {
    const bytes = new Uint8Array(64);
    putCommit(bytes, tag, { position: 1, lsn: 1 }, 1, 1, false);
    for (const at of [5, 6, 7]) {
      const wrong = bytes.slice();
      wrong[at] = 2;
      expect(() => checkHeader(wrong, 0, tag)).toThrow(WalError);
    }
  });
});

describe('integers', () => {
  it('up to 2^53 - 1 survive, and larger ones are refused', () => {
    const bytes = new Uint8Array(8);
    fc.assert(
      fc.property(u64, (value) => {
        putU64(bytes, 0, value);
        expect(getU64(bytes, 0)).toBe(value);
        expect(Buffer.from(bytes).readBigUInt64LE()).toBe(BigInt(value));
      }),
    );
    for (const value of [2n ** 53n, 2n ** 63n, 2n ** 64n - 1n]) {
      Buffer.from(bytes.buffer).writeBigUInt64LE(value);
      expect(() => getU64(bytes, 0)).toThrow(WalError);
    }
    for (const value of [-1, 0.5, Number.NaN, 2 ** 53]) {
      expect(() => putU64(bytes, 0, value)).toThrow(RangeError);
    }
  });
});

describe('a range of the log', () => {
  const fetch = fc.record({
    minVersion: fc.nat({ max: 100 }),
    maxVersion: fc.integer({ min: 100, max: 65535 }),
    logId: id,
    salt,
    from: u64,
  });

  it('FETCH is read as it was written, and at no other length', () => {
    fc.assert(
      fc.property(fetch, (said) => {
        const bytes = encodeFetch(said);
        expect(bytes.length).toBe(fetchBytes);
        expect(decodeFetch(bytes, 0, bytes.length)).toEqual(said);
        expect(() => decodeFetch(bytes, 0, bytes.length - 1)).toThrow(WalError);
      }),
    );
  });

  it('FETCH with another magic or an empty range of versions is refused', () => {
    const said = { minVersion: 1, maxVersion: 1, logId: 'a'.repeat(32), salt: 'b'.repeat(16) };
    const other = encodeFetch({ ...said, from: 1 });
    other[5] = (other[5] ?? 0) ^ 1;
    expect(() => decodeFetch(other, 0, other.length)).toThrow(/does not speak this protocol/);
    const empty = encodeFetch({ ...said, minVersion: 2, from: 1 });
    expect(() => decodeFetch(empty, 0, empty.length)).toThrow(/a version range is empty/);
  });

  it('RANGE is read as it was written, and with no other flags', () => {
    fc.assert(
      fc.property(u64, fc.boolean(), (position, isLast) => {
        const bytes = new Uint8Array(rangeHeaderBytes);
        putRangeHeader(bytes, position, 1000, isLast);
        expect(decodeRangeHeader(bytes, 0)).toEqual({ position, isLast });
        bytes[5] = 2;
        expect(() => decodeRangeHeader(bytes, 0)).toThrow(/unknown flags/);
      }),
    );
  });
});

describe('a range that a primary wants of its standby', () => {
  const most = fc.integer({ min: minWanted, max: maxWanted });

  it('WANT is read as it was written, wherever it lies', () => {
    fc.assert(
      fc.property(u32, u64, most, fc.nat({ max: 9 }), (number, from, most, shift) => {
        const want = { number, from, most };
        const bytes = encodeWant(tag, want);
        expect(bytes.length).toBe(wantBytes);
        const moved = new Uint8Array(shift + bytes.length + 3);
        moved.set(bytes, shift);
        checkHeader(moved, shift, tag);
        expect(decodeWant(moved, shift)).toEqual(want);
      }),
    );
  });

  it.each([0, minWanted - 1, maxWanted + 1, 0xffffffff])('WANT of %i bytes is refused', (most) => {
    const bytes = encodeWant(tag, { number: 1, from: 4096, most });
    expect(() => decodeWant(bytes, 0)).toThrow(/cannot be wanted/);
  });

  it('PIECE is read as it was written, wherever it lies', () => {
    fc.assert(
      fc.property(u32, u64, fc.boolean(), (number, position, isLast) => {
        const bytes = new Uint8Array(pieceHeaderBytes);
        putPiece(bytes, tag, { number, position, isLast }, 1000);
        checkHeader(bytes, 0, tag);
        expect(decodePiece(bytes, 0)).toEqual({ number, position, isLast });
      }),
    );
  });

  it('with flags or reserved fields that are not zero they are refused', () => {
    const refusedAs = (decode: () => unknown): void => {
      expect(decode).toThrow(expect.objectContaining({ code: 'WAL_PEER_INVALID' }));
    };
    const want = encodeWant(tag, { number: 1, from: 4096, most: minWanted });
    want[5] = 1;
    refusedAs(() => decodeWant(want, 0));
    const piece = new Uint8Array(pieceHeaderBytes);
    putPiece(piece, tag, { number: 1, position: 4096, isLast: false }, 1);
    piece[36] = 1;
    refusedAs(() => decodePiece(piece, 0));
    const told = encodeCannot(tag, { number: 1, need: 0, code: 'WAL_IO', message: '' });
    told[5] = 1;
    refusedAs(() => decodeCannot(told, 0, told.length));
  });

  it('with bytes changed they are read or refused, and nothing else', () => {
    const change = fc.tuple(fc.nat(), fc.nat({ max: 255 }));
    const changes = fc.array(change, { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(u32, u64, changes, (number, from, changed) => {
        const want = encodeWant(tag, { number, from, most: minWanted });
        const piece = new Uint8Array(pieceHeaderBytes);
        putPiece(piece, tag, { number, position: from, isLast: true }, 1);
        for (const bytes of [want, piece]) {
          for (const [at, value] of changed) bytes[5 + (at % (bytes.length - 5))] = value;
        }
        for (const decode of [() => decodeWant(want, 0), () => decodePiece(piece, 0)]) {
          try {
            decode();
          } catch (error) {
            expect(error).toMatchObject({ code: 'WAL_PEER_INVALID' });
          }
        }
      }),
    );
  });

  it('CANNOT is cut to its size, and brings no control characters', () => {
    const message = `\u001b[2J${'é'.repeat(2000)}`;
    const bytes = encodeCannot(tag, { number: 1, need: 0, code: 'C'.repeat(99), message });
    expect(bytes.length).toBeLessThanOrEqual(maxCannotBytes);
    expect(decodeCannot(bytes, 0, bytes.length).message).toMatch(/^ \[2Jé+$/);
  });
});
