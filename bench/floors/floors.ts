/** The floors: what the hardware allows, measured in the same run as the results. */
import type { Directories } from '../harness/directories.js';
import type { Plan } from '../harness/plan.js';
import type { FloorRef } from '../harness/row.js';
import { median } from '../harness/statistics.js';
import { type FloorsAddon, loadFloors } from './addon.js';
import { cipherThroughput } from './cipher.js';
import { type DiskResult, type DiskTest, durableWrites } from './disk.js';
import { tcpRoundTrip, tcpThroughput } from './tcp.js';

export const floorNames = [
  'flush',
  'sequential',
  'sequential-fresh',
  'tcp-throughput',
  'tcp-round-trip',
  'native-call',
  'aes-256-gcm',
] as const;
export type FloorName = (typeof floorNames)[number];

export interface Floor {
  readonly name: FloorName;
  readonly value: number;
  readonly unit: string;
  readonly detail: string;
}

const FLUSH_BYTES = 4096;
const FLUSH_FILE_BYTES = 64 * 2 ** 20;
const SEQUENTIAL_BYTES = 4 * 2 ** 20;
const CALLS = 10_000_000;

/** Measures a floor when it is first asked for. */
export class Floors {
  readonly #plan: Plan;
  readonly #directories: Directories;
  readonly #onMeasured: (floor: Floor) => void;
  readonly #measured = new Map<FloorName, Floor>();
  #addon: FloorsAddon | undefined;

  constructor(plan: Plan, directories: Directories, onMeasured: (floor: Floor) => void) {
    this.#plan = plan;
    this.#directories = directories;
    this.#onMeasured = onMeasured;
  }

  get measured(): readonly Floor[] {
    return [...this.#measured.values()];
  }

  async get(name: FloorName): Promise<Floor> {
    const known = this.#measured.get(name);
    if (known !== undefined) return known;
    const floor = await this.measure(name);
    this.#measured.set(name, floor);
    this.#onMeasured(floor);
    return floor;
  }

  /** A fresh measurement; `get` keeps the first one. */
  async measure(name: FloorName): Promise<Floor> {
    switch (name) {
      case 'flush':
        return await this.#flush();
      case 'sequential':
        return await this.#sequential(name, true);
      case 'sequential-fresh':
        return await this.#sequential(name, false);
      case 'tcp-throughput':
        return await this.#tcpThroughput();
      case 'tcp-round-trip':
        return await this.#tcpRoundTrip();
      case 'native-call':
        return await this.#nativeCall();
      case 'aes-256-gcm':
        return this.#cipher();
    }
  }

  async #flush(): Promise<Floor> {
    const fileBytes = Math.min(FLUSH_FILE_BYTES, this.#plan.floorFileBytes);
    const result = await this.#disk({ blockBytes: FLUSH_BYTES, fileBytes, written: true });
    const other = Math.round(result.otherRate);
    const detail =
      `4 KiB by ${describe(result)}, ${result.medianMicros.toFixed(0)} µs median; ` +
      `the other way ${other}/s`;
    return { name: 'flush', value: result.rate, unit: '/s', detail };
  }

  async #sequential(name: FloorName, written: boolean): Promise<Floor> {
    const fileBytes = this.#plan.floorFileBytes;
    const result = await this.#disk({ blockBytes: SEQUENTIAL_BYTES, fileBytes, written });
    const value = (result.rate * SEQUENTIAL_BYTES) / 1e6;
    const file = written ? 'written' : 'fresh';
    const detail = `4 MiB a flush by ${describe(result)}, on a ${file} file`;
    return { name, value, unit: 'MB/s', detail };
  }

  async #disk(test: Pick<DiskTest, 'blockBytes' | 'fileBytes' | 'written'>): Promise<DiskResult> {
    const { floorSeconds: seconds, floorRuns: runs } = this.#plan;
    this.#addon ??= await loadFloors();
    return await durableWrites(this.#addon, this.#directories, { ...test, seconds, runs });
  }

  async #tcpThroughput(): Promise<Floor> {
    const rate = await tcpThroughput(this.#plan.floorSeconds, this.#plan.floorRuns);
    const detail = 'two Node processes, loopback, 256 KiB writes';
    return { name: 'tcp-throughput', value: rate / 1e6, unit: 'MB/s', detail };
  }

  async #tcpRoundTrip(): Promise<Floor> {
    const seconds = await tcpRoundTrip(this.#plan.floorSeconds * this.#plan.floorRuns);
    const detail = 'two Node processes, loopback, 64 bytes there and back, median';
    return { name: 'tcp-round-trip', value: seconds * 1e6, unit: 'µs', detail };
  }

  #cipher(): Floor {
    const rate = cipherThroughput(this.#plan.floorSeconds, this.#plan.floorRuns);
    const detail = 'one core encrypts, 16 KiB at once, by the OpenSSL that is in Node';
    return { name: 'aes-256-gcm', value: rate / 1e6, unit: 'MB/s', detail };
  }

  async #nativeCall(): Promise<Floor> {
    this.#addon ??= await loadFloors();
    const { empty } = this.#addon;
    const calls = this.#plan.quick ? CALLS / 100 : CALLS;
    const nanos: number[] = [];
    for (let run = 0; run <= this.#plan.floorRuns; run++) {
      const start = performance.now();
      for (let i = 0; i < calls; i++) empty();
      nanos.push(((performance.now() - start) * 1e6) / calls);
    }
    const value = median(nanos.slice(1)); // the first is the warm-up
    return { name: 'native-call', value, unit: 'ns', detail: 'an empty N-API call' };
  }
}

function describe({ way, direct }: DiskResult): string {
  return direct ? `O_DIRECT, ${way}` : `${way}, buffered: the file system refuses O_DIRECT`;
}

/** One flush for `commits` commits. */
export async function localCommitFloor(floors: Floors, commits: number): Promise<FloorRef> {
  const { value } = await floors.get('flush');
  return { name: ofCommits('flush', commits), value: value * commits };
}

/** A round trip to the standby and one flush, one after the other, for `commits` commits. */
export async function remoteCommitFloor(floors: Floors, commits: number): Promise<FloorRef> {
  const flushSeconds = 1 / (await floors.get('flush')).value;
  const tripSeconds = (await floors.get('tcp-round-trip')).value / 1e6;
  const value = commits / (flushSeconds + tripSeconds);
  return { name: ofCommits('round trip + flush', commits), value };
}

function ofCommits(name: string, commits: number): string {
  return commits === 1 ? name : `${name}, ${commits} commits each`;
}
