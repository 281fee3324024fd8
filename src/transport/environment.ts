import { lookup } from 'node:dns/promises';
import { connect, createServer, type NetConnectOpts, type Server, type Socket } from 'node:net';
import { performance } from 'node:perf_hooks';
import { loadBinding } from '../native/binding.js';
import type { NativeBinding } from '../native/native_log.js';
import { realFiles, type SmallFiles } from './small_files.js';

export interface Timer {
  ref(): unknown;
  unref(): unknown;
  /** It fires its whole time from now. */
  refresh(): unknown;
}

export interface ServerOptions {
  readonly highWaterMark: number;
}

/**
 * What a log has of the world beside its callers: clocks, timers, random numbers, connections, and
 * the engine with its disk. A simulator gives another one, so that one seed decides all of it.
 */
export interface Environment {
  /** Monotone milliseconds. */
  now(): number;
  /**
   * Milliseconds since the machine was started, the time in which it was suspended included. Leases
   * are counted by it: they run on while this machine sleeps.
   */
  bootTime(): number;
  /** Whole milliseconds since 1970. */
  wallClock(): number;
  /** In [0, 1), for the jitter of delays. */
  random(): number;
  setTimeout(callback: () => void, ms: number): Timer;
  setInterval(callback: () => void, ms: number): Timer;
  /** Of `setTimeout` or `setInterval`. */
  clearTimer(timer: Timer | undefined): void;
  /** Behind all that is due in this turn of the event loop. */
  setImmediate(callback: () => void): void;
  connect(options: NetConnectOpts): Socket;
  createServer(options: ServerOptions, onConnection: (socket: Socket) => void): Server;
  /** The address of a host name. */
  lookup(host: string): Promise<string>;
  binding(): NativeBinding;
  /** Small files beside the engine's, in the directories of a log. */
  readonly files: SmallFiles;
  /**
   * Whether other processes find the log by its directory, and its end is that of the process: else
   * it has no control socket, and nothing is flushed when the process exits.
   */
  readonly ownsProcess: boolean;
}

/** The real one. Globals are looked up at each call: a test may have replaced them. */
export const processEnvironment: Environment = {
  now: () => performance.now(),
  // `process.hrtime` and `performance.now` are CLOCK_MONOTONIC, which stands still meanwhile.
  bootTime: () => loadBinding().bootTime(),
  wallClock: () => Date.now(),
  random: () => Math.random(),
  setTimeout: (callback, ms) => setTimeout(callback, ms),
  setInterval: (callback, ms) => setInterval(callback, ms),
  clearTimer: (timer) => clearTimeout(timer as NodeJS.Timeout | undefined),
  setImmediate: (callback) => void setImmediate(callback),
  connect: (options) => connect(options),
  createServer: (options, onConnection) => createServer(options, onConnection),
  lookup: async (host) => (await lookup(host)).address,
  binding: loadBinding,
  files: realFiles,
  ownsProcess: true,
};

/**
 * Resolves after so many milliseconds, or when the signal aborts. `unref`: the process need not
 * live on for it.
 */
export function pause(
  environment: Environment,
  ms: number,
  signal: AbortSignal | undefined,
  how: 'ref' | 'unref' = 'ref',
): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      environment.clearTimer(timer);
      signal?.removeEventListener('abort', done);
      resolve();
    };
    const timer = environment.setTimeout(done, ms);
    if (how === 'unref') timer.unref();
    if (signal?.aborted === true) done();
    else signal?.addEventListener('abort', done, { once: true });
  });
}
