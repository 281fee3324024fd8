/** How long things are measured: `--quick` counts operations, a full run counts seconds. */

/** Ends at whichever comes first. */
export interface Window {
  readonly seconds: number;
  readonly operations: number;
}

export interface Sample {
  readonly seconds: number;
  readonly operations: number;
}

/** A measurement: `warmup` is thrown away, `window` is repeated `runs` times. */
export interface Schedule {
  readonly warmup: Window;
  readonly window: Window;
  readonly runs: number;
}

export interface Plan {
  readonly quick: boolean;
  readonly floorRuns: number;
  readonly floorSeconds: number;
  readonly floorFileBytes: number;
  /** undefined: the log's default. */
  readonly segmentBytes: number | undefined;
  /**
   * Written, and trimmed, before the clock starts on recycled segments: more than the pool holds.
   */
  readonly recycleBytes: number;
  readonly catchUpBytes: number;
  readonly recoverBytes: number;
  readonly divergedBytes: number;
  readonly stateBytes: number;
  readonly behindBytes: number;
  /** Repetitions of what is measured once a process: catch-up, recovery. */
  readonly rounds: number;
  /** Records at the end of a log that are read back and compared. */
  readonly checkedBytes: number;
  /** `quickOperations`: how many operations a window has with `--quick`. */
  schedule(quickOperations: number): Schedule;
}

const MIB = 2 ** 20;
const GIB = 2 ** 30;

/**
 * Long enough for any quick window: those end by count, so that their result does not hang on time.
 */
const NO_LIMIT_SECONDS = 60;

export function fullPlan({ seconds, runs }: { seconds: number; runs: number }): Plan {
  const window = { seconds, operations: Number.POSITIVE_INFINITY };
  return {
    quick: false,
    floorRuns: runs,
    floorSeconds: 1,
    floorFileBytes: 2 * GIB,
    segmentBytes: undefined,
    recycleBytes: GIB,
    catchUpBytes: GIB,
    recoverBytes: 4 * GIB,
    divergedBytes: GIB,
    stateBytes: GIB,
    behindBytes: 2 * GIB,
    rounds: runs,
    checkedBytes: 64 * MIB,
    schedule: () => ({ warmup: window, window, runs }),
  };
}

export function quickPlan(): Plan {
  return {
    quick: true,
    floorRuns: 1,
    floorSeconds: 0.02,
    floorFileBytes: 16 * MIB,
    segmentBytes: MIB, // so that a few megabytes recycle too
    recycleBytes: 8 * MIB,
    catchUpBytes: 8 * MIB,
    recoverBytes: 8 * MIB,
    divergedBytes: 8 * MIB,
    stateBytes: 16 * MIB,
    behindBytes: 8 * MIB,
    rounds: 1,
    checkedBytes: 4 * MIB,
    schedule: (quickOperations) => {
      const window = { seconds: NO_LIMIT_SECONDS, operations: quickOperations };
      return { warmup: { ...window, operations: Math.ceil(quickOperations / 4) }, window, runs: 1 };
    },
  };
}
