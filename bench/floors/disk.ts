import path from 'node:path';
import type { Directories } from '../harness/directories.js';
import { median } from '../harness/statistics.js';
import type { FloorsAddon } from './addon.js';

export interface DiskTest {
  readonly blockBytes: number;
  readonly fileBytes: number;
  readonly written: boolean;
  readonly seconds: number;
  readonly runs: number;
}

export interface DiskResult {
  /** Writes a second of the better way to make one durable. */
  readonly rate: number;
  readonly way: 'RWF_DSYNC' | 'fdatasync';
  readonly otherRate: number;
  readonly medianMicros: number;
  readonly direct: boolean;
}

/**
 * Durable writes, one after the other, both ways, in turns: a disk that changes its mood does so
 * for both.
 */
export async function durableWrites(
  addon: FloorsAddon,
  directories: Directories,
  test: DiskTest,
): Promise<DiskResult> {
  const { runs, ...options } = test;
  const ways = { dsync: new Way(), fdatasync: new Way() };
  let direct = true;
  for (let run = 0; run < runs; run++) {
    for (const [name, way] of Object.entries(ways)) {
      // A new directory each: blocks that the file system hands out again are not fresh to the
      // disk's map.
      const directory = await directories.make('floor');
      const result = addon.durableWrites({
        ...options,
        path: path.join(directory, name),
        dsync: name === 'dsync',
        writes: Number.MAX_SAFE_INTEGER,
      });
      direct &&= result.direct;
      way.rates.push(result.micros.length / result.seconds);
      way.micros.push(median(result.micros));
      await directories.remove(directory);
    }
  }
  const dsync = median(ways.dsync.rates);
  const fdatasync = median(ways.fdatasync.rates);
  const best = dsync >= fdatasync ? ways.dsync : ways.fdatasync;
  return {
    rate: Math.max(dsync, fdatasync),
    way: best === ways.dsync ? 'RWF_DSYNC' : 'fdatasync',
    otherRate: Math.min(dsync, fdatasync),
    medianMicros: median(best.micros),
    direct,
  };
}

class Way {
  readonly rates: number[] = [];
  readonly micros: number[] = [];
}
