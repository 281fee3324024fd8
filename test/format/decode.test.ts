import { describe, expect, it } from 'vitest';
import { LogBuilder } from './build_log.js';
import { crc32c } from './crc32c.js';
import * as decode from './decode.js';
import * as encode from './encode.js';
import * as layout from './layout.js';

const firstBatch = layout.SEGMENT_HEADER_BYTES;

function sample(options = {}): LogBuilder {
  return new LogBuilder(options).openTerm(1).data(['one', '', 'three']);
}

/** The second batch of the sample, alone, with its bytes changed and its crc mended. */
function changed(change: (batch: Buffer) => void, options = {}): string {
  const log = sample(options);
  const segment = Buffer.from(log.segments[0] ?? []);
  const at = log.ends[0] ?? 0;
  const length = segment.readUInt32LE(at + 8);
  change(segment.subarray(at, at + length));
  encode.mendCrc(segment.subarray(at, at + length));
  const decoded = decode.decodeAlone(segment, at, 0, log.log);
  return decoded.ok ? 'ok' : decoded.reason;
}

describe('the checksum', () => {
  it('has the check value of the page', () => {
    expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
  });

  it('agrees with the vectors of RFC 3720', () => {
    expect(crc32c(Buffer.alloc(32))).toBe(0x8a9136aa);
    expect(crc32c(Buffer.alloc(32, 0xff))).toBe(0x62a8ab43);
    expect(crc32c(Buffer.from(Array.from({ length: 32 }, (_, i) => i)))).toBe(0x46dd794e);
    expect(crc32c(Buffer.from(Array.from({ length: 32 }, (_, i) => 31 - i)))).toBe(0x113fdb5c);
  });

  it('goes on from the crc of the bytes before', () => {
    const whole = Buffer.from('123456789');
    expect(crc32c(whole.subarray(4), crc32c(whole.subarray(0, 4)))).toBe(0xe3069283);
  });
});

describe('a segment header', () => {
  const header = { ...sample().log, start: 65536, firstLsn: 7, prevCrc: 0xdeadbeef };

  it('decodes to what was encoded', () => {
    const decoded = decode.decodeSegmentHeader(encode.encodeSegmentHeader(header));
    expect(decoded).toMatchObject({
      ok: true,
      value: { start: 65536, firstLsn: 7, prevCrc: 0xdeadbeef },
    });
  });

  it('lies at the offsets of the page', () => {
    const bytes = encode.encodeSegmentHeader(header);
    expect(bytes.toString('latin1', 0, 4)).toBe('WMSG');
    expect(bytes.readUInt32LE(12)).toBe(8);
    expect(bytes.toString('hex', 16, 32)).toBe(header.logId);
    expect(bytes.readBigUInt64LE(40)).toBe(65536n);
    expect(bytes.readBigUInt64LE(48)).toBe(7n);
    expect(bytes.readUInt32LE(64)).toBe(0xdeadbeef);
  });

  it('is refused with any one bit flipped', () => {
    const bytes = encode.encodeSegmentHeader(header);
    for (let bit = 0; bit < 128 * 8; bit++) {
      const flipped = Buffer.from(bytes);
      flipped.writeUInt8(flipped.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
      expect(decode.decodeSegmentHeader(flipped).ok, `bit ${bit}`).toBe(false);
    }
  });
});

describe('a batch', () => {
  it('lies at the offsets of the page', () => {
    const log = new LogBuilder().openTerm(3, 9).data(['ab'], { watermark: 4096, wallClock: 77 });
    const at = log.ends[0] ?? 0;
    const batch = log.bytes().subarray(at);
    expect(batch.toString('latin1', 0, 4)).toBe('WMBT');
    expect(batch.length).toBe(136);
    expect(batch.readUInt32LE(8)).toBe(136);
    expect([...batch.subarray(12, 16)]).toEqual([1, 0, 0, 0]);
    expect(batch.readBigUInt64LE(40)).toBe(BigInt(at));
    expect(batch.readBigUInt64LE(48)).toBe(3n);
    expect(batch.readBigUInt64LE(56)).toBe(1n);
    expect([80, 84, 88, 92].map((offset) => batch.readUInt32LE(offset))).toEqual([9, 1, 8, 8]);
    expect(batch.readBigUInt64LE(96)).toBe(77n);
    expect(batch.readBigUInt64LE(104)).toBe(4096n);
    expect(batch.readUInt32LE(112)).toBe(log.bytes().readUInt32LE(firstBatch + 4));
    expect(batch.toString('hex', 120, 128)).toBe(log.log.nodeId.slice(0, 16));
    expect([...batch.subarray(128)]).toEqual([2, 0, 0, 0, 97, 98, 0, 0]);
  });

  it.each([8, 4096])('decodes to its records when aligned to %i', (align) => {
    const log = sample({ align });
    const decoded = decode.decodeAlone(
      log.segments[0] ?? Buffer.alloc(0),
      log.ends[0] ?? 0,
      0,
      log.log,
    );
    expect(decoded.ok && decoded.value.records.map(String)).toEqual(['one', '', 'three']);
    expect(decoded.ok && decoded.value.lastLsn).toBe(3);
    expect(decoded.ok && decoded.value.end).toBe(log.position);
  });

  it.each([8, 4096])('is refused with any one bit flipped when aligned to %i', (align) => {
    const log = sample({ align });
    const segment = Buffer.from(log.segments[0] ?? []);
    const from = log.ends[0] ?? 0;
    for (let byte = from; byte < Math.min(log.position, from + 180); byte++) {
      for (let bit = 0; bit < 8; bit++) {
        segment.writeUInt8(segment.readUInt8(byte) ^ (1 << bit), byte);
        expect(decode.decodeAlone(segment, from, 0, log.log).ok, `byte ${byte - from}`).toBe(false);
        segment.writeUInt8(segment.readUInt8(byte) ^ (1 << bit), byte);
      }
    }
  });

  it.each<[string, (batch: Buffer) => void]>([
    ['log id', (batch) => batch.writeUInt8(0xee, 16)],
    ['salt', (batch) => batch.writeUInt8(0xee, 32)],
    ['position', (batch) => batch.writeUInt8(0xee, 40)],
    ['count', (batch) => batch.writeUInt32LE(0, 84)],
    ['record length', (batch) => batch.writeUInt32LE(2, 84)],
    ['record length', (batch) => batch.writeUInt32LE(4, 84)],
    ['record length', (batch) => batch.writeUInt32LE(0xffffffff, 128)],
    ['record padding', (batch) => batch.writeUInt8(1, 135)],
    ['codec', (batch) => batch.writeUInt8(1, 15)],
    ['codec', (batch) => batch.writeUInt32LE(25, 92)],
    ['flags', (batch) => batch.writeUInt8(4, 14)],
    ['zero field', (batch) => batch.writeUInt8(1, 116)],
    ['unknown kind', (batch) => batch.writeUInt8(6, 13)],
    ['filler payload', (batch) => batch.fill(5, 13, 14).writeUInt32LE(0, 84)],
    ['version', (batch) => batch.writeUInt8(2, 12)],
  ])('is refused for its %s even when its crc fits', (reason, change) => {
    expect(changed(change)).toBe(reason);
  });

  it('is refused for padding that is not zero', () => {
    expect(changed((batch) => batch.writeUInt8(1, 4000), { align: 4096 })).toBe('padding');
  });

  it('is refused where it leaves no room for a filler', () => {
    const log = new LogBuilder({ segmentBytes: 8192 }).openTerm(1);
    const room = 8192 - 128 - log.position;
    log.data([Buffer.alloc(room - 128 - 4)]);
    expect(log.position).toBe(8192 - 128);
    const smaller = { ...log.log, segmentBytes: 8192 - 8 };
    const segment = log.segments[0] ?? Buffer.alloc(0);
    expect(decode.decodeAlone(segment, log.ends[0] ?? 0, 0, log.log).ok).toBe(true);
    expect(decode.decodeAlone(segment, log.ends[0] ?? 0, 0, smaller)).toMatchObject({
      reason: 'length',
    });
  });

  it('of an unknown kind that may be ignored is passed over', () => {
    const log = new LogBuilder().openTerm(1).system(9, Buffer.from('later'), { flags: 1 });
    const segment = log.segments[0] ?? Buffer.alloc(0);
    expect(decode.decodeAlone(segment, log.ends[0] ?? 0, 0, log.log)).toMatchObject({ ok: true });
  });
});

describe('a control file', () => {
  const control = sample().control({
    role: 'standby',
    cutUnderWay: true,
    commitExact: true,
    forkPosition: 8192,
    commit: { position: 4096, lsn: 2 },
    primaryName: 'älter',
    primaryAddress: 'unix:/tmp/x',
    maxRecordBytes: 16777216,
    lastContact: 1_795_000_000_000_000,
    rebuildFrom: 71,
    rebuildTo: 80,
    quorumLsn: 70,
    quorumMostLsn: 75,
    rule: {
      level: 'remote_flush',
      standbys: 'ANY 1 ("ä", b)',
      members: ['11'.repeat(16), '22'.repeat(16)],
      degraded: true,
      ofEarlierTerm: true,
      undercut: true,
    },
    membership: {
      generation: 3,
      tags: [7n, 6n, 5n, 0n, 0n, 0n, 0n, 0n, 0n],
      quorum: 2,
      copies: [
        { id: '33'.repeat(16), state: 'in', reason: 0, error: 0, since: 8, path: '/a' },
        { id: '44'.repeat(16), state: 'out', reason: 2, error: 5, since: 9, path: '/b' },
      ],
      own: '33'.repeat(16),
    },
  });

  it('decodes to what was encoded', () => {
    expect(decode.decodeControl(encode.encodeControl(control)).current).toEqual(control);
  });

  it('counts the valid copy with the higher sequence number', () => {
    const newer = encode.encodeControlCopy({ ...control, sequence: 9 });
    const older = encode.encodeControlCopy({ ...control, sequence: 8 });
    expect(decode.decodeControl(Buffer.concat([newer, older])).current?.sequence).toBe(9);
    expect(decode.decodeControl(Buffer.concat([older, newer])).current?.sequence).toBe(9);
    newer.writeUInt8(1, 16000);
    expect(decode.decodeControl(Buffer.concat([newer, older])).current?.sequence).toBe(8);
  });

  it('lies at the offsets of the page', () => {
    const bytes = encode.encodeControlCopy(control);
    expect(bytes.toString('latin1', 0, 4)).toBe('WMCT');
    expect([80, 84, 112, 116].map((at) => bytes.readUInt32LE(at))).toEqual([2, 7, 1, 1]);
    expect([72, 120, 144, 168].map((at) => Number(bytes.readBigUInt64LE(at)))).toEqual([
      16777216,
      control.watermark.position,
      4096,
      8192,
    ]);
    expect(bytes.toString('utf8', 256, 262)).toBe('älter');
    expect(Number(bytes.readBigUInt64LE(448))).toBe(1_795_000_000_000_000);
    expect([12800, 12804].map((at) => bytes.readUInt32LE(at))).toEqual([4, 2]);
    expect(bytes.toString('hex', 12832, 12848)).toBe('22'.repeat(16));
    expect(bytes.toString('utf8', 13840, 13855)).toBe('ANY 1 ("ä", b)');
    expect([15888, 15904].map((at) => Number(bytes.readBigUInt64LE(at)))).toEqual([3, 7]);
    expect(bytes.toString('hex', 16072, 16088)).toBe('44'.repeat(16));
    expect(bytes.toString('utf8', 16104, 16106)).toBe('/b');
    expect(bytes.toString('hex', 16360, 16376)).toBe('33'.repeat(16));
  });
});
