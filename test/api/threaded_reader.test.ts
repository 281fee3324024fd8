import { expect, it } from 'vitest';
import type { ReadRequest } from '../../src/api/read_options.js';
import { sentBatches } from '../../src/api/sent_batches.js';
import type { ThreadClient } from '../../src/api/thread_client.js';
import { ThreadedApplier } from '../../src/api/threaded_applier.js';
import { ThreadedReader } from '../../src/api/threaded_reader.js';
import { openLog, turn, walError } from './helpers.js';

const request: ReadRequest = {
  ...{ from: 1, to: Number.POSITIVE_INFINITY, upTo: 'commit', live: true, borrow: false },
  signal: undefined,
};
const rebuild = { code: 'WAL_REBUILD', lsn: 2 };

/** LSN 1 and 2, read before the log was cut behind LSN 1, which is heard of before they are. */
async function late() {
  const log = await openLog();
  for (const text of ['one', 'two']) await log.appendAndCommit(text);
  const batches = [];
  for await (const batch of log.read({ live: false })) batches.push(batch);
  const sent = sentBatches(batches, 0);
  const cuts = [1];
  const told: unknown[] = [];
  const client = {
    newId: () => 1,
    tell: (message: unknown) => told.push(message),
    ask: async ({ call }: { call: string }) => (call === 'next' ? sent : new Promise(() => {})),
    rest: () => undefined,
    hold: () => undefined,
    cutCount: 1,
    lastOf: (seen: number) => Math.min(Number.POSITIVE_INFINITY, ...cuts.slice(seen)),
  };
  return { client: client as unknown as ThreadClient, sent, told };
}

it('a reader drops what was under way to it when the log was cut', async () => {
  const { client, told } = await late();
  const reader = new ThreadedReader(client, request);
  expect((await reader.next()).value?.lastLsn).toBe(1);
  expect(await walError(() => reader.next())).toMatchObject(rebuild);
  expect(told).toContainEqual({ letGo: 1 });
});

it('an applier does not begin with it, and says so', async () => {
  const { client, sent, told } = await late();
  const applied: number[] = [];
  const apply = ({ lastLsn }: { lastLsn: number }) => applied.push(lastLsn);
  const applier = new ThreadedApplier(client, request, apply, () => false);
  applier.heard(sent);
  await turn();
  expect(applied).toEqual([1]);
  expect(applier.appliedLsn).toBe(1);
  const end = { applied: 1, lsn: 1, ended: { error: expect.objectContaining(rebuild) } };
  expect(told).toContainEqual(end);
});
