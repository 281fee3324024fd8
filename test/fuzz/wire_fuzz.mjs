/**
 * What libFuzzer runs: any bytes as a stream from a peer, cut where the input says, and as each
 * message by itself. They are decoded, or refused with WAL_PEER_INVALID; what is decoded encodes to
 * the same bytes; how the stream is cut changes nothing.
 *
 *   input   u8 which messages may come | u8 n | n lengths of pieces, u8 each | the stream
 *
 *   node test/fuzz/wire_fuzz.mjs BUILD_DIRECTORY [OPTION OF LIBFUZZER...] CORPUS...
 */
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { countersName, instrument } from './instrument.mjs';

const [, , place, ...options] = process.argv;
const build = resolve(place);
const modules = [
  'wire/auth_messages',
  'wire/bytes',
  'wire/fields',
  'wire/frame_reader',
  'wire/handover_messages',
  'wire/handshake_messages',
  'wire/range_messages',
  'wire/rule_message',
  'wire/seed_messages',
  'wire/stream_messages',
  'wire/member_messages',
  'wire/want_messages',
  'replication/rule',
  'replication/policy',
];
let count = 0;
for (const name of modules) count = instrument(`${build}/dist/${name}.js`, count);
const counters = new Uint8Array(count);
globalThis[countersName] = counters;

const load = (name) => import(`${build}/dist/${name}.js`);
const { WalError } = await load('api/errors');
const { FrameReader } = await load('wire/frame_reader');
const auth = await load('wire/auth_messages');
const handover = await load('wire/handover_messages');
const handshake = await load('wire/handshake_messages');
const { MessageType, maxDataBytes, maxMessageBytes, maxProtocol } = await load('wire/message_type');
const range = await load('wire/range_messages');
const { decodeRule, encodeRule } = await load('wire/rule_message');
const seed = await load('wire/seed_messages');
const slots = await load('wire/slots_message');
const stream = await load('wire/stream_messages');
const member = await load('wire/member_messages');
const want = await load('wire/want_messages');

const T = MessageType;
/** What a side takes at once: each state of src/transport, and everything. */
const expectations = [
  Object.values(T),
  [T.STANDBY_HELLO, T.FETCH, T.SEED_ASK],
  [T.PRIMARY_HELLO, T.REFUSAL],
  [T.POSITION, T.REFUSAL],
  [T.ACCEPT, T.REFUSAL],
  [T.DATA, T.COMMIT, T.RULE, T.REFUSAL, T.WANT, T.SLOTS],
  [T.ACK, T.REFUSAL],
  [T.ACK, T.REFUSAL, T.PIECE, T.CANNOT],
  [T.RANGE, T.REFUSAL],
  [T.AUTH_START, T.STANDBY_HELLO, T.FETCH],
  [T.AUTH_CHALLENGE, T.AUTH_PROOF, T.REFUSAL],
  [T.SEED_OFFER, T.REFUSAL],
  [T.SEED_PIECE, T.REFUSAL],
];

/** The messages that are decoded as a whole: bytes to value, value to bytes. */
const whole = {
  [T.STANDBY_HELLO]: [handshake.decodeStandbyHello, handshake.encodeStandbyHello],
  [T.PRIMARY_HELLO]: [handshake.decodePrimaryHello, handshake.encodePrimaryHello],
  [T.REFUSAL]: [handshake.decodeRefusal, handshake.encodeRefusal],
  [T.POSITION]: [handshake.decodePosition, handshake.encodePosition],
  [T.ACCEPT]: [
    (bytes, start, end) => handshake.decodeAccept(bytes, start, end, maxProtocol),
    (accept) => handshake.encodeAccept(accept, maxProtocol),
  ],
  [T.FETCH]: [range.decodeFetch, range.encodeFetch],
  [T.AUTH_START]: [auth.decodeAuthStart, auth.encodeAuthStart],
  [T.AUTH_CHALLENGE]: [auth.decodeAuthChallenge, auth.encodeAuthChallenge],
  [T.AUTH_PROOF]: [auth.decodeAuthProof, auth.encodeAuthProof],
};

/** What the fields of a message say twice, or not at all, is not the same bytes again. */
function hasOneForm(type, value, bytes) {
  if (type === T.STANDBY_HELLO) return value.sender !== undefined;
  if (type !== T.REFUSAL) return true;
  const text = Buffer.from(bytes).toString('utf8');
  return value.term !== undefined && !/\p{Cc}/u.test(value.code) && text.includes(value.message);
}

/** The value, or undefined where it is refused. Any other error is a finding. */
function attempt(decode) {
  try {
    return decode();
  } catch (error) {
    if (error instanceof WalError && error.code === 'WAL_PEER_INVALID') return undefined;
    throw error;
  }
}

const same = (a, b, what) => assert.ok(Buffer.from(a).equals(Buffer.from(b)), what);

function checkWhole(type, bytes) {
  const [decode, encode] = whole[type];
  const value = attempt(() => decode(bytes, 0, bytes.length));
  if (value === undefined) return;
  const again = encode(value);
  assert.deepEqual(decode(again, 0, again.length), value);
  if (hasOneForm(type, value, bytes)) same(again.subarray(5), bytes.subarray(5), `type ${type}`);
}

function tagOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const epoch = Number(view.getBigUint64(16, true));
  return { session: view.getUint32(8, true), incarnation: view.getUint32(12, true), epoch };
}

function checkRule(bytes) {
  const tag = tagOf(bytes);
  attempt(() => stream.checkHeader(bytes, 0, tag));
  const rule = attempt(() => decodeRule(bytes, 0, bytes.length));
  if (rule === undefined || !Number.isSafeInteger(tag.epoch)) return;
  same(encodeRule(tag, rule).subarray(24), bytes.subarray(24), 'a rule');
}

function checkSlots(bytes) {
  const tag = tagOf(bytes);
  attempt(() => stream.checkHeader(bytes, 0, tag));
  const told = attempt(() => slots.decodeSlots(bytes, 0, bytes.length));
  if (told === undefined || !Number.isSafeInteger(tag.epoch)) return;
  same(slots.encodeSlots(tag, told).subarray(24), bytes.subarray(24), 'slots');
}

function checkSeedPiece(bytes) {
  const piece = attempt(() => seed.decodeSeedPiece(bytes, 0));
  if (piece === undefined) return;
  const again = bytes.slice();
  again.fill(255, 0, seed.seedPieceHeaderBytes);
  const size = bytes.length - seed.seedPieceHeaderBytes;
  seed.putSeedPiece(again, piece.offset, size, piece.isLast);
  same(again, bytes, 'a piece of a snapshot');
}

/** Decodes with `view`, writes what it says with `put`, and compares. */
function checkFixed(bytes, size, view, put) {
  const tag = tagOf(bytes);
  const told = attempt(() => {
    stream.checkHeader(bytes, 0, tag);
    return view.at(bytes, 0);
  });
  if (told === undefined) return;
  const again = bytes.slice(0, size);
  again.fill(255, 5);
  put(again, tag, told);
  same(again, bytes.subarray(0, size), `type ${bytes[4]}`);
}

function checkData(bytes, dataBytes) {
  checkFixed(bytes, stream.dataHeaderBytes, new stream.DataEnvelopeView(), (again, tag, told) => {
    const commit = { position: told.commitPosition, lsn: told.commitLsn };
    stream.putDataHeader(again, tag, told.position, commit, dataBytes, told.writeAcks);
  });
}

function checkCommit(bytes) {
  checkFixed(bytes, stream.commitBytes, new stream.CommitView(), (again, tag, told) => {
    const commit = { position: told.commitPosition, lsn: told.commitLsn };
    stream.putCommit(again, tag, commit, told.endPosition, told.endLsn, told.writeAcks);
  });
}

function checkAck(bytes) {
  // Its flags mean nothing, so they are not told.
  if (bytes[5] !== 0) return;
  checkFixed(bytes, stream.ackBytes, new stream.AckView(), (again, tag, told) =>
    stream.putAck(again, tag, told),
  );
}

function checkRange(bytes) {
  const piece = attempt(() => range.decodeRangeHeader(bytes, 0));
  if (piece === undefined) return;
  const again = new Uint8Array(range.rangeHeaderBytes);
  const rangeBytes = bytes.length - again.length;
  range.putRangeHeader(again, piece.position, rangeBytes, piece.isLast);
  same(again, bytes.subarray(0, again.length), 'a range');
}

/** Of these only what comes behind the header of the session is compared. */
const anyTag = { session: 1, incarnation: 1, epoch: 1 };

function checkWant(bytes) {
  const asked = attempt(() => want.decodeWant(bytes, 0));
  if (asked === undefined) return;
  same(want.encodeWant(anyTag, asked).subarray(24), bytes.subarray(24), 'a want');
}

function checkPiece(bytes) {
  const piece = attempt(() => want.decodePiece(bytes, 0));
  if (piece === undefined) return;
  const again = bytes.slice();
  again.fill(255, 24, want.pieceHeaderBytes);
  want.putPiece(again, anyTag, piece, bytes.length - want.pieceHeaderBytes);
  same(again.subarray(24), bytes.subarray(24), 'a piece');
}

function checkCannot(bytes) {
  const cannot = attempt(() => want.decodeCannot(bytes, 0, bytes.length));
  if (cannot === undefined) return;
  const again = want.encodeCannot(anyTag, cannot);
  assert.deepEqual(want.decodeCannot(again, 0, again.length), cannot);
}

/** The fields that a message has, written again: the same message. */
function checkMember(decode, encode) {
  return (bytes) => {
    const message = attempt(() => decode(bytes));
    if (message === undefined) return;
    const again = encode(message);
    assert.deepEqual(decode(again), message);
  };
}

const asked = (bytes) => member.decodeMemberRequest(bytes[4], bytes, 0, bytes.length);
const checkAsked = checkMember(asked, member.encodeMemberRequest);

const others = {
  [T.SURVEY]: checkAsked,
  [T.FENCE]: checkAsked,
  [T.STANDING]: checkMember(
    (bytes) => member.decodeStanding(bytes, 0, bytes.length),
    member.encodeStanding,
  ),
  [T.GRANT]: checkMember((bytes) => member.decodeGrant(bytes, 0, bytes.length), member.encodeGrant),
  [T.HANDOVER]: checkMember(
    (bytes) => handover.decodeHandover(bytes, 0, bytes.length),
    handover.encodeHandover,
  ),
  [T.TAKEN]: checkMember(
    (bytes) => handover.decodeTaken(bytes, 0, bytes.length),
    handover.encodeTaken,
  ),
  [T.SEED_ASK]: checkMember(
    (bytes) => seed.decodeSeedAsk(bytes, 0, bytes.length),
    seed.encodeSeedAsk,
  ),
  [T.SEED_OFFER]: checkMember(
    (bytes) => seed.decodeSeedOffer(bytes, 0, bytes.length),
    seed.encodeSeedOffer,
  ),
  [T.SEED_PIECE]: checkSeedPiece,
  [T.RULE]: checkRule,
  [T.SLOTS]: checkSlots,
  [T.COMMIT]: checkCommit,
  [T.ACK]: checkAck,
  [T.RANGE]: checkRange,
  [T.WANT]: checkWant,
  [T.PIECE]: checkPiece,
  [T.CANNOT]: checkCannot,
};

/** Writes down what a reader hands over; takes all log bytes, or a part of them now and then. */
class Recorder {
  story = [];
  data_ = [];
  calls = 0;

  constructor(takesAll) {
    this.takesAll = takesAll;
  }

  message(type, bytes, start, end) {
    const message = bytes.slice(start, end);
    this.story.push(Buffer.from(message).toString('latin1'));
    if (whole[type] === undefined) others[type](message);
    else checkWhole(type, message);
  }

  data(bytes, start, dataBytes) {
    const header = bytes.slice(start, start + stream.dataHeaderBytes);
    this.story.push(Buffer.from(header).toString('latin1'));
    assert.ok(dataBytes > 0 && dataBytes <= maxDataBytes);
    checkData(header, dataBytes);
  }

  dataBytes(bytes, start, end) {
    this.calls += 1;
    const taken = this.takesAll || this.calls % 3 !== 0 ? end - start : (end - start) >> 1;
    for (let at = start; at < start + taken; at += 1) this.data_.push(bytes[at]);
    return taken;
  }
}

/** Feeds it in pieces of these lengths, in turn; what came of it. */
function read(bytes, expected, pieces) {
  const sink = new Recorder(pieces.length === 0);
  const reader = new FrameReader(expected);
  const refused = attempt(() => {
    for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
      const length = pieces.length === 0 ? bytes.length : pieces[turn % pieces.length] + 1;
      const end = Math.min(bytes.length, at + length);
      const stopped = reader.push(bytes, at, end, sink);
      assert.ok(stopped <= end && stopped >= at);
      at = stopped;
      assert.ok(reader.memory <= Math.max(256, 2 * bytes.length));
      assert.ok(reader.memory <= 2 * Math.max(maxMessageBytes, range.maxRangeBytes + 16));
    }
    return true;
  });
  return { story: sink.story, data: sink.data_, refused: refused === undefined };
}

function fuzz(input, size) {
  const bytes = input.slice(0, size);
  if (bytes.length < 2) return;
  const expected = expectations[bytes[0] % expectations.length];
  const pieces = bytes.subarray(2, 2 + (bytes[1] % 16));
  const rest = bytes.slice(2 + pieces.length);
  const uncut = read(rest, expected, []);
  if (pieces.length > 0) assert.deepEqual(read(rest, expected, pieces), uncut);
  for (const type of Object.keys(whole)) checkWhole(Number(type), rest);
  if (rest.length >= 24) checkRule(rest);
}

const { run } = createRequire(import.meta.url)(`${build}/driver.node`);
run(fuzz, counters, new Uint8Array(65536), ['wire', ...options]);
