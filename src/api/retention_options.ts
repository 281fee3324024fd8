import * as check from './validate.js';

/**
 * How much log is kept, below what is committed: what is older is let go of by itself, in whole
 * segments. Of several limits each is kept. At least one.
 */
export interface RetentionOptions {
  /** Bytes of the log, 0 or more. */
  readonly bytes?: number;
  /**
   * Milliseconds since it was committed, 1000 or more; counted while the log is open, by a clock
   * that never jumps.
   */
  readonly age?: number;
  /** How many records, 0 or more. */
  readonly records?: number;
}

export interface ResolvedRetention {
  readonly retention: RetentionOptions | undefined;
  readonly maxSlotBytes: number | undefined;
  readonly maxSlotAge: number | undefined;
}

export const retentionKeys = ['retention', 'maxSlotBytes', 'maxSlotAge'] as const;

const most = Number.MAX_SAFE_INTEGER;

export function resolveRetention(raw: Record<string, unknown>): ResolvedRetention {
  const { maxSlotBytes, maxSlotAge } = raw;
  return {
    retention: raw.retention === undefined ? undefined : limits(raw.retention),
    maxSlotBytes:
      maxSlotBytes === undefined ? undefined : check.integer(maxSlotBytes, 'maxSlotBytes', 1, most),
    maxSlotAge:
      maxSlotAge === undefined
        ? undefined
        : check.integer(maxSlotAge, 'maxSlotAge (milliseconds)', 1000, most),
  };
}

function limits(value: unknown): RetentionOptions {
  const raw = check.optionsObject(value, 'retention', ['bytes', 'age', 'records']);
  const { bytes, age, records } = raw;
  if (bytes === undefined && age === undefined && records === undefined) {
    throw new TypeError('retention takes bytes, age or records: { bytes: 2 ** 30 }, say');
  }
  return {
    ...(bytes === undefined ? {} : { bytes: check.integer(bytes, 'retention.bytes', 0, most) }),
    ...(age === undefined
      ? {}
      : { age: check.integer(age, 'retention.age (milliseconds)', 1000, most) }),
    ...(records === undefined
      ? {}
      : { records: check.integer(records, 'retention.records', 0, most) }),
  };
}
