/** Writes the messages that the wire fuzzing begins with: one of each, and a whole exchange. */
import { mkdirSync, writeFileSync } from 'node:fs';

const root = new URL('../..', import.meta.url).pathname;
const load = (name) => import(`${root}dist/wire/${name}.js`);
const auth = await load('auth_messages');
const handover = await load('handover_messages');
const handshake = await load('handshake_messages');
const range = await load('range_messages');
const { maxProtocol } = await load('message_type');
const { encodeRule } = await load('rule_message');
const seed = await load('seed_messages');
const { encodeSlots } = await load('slots_message');
const stream = await load('stream_messages');

const id = (digit) => digit.repeat(32);
const salt = '0123456789abcdef';
const term = { epoch: 3, opener: id('b'), incarnation: 2 };
const tag = { session: 7, epoch: 3, incarnation: 2 };
const place = { position: 8192, lsn: 40 };
const history = [
  { ...term, epoch: 1, position: 4096, lsn: 0 },
  { ...term, ...place },
];
const sender = { logId: id('a'), salt, nodeId: id('c'), term };
const alone = { synchronousCommit: 'local', synchronousStandbys: null, members: [] };
const group = { synchronousStandbys: 'ANY 1 (b, c)', members: [id('c'), id('d')] };
const rule = { number: 2, rule: { synchronousCommit: 'remote_flush', ...group } };
const witnesses = [id('d')];
const accept = { session: 7, start: 4096, crc: 1, end: place, commit: place, history, witnesses };

function filled(size, put) {
  const bytes = new Uint8Array(size);
  put(bytes);
  return bytes;
}
const ack = { writePosition: 9000, writeLsn: 41, flushPosition: 8192, flushLsn: 40, applyLsn: 3 };
const versions = { minVersion: 1, maxVersion: 1 };
const messages = {
  hello: handshake.encodeStandbyHello({ ...versions, name: 'b', sender }),
  hello_empty: handshake.encodeStandbyHello({ ...versions, name: 'bé', sender: undefined }),
  primary: handshake.encodePrimaryHello({
    ...sender,
    version: 1,
    name: 'a',
    segmentBytes: 1048576,
    padded: true,
    maxRecordBytes: 65536,
  }),
  refusal: handshake.encodeRefusal({ code: 'WAL_FENCED', message: 'a newer term', term }),
  position: handshake.encodePosition({ end: place, crc: 9, commit: place, history }),
  accept: handshake.encodeAccept({ ...accept, rule }, maxProtocol),
  accept_alone: handshake.encodeAccept(
    { ...accept, rule: { number: 1, rule: alone } },
    maxProtocol,
  ),
  rule: encodeRule(tag, rule),
  slots: encodeSlots(tag, [
    {
      ...{ name: 'b', nodeId: id('b'), position: 9000, lsn: 41, createdAt: 1, lastSeenAt: 2 },
      ...{ awayMs: 3, lost: true, isActive: false },
    },
    {
      ...{ name: 'c', nodeId: null, position: 4096, lsn: 0, createdAt: 1, lastSeenAt: null },
      ...{ awayMs: 0, lost: false, isActive: true },
    },
  ]),
  data: filled(48 + 24, (bytes) => stream.putDataHeader(bytes, tag, 8192, place, 24, true)),
  commit: filled(stream.commitBytes, (bytes) =>
    stream.putCommit(bytes, tag, place, 9000, 41, false),
  ),
  ack: filled(stream.ackBytes, (bytes) => stream.putAck(bytes, tag, { ...ack, rule: 2 })),
  fetch: range.encodeFetch({ ...versions, logId: id('a'), salt, from: 4096 }),
  auth_start: auth.encodeAuthStart(new Uint8Array(32).fill(1)),
  auth_challenge: auth.encodeAuthChallenge({ nonce: new Uint8Array(32), logId: id('a') }),
  auth_proof: auth.encodeAuthProof(new Uint8Array(32).fill(2)),
  handover: handover.encodeHandover({
    ...{ minVersion: 3, maxVersion: 3, logId: id('a'), salt, term },
    ...{ epoch: 4, end: place, crc: 9, name: 'a' },
  }),
  taken: handover.encodeTaken({ version: 3, term: { ...term, epoch: 4 }, lsn: 40, name: 'b' }),
  seed_ask: seed.encodeSeedAsk({
    ...{ minVersion: 6, maxVersion: 6, logId: id('a'), salt, nodeId: id('c'), name: 'c' },
    ...{ end: { position: 4096, lsn: 0 }, have: { lsn: 40, term, takenAt: 9, bytes: 200 } },
  }),
  seed_offer: seed.encodeSeedOffer({
    ...{ term, start: place, crc: 9, history, fileBytes: 400, from: 200 },
    snapshot: { lsn: 40, term, takenAt: 9 },
  }),
  seed_piece: filled(16 + 40, (bytes) => seed.putSeedPiece(bytes, 200, 40, true)),
  range: filled(16 + 40, (bytes) => range.putRangeHeader(bytes, 4096, 40, true)),
};

const directory = `${root}test/fuzz/corpus/wire`;
mkdirSync(directory, { recursive: true });
const save = (name, ...parts) => writeFileSync(`${directory}/${name}`, Buffer.concat(parts));
for (const [name, bytes] of Object.entries(messages)) {
  save(name, Buffer.from([0, 0]), bytes);
  save(`${name}_cut`, Buffer.from([0, 3, 0, 4, 50]), bytes);
}
const { primary, accept: letIn, data, commit } = messages;
save('exchange', Buffer.from([0, 2, 30, 7]), primary, letIn, data, commit, messages.rule, data);
save('session', Buffer.from([5, 1, 19]), data, commit, messages.rule, data, commit);
save('acks', Buffer.from([6, 2, 71, 10]), messages.ack, messages.ack, messages.ack);
