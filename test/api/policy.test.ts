import { describe, expect, it } from 'vitest';
import { type Log, type LogStatus, type OpenOptions, WalError } from '../../src/index.js';
import { freshDir } from '../helpers/temp.js';
import { codeOf, openLog, small, until, walError } from './helpers.js';

const anyOne = { synchronousStandbys: 'ANY 1 (*)' } as const;
const degrading = { ...anyOne, whenMissing: 'degrade', syncTimeout: 200 } as const;

async function primary(options: Partial<OpenOptions> = {}): Promise<{ log: Log; port: number }> {
  const log = await openLog({ ...small, name: 'a', listen: { port: 0 }, ...options });
  return { log, port: log.status().listening?.port ?? 0 };
}

async function standby(port: number, name = 'b', dir = freshDir()): Promise<Log> {
  const log = await openLog({ dir, name, follow: { port } });
  await log.connected();
  return log;
}

function policyOf(log: Log): NonNullable<LogStatus['policy']> {
  const { policy } = log.status();
  if (policy === null) throw new Error('a primary has a policy');
  return policy;
}

/** The events of this kind, as they come. */
function heard(log: Log, event: 'degraded' | 'restored'): object[] {
  const events: object[] = [];
  log.on(event, (change) => events.push(change));
  return events;
}

it.each(['ANY 1 (*)', 'FIRST 1 (*)'])('%s is met without shared memory too', async (named) => {
  const { log, port } = await primary({ synchronousStandbys: named, sharedMemory: false });
  const b = await standby(port);
  expect(await log.appendAndCommit('one')).toEqual({
    lsn: 1,
    level: 'remote_flush',
    standbys: ['b'],
  });
  expect(log.status().standbys).toMatchObject([{ name: 'b', state: 'live' }]);
  await b.close();
});

describe('whenMissing degrade', () => {
  it('goes on alone after syncTimeout, says so, and comes back by itself', async () => {
    const { log, port } = await primary(degrading);
    const [degraded, restored] = [heard(log, 'degraded'), heard(log, 'restored')];
    expect(await log.appendAndCommit('one')).toEqual({ lsn: 1, level: 'local', standbys: [] });
    await until(() => degraded.length === 1, 'the event');
    const reason =
      /^no answer within 200 ms; missing: 1 more standby to connect, for ANY 1 \(\*\)$/;
    expect(degraded).toEqual([{ reason: expect.stringMatching(reason) }]);
    const { degraded: now, inForce, whenMissing } = policyOf(log);
    expect(now).toEqual({
      since: expect.stringMatching(/^20\d\d-.*Z$/),
      reason: expect.stringMatching(reason),
    });
    expect({ inForce, whenMissing }).toEqual({ inForce: true, whenMissing: 'degrade' });
    expect((await log.appendAndCommit('two')).level).toBe('local');

    const b = await standby(port);
    await until(() => restored.length === 1, 'the return');
    expect(restored).toEqual([{ degradedSince: now?.since }]);
    expect(policyOf(log).degraded).toBeNull();
    expect(b.status().flushLsn).toBe(2);
    const three = await log.appendAndCommit('three');
    expect(three).toEqual({ lsn: 3, level: 'remote_flush', standbys: ['b'] });
    expect([degraded.length, restored.length]).toEqual([1, 1]);
  });

  it('a commit that names a remote level is not met by less: it ends as unknown', async () => {
    const { log } = await primary(degrading);
    await log.appendAndCommit('one');
    const error = await walError(() => log.appendAndCommit('two', { level: 'remote_flush' }));
    expect(error).toMatchObject({ code: 'WAL_SYNC_TIMEOUT', outcome: 'unknown' });
  });

  it('a standby that is promoted meanwhile is told that it may miss something', async () => {
    const { log, port } = await primary({ ...degrading, synchronousStandbys: 'ANY 1 (c)' });
    const b = await standby(port);
    await log.appendAndCommit('one');
    await until(() => b.status().upstream?.rule?.degraded === true, 'the rule');
    expect(b.status().upstream?.rule).toMatchObject({ degraded: true, inForce: false });
    const { oldPrimary } = await walError(() => b.promote());
    expect(oldPrimary?.rule).toMatchObject({ degraded: true, inForce: false });
    expect(String((await walError(() => b.promote())).message)).toMatch(
      /degraded: the primary went on alone, this node may miss what was acknowledged/,
    );
    await log.close();
    const stopped = { primaryStopped: true };
    expect(await codeOf(() => b.promote(stopped))).toBe('WAL_PROMOTION_REFUSED');
    const promoted = await b.promote({ ...stopped, force: true });
    expect(promoted.oldPrimary.rule?.degraded).toBe(true);
    expect(promoted.forced).toMatch(/went on alone/);
  });

  it('lets a promotion through whose applier waits for the opening to be committed', async () => {
    const { log, port } = await primary({ synchronousStandbys: 'ANY 1 (c)' });
    const b = await standby(port);
    const found: string[] = [];
    b.apply({ from: 1 }, (batch) => {
      for (const { data } of batch) found.push(data.toString());
    });
    await log.appendAndCommit('one', { level: 'local' });
    await until(() => b.status().flushLsn === 1, 'the record');
    await log.close();
    expect(found).toEqual([]);
    await b.promote({ primaryStopped: true, force: true, ...degrading });
    expect(found).toEqual(['one']);
    expect(policyOf(b).degraded).not.toBeNull();
  });

  it('opened again it waits for standbys anew', async () => {
    const { log } = await primary(degrading);
    await log.appendAndCommit('one');
    expect(policyOf(log).degraded).not.toBeNull();
    await log.close();
    const again = await openLog({ dir: log.dir, ...anyOne, synchronousCommit: 'remote_flush' });
    const wait = again.appendAndCommit('two', { signal: AbortSignal.timeout(300) });
    expect(await codeOf(() => wait)).toBe('WAL_COMMIT_ABORTED');
    expect(again.status().commitLsn).toBeLessThanOrEqual(1);
  });
});

describe('a primary that waits', () => {
  it('says for whom, since when, and how many commits', async () => {
    const { log } = await primary(anyOne);
    const before = Date.now();
    const waits = [log.appendAndCommit('x'), log.appendAndCommit('y'), log.appendAndCommit('z')];
    for (const wait of waits) wait.catch(() => undefined);
    await until(() => policyOf(log).waitingSince !== null, 'the wait');
    const { waitingFor, waitingSince, waitingCommits } = policyOf(log);
    expect(waitingFor).toBe('1 more standby to connect, for ANY 1 (*)');
    expect(Date.parse(waitingSince ?? '')).toBeGreaterThan(before - 60_000);
    expect(Date.parse(waitingSince ?? '')).toBeLessThanOrEqual(Date.now());
    expect(waitingCommits).toBe(3);
    await log.setPolicy({ synchronousCommit: 'local' });
    await Promise.all(waits);
    expect(policyOf(log)).toMatchObject({ waitingSince: null, waitingCommits: 0 });
  });
});

describe('setPolicy', () => {
  it('changes what is given, and resolves when it is in force', async () => {
    const { log, port } = await primary();
    await log.appendAndCommit('one');
    const change = log.setPolicy(anyOne);
    expect(policyOf(log)).toMatchObject({ synchronousCommit: 'remote_flush', inForce: false });
    const b = await standby(port);
    expect(await change).toMatchObject({ synchronousStandbys: 'ANY 1 (*)', inForce: true });
    expect(b.status().flushLsn).toBe(1);
    expect((await log.appendAndCommit('two')).standbys).toEqual(['b']);
    await until(() => b.status().upstream?.rule?.inForce === true, 'the rule');
    const first = await log.setPolicy({ synchronousStandbys: 'b, c' });
    expect(first).toMatchObject({ synchronousStandbys: 'FIRST 1 (b, c)' });
    expect((await log.appendAndCommit('three')).standbys).toEqual(['b']);
  });

  it('lets what waited go on by what the new policy asks', async () => {
    const { log } = await primary(anyOne);
    const own = log.appendAndCommit('one');
    const named = codeOf(() => log.appendAndCommit('two', { level: 'remote_flush' }));
    await log.setPolicy({ synchronousStandbys: '' });
    expect(await own).toMatchObject({ level: 'local', standbys: [] });
    // Nobody is named any more who could meet it.
    expect(await named).toBe('WAL_NO_STANDBYS');
    expect(policyOf(log)).toMatchObject({ synchronousCommit: 'local', synchronousStandbys: null });
  });

  it('whenMissing takes effect for what waits already', async () => {
    const { log, port } = await primary(anyOne);
    const waiting = log.appendAndCommit('one');
    await log.setPolicy({ whenMissing: 'degrade', syncTimeout: 100 });
    expect((await waiting).level).toBe('local');
    // To wait again is a rule that nobody meets: it is met beside the one in force from now on.
    const blocked = log.setPolicy({ whenMissing: 'block', signal: AbortSignal.timeout(300) });
    const two = log.appendAndCommit('two', { signal: AbortSignal.timeout(200) });
    expect(await codeOf(() => two)).toBe('WAL_COMMIT_ABORTED');
    expect(policyOf(log)).toMatchObject({ whenMissing: 'block', inForce: false });
    await expect(blocked).rejects.toThrow(/timeout/);
    await standby(port);
    await until(() => policyOf(log).inForce, 'the rule');
    expect(policyOf(log).degraded).toBeNull();
    expect((await log.appendAndCommit('three')).standbys).toEqual(['b']);
  });

  it.each([
    ['local', 'ANY 1 (b, c)', 'local'],
    ['off', '', 'off'],
    ['remote_write', 'ANY 1 (b, c)', 'remote_write'],
    ['remote_flush', '', 'local'],
  ] as const)('a level of %s with standbys %j after it is %s', async (level, standbys, then) => {
    const { log } = await primary({ ...anyOne, synchronousCommit: level });
    const signal = AbortSignal.timeout(100);
    await log.setPolicy({ synchronousStandbys: standbys, signal }).catch(() => undefined);
    expect(policyOf(log).synchronousCommit).toBe(then);
  });

  it('a commit that standbys flush and do not apply ends after twice syncTimeout', async () => {
    // Long enough for a busy machine to flush in it: else the log goes on alone, rightly.
    const syncTimeout = 1000;
    const level = { synchronousCommit: 'remote_apply', syncTimeout } as const;
    const { log, port } = await primary({ ...degrading, ...level });
    await standby(port);
    await until(() => log.status().standbys[0]?.synchronous === true, 'the standby counts');
    const error = await walError(() => log.appendAndCommit('one'));
    expect(error).toMatchObject({ code: 'WAL_SYNC_TIMEOUT', outcome: 'unknown' });
    expect(error.message).toMatch(/within 2000 ms: waits for b to answer, for /);
    expect(policyOf(log).degraded).toBeNull();
  });

  it('tells of no return where nobody is waited for any more', async () => {
    const { log } = await primary(degrading);
    const [degraded, restored] = [heard(log, 'degraded'), heard(log, 'restored')];
    await log.appendAndCommit('one');
    await until(() => degraded.length === 1, 'the event');
    await log.setPolicy({ synchronousStandbys: '' });
    expect((await log.appendAndCommit('two')).level).toBe('local');
    expect(policyOf(log).degraded).toBeNull();
    expect(restored).toEqual([]);
  });

  it('a cancelled wait leaves the policy set', async () => {
    const { log, port } = await primary();
    const reason = new Error('enough');
    const cancel = new AbortController();
    const change = log.setPolicy({ ...anyOne, signal: cancel.signal });
    cancel.abort(reason);
    await expect(change).rejects.toBe(reason);
    expect(policyOf(log)).toMatchObject({ synchronousStandbys: 'ANY 1 (*)', inForce: false });
    await standby(port);
    await until(() => policyOf(log).inForce, 'the rule');
  });

  it('refuses what makes no sense, and everybody but a primary', async () => {
    const { log, port } = await primary();
    const bad: readonly (readonly [object, RegExp])[] = [
      [{ synchronousStandbys: 'ANY' }, /at the end: expected how many/],
      [{ whenMissing: 'degrade' }, /needs synchronousStandbys/],
      [{ syncTimeout: 5 }, /whenMissing: 'degrade'/],
      [{ standbys: 'b' }, /standbys/],
    ];
    for (const [options, message] of bad) {
      await expect(log.setPolicy(options)).rejects.toThrow(message);
    }
    expect(await codeOf(() => log.setPolicy({ synchronousCommit: 'remote_flush' }))).toBe(
      'WAL_NO_STANDBYS',
    );
    expect(policyOf(log)).toMatchObject({ synchronousCommit: 'local', inForce: true });
    const b = await standby(port);
    expect(await codeOf(() => b.setPolicy(anyOne))).toBe('WAL_IS_STANDBY');
    await b.close();
    const open = log.setPolicy(anyOne);
    open.catch(() => undefined);
    await log.close();
    await expect(open).rejects.toBeInstanceOf(WalError);
    expect(await codeOf(() => log.setPolicy(anyOne))).toBe('WAL_CLOSED');
  });
});
