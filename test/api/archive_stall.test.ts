import { expect, it, onTestFinished } from 'vitest';
import { Log } from '../../src/api/log.js';
import { openLog } from '../../src/api/open.js';
import { processEnvironment } from '../../src/transport/environment.js';
import { MemoryStore } from '../archive/memory_store.js';
import { freshDir } from '../helpers/temp.js';
import { allArchived, archiveOf, grow, tiny } from './archive_helpers.js';
import { until } from './helpers.js';

/** A log whose clock runs so much faster than its timers. */
async function openFast(store: MemoryStore, times: number): Promise<Log> {
  const environment = { ...processEnvironment, now: () => performance.now() * times };
  const log = Log.over(await openLog({ ...tiny, dir: freshDir(), archive: store }, environment));
  onTestFinished(() => log.close().catch(() => undefined));
  return log;
}

it('a store that takes nothing for a minute has failed, and is asked again', async () => {
  const store = new MemoryStore();
  let hangs = true;
  store.before = (call, _, signal) => {
    if (call !== 'put' || !hangs) return undefined;
    return new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason));
    });
  };
  const log = await openFast(store, 60);
  await grow(log, 3);
  await until(() => archiveOf(log).state === 'failing', 'it has failed');
  expect(archiveOf(log).error?.message).toContain('neither taken nor given anything for 60 s');
  expect(archiveOf(log).error?.code).toBe('WAL_IO');
  hangs = false;
  await allArchived(log);
  expect(archiveOf(log)).toMatchObject({ firstLsn: 1, error: null });
});

it('one that hangs for good is not called again: nothing piles up behind it', async () => {
  const store = new MemoryStore();
  store.before = (call) => (call === 'put' ? new Promise(() => undefined) : undefined);
  const log = await openFast(store, 200);
  await grow(log, 3);
  await until(() => archiveOf(log).state === 'failing', 'it has failed');
  await new Promise((resolve) => setTimeout(resolve, 3000));
  expect(store.calls.filter((call) => call.startsWith('put'))).toHaveLength(1);
  await log.close();
});

it('has no store in a simulation', async () => {
  const environment = { ...processEnvironment, ownsProcess: false };
  const opening = openLog({ dir: freshDir(), archive: new MemoryStore() }, environment);
  await expect(opening).rejects.toThrow('archive has no store in a simulation');
});
