import { expect, it } from 'vitest';
import { AttendedReferee } from '../../src/api/attended_referee.js';
import { memoryReferee } from '../../src/referee/index.js';
import type { Claim } from '../../src/referee/referee.js';
import { codeOf } from './helpers.js';

const claim: Claim = {
  ...{ logId: 'a'.repeat(32), nodeId: 'b'.repeat(32), name: 'a', epoch: 1, lsn: 0 },
  ...{ kind: 'open', maximumLag: 0, storedEpoch: 1, lastEpoch: 1, place: 'here' },
};

it('a referee grants and renews while the application runs, and then alone', async () => {
  let since = 0;
  const referee = new AttendedReferee(memoryReferee(), () => since, 1000);
  const answer = await referee.acquire(claim);
  if (!('grant' in answer)) throw new Error(answer.refusal.message);
  const { grant } = answer;
  since = 1000;
  expect(await referee.renew(grant)).toBeDefined();
  since = 1001;
  expect(await codeOf(() => referee.renew(grant))).toBe('WAL_NOT_GRANTED');
  expect(await codeOf(() => referee.regain(grant))).toBe('WAL_NOT_GRANTED');
  expect(await codeOf(() => referee.acquire(claim))).toBe('WAL_NOT_GRANTED');
  // What is granted is given back all the same.
  expect((await referee.view()).holder?.nodeId).toBe(claim.nodeId);
  expect(await referee.release(grant)).toBe(true);
  since = 0;
  expect('grant' in (await referee.acquire({ ...claim, epoch: 2 }))).toBe(true);
});
