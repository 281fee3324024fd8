/** The process that runs one peer. */
import { serve } from '../harness/agent.js';
import { runBulk, runCommitters } from '../harness/driver.js';
import type { Sample, Schedule } from '../harness/plan.js';
import { RecordHash, RecordSource } from '../harness/records.js';
import { openLmdb, openSqlite, type PeerStore } from '../peers/stores.js';

export type PeerName = 'lmdb' | 'sqlite';

export interface PeerRun {
  readonly peer: PeerName;
  readonly directory: string;
  readonly size: number;
  readonly schedule: Schedule;
}

export interface PeerResult {
  readonly samples: readonly Sample[];
  readonly hash: string;
  readonly expectedHash: string;
  readonly records: number;
}

/** What a peer writes between two waits in the bulk rows. */
const BULK_CHUNK_BYTES = 4 * 2 ** 20;

function open({ peer, directory }: PeerRun): PeerStore {
  return peer === 'lmdb' ? openLmdb(directory) : openSqlite(directory);
}

/** What was written, read back. */
async function finish(
  store: PeerStore,
  source: RecordSource,
  last: number,
  samples: readonly Sample[],
): Promise<PeerResult> {
  const hash = new RecordHash();
  for (const record of store.records()) hash.add(record);
  await store.close();
  const expectedHash = source.hash(1, last);
  return { samples, hash: hash.digest(), expectedHash, records: hash.count };
}

const handlers = {
  async commit(run: PeerRun & { readonly committers: number }): Promise<PeerResult> {
    const store = open(run);
    const source = new RecordSource(run.size);
    let last = 0;
    const { committers, schedule } = run;
    if (store.putAll === undefined) {
      const next = (): Promise<unknown> => store.put(++last, source.at(last));
      const samples = await runCommitters(committers, next, schedule);
      return await finish(store, source, last, samples);
    }
    // Its calls are synchronous: the nearest it has to committers that share a flush is one
    // transaction. The event loop turns after each, or no window would ever end.
    const { putAll } = store;
    const transaction = async (): Promise<void> => {
      putAll(last + 1, committers, (number) => source.at(number));
      last += committers;
      await new Promise(setImmediate);
    };
    const window = (operations: number): number => Math.ceil(operations / committers);
    const scaled = scale(schedule, window);
    const samples = await runCommitters(1, transaction, scaled);
    const each = samples.map((sample) => ({
      ...sample,
      operations: sample.operations * committers,
    }));
    return await finish(store, source, last, each);
  },

  async bulk(run: PeerRun): Promise<PeerResult> {
    const store = open(run);
    const source = new RecordSource(run.size);
    const perChunk = Math.max(1, Math.floor(BULK_CHUNK_BYTES / run.size));
    let last = 0;
    let durable = 0;
    let before: Promise<unknown> = Promise.resolve();
    let latest: Promise<unknown> = before;
    const fill = (): void => {
      const first = last + 1;
      last += perChunk;
      before = latest;
      if (store.putAll !== undefined) {
        store.putAll(first, perChunk, (number) => source.at(number));
        durable = last;
        return;
      }
      const upTo = last;
      for (let number = first; number < upTo; number++) store.put(number, source.at(number));
      latest = store.put(upTo, source.at(upTo)).then(() => {
        durable = upTo;
      });
    };
    // One chunk is filled while the one before is flushed.
    const wait = async (): Promise<void> => {
      await before;
      await new Promise(setImmediate);
    };
    const samples = await runBulk({ fill, wait, durable: () => durable }, run.schedule);
    await latest;
    return await finish(store, source, last, samples);
  },
};

function scale(schedule: Schedule, operations: (count: number) => number): Schedule {
  const { warmup, window, runs } = schedule;
  return {
    warmup: { ...warmup, operations: operations(warmup.operations) },
    window: { ...window, operations: operations(window.operations) },
    runs,
  };
}

export type PeerAgent = typeof handlers;

serve(handlers);
