import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { onTestFinished } from 'vitest';
import { expectAgreement } from '../format/agreement.js';

/** A fresh directory on a real disk. The caller removes it. */
export function makeTempDir(name: string): string {
  const base = resolve(process.env.WALMIRROR_TEST_DIR ?? '.tmp-test');
  mkdirSync(base, { recursive: true });
  return mkdtempSync(join(base, `${name}-`));
}

/**
 * The same, removed when the test that asked for it is over. Both readers of the format have to
 * agree on every log that is in it by then.
 */
export function tempDir(name: string): string {
  const dir = makeTempDir(name);
  onTestFinished(async () => {
    try {
      await expectAgreement(dir);
    } finally {
      rmSync(dir, { recursive: true, force: true });
    }
  });
  return dir;
}
