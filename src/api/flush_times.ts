/** So many flushes took at most `upToMs` and more than the bucket before; null: any longer time. */
export interface DurationBucket {
  readonly upToMs: number | null;
  readonly count: number;
}

/** Pairs of limit and count, as the engine counts them, those with a count of 0 left out. */
export function bucketsOf(pairs: ArrayLike<number>): DurationBucket[] {
  const buckets: DurationBucket[] = [];
  for (let i = 0; i + 1 < pairs.length; i += 2) {
    const limit = pairs[i]!;
    buckets.push({ upToMs: Number.isFinite(limit) ? limit : null, count: pairs[i + 1]! });
  }
  return buckets;
}

/**
 * The time that this part of them took at most, to a quarter; null: there are none. `longest` is
 * known exactly.
 */
export function percentile(
  buckets: readonly DurationBucket[],
  part: number,
  longest: number,
): number | null {
  const total = buckets.reduce((sum, { count }) => sum + count, 0);
  if (total === 0) return null;
  const wanted = Math.max(1, Math.ceil(total * part));
  let seen = 0;
  for (const { upToMs, count } of buckets) {
    seen += count;
    if (seen >= wanted) return Math.min(upToMs ?? longest, longest);
  }
  return longest;
}
