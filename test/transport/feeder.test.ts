import type { Socket } from 'node:net';
import { expect, it, vi } from 'vitest';
import { type NativeLog, State } from '../../src/native/native_log.js';
import { BatchEnds } from '../../src/replication/batch_ends.js';
import type { Progress } from '../../src/replication/progress.js';
import { Feeder } from '../../src/transport/feeder.js';

/** A feeder of a log that other threads append to, to a socket that takes all. */
function feeding(pin: () => number) {
  const state = new Float64Array(State.LENGTH);
  state[State.CLOSED_POSITION] = 8192;
  state[State.CLOSED_LSN] = 1;
  state[State.SHARED] = 1;
  const unpin = vi.fn();
  const native = {
    state,
    pin: vi.fn(pin),
    unpin,
    readRing: () => undefined,
    readInto: () => new Promise(() => undefined),
  };
  const progress = { state: 'live', sentPosition: 4096, sent: vi.fn() };
  progress.sent.mockImplementation((position: number) => {
    progress.sentPosition = position;
  });
  const write = vi.fn();
  const socket = { writable: true, write, cork: vi.fn(), uncork: vi.fn() };
  const feeder = new Feeder({
    native: native as unknown as NativeLog,
    ring: new Uint8Array(65536),
    ringBytes: 65536,
    batchEnds: new BatchEnds(),
    progress: progress as unknown as Progress,
    socket: socket as unknown as Socket,
    tag: { session: 1, epoch: 1, incarnation: 1 },
    commit: () => ({ position: 0, lsn: 0 }),
    writeAcks: () => false,
    allocateAligned: (bytes: number) => new Uint8Array(bytes),
    onSent: vi.fn(),
    onFailure: vi.fn(),
  } as unknown as ConstructorParameters<typeof Feeder>[0]);
  return { feeder, native, progress, write };
}

it('a small batch is held while it is copied from a log memory that others append to', () => {
  const { feeder, native, progress, write } = feeding(() => 3);
  feeder.feed();
  expect(native.pin).toHaveBeenCalledWith(4096);
  expect(native.unpin).toHaveBeenCalledWith(3);
  expect(write).toHaveBeenCalledTimes(1);
  expect(progress).toMatchObject({ state: 'live', sentPosition: 8192 });
});

it('what was overwritten since it was looked at is not sent, but read again', () => {
  const { feeder, progress, write } = feeding(() => {
    throw new Error('these bytes are not in the log memory any more');
  });
  feeder.feed();
  expect(write).not.toHaveBeenCalled();
  expect(progress).toMatchObject({ state: 'catchup', sentPosition: 4096 });
});
