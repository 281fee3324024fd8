import { setTimeout as sleep } from 'node:timers/promises';
import type { LogStatus } from '../api/status.js';
import { askAny } from './ask.js';
import { StopSignals } from './stop.js';
import { type WatchIo, watchStatus } from './watch_status.js';

const ANSWER_MS = 5_000;

/** undefined: no process has the log open. */
export async function askStatus(
  dirs: readonly string[],
  signal: AbortSignal,
): Promise<LogStatus | undefined> {
  try {
    const reply = await askAny(dirs, { cmd: 'status' }, { timeoutMs: ANSWER_MS, signal });
    return reply.listening ? (reply.result as LogStatus) : undefined;
  } catch (error) {
    if (signal.aborted) return undefined;
    throw error;
  }
}

/** `walmirror status --watch`: on the standard output, until SIGINT or SIGTERM. */
export async function watchLog(dirs: readonly string[], intervalMs: number): Promise<void> {
  const stop = new StopSignals();
  try {
    await watchStatus(ownIo(dirs, stop.signal), intervalMs, stop.signal);
  } finally {
    stop.dispose();
  }
}

function ownIo(dirs: readonly string[], signal: AbortSignal): WatchIo {
  const { stdout, env } = process;
  // Whoever reads it may leave; the write that meets it says so.
  stdout.on('error', () => undefined);
  const isTerminal = stdout.isTTY === true && env.TERM !== 'dumb';
  return {
    ask: () => askStatus(dirs, signal),
    write: (text) =>
      new Promise((resolve, reject) => {
        stdout.write(text, (error) => (error == null ? resolve() : reject(error)));
      }),
    now: () => performance.now(),
    date: () => new Date(),
    sleep: async (milliseconds, until) => {
      await sleep(milliseconds, undefined, { signal: until }).catch(() => undefined);
    },
    isTerminal,
    colour: isTerminal && (env.NO_COLOR === undefined || env.NO_COLOR === ''),
    columns: () => stdout.columns ?? 80,
    rows: () => stdout.rows ?? 24,
  };
}
