import { describe, expect, it } from 'vitest';
import { errorCodes, WalError, type WalErrorCode } from '../../src/api/errors.js';
import { hintFor } from '../../src/cli/failure.js';

/** A command line never meets these: no call of it is made so. */
const ofPrograms = ['WAL_RING_FULL', 'WAL_REENTRANT', 'WAL_COMMIT_ABORTED'];

describe('a hint on the command line', () => {
  it.each(Object.keys(errorCodes).filter((code) => !ofPrograms.includes(code)))(
    '%s names no call or option of the library',
    (code) => {
      const hint = hintFor(new WalError(code as WalErrorCode, 'what is wrong'));
      expect(hint).not.toMatch(/`(log\.|Log\.|follow|cause|lsn)|\w\(|\b[a-z]+[A-Z]\w*/);
    },
  );

  it('is that of the error where the command line has no other words for it', () => {
    expect(hintFor(new WalError('WAL_CORRUPT', 'bad', { hint: 'Mend it.' }))).toBe('Mend it.');
  });
});
