import { createCipheriv } from 'node:crypto';
import { median } from '../harness/statistics.js';

/** As much as TLS encrypts at once. */
const RECORD_BYTES = 16 * 1024;
const RECORDS_A_LOOK = 256;

/**
 * Bytes a second that one core encrypts with the cipher of TLS 1.3, by the OpenSSL that is in Node:
 * what `openssl speed -evp aes-256-gcm -bytes 16384` says of its own.
 */
export function cipherThroughput(seconds: number, runs: number): number {
  const rates: number[] = [];
  const record = Buffer.alloc(RECORD_BYTES, 0x5a);
  // The first is the warm-up.
  for (let run = 0; run <= runs; run++) {
    const cipher = createCipheriv('aes-256-gcm', Buffer.alloc(32, 1), Buffer.alloc(12, 2));
    const start = performance.now();
    let bytes = 0;
    let elapsed = 0;
    while (elapsed < seconds) {
      for (let i = 0; i < RECORDS_A_LOOK; i++) cipher.update(record);
      bytes += RECORDS_A_LOOK * RECORD_BYTES;
      elapsed = (performance.now() - start) / 1000;
    }
    rates.push(bytes / elapsed);
  }
  return median(rates.slice(1));
}
