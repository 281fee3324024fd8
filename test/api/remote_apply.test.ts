import { expect, it } from 'vitest';
import { RunningApplier } from '../../src/api/applier.js';
import type { Batch } from '../../src/api/batch.js';
import type { BatchReader } from '../../src/api/reader.js';
import { rebuildError } from '../../src/api/reader.js';
import { RemoteApply, SentReading } from '../../src/api/remote_apply.js';
import { turn, walError } from './helpers.js';

/** An applier in another thread, of a log that is cut behind LSN 1: LSN 1 to 4 were sent. */
function applying() {
  const batches = [1, 2, 3, 4].map((lsn) => ({ lastLsn: lsn }) as Batch);
  let isCut = false;
  const reader = {
    next: async () => {
      if (isCut) throw rebuildError(2);
      const value = batches.shift();
      return value === undefined ? new Promise(() => undefined) : { done: false, value };
    },
    ready: () => batches.shift(),
    return: async () => undefined,
  } as unknown as BatchReader;
  const sent: number[][] = [];
  const remote = new RemoteApply();
  const reading = new SentReading(reader, remote, (read) => {
    sent.push(read.map(({ lastLsn }) => lastLsn));
  });
  const applied: number[] = [];
  const applier = new RunningApplier(
    reading,
    1,
    (batch) => remote.until(batch),
    () => applied.push(applier.appliedLsn),
    undefined,
  );
  const ends = walError(() => applier.done);
  const cut = () => {
    isCut = true;
    applier.cutAt(1);
    reading.cutAt(1);
  };
  return { sent, remote, applier, applied, ends, cut };
}

const rebuild = { code: 'WAL_REBUILD', lsn: 2 };

it('counts nothing as applied that went with a cut, and waits until it is through', async () => {
  const { sent, remote, applier, applied, ends, cut } = applying();
  await turn();
  expect(sent).toEqual([[1, 2, 3, 4]]);
  cut();
  // The hook is not called while any of that may be being applied.
  let isThrough = false;
  const through = applier.endOf(1).then(() => {
    isThrough = true;
  });
  // It was at LSN 2 when it heard of that, and has said so of LSN 1 before.
  remote.heard(1, undefined);
  await turn();
  expect(isThrough).toBe(false);
  remote.heard(2, undefined);
  await turn();
  expect(isThrough).toBe(false);
  remote.heard(2, { error: { ...rebuild, code: 'WAL_REBUILD', name: 'WalError', message: '' } });
  expect(await ends).toMatchObject(rebuild);
  await through;
  expect(applier.appliedLsn).toBe(1);
  expect(Math.max(...applied)).toBe(1);
});

it('hears of the cut where all of it was applied before it was heard of', async () => {
  const { remote, applier, applied, ends, cut } = applying();
  await turn();
  cut();
  remote.heard(4, undefined);
  expect(await ends).toMatchObject(rebuild);
  expect(applier.appliedLsn).toBe(1);
  expect(Math.max(...applied)).toBe(1);
});
