/** One line of the result. */
export interface Row {
  readonly name: string;
  /** Median of `runs`. */
  readonly value: number;
  readonly unit: string;
  /** What the hardware allows, in the same unit; null where no floor applies. */
  readonly floor: number | null;
  /** value / floor: 1 is the hardware's limit; more, where one flush serves many commits. */
  readonly ratio: number | null;
  /** What the floor is made of. */
  readonly floorName: string | null;
  readonly runs: readonly number[];
  /** When the measured operation counted as done. */
  readonly durability: string;
  readonly processes: readonly ProcessUse[];
  /** SHA-256 of the records read back, equal to that of the records written. */
  readonly hash?: string;
  readonly checkedRecords?: number;
  readonly note?: string;
}

export interface ProcessUse {
  readonly role: 'primary' | 'standby' | 'process';
  /** Processor time over wall time while it was measured. */
  readonly cores: number;
  readonly cpuSeconds: number;
  readonly peakRssBytes: number;
}

export interface FloorRef {
  readonly name: string;
  readonly value: number;
}

/** `value` and `ratio` from the runs. */
export function makeRow(
  row: Omit<Row, 'ratio' | 'floor' | 'floorName'> & { readonly floor?: FloorRef | undefined },
): Row {
  const { floor, ...rest } = row;
  if (floor === undefined) return { ...rest, floor: null, floorName: null, ratio: null };
  const ratio = rest.value / floor.value;
  return { ...rest, floor: floor.value, floorName: floor.name, ratio };
}
