import { onTestFinished } from 'vitest';
import {
  Log,
  type LogRecord,
  type OpenOptions,
  WalError,
  type WalErrorCode,
} from '../../src/index.js';
import { freshDir } from '../helpers/temp.js';

/** Small enough that a test rolls segments and fills the log memory in no time. */
export const small = {
  segmentBytes: 256 * 1024,
  maxRecordBytes: 64 * 1024,
  ringBytes: 2 * 1024 * 1024,
} as const;

/** Opens a log that is closed when the test is over. */
export async function openLog(options: Partial<OpenOptions> = {}): Promise<Log> {
  const log = await Log.open({ dir: freshDir(), ...options });
  onTestFinished(() => log.close().catch(() => undefined));
  return log;
}

/** Closes the log and opens its directory again. */
export async function reopen(log: Log, options: Partial<OpenOptions> = {}): Promise<Log> {
  await log.close();
  const again = await Log.open({ dir: log.dir, ...options });
  onTestFinished(() => again.close().catch(() => undefined));
  return again;
}

/** Everything from `from` on, as it is on this disk. */
export async function records(log: Log, from = 1): Promise<LogRecord[]> {
  await log.commit(undefined, { level: 'local' });
  const found: LogRecord[] = [];
  for await (const batch of log.read({ from, upTo: 'flush', live: false })) found.push(...batch);
  return found;
}

export async function texts(log: Log, from = 1): Promise<string[]> {
  return (await records(log, from)).map((record) => record.data.toString());
}

/** The WalError that this throws or rejects with; anything else fails the test. */
export async function walError(work: () => unknown): Promise<WalError> {
  try {
    await work();
  } catch (error) {
    if (error instanceof WalError) return error;
    throw error;
  }
  throw new Error('expected a WalError, and nothing was thrown');
}

export async function codeOf(work: () => unknown): Promise<WalErrorCode> {
  return (await walError(work)).code;
}

/** Takes the event loop's time, as a long computation does. */
export function block(milliseconds: number): void {
  const end = performance.now() + milliseconds;
  while (performance.now() < end);
}

/** Lets the end of the turn close what was appended. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Less where a bug was put back (test/planted), by which it may never come. */
const patienceMs = process.env.WALMIRROR_PLANT === undefined ? 30_000 : 10_000;

export async function until(met: () => boolean, what: string, ms = patienceMs): Promise<void> {
  const end = performance.now() + ms;
  while (!met()) {
    if (performance.now() > end) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
