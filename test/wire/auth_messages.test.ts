import { describe, expect, it } from 'vitest';
import { WalError } from '../../src/api/errors.js';
import {
  authChallengeBytes,
  authProofBytes,
  authStartBytes,
  decodeAuthChallenge,
  decodeAuthProof,
  decodeAuthStart,
  encodeAuthChallenge,
  encodeAuthProof,
  encodeAuthStart,
} from '../../src/wire/auth_messages.js';

const nonce = new Uint8Array(32).map((_, i) => i);
const challenge = { nonce, logId: '0123456789abcdef'.repeat(2) };

describe('the messages by which a secret is proved', () => {
  it.each([
    ['AUTH_START', encodeAuthStart(nonce), decodeAuthStart, nonce, authStartBytes],
    [
      'AUTH_CHALLENGE',
      encodeAuthChallenge(challenge),
      decodeAuthChallenge,
      challenge,
      authChallengeBytes,
    ],
    ['AUTH_PROOF', encodeAuthProof(nonce), decodeAuthProof, nonce, authProofBytes],
  ])('%s is read as it was written, and at no other length', (_, bytes, decode, value, length) => {
    expect(bytes.length).toBe(length);
    expect(decode(bytes, 0, bytes.length)).toEqual(value);
    const longer = new Uint8Array(length + 1);
    longer.set(bytes);
    expect(() => decode(longer, 0, length + 1)).toThrow(WalError);
    expect(() => decode(bytes, 0, length - 1)).toThrow(WalError);
  });

  it('AUTH_START with another magic or of another version is refused', () => {
    for (const [at, text] of [
      [5, /does not speak this protocol/],
      [9, /in another way/],
    ] as const) {
      const bytes = encodeAuthStart(nonce);
      bytes[at]! ^= 1;
      expect(() => decodeAuthStart(bytes, 0, bytes.length)).toThrow(text);
    }
  });
});
