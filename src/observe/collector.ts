import type { LogStatus } from '../api/status.js';

/** What the metrics need of a log. */
export interface MetricsSource {
  status(): LogStatus;
}

/** Numbers that only grow, by their name; a histogram's buckets have one each. */
export type Counters = ReadonlyMap<string, number>;

/** A log as it is now, and what it has counted under its label altogether. */
export interface Sample {
  readonly label: string;
  readonly status: LogStatus;
  readonly counters: Counters;
}

interface Member {
  source: MetricsSource | undefined;
  last: LogStatus;
  /** What the logs before this one counted under the label. */
  base: Counters;
}

/** Labels that are remembered without a log; who reads the metrics takes a fall for a restart. */
const MAX_LABELS = 1024;

/** The logs of one registry: adds up what comes and goes under one label. */
export class Collector {
  readonly #members = new Map<string, Member>();
  #samples: readonly Sample[] | undefined;
  /** What a log that was taken out had counted: it has that already if it comes back. */
  readonly #retired = new WeakMap<MetricsSource, { label: string; counters: Counters }>();

  /** Returns how to take it out. */
  add(label: string, source: MetricsSource): () => void {
    const last = source.status();
    const before = this.#members.get(label);
    if (before !== undefined) this.#retire(label, before, source);
    const retired = this.#retired.get(source);
    const known = before !== undefined && retired?.label === label ? retired.counters : undefined;
    const base = less(before?.base ?? new Map(), known ?? new Map());
    const member: Member = { source, last, base };
    this.#members.delete(label);
    this.#members.set(label, member);
    this.#samples = undefined;
    this.#forget();
    return () => {
      if (member.source === undefined || this.#members.get(label) !== member) return;
      this.#samples = undefined;
      member.last = source.status();
      const counters = countersOf(member.last);
      member.base = sum(member.base, counters);
      member.source = undefined;
      this.#retired.set(source, { label, counters });
    };
  }

  /** As of now; all metrics that are asked for in one go see the same. */
  samples(): readonly Sample[] {
    if (this.#samples !== undefined) return this.#samples;
    const samples: Sample[] = [];
    for (const [label, member] of this.#members) {
      if (member.source === undefined) continue;
      member.last = member.source.status();
      const counters = sum(member.base, countersOf(member.last));
      samples.push({ label, status: member.last, counters });
    }
    this.#samples = samples;
    queueMicrotask(() => {
      this.#samples = undefined;
    });
    return samples;
  }

  #retire(label: string, before: Member, next: MetricsSource): void {
    if (before.source === undefined) return;
    before.last = before.source.status();
    if (before.last.state !== 'closed' || before.source === next) {
      throw new RangeError(
        `the registry has an open log '${label}' already; pass another label, or take it out first`,
      );
    }
    before.base = sum(before.base, countersOf(before.last));
  }

  #forget(): void {
    for (const [label, { source }] of this.#members) {
      if (this.#members.size <= MAX_LABELS) return;
      if (source === undefined) this.#members.delete(label);
    }
  }
}

/** Name of the counter of a flush bucket. */
export function bucketName(upToMs: number | null): string {
  return `bucket ${upToMs}`;
}

function countersOf(status: LogStatus): Counters {
  const { flushes, commits, scrub } = status;
  const counters = new Map<string, number>([
    ['flushes', flushes.count],
    ['flushedBytes', flushes.bytes],
    ['flushMs', flushes.totalMs],
    ['slowFlushes', flushes.slow],
    ['acknowledged', commits.acknowledged],
    ['rejected', commits.rejected],
    ['damageFound', scrub.found],
    ['damageRepaired', scrub.repaired],
  ]);
  for (const { upToMs, count } of flushes.histogram) counters.set(bucketName(upToMs), count);
  return counters;
}

function sum(a: Counters, b: Counters): Counters {
  const both = new Map(a);
  for (const [name, count] of b) both.set(name, (both.get(name) ?? 0) + count);
  return both;
}

function less(a: Counters, b: Counters): Counters {
  const rest = new Map(a);
  for (const [name, count] of b) rest.set(name, (rest.get(name) ?? 0) - count);
  return rest;
}
