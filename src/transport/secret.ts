import { createHmac, timingSafeEqual } from 'node:crypto';

/** What both sides know by the time they prove their secret to each other. */
export interface Exchange {
  readonly dialNonce: Uint8Array;
  readonly listenNonce: Uint8Array;
  /** Of the log of the one that listens. */
  readonly logId: string;
  /** Under TLS, what ties this to that connection; empty without. */
  readonly channel: Uint8Array;
}

const label = 'walmirror secret 1';

/**
 * That a side knows the secret: an HMAC-SHA-256 under it, over what nobody can have seen before.
 * With both nonces a proof is good once; with the role, none can be given back to whoever made it;
 * with the log, none is good for another one.
 */
export function proofOf(
  secret: Uint8Array,
  role: 'dials' | 'listens',
  { dialNonce, listenNonce, logId, channel }: Exchange,
): Uint8Array {
  const hmac = createHmac('sha256', secret);
  // Each part but the last has a fixed length, so no two exchanges read alike.
  hmac.update(`${label}\0${role.padEnd(8)}${logId}`, 'latin1');
  return hmac.update(dialNonce).update(listenNonce).update(channel).digest();
}

/** Takes as long whatever differs. */
export function isSameProof(given: Uint8Array, expected: Uint8Array): boolean {
  return given.length === expected.length && timingSafeEqual(given, expected);
}
