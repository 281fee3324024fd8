import type { Readable } from 'node:stream';
import type { SnapshotSource } from './snapshot_file.js';
import * as check from './validate.js';

/** Ends what the application does for a snapshot: it was cancelled, or the log closes. */
export interface SnapshotContext {
  readonly signal: AbortSignal;
}

/** The option `snapshot` of `Log.open`: how the application's state is stored, and loaded. */
export interface SnapshotOptions {
  /**
   * Gives the state after the record `lsn`, piece by piece: a stream, an async generator. Called
   * between two batches of the applier, which takes none until the first piece is there; without
   * an applier, in the turn of the call of `log.snapshot`, and an async generator runs in it up to
   * its first `await` or `yield`. What the stream gives must be the state of then, however long it
   * is read.
   */
  readonly save: (
    lsn: number,
    context: SnapshotContext,
  ) => SnapshotSource | PromiseLike<SnapshotSource>;
  /**
   * Puts what `save` gave in the place of the whole state. Counts as done when what it returns has
   * resolved; where that rejects, so does what asked for it (`Log.open`). Where the stream fails,
   * the file was found to be damaged meanwhile: it is called again, with the one before.
   */
  readonly load: (stream: Readable, lsn: number, context: SnapshotContext) => unknown;
  /** How many are kept, 2 to 16. Default 2. */
  readonly keep?: number;
  /**
   * false: a log whose beginning was trimmed opens without a good snapshot too; its state is to
   * come from elsewhere. Default true: WAL_SNAPSHOT_MISSING.
   */
  readonly required?: boolean;
  /**
   * At most so many bytes a second for each standby that this node gives a snapshot, 1 MiB or more.
   * Default: as fast as it goes.
   */
  readonly sendRate?: number;
}

export interface ResolvedSnapshot {
  readonly save: SnapshotOptions['save'];
  readonly load: SnapshotOptions['load'];
  readonly keep: number;
  readonly required: boolean;
  /** undefined: as fast as it goes. */
  readonly sendRate: number | undefined;
}

/** Options of `log.snapshot`. */
export interface TakeSnapshotOptions {
  /** Without an applier: the last record that is in the state now. */
  readonly lsn?: number;
  readonly signal?: AbortSignal;
}

/** Checks the `snapshot` option of `Log.open`. undefined: the log has none. */
export function resolveSnapshot(value: unknown): ResolvedSnapshot | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== 'object' || value === null) {
    const example = '{ save(lsn) { ... }, load(stream, lsn) { ... } }';
    throw new TypeError(`snapshot takes an object such as ${example}; got ${check.shown(value)}`);
  }
  const raw = check.optionsObject(value, 'snapshot', [
    'save',
    'load',
    'keep',
    'required',
    'sendRate',
  ]);
  const { save, load, keep, required, sendRate } = raw;
  check.callback(save, 'snapshot.save');
  check.callback(load, 'snapshot.load');
  return {
    // Of an object with methods too.
    save: (lsn, context) => (value as SnapshotOptions).save(lsn, context),
    load: (stream, lsn, context) => (value as SnapshotOptions).load(stream, lsn, context),
    keep: keep === undefined ? 2 : check.integer(keep, 'snapshot.keep', 2, 16),
    sendRate:
      sendRate === undefined
        ? undefined
        : check.integer(sendRate, 'snapshot.sendRate (bytes a second)', 1024 * 1024, 2 ** 40),
    required: required === undefined ? true : check.boolean(required, 'snapshot.required'),
  };
}

/** What may become of a standby's log that its primary does not go on with. */
export type ReseedMode = 'never' | 'auto';
const reseedModes = ['never', 'auto'] as const satisfies readonly ReseedMode[];

/** Checks the `reseed` option of `Log.open`. */
export function resolveReseed(value: unknown, hasSnapshots: boolean): ReseedMode {
  if (value === undefined) return 'never';
  const mode = check.oneOf(value, 'reseed', reseedModes);
  if (mode === 'auto' && !hasSnapshots) {
    throw new TypeError("reseed 'auto' loads a snapshot: pass snapshot: { save, load } too");
  }
  return mode;
}
