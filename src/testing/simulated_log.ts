import type { NativeLog, NativeOpenOptions } from '../native/native_log.js';

/** What a log without threads has to do: bits of `SteppedLog.due()`. */
export const Due = {
  FLUSH_BEGINS: 1,
  FLUSH_ENDS: 2,
  HOUSEKEEPING: 4,
  TASK: 8,
  /** Housekeeping is due when the log has been idle for a while. */
  WATERMARK: 16,
  /** There is something to tell. */
  NEWS: 32,
  CLOSED: 64,
} as const;

/** A log without threads: its owner steps what they would do. */
export interface SteppedLog extends NativeLog {
  due(): number;
  /** Does one step, of these bits one. Whether there is more of the kind, of housekeeping. */
  step(which: number): boolean;
  /** The machine has gone off: all that waits is rejected, nothing is written. */
  abandon(): void;
}

export type Loss = 'nothing' | 'some' | 'all';

/** The addon's disk in memory. */
export interface NativeDisk {
  /** Milliseconds: monotone, since 1970. To be set before whatever looks at them. */
  readonly clock: Float64Array;
  /** It has gone off: every call fails. */
  readonly dead: boolean;
  open(options: NativeOpenOptions): SteppedLog;
  goOff(): void;
  /** As it is found after that, by what is lost of what was not flushed. */
  comeBack(loss: Loss, seed: number): void;
  /** The machine goes off in the n-th change from now on; `after`: once it is in the cache. */
  dieIn(changes: number, after: boolean): void;
  /** The n-th write or flush fails; `lose`: the n-th flushed write says so and does nothing. */
  failIn(what: 'write' | 'sync' | 'lose', nth: number, errno?: number): void;
  setFull(full: boolean): void;
  list(directory: string): string[];
  flip(file: string, bit: number): void;
  /** What a power loss now would leave of the log: its last LSN. Throws where that is damaged. */
  durable(directory: string): number;
  /**
   * The checksum of the batch with this record, which tells all before it too; undefined where it
   * is not there.
   */
  durable(directory: string, lsn: number): number | undefined;
  /** The log may have been cut: what `durable` found before is not built on. */
  forget(): void;
}
