import { describe, expect, it } from 'vitest';
import { maxHelloBytes, maxMessageBytes, maxProtocol } from '../../src/wire/message_type.js';
import {
  decodeSeedAsk,
  decodeSeedOffer,
  decodeSeedPiece,
  encodeSeedAsk,
  encodeSeedOffer,
  putSeedPiece,
  type SeedAsk,
} from '../../src/wire/seed_messages.js';

const id = (digit: string): string => digit.repeat(32);
const term = { epoch: 2 ** 40, opener: id('a'), incarnation: 3 };
const snapshot = { lsn: 2 ** 33, term, takenAt: 1_800_000_000_000 };
const ask: SeedAsk = {
  ...{ minVersion: 6, maxVersion: maxProtocol, logId: id('c'), salt: '0123456789abcdef' },
  ...{ nodeId: id('d'), end: { position: 4096, lsn: 0 }, name: 'n'.repeat(64) },
  have: { ...snapshot, bytes: 2 ** 41 },
};
const offer = {
  term,
  start: { position: 2 ** 42 + 4096, lsn: 2 ** 32 },
  crc: 0xffff_ffff,
  history: [{ epoch: 1, opener: id('b'), incarnation: 1, position: 4096, lsn: 0 }],
  ...{ snapshot, fileBytes: 2 ** 41, from: 2 ** 40 },
};

describe('what a standby asks to begin with', () => {
  it.each([ask, { ...ask, have: undefined }])('is read as it was written', (each) => {
    const bytes = encodeSeedAsk(each);
    expect(bytes.length).toBeLessThan(maxHelloBytes);
    expect(decodeSeedAsk(bytes, 0, bytes.length)).toEqual(each);
    for (let end = 5; end < bytes.length; end += 1) {
      expect(() => decodeSeedAsk(bytes, 0, end)).toThrow();
    }
    const longer = Uint8Array.of(...bytes, 0);
    expect(() => decodeSeedAsk(longer, 0, longer.length)).toThrow(/longer/);
  });
});

describe('what it is offered', () => {
  it('is read as it was written, with the longest history too', () => {
    const bytes = encodeSeedOffer(offer);
    expect(decodeSeedOffer(bytes, 0, bytes.length)).toEqual(offer);
    const history = Array.from({ length: 256 }, (_, i) => ({ ...offer.history[0]!, epoch: i + 1 }));
    const long = encodeSeedOffer({ ...offer, history });
    expect(long.length).toBeLessThan(maxMessageBytes);
    expect(decodeSeedOffer(long, 0, long.length).history).toEqual(history);
  });

  it('is refused with any byte changed, where it is short, and where it makes no sense', () => {
    const bytes = encodeSeedOffer(offer);
    for (let at = 5; at < bytes.length; at += 1) {
      const other = Uint8Array.from(bytes);
      other[at]! ^= 1;
      expect(() => decodeSeedOffer(other, 0, other.length), `byte ${at}`).toThrow(/differ/);
    }
    for (let end = 0; end < bytes.length; end += 1) {
      expect(() => decodeSeedOffer(bytes, 0, end)).toThrow();
    }
    const past = encodeSeedOffer({ ...offer, from: offer.fileBytes + 1 });
    expect(() => decodeSeedOffer(past, 0, past.length)).toThrow(/past its end/);
  });
});

describe('a piece of a snapshot', () => {
  it.each([true, false])('tells where it lies, and whether it is the last: %s', (isLast) => {
    const bytes = new Uint8Array(16 + 7);
    putSeedPiece(bytes, 2 ** 40, 7, isLast);
    expect(decodeSeedPiece(bytes, 0)).toEqual({ offset: 2 ** 40, isLast });
    expect(bytes[0]).toBe(16 + 7 - 4);
    for (const at of [5, 6, 7]) {
      const other = Uint8Array.from(bytes);
      other[at] = 4;
      expect(() => decodeSeedPiece(other, 0)).toThrow(/flags/);
    }
  });
});
