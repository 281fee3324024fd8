/**
 * Encoders that write into log memory: msgpackr, and a fixed layout by hand, through `appendInto`,
 * beside `append` of what they return. `node examples/encode-in-place.mjs [RECORDS]` prints what
 * both cost a record.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Packr, REUSE_BUFFER_MODE, unpack } from 'msgpackr';
import { Log } from 'walmirror';

const MAX_BYTES = 8192;
const packr = new Packr({ useRecords: false });
/** The encoder's own memory. */
const scratch = Buffer.alloc(64 * 1024);

/** Returns a function that appends a value as msgpack. */
function packInto(log) {
  let value;
  const encode = (buffer, offset) => {
    packr.useBuffer(buffer);
    packr.position = offset;
    try {
      const packed = packr.pack(value, REUSE_BUFFER_MODE);
      const { start, end } = packed;
      // msgpackr starts at a multiple of 8; and elsewhere, where the buffer has too little left.
      if (packed !== buffer) packed.copy(buffer, offset, start, end);
      else if (start !== offset) buffer.copyWithin(offset, start, end);
      return offset + end - start;
    } finally {
      // Or what is packed next, anywhere in the process, would be written into the log.
      packr.useBuffer(scratch);
    }
  };
  return (next) => {
    value = next;
    return log.appendInto(MAX_BYTES, encode);
  };
}

const TICK_BYTES = 24;

function writeTick(buffer, at, { id, price, volume }) {
  buffer.writeUInt32LE(id, at);
  buffer.writeUInt32LE(volume, at + 4);
  return buffer.writeDoubleLE(price, at + 8) + 8;
}

function tickInto(log) {
  let tick;
  const encode = (buffer, offset) => writeTick(buffer, offset, tick);
  return (next) => {
    tick = next;
    return log.appendInto(TICK_BYTES, encode);
  };
}

function tickBytes(tick) {
  const bytes = Buffer.allocUnsafe(TICK_BYTES);
  writeTick(bytes, 0, tick);
  return bytes;
}

const readTick = (bytes) => ({
  id: bytes.readUInt32LE(0),
  price: bytes.readDoubleLE(8),
  volume: bytes.readUInt32LE(4),
});

const tick = (id) => ({ id, price: id / 4, volume: 7 * id });
const place = (id) => ({
  id,
  name: `Place ${id}`,
  at: [id / 7, -id / 9],
  tags: ['town', 'harbour', 'market'],
  names: { de: 'Hafenstadt', fr: 'ville portuaire' },
});
const order = (id) => ({ id, rows: Array.from({ length: 20 }, (_, row) => place(row)) });
const pack = (value) => packr.pack(value);

const cases = [
  ['a tick by hand', tick, { encode: tickBytes, into: tickInto, decode: readTick }],
  ['a tick', tick, { encode: pack, into: packInto, decode: unpack }],
  ['a place', place, { encode: pack, into: packInto, decode: unpack }],
  ['an order', order, { encode: pack, into: packInto, decode: unpack }],
];

/** Nanoseconds a record in the fastest round: what disturbs a round only makes it slower. */
async function measure(log, ways, rounds, perRound) {
  const best = ways.map(() => Number.POSITIVE_INFINITY);
  for (let round = 0; round < rounds; round++) {
    for (const [way, append] of ways.entries()) {
      await log.drain();
      const start = performance.now();
      for (let i = 0; i < perRound; i++) append(i);
      best[way] = Math.min(best[way], ((performance.now() - start) * 1e6) / perRound);
      await log.commit();
    }
  }
  return best;
}

/** Every record is as it should be, whichever way it came. */
async function verify(log, decode, expected) {
  let records = 0;
  for await (const batch of log.read({ live: false, borrow: true })) {
    for (const { data } of batch) {
      if (JSON.stringify(decode(data)) !== JSON.stringify(expected(records))) {
        throw new Error(`record ${records + 1} is not what was appended`);
      }
      records += 1;
    }
  }
  return records;
}

const ROUNDS = 20;
const perRound = Math.ceil(Number(process.argv[2] ?? 40_000) / ROUNDS / 2);
const dir = mkdtempSync(join(tmpdir(), 'walmirror-encode-'));
try {
  for (const [name, make, { encode, into, decode }] of cases) {
    const values = Array.from({ length: 64 }, (_, i) => make(i));
    const log = await Log.open({ dir: join(dir, name) });
    const inPlace = into(log);
    const ways = [(i) => log.append(encode(values[i % 64])), (i) => inPlace(values[i % 64])];
    const [copied, placed] = await measure(log, ways, ROUNDS, perRound);
    const records = await verify(log, decode, (i) => values[(i % perRound) % 64]);
    const figures =
      `append ${copied.toFixed(0)} ns, appendInto ${placed.toFixed(0)} ns, ` +
      `${(copied / placed).toFixed(2)} times as fast`;
    console.log(`${name}, ${encode(values[1]).length} bytes: ${figures}; ${records} read back`);
    await log.close();
  }
} finally {
  rmSync(dir, { recursive: true });
}
