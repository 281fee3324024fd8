import { Gauge, Registry } from 'prom-client';
import { describe, expect, it } from 'vitest';
import { exportMetrics } from '../../src/observe/prometheus.js';
import { openLog, reopen, small, until } from '../api/helpers.js';
import { freshDir } from '../helpers/temp.js';

/** Value of each sample, by name and labels as they stand in the text. */
async function scrape(registry: Registry): Promise<Map<string, number>> {
  const samples = new Map<string, number>();
  for (const line of (await registry.metrics()).split('\n')) {
    if (line === '' || line.startsWith('#')) continue;
    const [, key = '', value = ''] = /^(.*) (\S+)$/.exec(line) ?? [];
    expect(samples.has(key), `${key} is there twice`).toBe(false);
    expect(key).toMatch(/^walmirror_\w+(\{.*\})?$/);
    samples.set(key, Number(value));
  }
  return samples;
}

describe('metrics', () => {
  it('of the archive are there where the log has one', async () => {
    const registry = new Registry();
    const log = await openLog({ ...small, name: 'n', archive: freshDir('archive') });
    exportMetrics(log, { registry });
    const get = async (name: string, labels = '') =>
      (await scrape(registry)).get(`walmirror_${name}{log="n"${labels}}`);
    expect(await get('archived_lsn')).toBeUndefined();
    expect(await get('archive_held_bytes')).toBeGreaterThan(0);
    expect(await get('archive_gap')).toBe(0);
    for (let i = 0; i < 10; i += 1) await log.appendAndCommit(Buffer.alloc(60_000, i));
    await until(() => log.status().archive?.archivedLsn === 8, 'two segments are archived');
    expect(await get('archived_lsn')).toBe(8);
    expect(await get('archive_oldest_seconds')).toBe(0);
    expect(await get('archive_state', ',state="working"')).toBe(1);
    expect(await get('archive_state', ',state="stopped"')).toBe(0);
    const plain = new Registry();
    exportMetrics(await openLog({ ...small, name: 'n' }), { registry: plain });
    expect([...(await scrape(plain)).keys()].filter((key) => /archive/.test(key))).toEqual([]);
  });

  it('say what the status says', async () => {
    const registry = new Registry();
    const log = await openLog({ ...small, name: 'n' });
    exportMetrics(log, { registry });
    for (let i = 0; i < 5; i++) await log.appendAndCommit('a');
    const samples = await scrape(registry);
    const get = (name: string, labels = '') => samples.get(`walmirror_${name}{log="n"${labels}}`);
    const status = log.status();
    expect(get('state', ',state="open"')).toBe(1);
    expect(get('state', ',state="failed"')).toBe(0);
    expect(get('role', ',role="primary"')).toBe(1);
    expect(get('append_lsn')).toBe(5);
    expect(get('commit_lsn')).toBe(5);
    expect(get('commits_total')).toBe(5);
    expect(get('commits_failed_total')).toBe(0);
    expect(get('commits_waiting')).toBe(0);
    expect(get('degraded')).toBe(0);
    expect(get('ring_bytes')).toBe(status.ring.bytes);
    expect(get('disk_bytes')).toBe(status.segments.diskBytes);
    expect(get('flush_duration_seconds_count')).toBe(status.flushes.count);
    expect(get('flush_duration_seconds_sum')).toBeCloseTo(status.flushes.totalMs / 1000, 9);
    expect(samples.has('walmirror_upstream_connected{log="n"}')).toBe(false);
  });

  it('have a histogram of flushes from 1 ms by doublings that adds up', async () => {
    const registry = new Registry();
    const log = await openLog({ ...small, name: 'n' });
    exportMetrics(log, { registry });
    for (let i = 0; i < 20; i++) await log.appendAndCommit('a');
    const samples = await scrape(registry);
    const buckets = [...samples].filter(([key]) => key.includes('_bucket{'));
    const limits = buckets.map(([key]) => /le="([^"]+)"/.exec(key)?.[1]);
    expect(limits).toEqual([...Array.from({ length: 15 }, (_, i) => `${2 ** i / 1000}`), '+Inf']);
    const counts = buckets.map(([, count]) => count);
    expect(counts).toEqual([...counts].sort((a, b) => a - b));
    const { histogram, count } = log.status().flushes;
    expect(counts.at(-1)).toBe(count);
    const withinOne = histogram.filter(({ upToMs }) => upToMs !== null && upToMs <= 1);
    expect(counts[0]).toBe(withinOne.reduce((sum, bucket) => sum + bucket.count, 0));
  });

  it('count on when the log is closed and opened again, and when it is taken out', async () => {
    const registry = new Registry();
    let log = await openLog({ ...small, name: 'n' });
    exportMetrics(log, { registry });
    let last = new Map<string, number>();
    for (let life = 1; life <= 3; life++) {
      await log.appendAndCommit('a');
      const samples = await scrape(registry);
      for (const [key, value] of last) {
        if (!/_total|_bucket|_count|_sum/.test(key)) continue;
        expect(samples.get(key), key).toBeGreaterThanOrEqual(value);
      }
      expect(samples.get('walmirror_commits_total{log="n"}')).toBe(life);
      last = samples;
      registry.resetMetrics();
      log = await reopen(log, { name: 'n' });
      const stop = exportMetrics(log, { registry });
      if (life === 2) {
        stop();
        stop();
        expect((await scrape(registry)).size).toBe(0);
        exportMetrics(log, { registry });
      }
    }
  });

  it('count once what a log counted that is taken out and put back', async () => {
    const registry = new Registry();
    const log = await openLog({ ...small, name: 'n' });
    for (let i = 1; i <= 3; i++) {
      const stop = exportMetrics(log, { registry });
      await log.appendAndCommit('a');
      const samples = await scrape(registry);
      expect(samples.get('walmirror_commits_total{log="n"}')).toBe(i);
      expect(samples.get('walmirror_flush_duration_seconds_count{log="n"}')).toBe(
        log.status().flushes.count,
      );
      stop();
    }
  });

  it('of a closed log are its counters', async () => {
    const registry = new Registry();
    const log = await openLog({ ...small, name: 'n' });
    exportMetrics(log, { registry });
    await log.appendAndCommit('a');
    await log.close();
    const samples = await scrape(registry);
    expect(samples.get('walmirror_commits_total{log="n"}')).toBe(1);
    expect(samples.has('walmirror_append_lsn{log="n"}')).toBe(false);
  });

  it('of a primary tell the lag of each standby, of those that have gone too', async () => {
    const registry = new Registry();
    const a = await openLog({ ...small, name: 'a', listen: { port: 0 } });
    const b = await openLog({ name: 'b', follow: { port: a.status().listening!.port } });
    exportMetrics(a, { registry });
    exportMetrics(b, { registry });
    await a.appendAndCommit('one');
    await until(() => a.status().standbys[0]?.flushLsn === 1, 'the standby has it');
    const node = b.status().nodeId;
    const lag = (unit: string, stage: string) =>
      `walmirror_standby_lag_${unit}{log="a",standby="b",node="${node}",stage="${stage}"}`;
    const up = await scrape(registry);
    for (const unit of ['records', 'bytes', 'seconds']) {
      expect(up.get(lag(unit, 'write'))).toBe(0);
      expect(up.get(lag(unit, 'flush'))).toBe(0);
      expect(up.get(lag(unit, 'apply'))).toBeGreaterThan(0);
    }
    expect(up.get('walmirror_upstream_connected{log="b"}')).toBe(1);
    await b.close();
    await until(() => a.status().standbys[0]?.state === 'disconnected', 'it has gone');
    await a.appendAndCommit('two');
    const down = await scrape(registry);
    const connected = `walmirror_standby_connected{log="a",standby="b",node="${node}"}`;
    expect(down.get(connected)).toBe(0);
    expect(down.get(lag('records', 'flush'))).toBe(1);
  });

  it('of two logs stand side by side, under labels of their own', async () => {
    const registry = new Registry();
    const one = await openLog({ ...small, name: 'same' });
    const two = await openLog({ ...small, name: 'same' });
    exportMetrics(one, { registry });
    expect(() => exportMetrics(one, { registry })).toThrow(RangeError);
    expect(() => exportMetrics(two, { registry })).toThrow(/an open log 'same' already/);
    exportMetrics(two, { registry, label: 'other' });
    await two.appendAndCommit('a');
    const samples = await scrape(registry);
    expect(samples.get('walmirror_append_lsn{log="same"}')).toBe(0);
    expect(samples.get('walmirror_append_lsn{log="other"}')).toBe(1);
  });

  it('come in the OpenMetrics form, as JSON, and with the labels of the registry', async () => {
    const registry = new Registry();
    registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE as never);
    registry.setDefaultLabels({ app: 'x' });
    const log = await openLog({ ...small, name: 'n' });
    exportMetrics(log, { registry, prefix: 'my_' });
    await log.appendAndCommit('a');
    const text = await registry.metrics();
    expect(text).toContain('my_commits_total{log="n",app="x"} 1');
    expect(text).not.toContain('_total_total');
    expect(text.endsWith('# EOF\n')).toBe(true);
    const json = await registry.getMetricsAsJSON();
    expect(json.find(({ name }) => name === 'my_commit_lsn')).toMatchObject({ type: 'gauge' });
  });

  it('come back after the registry was cleared, or lost some of them', async () => {
    const registry = new Registry();
    const log = await openLog({ ...small, name: 'n' });
    exportMetrics(log, { registry });
    await log.appendAndCommit('a');
    const all = (await scrape(registry)).size;
    registry.clear();
    expect((await scrape(registry)).size).toBe(0);
    const stop = exportMetrics(log, { registry });
    const samples = await scrape(registry);
    expect(samples.size).toBe(all);
    expect(samples.get('walmirror_commits_total{log="n"}')).toBe(1);
    stop();
    registry.removeSingleMetric('walmirror_commit_lsn');
    exportMetrics(log, { registry });
    const again = await scrape(registry);
    expect(again.get('walmirror_commit_lsn{log="n"}')).toBe(1);
    expect(again.get('walmirror_commits_total{log="n"}')).toBe(1);
  });

  it('are all there or none, where the application has one of the names', async () => {
    const registry = new Registry();
    const log = await openLog({ ...small, name: 'n' });
    const registers = [registry];
    const mine = new Gauge({ name: 'walmirror_commit_lsn', help: 'mine', registers });
    expect(() => exportMetrics(log, { registry })).toThrow(/already been registered/);
    expect(registry.getMetricsAsArray()).toEqual([mine]);
    registry.removeSingleMetric('walmirror_commit_lsn');
    exportMetrics(log, { registry });
    expect((await scrape(registry)).has('walmirror_commit_lsn{log="n"}')).toBe(true);
  });

  it('refuse what is no registry, and a prefix that is no name', async () => {
    const log = await openLog(small);
    const registry = new Registry();
    expect(() => exportMetrics(log, { registry: {} as Registry })).toThrow(/takes a registry of/);
    expect(() => exportMetrics(log, { registry, prefix: 'a-b' })).toThrow(/prefix takes letters/);
    expect(() => exportMetrics(log, { registry, prefx: 'a' } as never)).toThrow(/did you mean/);
  });
});
