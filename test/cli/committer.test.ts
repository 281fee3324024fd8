import { describe, expect, it } from 'vitest';
import type { Log } from '../../src/api/log.js';
import { Committer } from '../../src/cli/committer.js';

/** A log whose commits are settled by hand. */
class FakeLog {
  readonly commits: { readonly lsn: number; readonly settle: (error?: Error) => void }[] = [];

  commit(lsn: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (error?: Error) => (error === undefined ? resolve() : reject(error));
      this.commits.push({ lsn, settle });
    });
  }
}

function create() {
  const log = new FakeLog();
  const committer = new Committer(log as unknown as Log, {
    signal: new AbortController().signal,
    onWaiting: () => {},
  });
  return { log, committer };
}

async function settled(promise: Promise<unknown>): Promise<string> {
  const turn = new Promise((resolve) => setImmediate(resolve, 'pending'));
  const outcome = promise.then(
    () => 'done',
    () => 'failed',
  );
  return (await Promise.race([outcome, turn])) as string;
}

const MIB = 1024 * 1024;

describe('a committer', () => {
  it('asks for one commit at a time, which covers all that came meanwhile', async () => {
    const { log, committer } = create();
    committer.want(1, 1);
    committer.want(2, 2);
    committer.want(3, 3);
    expect(log.commits.map(({ lsn }) => lsn)).toEqual([1]);
    log.commits[0]?.settle();
    await settled(committer.finish());
    expect(log.commits.map(({ lsn }) => lsn)).toEqual([1, 3]);
    log.commits[1]?.settle();
    expect(await settled(committer.finish())).toBe('done');
  });

  it('still commits what comes after it was asked twice for the same record', async () => {
    const { log, committer } = create();
    committer.want(1, 1);
    log.commits[0]?.settle();
    await committer.finish();
    committer.want(1, 1);
    committer.want(2, 2);
    expect(log.commits.map(({ lsn }) => lsn)).toEqual([1, 2]);
    expect(await settled(committer.finish())).toBe('pending');
  });

  it('commits empty records', async () => {
    const { log, committer } = create();
    committer.want(1, 0);
    log.commits[0]?.settle();
    await committer.finish();
    committer.want(2, 0);
    expect(log.commits).toHaveLength(2);
  });

  it('holds the input back while more than its window waits', async () => {
    const { log, committer } = create();
    committer.want(1, 64 * MIB);
    expect(await settled(committer.belowWindow())).toBe('done');
    committer.want(2, 64 * MIB + 1);
    const below = committer.belowWindow();
    expect(await settled(below)).toBe('pending');
    log.commits[0]?.settle();
    expect(await settled(below)).toBe('done');
  });

  it('rejects every wait with the failure of a commit', async () => {
    const { log, committer } = create();
    committer.want(1, 200 * MIB);
    const below = committer.belowWindow();
    log.commits[0]?.settle(new Error('no'));
    await expect(below).rejects.toThrow('no');
    await expect(committer.finish()).rejects.toThrow('no');
    committer.want(2, 300 * MIB);
    await expect(committer.belowWindow()).rejects.toThrow('no');
    expect(log.commits).toHaveLength(1);
  });
});
