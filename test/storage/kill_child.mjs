// A process that appends and commits until it is killed, and says on its standard output, which
// outlives it, what was promised to it. Each saying is 24 bytes: kind u32, hash u32, LSN f64,
// unused f64.
import { createHash } from 'node:crypto';
import { writeSync } from 'node:fs';
import { Log } from '../../dist/index.js';

const { dir, life, load, options } = JSON.parse(process.argv[2] ?? '{}');

const OPENED = 1;
const ACKNOWLEDGED = 2;
const TRIMMED = 3;

function say(kind, lsn, hash = 0) {
  const saying = Buffer.alloc(24);
  saying.writeUInt32LE(kind, 0);
  saying.writeUInt32LE(hash, 4);
  saying.writeDoubleLE(lsn, 8);
  for (let at = 0; at < saying.length; ) at += writeSync(1, saying, at);
}

/** The same bytes as `recordOf` in kill.test.ts makes. */
function recordOf(lsn) {
  const seed = createHash('sha256').update(`${life}:${lsn}`).digest();
  const length = seed.readUInt16LE(0) % (seed.readUInt8(2) < 8 ? 4096 : 300);
  return Buffer.concat([Buffer.from(`${life}:${lsn}:`), Buffer.alloc(length, seed)]);
}

const log = await Log.open({ dir, segmentBytes: 65536, maxRecordBytes: 8192, ...options });
const running = createHash('sha256');
const { firstLsn } = log.status();
for await (const batch of log.read({ from: firstLsn, upTo: 'flush', live: false })) {
  for (const record of batch) running.update(record.data).update('|');
}
let last = log.status().appendLsn;
say(OPENED, last, running.digest().readUInt32LE(0));

/** Appends the next record; where the log memory is full, once there is room. */
async function append() {
  for (;;) {
    const record = recordOf(last + 1);
    try {
      const lsn = log.append(record);
      if (lsn !== last + 1) throw new Error(`LSN ${lsn} came after ${last}`);
      last = lsn;
      return lsn;
    } catch (error) {
      if (error.code !== 'WAL_RING_FULL') throw error;
      await log.drain(record.length + 8);
    }
  }
}

async function committer(level) {
  for (;;) {
    const lsn = await append();
    const reached = await log.commit(lsn, level === undefined ? undefined : { level });
    if (reached.lsn < lsn) throw new Error(`commit of ${lsn} reached ${reached.lsn}`);
    if (level !== 'off') say(ACKNOWLEDGED, lsn);
  }
}

async function bulk() {
  for (;;) {
    for (let i = 0; i < 400; i++) {
      await append();
    }
    const { lsn } = await log.commit();
    say(ACKNOWLEDGED, lsn);
  }
}

async function many() {
  for (;;) {
    const items = Array.from({ length: 7 }, (_, i) => recordOf(last + 1 + i));
    const bytes = items.reduce((sum, { length }) => sum + length + 8, 0);
    // Room for all that is appended before the next wait, and for the roll that it may need.
    await log.drain(2 * bytes + 20_000);
    const { first, last: end } = log.appendMany(items);
    if (first !== last + 1) throw new Error(`LSN ${first} came after ${last}`);
    last = end;
    const record = recordOf(last + 1);
    log.appendInto(8192, (buffer, offset) => offset + record.copy(buffer, offset));
    last += 1;
    say(ACKNOWLEDGED, (await log.commit()).lsn);
  }
}

/** Trims behind itself, so that segments are recycled all the time. */
async function trimming() {
  for (;;) {
    for (let i = 0; i < 60; i++) {
      await append();
    }
    const { lsn } = await log.commit();
    say(ACKNOWLEDGED, lsn);
    await log.trim(Math.max(1, lsn - 300));
    say(TRIMMED, log.status().firstLsn);
  }
}

const loads = {
  one: () => committer(),
  many_committers: () => Promise.all(Array.from({ length: 64 }, () => committer())),
  off: () => Promise.all([committer('off'), committer('local')]),
  bulk,
  many,
  trimming,
};
await loads[load]();
