/** The micro-benchmarks: what a call costs the thread that makes it, driven by tinybench. */
import { subscribe, tracingChannel } from 'node:diagnostics_channel';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { Bench } from 'tinybench';
import { Log } from 'walmirror';
import { serve } from '../harness/agent.js';
import { RecordHash, RecordSource } from '../harness/records.js';
import { nextTurn } from './append.js';
import { type Checked, checkTail, type Expected } from './check_tail.js';
import { Trimmer } from './trimmer.js';

export const microTasks = [
  'append-128',
  'append-128-told',
  'append-into-128',
  'append-many-128',
  'append-string-32',
  'read-128',
  'read-borrow-128',
  'crc32c-4k',
  'crc32c-1m',
] as const;
export type MicroTask = (typeof microTasks)[number];

export interface MicroRequest {
  readonly task: MicroTask;
  readonly dir: string;
  readonly runs: number;
  /** undefined: a few iterations, however long they take. */
  readonly seconds: number | undefined;
}

export interface MicroResult {
  /** Calls a second (for append-many and the readings: records), one a run. */
  readonly rates: readonly number[];
  readonly checked: Checked;
}

/** Calls between two looks at the clock: one alone would measure the clock. */
const CALLS = 8192;
const MANY = 64;
const ITERATION_BYTES = 2 * 2 ** 20;
const SIZE = 128;
const TEXT_SIZE = 32;
const CHECKSUM_BYTES = 4 * 2 ** 20;
const CHECKED_RECORDS = 100_000;
/** 8 MiB: all of it is still in memory. */
const READ_RECORDS = 65_536;

const LEAST_ITERATIONS = { warmup: 2, run: 4 };

interface Measurement {
  /** `calls` of the measured thing. */
  readonly run: () => void | Promise<void>;
  readonly isAsync?: boolean;
  readonly calls: number;
  /** Between iterations, outside of the clock. */
  readonly rest: () => Promise<void>;
}

async function measure(
  request: MicroRequest,
  { run, isAsync = false, calls, rest }: Measurement,
): Promise<number[]> {
  const rates: number[] = [];
  for (let i = 0; i < request.runs; i++) {
    const milliseconds = (request.seconds ?? 0) * 1000;
    const bench = new Bench({
      time: milliseconds,
      warmupTime: i === 0 ? milliseconds : 0,
      iterations: LEAST_ITERATIONS.run,
      warmupIterations: LEAST_ITERATIONS.warmup,
      throws: true,
    });
    bench.add(request.task, run, { async: isAsync, beforeEach: rest });
    const [task] = await bench.run();
    if (task?.result.state !== 'completed') throw new Error(`tinybench: ${task?.result.state}`);
    rates.push((calls / task.result.latency.p50) * 1000);
  }
  return rates;
}

/** The disk catches up, timers get their turn. */
async function restOf(log: Log): Promise<void> {
  await nextTurn();
  // Room for a whole iteration, the segment that it may roll into included.
  await log.drain(ITERATION_BYTES);
}

interface Appending {
  run(): void;
  readonly expected: Expected;
}

function appending(task: MicroTask, log: Log): Appending {
  const source = new RecordSource(SIZE);
  switch (task) {
    case 'append-into-128':
      return appendInto(log, source);
    case 'append-many-128':
      return appendMany(log, source);
    case 'append-string-32':
      return appendString(log);
    default:
      return {
        run() {
          let lsn = log.append(source.at(log.status().appendLsn + 1));
          for (let i = 1; i < CALLS; i++) lsn = log.append(source.at(lsn + 1));
        },
        expected: source,
      };
  }
}

function appendInto(log: Log, source: RecordSource): Appending {
  let lsn = log.status().appendLsn;
  const encode = (buffer: Buffer, offset: number): number => {
    buffer.set(source.at(lsn + 1), offset);
    return offset + SIZE;
  };
  return {
    run() {
      for (let i = 0; i < CALLS; i++) lsn = log.appendInto(SIZE, encode);
    },
    expected: source,
  };
}

function appendMany(log: Log, source: RecordSource): Appending {
  const sources = Array.from({ length: MANY }, () => new RecordSource(SIZE));
  let lsn = log.status().appendLsn;
  return {
    run() {
      for (let i = 0; i < CALLS; i += MANY) {
        const records = sources.map((each, index) => each.at(lsn + 1 + index));
        lsn = log.appendMany(records).last;
      }
    },
    expected: source,
  };
}

function appendString(log: Log): Appending {
  const texts = Array.from({ length: MANY }, (_, index) => `${index}`.padEnd(TEXT_SIZE, '-é~x'));
  const text = (lsn: number): string => texts[lsn % MANY] ?? '';
  let lsn = log.status().appendLsn;
  return {
    run() {
      for (let i = 0; i < CALLS; i++) lsn = log.append(text(lsn + 1));
    },
    expected: {
      hash(from, to) {
        const hash = new RecordHash();
        for (let number = from; number <= to; number++) hash.add(Buffer.from(text(number)));
        return hash.digest();
      },
    },
  };
}

/** What a tracer would take; the process ends with its task, and they with it. */
function listen(): void {
  const hear = (message: unknown): void => void message;
  subscribe('walmirror:append', hear);
  subscribe('walmirror:flush', hear);
  tracingChannel('walmirror:commit').subscribe({
    start: hear,
    end: hear,
    asyncStart: hear,
    asyncEnd: hear,
    error: hear,
  });
}

async function measureAppends(request: MicroRequest): Promise<MicroResult> {
  if (request.task === 'append-128-told') listen();
  const log = await Log.open({ dir: request.dir });
  const trimmer = new Trimmer(log);
  const { run, expected } = appending(request.task, log);
  const rates = await measure(request, { run, calls: CALLS, rest: () => restOf(log) });
  const { lsn } = await log.commit();
  await trimmer.stop();
  const checked = await checkTail(log, expected, { to: lsn, count: CHECKED_RECORDS });
  await log.close();
  return { rates, checked };
}

/** The same records over and over, each of them looked at. */
async function measureReads(request: MicroRequest, borrow: boolean): Promise<MicroResult> {
  const log = await Log.open({ dir: request.dir });
  const source = new RecordSource(SIZE);
  for (let lsn = 1; lsn <= READ_RECORDS; lsn++) {
    if (log.needsDrain) await log.drain();
    log.append(source.at(lsn));
  }
  const { lsn } = await log.commit();
  const run = async (): Promise<void> => {
    let bytes = 0;
    for await (const batch of log.read({ live: false, borrow })) {
      for (const { data } of batch) bytes += data.length;
    }
    if (bytes !== READ_RECORDS * SIZE) throw new Error(`${bytes} bytes were read`);
  };
  const rates = await measure(request, { run, isAsync: true, calls: READ_RECORDS, rest: nextTurn });
  const checked = await checkTail(log, source, { to: lsn, count: CHECKED_RECORDS });
  await log.close();
  return { rates, checked };
}

interface Checksums {
  crc32c(data: Uint8Array): number;
}

/** The check value of the Castagnoli polynomial. */
const CHECK_TEXT = '123456789';
const CHECK_VALUE = 'e3069283';

/** bench/dist/agents to the repository. */
const repository = fileURLToPath(new URL('../../../', import.meta.url));

async function measureChecksums(request: MicroRequest, bytes: number): Promise<MicroResult> {
  const require = createRequire(import.meta.url);
  const load = require('node-gyp-build') as (directory: string) => Checksums;
  const { crc32c } = load(repository);
  const data = new RecordSource(bytes).at(1);
  const calls = Math.ceil(CHECKSUM_BYTES / bytes);
  const run = (): void => {
    for (let i = 0; i < calls; i++) crc32c(data);
  };
  const rates = await measure(request, { run, calls, rest: () => Promise.resolve() });
  const hash = (crc32c(Buffer.from(CHECK_TEXT)) >>> 0).toString(16);
  return { rates, checked: { records: 1, hash, expectedHash: CHECK_VALUE } };
}

const handlers = {
  async run(request: MicroRequest): Promise<MicroResult> {
    switch (request.task) {
      case 'read-128':
        return await measureReads(request, false);
      case 'read-borrow-128':
        return await measureReads(request, true);
      case 'crc32c-4k':
        return await measureChecksums(request, 4096);
      case 'crc32c-1m':
        return await measureChecksums(request, 2 ** 20);
      default:
        return await measureAppends(request);
    }
  },
};

export type MicroAgent = typeof handlers;

serve(handlers);
