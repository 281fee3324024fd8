import { FieldReader, FieldWriter, invalid, putU32 } from './bytes.js';
import { lengthBytes, MessageType, prefixBytes } from './message_type.js';

/**
 * How two nodes prove to each other that they know one secret, before anything else is said:
 *
 *   who dials                              who listens
 *      | -- AUTH_START ------------------> |   its nonce
 *      | <--------------- AUTH_CHALLENGE - |   its nonce, its log
 *      | -- AUTH_PROOF ------------------> |   that it knows the secret
 *      | <------------------- AUTH_PROOF - |   the same, only now
 *
 *   AUTH_START     | 5 magic u32 | 9 version u16, 1 | 11 nonce 32 B |
 *   AUTH_CHALLENGE | 5 nonce 32 B | 37 log id 16 B |
 *   AUTH_PROOF     | 5 HMAC-SHA-256, 32 B (transport/secret.ts) |
 *
 * A stranger is given nothing that depends on the secret.
 */
export interface Challenge {
  readonly nonce: Uint8Array;
  readonly logId: string;
}

const magic = 0x41524d57; // "WMRA"
const version = 1;

export const nonceBytes = 32;
export const proofBytes = 32;
export const authStartBytes = prefixBytes + 4 + 2 + nonceBytes;
export const authChallengeBytes = prefixBytes + nonceBytes + 16;
export const authProofBytes = prefixBytes + proofBytes;

function begin(type: number, bytes: number): FieldWriter {
  return new FieldWriter(bytes).u32(0).u8(type);
}

function finish(fields: FieldWriter): Uint8Array {
  const bytes = fields.finish();
  putU32(bytes, 0, bytes.length - lengthBytes);
  return bytes;
}

export function encodeAuthStart(nonce: Uint8Array): Uint8Array {
  const fields = begin(MessageType.AUTH_START, authStartBytes).u32(magic).u16(version);
  return finish(fields.bytes(nonce, nonceBytes));
}

/** Returns the nonce. */
export function decodeAuthStart(bytes: Uint8Array, start: number, end: number): Uint8Array {
  const fields = new FieldReader(bytes, start + prefixBytes, end);
  if (fields.u32() !== magic) throw invalid('the peer does not speak this protocol');
  if (fields.u16() !== version) throw invalid('the peer proves its secret in another way');
  const nonce = fields.bytes(nonceBytes);
  fields.end();
  return nonce;
}

export function encodeAuthChallenge({ nonce, logId }: Challenge): Uint8Array {
  const fields = begin(MessageType.AUTH_CHALLENGE, authChallengeBytes);
  return finish(fields.bytes(nonce, nonceBytes).hex(logId, 32));
}

export function decodeAuthChallenge(bytes: Uint8Array, start: number, end: number): Challenge {
  const fields = new FieldReader(bytes, start + prefixBytes, end);
  const challenge = { nonce: fields.bytes(nonceBytes), logId: fields.hex(32) };
  fields.end();
  return challenge;
}

export function encodeAuthProof(proof: Uint8Array): Uint8Array {
  return finish(begin(MessageType.AUTH_PROOF, authProofBytes).bytes(proof, proofBytes));
}

/** Returns the proof. */
export function decodeAuthProof(bytes: Uint8Array, start: number, end: number): Uint8Array {
  const fields = new FieldReader(bytes, start + prefixBytes, end);
  const proof = fields.bytes(proofBytes);
  fields.end();
  return proof;
}
