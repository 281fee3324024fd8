import type { Log } from '../api/log.js';
import * as check from '../api/validate.js';
import { Collector } from './collector.js';
import { type Family, familiesOf } from './families.js';

/**
 * A registry of prom-client (14 or 15), as far as it is used: nothing of that package is imported.
 */
export interface MetricRegistry {
  registerMetric(metric: { get(): Promise<unknown> }): void;
  /** By these two is known what the application took out of it, by `clear` say. */
  getSingleMetric?(name: string): unknown;
  removeSingleMetric?(name: string): void;
}

/** Options of `exportMetrics`. */
export interface MetricsOptions {
  /** The registry of your application, `register` of prom-client say. */
  readonly registry: MetricRegistry;
  /** What the names begin with. Default 'walmirror_'. */
  readonly prefix?: string;
  /** Value of the label `log`; of those on one registry each has its own. Default: `log.name`. */
  readonly label?: string;
}

/** What is on a registry under one prefix. */
interface Registered {
  readonly collector: Collector;
  readonly families: readonly Family[];
}

const known = new WeakMap<MetricRegistry, Map<string, Registered>>();

/**
 * Shows a log among the metrics of a registry of prom-client. Nothing is measured for it: it asks
 * the log when the metrics are asked for. Counters never fall: a log that is closed and opened
 * again under the same label goes on counting. Call what it returns to take the log out; a log that
 * is closed shows its counters only.
 *
 * Throws RangeError where another open log has the label already, and what the registry throws
 * where a metric of the application has a name already; nothing is registered then. After
 * `registry.clear()` call it again.
 */
export function exportMetrics(log: Log, options: MetricsOptions): () => void {
  const raw = check.optionsObject(options, 'exportMetrics', ['registry', 'prefix', 'label']);
  const registry = raw.registry as MetricRegistry | undefined;
  if (typeof registry?.registerMetric !== 'function') {
    throw new TypeError(
      `registry takes a registry of prom-client, got ${check.shown(raw.registry)}`,
    );
  }
  requireOfThisThread(log);
  const prefix = raw.prefix === undefined ? 'walmirror_' : metricPrefix(raw.prefix);
  const label = raw.label === undefined ? log.name : check.string(raw.label, 'label');
  const collector = collectorOf(registry, prefix);
  return collector.add(label, log);
}

/** Scrapes are answered at once: a status that has to be asked of another thread comes too late. */
function requireOfThisThread(log: unknown): void {
  const status: unknown = (log as Log | undefined)?.status();
  if (!(status instanceof Promise)) return;
  status.catch(() => undefined);
  throw new TypeError(
    'exportMetrics takes a Log that runs in this thread; of one with another ' +
      "(replicationThread: 'worker', Log.attach) make metrics of what `await log.status()` says",
  );
}

function collectorOf(registry: MetricRegistry, prefix: string): Collector {
  const of = known.get(registry) ?? new Map<string, Registered>();
  let registered = of.get(prefix);
  let missing = registered?.families.filter((family) => !isOn(registry, family)) ?? [];
  // The registry was cleared: of what was there nobody counts on anything.
  if (registered === undefined || missing.length === registered.families.length) {
    const collector = new Collector();
    registered = { collector, families: familiesOf(prefix, collector) };
    missing = [...registered.families];
  }
  register(registry, missing);
  of.set(prefix, registered);
  known.set(registry, of);
  return registered.collector;
}

function isOn(registry: MetricRegistry, family: Family): boolean {
  return registry.getSingleMetric === undefined || registry.getSingleMetric(family.name) === family;
}

/** All of them or none: where a name is taken, what went before comes off again. */
function register(registry: MetricRegistry, families: readonly Family[]): void {
  const added: Family[] = [];
  try {
    for (const family of families) {
      registry.registerMetric(family);
      added.push(family);
    }
  } catch (error) {
    for (const { name } of added) registry.removeSingleMetric?.(name);
    throw error;
  }
}

function metricPrefix(value: unknown): string {
  const prefix = check.string(value, 'prefix');
  if (!/^[a-zA-Z_:][a-zA-Z0-9_:]*$/.test(prefix)) {
    throw new RangeError(`prefix takes letters, digits, '_' and ':'; got ${check.shown(prefix)}`);
  }
  return prefix;
}
