import { describe, expect, it } from 'vitest';
import {
  decodeHandover,
  decodeTaken,
  encodeHandover,
  encodeTaken,
} from '../../src/wire/handover_messages.js';
import { maxHelloBytes, maxProtocol } from '../../src/wire/message_type.js';

const id = (digit: string): string => digit.repeat(32);
const term = { epoch: 7, opener: id('a'), incarnation: 3 };
const handover = {
  ...{ minVersion: 3, maxVersion: maxProtocol, logId: id('c'), salt: '0123456789abcdef' },
  ...{ term, epoch: 8, end: { position: 2 ** 40, lsn: 2 ** 33 }, crc: 0xffff_ffff },
  name: 'n'.repeat(64),
};
const taken = { version: 3, term: { ...term, epoch: 9 }, lsn: 2 ** 33, name: 'b' };

describe('a hand-over and its answer', () => {
  it('is read as it was written, within what a stranger may send', () => {
    const bytes = encodeHandover(handover);
    expect(bytes.length).toBeLessThan(maxHelloBytes);
    expect(decodeHandover(bytes, 0, bytes.length)).toEqual(handover);
    const answer = encodeTaken(taken);
    expect(decodeTaken(answer, 0, answer.length)).toEqual(taken);
  });

  it('is refused where it is short, long or not this', () => {
    const bytes = encodeHandover(handover);
    for (let end = 5; end < bytes.length; end += 1) {
      expect(() => decodeHandover(bytes, 0, end)).toThrow();
    }
    expect(() => decodeHandover(Uint8Array.of(...bytes, 0), 0, bytes.length + 1)).toThrow(/longer/);
    const other = bytes.slice();
    other[5]! ^= 1;
    expect(() => decodeHandover(other, 0, other.length)).toThrow(/protocol/);
    const none = encodeHandover({ ...handover, minVersion: maxProtocol + 1 });
    expect(() => decodeHandover(none, 0, none.length)).toThrow(/empty/);
    const answer = encodeTaken(taken);
    for (let end = 5; end < answer.length; end += 1) {
      expect(() => decodeTaken(answer, 0, end)).toThrow();
    }
  });

  it('is of a higher epoch than that of who hands over', () => {
    for (const epoch of [0, 6, 7]) {
      const bytes = encodeHandover({ ...handover, epoch });
      expect(() => decodeHandover(bytes, 0, bytes.length)).toThrow(/no higher epoch/);
    }
  });
});
