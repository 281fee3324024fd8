import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { WalError } from '../api/errors.js';
import { loadBinding } from '../native/binding.js';
import { CallSignal } from './call_signal.js';
import { bootTime } from './clock.js';
import {
  bootId,
  endLease,
  expire,
  type FileState,
  newState,
  parseState,
  snapshotOf,
} from './file_state.js';
import { privateDirectory, readWhole, replaceFile } from './memory.js';
import type { RecordName } from './records.js';
import {
  absent,
  type Expected,
  type RefereeStore,
  type Snapshot,
  type StoreLease,
  type Write,
} from './store.js';

const lockRetryMs = 2;
/** Looking costs less than a tenth of a millisecond. */
const lookEveryMs = 25;

/** What a step does with the state, and whether it has changed it. */
interface Step<Result> {
  readonly result: Result;
  readonly isChanged: boolean;
}

/**
 * Records in a file of this machine, for tests and for groups whose nodes all run on it. Each call
 * holds a lock of the operating system for as long as it reads the file and writes it anew. Leases
 * are counted as everywhere, so that a process that hangs loses its own. A disk that hangs, or a
 * process that is stopped while it has the lock, holds up all calls; the former past their time
 * out. Deadlines are counted from before that.
 */
export class FileStore implements RefereeStore {
  readonly #directory: string;
  readonly #callTimeoutMs: number;
  readonly #clock: () => number;
  readonly #closing = new AbortController();
  #boot: string | undefined;

  constructor(directory: string, callTimeoutMs: number, clock: () => number = bootTime) {
    this.#directory = directory;
    this.#callTimeoutMs = callTimeoutMs;
    this.#clock = clock;
  }

  read(signal?: AbortSignal): Promise<Snapshot> {
    return this.#step(signal, (state) => ({ result: snapshotOf(state), isChanged: false }));
  }

  commit(
    expected: Expected,
    writes: Partial<Record<RecordName, Write>>,
    signal?: AbortSignal,
  ): Promise<{ readonly applied: boolean; readonly snapshot: Snapshot }> {
    return this.#step(signal, (state) => {
      const isAsExpected = Object.entries(expected).every(
        ([name, version]) => (state.entries[name as RecordName]?.version ?? absent) === version,
      );
      const areLeased = Object.values(writes).every(
        (write) => write?.lease === undefined || state.leases[write.lease] !== undefined,
      );
      const applied = isAsExpected && areLeased;
      if (applied) apply(state, writes);
      return { result: { applied, snapshot: snapshotOf(state) }, isChanged: applied };
    });
  }

  grant(ttlMs: number, signal?: AbortSignal): Promise<StoreLease> {
    return this.#step(signal, (state, nowMs) => {
      const id = randomBytes(8).toString('hex');
      state.leases[id] = { ttlMs, endsMs: nowMs + ttlMs };
      return { result: { id, ttlMs }, isChanged: true };
    });
  }

  renew(
    lease: string,
    signal?: AbortSignal,
  ): Promise<{ readonly ttlMs: number; readonly snapshot: Snapshot } | undefined> {
    return this.#step(signal, (state, nowMs) => {
      const known = state.leases[lease];
      if (known === undefined) return { result: undefined, isChanged: false };
      const { ttlMs } = known;
      state.leases[lease] = { ttlMs, endsMs: nowMs + ttlMs };
      return { result: { ttlMs, snapshot: snapshotOf(state) }, isChanged: true };
    });
  }

  revoke(lease: string, signal?: AbortSignal): Promise<void> {
    return this.#step(signal, (state) => {
      const isThere = state.leases[lease] !== undefined;
      if (isThere) endLease(state, lease);
      return { result: undefined, isChanged: isThere };
    });
  }

  /** Nothing tells of changes: who waits looks again soon. */
  async changed(timeoutMs: number, signal?: AbortSignal): Promise<void> {
    const call = new CallSignal([signal, this.#closing.signal]);
    try {
      await sleep(Math.min(timeoutMs, lookEveryMs), undefined, { signal: call.signal });
    } finally {
      call.done();
    }
  }

  close(): void {
    this.#closing.abort(new WalError('WAL_REFEREE_AWAY', 'the referee is closed here'));
  }

  async #step<Result>(
    signal: AbortSignal | undefined,
    body: (state: FileState, nowMs: number) => Step<Result>,
  ): Promise<Result> {
    const call = new CallSignal([signal, this.#closing.signal], this.#callTimeoutMs);
    try {
      this.#boot ??= await bootId();
      await privateDirectory(this.#directory);
      const release = await this.#lock(call.signal);
      try {
        return await this.#stepLocked(this.#boot, body);
      } finally {
        release();
      }
    } catch (error) {
      signal?.throwIfAborted();
      throw this.#told(error);
    } finally {
      call.done();
    }
  }

  async #stepLocked<Result>(
    boot: string,
    body: (state: FileState, nowMs: number) => Step<Result>,
  ): Promise<Result> {
    const path = join(this.#directory, 'referee.json');
    const text = await readWhole(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return undefined;
      throw error;
    });
    const state = text === undefined ? newState(boot) : parseState(path, text);
    const hasExpired = expire(state, boot, this.#clock());
    const { result, isChanged } = body(state, this.#clock());
    if (isChanged || hasExpired || text === undefined) {
      await replaceFile(path, `${JSON.stringify(state)}\n`);
    }
    return result;
  }

  async #lock(signal: AbortSignal): Promise<() => void> {
    const path = join(this.#directory, 'referee.lock');
    for (;;) {
      signal.throwIfAborted();
      try {
        return loadBinding().lockFile(path);
      } catch (error) {
        if ((error as { code?: unknown }).code !== 'WAL_LOCKED') throw WalError.from(error);
      }
      await sleep(lockRetryMs, undefined, { signal });
    }
  }

  #told(error: unknown): unknown {
    if (error instanceof WalError) return error;
    const { message } = error as Error;
    const text = `the file in ${this.#directory} cannot be used now: ${message}`;
    return new WalError('WAL_REFEREE_AWAY', text, { cause: error });
  }
}

function apply(state: FileState, writes: Partial<Record<RecordName, Write>>): void {
  state.revision += 1;
  for (const [key, write] of Object.entries(writes)) {
    const name = key as RecordName;
    if (write === null) delete state.entries[name];
    else {
      const { value, lease = '' } = write;
      state.entries[name] = { value, lease, version: `${state.revision}` };
    }
  }
}
