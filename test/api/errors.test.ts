import { expect, it } from 'vitest';
import { WalError } from '../../src/api/errors.js';

it('an error has what applies to it, and nothing else', () => {
  expect(Object.keys(new WalError('WAL_CLOSED', 'closed'))).toEqual(['name', 'code', 'hint']);
  const { lsn, file, outcome } = new WalError('WAL_CORRUPT', 'bad', { lsn: 1, file: 'f' });
  expect({ lsn, file, outcome }).toEqual({ lsn: 1, file: 'f', outcome: undefined });
});
