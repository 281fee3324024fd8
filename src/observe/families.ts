import type { SlotState, SlotStatus } from '../api/slots.js';
import type { LogStatus, StandbyStatus } from '../api/status.js';
import type { Collector, Sample } from './collector.js';

type Labels = Readonly<Record<string, string>>;

interface Value {
  readonly value: number;
  readonly labels: Labels;
  readonly metricName?: string;
}

/** A metric as a registry of prom-client keeps it. */
export interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: 'gauge' | 'counter' | 'histogram';
  readonly aggregator: string;
  readonly values: readonly Value[];
  get(): Promise<Family>;
  /** The registry's `resetMetrics`: what the log has counted stays. */
  reset(): void;
}

type Gauge = (status: LogStatus) => readonly (readonly [Labels, number])[] | number | null;

const states: readonly LogStatus['state'][] = ['open', 'failed', 'closing'];
const roles: readonly LogStatus['role'][] = ['primary', 'standby', 'fenced'];
const slotStates: readonly SlotState[] = ['active', 'away', 'lost'];
const archiveStates: readonly NonNullable<LogStatus['archive']>['state'][] = [
  ...(['starting', 'working', 'paused', 'failing', 'stopped'] as const),
];
const stages = ['write', 'flush', 'apply'] as const;
/** Where the histogram of the flushes is cut: from 1 ms by doublings, in milliseconds. */
const flushLimits = Array.from({ length: 15 }, (_, i) => 2 ** i);

const gauges: readonly (readonly [string, string, Gauge])[] = [
  ['state', '1 for the state that the log is in.', (s) => oneOf('state', states, s.state)],
  ['role', '1 for the role that the log has.', (s) => oneOf('role', roles, s.role)],
  ['epoch', 'Epoch of the term.', (s) => s.term.epoch],
  ['first_lsn', 'First record that is kept.', (s) => s.firstLsn],
  ['append_lsn', 'Last record in memory.', (s) => s.appendLsn],
  ['flush_lsn', 'Last record on stable storage.', (s) => s.flushLsn],
  ['commit_lsn', 'Last record that is committed.', (s) => s.commitLsn],
  ['apply_lsn', 'Last record that the applier has applied.', (s) => s.applyLsn],
  ['ring_bytes', 'Size of the log memory.', (s) => s.ring.bytes],
  ['ring_used_bytes', 'Log memory in use.', (s) => s.ring.bytes - s.ring.free],
  ['disk_bytes', 'Bytes of segment files in each directory.', (s) => s.segments.diskBytes],
  ['commits_waiting', 'Commits that are not answered yet.', (s) => s.commits.waiting],
  [
    'commit_oldest_wait_seconds',
    'How long the oldest of them has waited.',
    (s) => (s.commits.oldestWaitMs ?? 0) / 1000,
  ],
  [
    'degraded',
    '1 while the log goes on without its standbys.',
    (s) => (s.policy === null ? null : Number(s.policy.degraded !== null)),
  ],
  [
    'copies_missing',
    'Directories that do not hold all of the log.',
    (s) => s.copies.filter(({ state }) => state !== 'in').length,
  ],
  ['damaged_ranges', 'Damage on the disk that is known.', (s) => s.scrub.damagedRanges],
  [
    'upstream_connected',
    'Standby: 1 while the link to the primary is up.',
    (s) => (s.upstream === null ? null : Number(s.upstream.connected)),
  ],
  [
    'standby_connected',
    'Primary: 1 while the standby is connected.',
    (s) => s.standbys.map((one) => [standbyLabels(one), Number(one.state !== 'disconnected')]),
  ],
  ['slot_held_bytes', 'Log bytes that are kept for a slot.', ofSlots((s) => s.heldBytes)],
  ['slot_away_seconds', 'For how long its standby was away.', ofSlots((s) => s.awayMs / 1000)],
  [
    'slot_state',
    '1 for the state that the slot is in.',
    (s) =>
      s.slots.flatMap(({ name, state }) =>
        slotStates.map((each) => [{ slot: name, state: each }, Number(each === state)] as const),
      ),
  ],
  ['archived_lsn', 'Last record that is archived.', (s) => s.archive?.archivedLsn ?? null],
  [
    'archive_held_bytes',
    'Log bytes that are not archived yet.',
    (s) => s.archive?.heldBytes ?? null,
  ],
  [
    'archive_oldest_seconds',
    'Age of the oldest segment that is to be archived and is not.',
    (s) => (s.archive === null ? null : (s.archive.oldestUnarchivedMs ?? 0) / 1000),
  ],
  [
    'archive_gap',
    '1 where the archive has a gap.',
    (s) => s.archive && Number(s.archive.gap !== null),
  ],
  [
    'archive_state',
    '1 for the state that the archive is in.',
    (s) => s.archive && oneOf('state', archiveStates, s.archive.state),
  ],
  ['standby_lag_records', 'Records that a standby lacks.', lags(({ records }) => records)],
  ['standby_lag_bytes', 'Log bytes that a standby lacks.', lags(({ bytes }) => bytes)],
  [
    'standby_lag_seconds',
    'Age of the first record that a standby lacks.',
    lags(({ milliseconds }) => milliseconds / 1000),
  ],
];

const counters: readonly (readonly [string, string, string, number])[] = [
  ['flushed_bytes_total', 'Log bytes flushed.', 'flushedBytes', 1],
  ['slow_flushes_total', 'Flushes of a second or more.', 'slowFlushes', 1],
  ['commits_total', 'Commits that were acknowledged.', 'acknowledged', 1],
  ['commits_failed_total', 'Commits that ended without.', 'rejected', 1],
  ['damage_found_total', 'Damaged ranges that were found.', 'damageFound', 1],
  ['damage_repaired_total', 'Damaged ranges that were repaired.', 'damageRepaired', 1],
];

/** All metrics, for one registry. */
export function familiesOf(prefix: string, collector: Collector): Family[] {
  const family = (
    name: string,
    help: string,
    type: Family['type'],
    valuesOf: (sample: Sample) => readonly Value[],
  ): Family => ({
    name: `${prefix}${name}`,
    help,
    type,
    aggregator: 'sum',
    get values() {
      return collector.samples().flatMap(valuesOf);
    },
    async get() {
      return { ...this, values: this.values };
    },
    reset() {},
  });
  return [
    ...gauges.map(([name, help, of]) => family(name, help, 'gauge', (one) => gaugeOf(one, of))),
    ...counters.map(([name, help, key, scale]) =>
      family(name, help, 'counter', ({ label, counters: counted }) => [
        { value: (counted.get(key) ?? 0) * scale, labels: { log: label } },
      ]),
    ),
    family('flush_duration_seconds', 'How long flushes took.', 'histogram', (sample) =>
      histogramOf(`${prefix}flush_duration_seconds`, sample),
    ),
  ];
}

function gaugeOf({ label, status }: Sample, of: Gauge): Value[] {
  if (status.state === 'closed') return [];
  const found = of(status);
  if (found === null) return [];
  const rows = typeof found === 'number' ? ([[{}, found]] as const) : found;
  return rows.map(([labels, value]) => ({ value, labels: { log: label, ...labels } }));
}

function oneOf(name: string, among: readonly string[], now: string) {
  return among.map((each) => [{ [name]: each }, Number(each === now)] as const);
}

function standbyLabels({ name, nodeId }: StandbyStatus): Labels {
  return { standby: name, node: nodeId };
}

function ofSlots(measure: (slot: SlotStatus) => number): Gauge {
  return ({ slots }) => slots.map((slot) => [{ slot: slot.name }, measure(slot)] as const);
}

function lags(measure: (lag: StandbyStatus['lag']['write']) => number): Gauge {
  return ({ standbys }) =>
    standbys.flatMap((standby) =>
      stages.map(
        (stage) => [{ ...standbyLabels(standby), stage }, measure(standby.lag[stage])] as const,
      ),
    );
}

/** The log's finer buckets end at each of these limits, so that nothing is guessed. */
function histogramOf(name: string, { label, counters: counted }: Sample): Value[] {
  const fine = [...counted].flatMap(([key, count]) => {
    const limit = /^bucket (.+)$/.exec(key)?.[1];
    if (limit === undefined) return [];
    return [{ upTo: limit === 'null' ? Number.POSITIVE_INFINITY : Number(limit), count }];
  });
  const below = (limit: number): number =>
    fine.reduce((total, { upTo, count }) => (upTo <= limit ? total + count : total), 0);
  const log = { log: label };
  const count = below(Number.POSITIVE_INFINITY);
  return [
    ...flushLimits.map((limit) => ({
      value: below(limit),
      labels: { ...log, le: String(limit / 1000) },
      metricName: `${name}_bucket`,
    })),
    { value: count, labels: { ...log, le: '+Inf' }, metricName: `${name}_bucket` },
    { value: (counted.get('flushMs') ?? 0) / 1000, labels: log, metricName: `${name}_sum` },
    { value: count, labels: log, metricName: `${name}_count` },
  ];
}
