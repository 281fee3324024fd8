/** The middle value; of an even number of values the lower one of the middle two. */
export function median(values: Iterable<number>): number {
  return percentile(values, 0.5);
}

export function percentile(values: Iterable<number>, fraction: number): number {
  const sorted = Float64Array.from(values).sort();
  const index = Math.max(0, Math.ceil(sorted.length * fraction) - 1);
  const value = sorted[index];
  if (value === undefined) throw new RangeError('percentile of no values');
  return value;
}
