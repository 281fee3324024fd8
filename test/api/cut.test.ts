import { describe, expect, it } from 'vitest';
import type { Log, LogRecord } from '../../src/index.js';
import { openLog, small, until } from './helpers.js';

const policy = (count: number) =>
  ({ synchronousCommit: 'remote_flush', synchronousStandbys: `ANY ${count} (*)` }) as const;

/** What a reader of one sort is given, record by record. */
class Given {
  readonly lsns: number[] = [];
  readonly texts: string[] = [];

  take(records: Iterable<LogRecord>): void {
    for (const { lsn, data } of records) {
      this.lsns.push(lsn);
      this.texts.push(data.toString().trim());
    }
  }

  async follow(log: Log, from: number): Promise<void> {
    for await (const batch of log.read({ from })) this.take(batch);
  }
}

const noPrimary = () => undefined;

describe('a standby whose tail is cut', () => {
  it.each([148, 20, 4000])('shows its readers every record (%i bytes)', async (bytes) => {
    const options = { ...small, name: 'p' };
    let p = await openLog({ ...options, ...policy(2), listen: { port: 0 } });
    const port = p.status().listening?.port ?? 0;
    const follow = { port };
    let other = await openLog({ name: 'other', follow });
    const s = await openLog({ name: 's', follow });
    await Promise.all([s.connected(), other.connected()]);
    const early = new Given();
    early.follow(s, 1).catch(noPrimary);
    for (let i = 1; i <= 100; i++) p.append(`${i}`);
    await p.commit();
    await until(() => early.lsns.length === 100, 'the reader has them');
    await until(() => other.status().commitLsn === 100, 'the other knows');

    // Two openings that too few have, and a record behind them.
    await other.close();
    for (let i = 0; i < 2; i++) {
      await p.close();
      p = await openLog({ ...options, ...policy(2), dir: p.dir, listen: { port } });
      await s.connected();
      const isFed = () => p.status().standbys[0]?.lag.flush.bytes === 0;
      await until(isFed, 'the opening on the standby');
    }
    p.append('of the old term');
    await until(() => s.status().flushLsn === 101, 'the record on the standby');
    expect(s.status().commitLsn).toBe(100);

    // Applications that start again, and wait for what comes.
    const applied = new Given();
    const applier = s.apply({ from: 101 }, (batch) => applied.take(batch));
    const late = new Given();
    late.follow(s, 101).catch(noPrimary);
    const far = new Given();
    far.follow(s, 103).catch(noPrimary);
    await new Promise((resolve) => setTimeout(resolve, 50));

    await p.close();
    other = await openLog({ dir: other.dir, name: 'other', follow });
    await other.promote({
      primaryStopped: true,
      listen: { port },
      synchronousCommit: 'local',
      synchronousStandbys: '',
    });
    for (let lsn = 101; lsn <= 105; lsn++) {
      await other.appendAndCommit(`${lsn}`.padEnd(lsn === 101 ? bytes : 0));
    }
    await until(() => s.status().commitLsn === 105, 'it follows the other');
    await until(() => s.status().applyLsn === 105, 'it applied all').catch(() => undefined);
    const fresh = [101, 102, 103, 104, 105];
    expect(applied.lsns).toEqual(fresh);
    expect(applied.texts).toEqual(fresh.map(String));
    expect(applier.appliedLsn).toBe(105);
    await until(() => early.lsns.at(-1) === 105, 'the early reader');
    expect(early.texts).toEqual(Array.from({ length: 105 }, (_, i) => `${i + 1}`));
    await until(() => late.lsns.at(-1) === 105, 'the late reader');
    expect(late.texts).toEqual(applied.texts);
    await until(() => far.lsns.at(-1) === 105, 'the reader of what was to come');
    expect(far.lsns).toEqual([103, 104, 105]);
  });
});
