import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { closeLog } from '../../src/api/close.js';
import { logStatus } from '../../src/api/log_status.js';
import { openLog as openCore } from '../../src/api/open.js';
import { promote } from '../../src/api/promote.js';
import { promoteDirectory } from '../../src/api/promote_directory.js';
import { controlRequest } from '../../src/control/client.js';
import { Log, type OpenOptions, type WalError } from '../../src/index.js';
import { freshDir } from '../helpers/temp.js';
import { RawStandby } from '../transport/raw_standby.js';
import { codeOf, openLog, reopen, small, texts, turn, until, walError } from './helpers.js';

const anyOne = { synchronousStandbys: 'ANY 1 (*)' } as const;
const stopped = { primaryStopped: true } as const;

async function primary(options: Partial<OpenOptions> = {}): Promise<{ log: Log; port: number }> {
  const log = await openLog({ ...small, name: 'a', listen: { port: 0 }, ...options });
  return { log, port: log.status().listening?.port ?? 0 };
}

async function standby(port: number, options: Partial<OpenOptions> = {}): Promise<Log> {
  const log = await openLog({ name: 'b', follow: { port }, ...options });
  await log.connected();
  return log;
}

describe('a standby', () => {
  it('holds what the primary has, and counts for its commits', async () => {
    const a = await primary(anyOne);
    const waiting = a.log.appendAndCommit('one');
    expect(a.log.status().policy?.waitingFor).toMatch(/1 more standby/);
    const b = await standby(a.port);
    expect(await waiting).toEqual({ lsn: 1, level: 'remote_flush', standbys: ['b'] });
    expect(a.log.status().policy?.waitingFor).toBeNull();
    expect(b.status()).toMatchObject({ role: 'standby', flushLsn: 1, policy: null });
    expect(b.status().logId).toBe(a.log.status().logId);
    expect(b.status().nodeId).not.toBe(a.log.status().nodeId);
    expect(a.log.status().standbys).toMatchObject([{ name: 'b', synchronous: true, flushLsn: 1 }]);
  });

  it('applies, and a commit can wait for that', async () => {
    const a = await primary(anyOne);
    const b = await standby(a.port);
    const found: string[] = [];
    b.apply({ from: 1 }, (batch) => {
      for (const { data } of batch) found.push(data.toString());
    });
    for (let i = 0; i < 20; i++) {
      await a.log.appendAndCommit(`${i}`, { level: 'remote_apply' });
      expect(found.at(-1)).toBe(`${i}`);
    }
    expect(b.status().applyLsn).toBe(20);
    expect(a.log.status().standbys[0]?.applyLsn).toBe(20);
  });

  it('refuses what only a primary can do, and names its primary', async () => {
    const a = await primary();
    const b = await standby(a.port);
    for (const call of [
      () => b.append('x'),
      () => b.append(Buffer.alloc(1)),
      () => b.appendMany(['x']),
      () => b.appendInto(1, (_, at) => at),
      () => b.commit(),
      () => b.drain(),
      () => b.read({ upTo: 'flush', live: false }),
    ]) {
      const error = await walError(call);
      expect(error.code).toBe('WAL_IS_STANDBY');
      expect(error.message).toContain(`a at 127.0.0.1:${a.port}`);
    }
    expect(await codeOf(() => a.log.promote(stopped))).toBe('WAL_NOT_STANDBY');
    expect(await codeOf(() => a.log.connected())).toBe('WAL_NOT_STANDBY');
  });

  it('a fresh one waits for its primary until the signal ends that', async () => {
    const controller = new AbortController();
    const options = { dir: freshDir(), follow: { port: 9 }, signal: controller.signal };
    const opening = Log.open(options);
    setTimeout(() => controller.abort(new Error('no longer')), 50);
    await expect(opening).rejects.toThrow('no longer');
  });

  it('one that has a log opens at once, and connects when the primary comes back', async () => {
    const a = await primary();
    const b = await standby(a.port);
    await a.log.appendAndCommit('one');
    await until(() => b.status().flushLsn === 1, 'the record on the standby');
    const down = new Promise<string>((resolve) =>
      b.once('disconnected', ({ reason }) => resolve(reason)),
    );
    await a.log.close();
    expect(await down).not.toBe('');
    const again = await reopen(b, { name: 'b', follow: { port: a.port } });
    expect(again.status().upstream).toMatchObject({ connected: false });
    await expect(again.connected({ signal: AbortSignal.timeout(30) })).rejects.toThrow(/timeout/);
    const back = await reopen(a.log, { name: 'a', listen: { port: a.port } });
    await again.connected();
    await back.appendAndCommit('two');
    await until(() => again.status().flushLsn === 2, 'the second record');
    expect(again.status().upstream).toMatchObject({ connected: true, primary: 'a', reason: null });
  });

  it.each(['commits waited for', 'none waited for'])(
    'knows the last commit of a primary that closes right after it: %s',
    async (how) => {
      for (let round = 0; round < 20; round++) {
        const a = await primary();
        const b = await standby(a.port);
        const last = 1 + (round % 3);
        for (let lsn = 1; lsn <= last; lsn++) {
          a.log.append('x');
          if (how === 'commits waited for') await a.log.commit();
        }
        await a.log.close();
        await until(() => b.status().commitLsn === last, `commit of LSN ${last}, round ${round}`);
        await b.close();
      }
    },
  );

  it('keeps its role when its options are forgotten', async () => {
    const a = await primary();
    const b = await standby(a.port);
    await b.close();
    const error = await walError(() => Log.open({ dir: b.dir }));
    expect(error.code).toBe('WAL_IS_STANDBY');
    expect(error.message).toContain('primary a at');
    expect(error.hint).toMatch(/promote/);
  });

  it('whenMissing fail: the commit ends as unknown after the time-out', async () => {
    const a = await primary({ ...anyOne, whenMissing: 'fail', syncTimeout: 100 });
    const error = await walError(() => a.log.appendAndCommit('x'));
    expect(error).toMatchObject({ code: 'WAL_SYNC_TIMEOUT', outcome: 'unknown' });
    expect(error?.message).toMatch(/waits for 1 more standby to connect, for ANY 1 \(\*\)$/);
    await standby(a.port);
    expect((await a.log.appendAndCommit('y')).lsn).toBe(2);
  });
});

describe('promote', () => {
  it('needs to be told that the primary is stopped, and tells what is known', async () => {
    const a = await primary(anyOne);
    const b = await standby(a.port);
    await a.log.appendAndCommit('one');
    const error = await walError(() => b.promote());
    expect(error.code).toBe('WAL_PRIMARY_REACHABLE');
    expect(error.message).toMatch(/primary a is connected.*LSN/);
    expect(error.hint).toMatch(/primaryStopped: true/);
    expect(b.status()).toMatchObject({ role: 'standby', upstream: { connected: true } });
    await a.log.appendAndCommit('two');
  });

  it('keeps all that was received, opens the next epoch, and goes on under new LSNs', async () => {
    const a = await primary(anyOne);
    const b = await standby(a.port, { listen: { port: 0 } });
    for (let i = 0; i < 100; i++) await a.log.appendAndCommit(`${i}`);
    await a.log.close();
    const roles: string[] = [];
    b.on('role', ({ role, term }) => roles.push(`${role} ${term.epoch}`));
    const promoted = await b.promote(stopped);
    expect(promoted).toMatchObject({ lsn: 100, term: { epoch: 2, incarnation: 1 } });
    expect(roles).toEqual(['primary 2']);
    expect(b.append('next')).toBe(101);
    expect((await b.commit()).level).toBe('local');
    expect(b.status()).toMatchObject({ role: 'primary', upstream: null });
    expect(b.status().listening?.port).toBeGreaterThan(0);
    expect((await texts(await reopen(b))).length).toBe(101);
  });

  it('waits until the applier has everything up to the opening', async () => {
    const a = await primary(anyOne);
    const b = await standby(a.port);
    let release: (() => void) | undefined;
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const applier = b.apply({}, () => gate);
    for (let i = 0; i < 10; i++) await a.log.appendAndCommit(`${i}`);
    await a.log.close();
    let resolved = false;
    const promotion = b.promote(stopped).then(() => {
      resolved = true;
    });
    await until(() => b.status().role === 'primary', 'the role');
    await turn();
    expect(resolved).toBe(false);
    release?.();
    await promotion;
    expect(applier.appliedLsn).toBe(10);
    // The same applier goes on with what is appended here.
    await b.appendAndCommit('own');
    await until(() => applier.appliedLsn === 11, 'the own record');
  });

  it('a cancelled wait leaves the role taken', async () => {
    const a = await primary(anyOne);
    const b = await standby(a.port);
    b.apply({}, () => new Promise(() => undefined));
    await a.log.appendAndCommit('x');
    await a.log.close();
    const signal = AbortSignal.timeout(50);
    await expect(b.promote({ ...stopped, signal })).rejects.toThrow(/timeout/);
    expect(b.status().role).toBe('primary');
    expect((await b.appendAndCommit('y')).lsn).toBe(2);
    expect(await codeOf(() => b.promote(stopped))).toBe('WAL_NOT_STANDBY');
  });

  it('with a policy that needs standbys takes them while it waits, and says so', async () => {
    const a = await primary(anyOne);
    const b = await standby(a.port);
    b.apply({}, () => undefined);
    await a.log.appendAndCommit('x');
    await a.log.close();
    const promotion = b.promote({ ...stopped, ...anyOne, listen: { port: 0 } });
    await until(() => b.status().listening !== null, 'it listens');
    expect(b.status().policy?.waitingFor).toMatch(/1 more standby/);
    const c = await standby(b.status().listening?.port ?? 0, { name: 'c' });
    await promotion;
    expect((await b.appendAndCommit('y')).standbys).toEqual(['c']);
    await until(() => c.status().flushLsn === 2, 'the record on the third');
  });

  it('one at a time, and not during close', async () => {
    const a = await primary();
    const b = await standby(a.port);
    await a.log.close();
    const first = b.promote(stopped);
    expect(await codeOf(() => b.promote(stopped))).toBe('WAL_NOT_STANDBY');
    await Promise.all([first, b.close()]);
    expect(b.status()).toMatchObject({ state: 'closed', role: 'primary' });
    const again = await openLog({ dir: b.dir });
    expect(again.status().term).toMatchObject({ epoch: 2, incarnation: 2 });
  });

  it.each([0, 1, 2, 3, 4, 5])('and close, %i turns apart, both end', async (turns) => {
    const a = await primary();
    for (const host of ['127.0.0.1', 'localhost']) {
      const b = await standby(a.port);
      const came = b.promote({ ...stopped, listen: { host, port: 0 } }).then(
        () => 'promoted',
        ({ code }) => code,
      );
      for (let i = 0; i < turns; i++) await turn();
      await b.close();
      expect(['promoted', 'WAL_CLOSED']).toContain(await came);
      const role = b.status().role;
      const again = await reopen(b, role === 'standby' ? { follow: { port: a.port } } : {});
      expect(again.status().role).toBe(role);
      await again.close();
    }
  });

  it('gives up where the signal fires before the role is taken', async () => {
    const a = await primary();
    const b = await standby(a.port);
    const controller = new AbortController();
    const promotion = b.promote({ ...stopped, listen: { port: 0 }, signal: controller.signal });
    controller.abort(new Error('not now'));
    await expect(promotion).rejects.toThrow('not now');
    expect(b.status()).toMatchObject({ role: 'standby', upstream: { connected: true } });
    expect((await b.promote(stopped)).term.epoch).toBe(2);
  });

  it('that failed at the opening can be asked for again', async () => {
    const a = await primary();
    await a.log.appendAndCommit('x');
    const core = await openCore({ dir: freshDir(), name: 'b', follow: { port: a.port } });
    onTestFinished(() => closeLog(core).catch(() => undefined));
    await until(() => logStatus(core).flushLsn === 1, 'the record');
    const noSpace = Object.assign(new Error('no space'), { code: 'WAL_NO_SPACE' });
    const fails = vi.spyOn(core.native, 'openTerm').mockRejectedValueOnce(noSpace);
    expect(await codeOf(() => promote(core, stopped))).toBe('WAL_NO_SPACE');
    expect(logStatus(core)).toMatchObject({ role: 'standby', state: 'open' });
    fails.mockRestore();
    expect(await promote(core, stopped)).toMatchObject({ lsn: 1 });
    expect(logStatus(core).role).toBe('primary');
    expect(core.appender.append('y')).toBe(2);
    await closeLog(core);
    const again = await openLog({ dir: core.options.dir });
    expect(await texts(again)).toEqual(['x', 'y']);
  });

  it('ends its wait for the applier where a newer primary comes meanwhile', async () => {
    const a = await primary({ synchronousStandbys: 'ANY 2 (*)' });
    const b = await standby(a.port);
    b.apply({}, () => undefined);
    a.log.append('x');
    await until(() => b.status().flushLsn === 1, 'the record');
    await a.log.close();
    // Nobody is there to meet the policy, so neither the record nor the opening is committed.
    const promotion = walError(() => b.promote({ ...stopped, ...anyOne, listen: { port: 0 } }));
    await until(() => b.status().listening !== null, 'it listens');
    const newer = await RawStandby.ofTerm(b.status().listening?.port ?? 0, 9);
    expect((await promotion).code).toBe('WAL_FENCED');
    newer.socket.destroy();
  });

  it.each<[unknown, RegExp]>([
    [{ primaryStoped: true }, /did you mean primaryStopped/],
    [{ primaryStopped: 'yes' }, /true or false/],
    [{ primaryStopped: true, listen: { port: -1 } }, /listen\.port/],
    [{ primaryStopped: true, synchronousCommit: 'remote_flush' }, /synchronousStandbys/],
    [{ primaryStopped: true, synchronousStandbys: 'ANY 3 (a, b)' }, /for 3 standbys and names 2/],
    [{ primaryStopped: true, signal: 1 }, /AbortSignal/],
  ])('refuses %o', async (options, message) => {
    const a = await primary();
    const b = await standby(a.port);
    await expect(b.promote(options as object)).rejects.toThrow(message);
    expect(b.status().role).toBe('standby');
  });

  it('where nobody can listen, takes no role', async () => {
    const a = await primary();
    const b = await standby(a.port);
    const error = await walError(() => b.promote({ ...stopped, listen: { port: a.port } }));
    expect(error).toMatchObject({ code: 'WAL_IO', message: expect.stringContaining('EADDRINUSE') });
    expect(b.status()).toMatchObject({ role: 'standby', upstream: { connected: true } });
    expect((await b.promote(stopped)).term.epoch).toBe(2);
  });

  it('an opening that could not listen creates nothing, and takes no incarnation', async () => {
    const a = await primary();
    const dir = freshDir();
    const listen = { host: '127.0.0.1', port: a.port };
    const refused = { code: 'WAL_IO', message: expect.stringContaining('EADDRINUSE') };
    expect(await walError(() => Log.open({ dir, listen }))).toMatchObject(refused);
    const b = await openLog({ dir, follow: listen });
    await b.close();
    const log = await openLog();
    await log.close();
    const again = () => Log.open({ dir: log.dir, listen });
    expect(await walError(again)).toMatchObject(refused);
    expect((await reopen(log)).status().term.incarnation).toBe(2);
  });

  it('a fresh standby says why it waits', async () => {
    const told: WalError[] = [];
    const stop = new AbortController();
    const onWaiting = (error: WalError): void => {
      told.push(error);
      stop.abort(new Error('enough'));
    };
    const follow = { host: '127.0.0.1', port: 1 };
    const opening = Log.open({ dir: freshDir(), follow, signal: stop.signal, onWaiting });
    await expect(opening).rejects.toThrow('enough');
    expect(told).toMatchObject([
      { code: 'WAL_IO', message: expect.stringContaining('ECONNREFUSED') },
    ]);
    const wrong = { dir: freshDir(), follow, onWaiting: 1 } as unknown as OpenOptions;
    await expect(Log.open(wrong)).rejects.toThrow(/onWaiting takes a function/);
  });

  it('through the control socket of the directory', async () => {
    const a = await primary();
    const b = await standby(a.port);
    await a.log.appendAndCommit('x');
    await until(() => b.status().flushLsn === 1, 'the record');
    const status = await controlRequest(b.dir, { cmd: 'status' });
    expect(status).toMatchObject({ listening: true, result: { role: 'standby', name: 'b' } });
    const refused = walError(() => controlRequest(b.dir, { cmd: 'promote' }));
    expect((await refused).code).toBe('WAL_PRIMARY_REACHABLE');
    const promoted = await controlRequest(b.dir, { cmd: 'promote', ...stopped });
    expect(promoted).toMatchObject({ result: { lsn: 1, term: { epoch: 2 } } });
    expect(b.status().role).toBe('primary');
  });

  it('of a closed directory', async () => {
    const a = await primary();
    const b = await standby(a.port);
    await a.log.appendAndCommit('x');
    await until(() => b.status().flushLsn === 1, 'the record');
    const { dir } = b;
    expect(await codeOf(() => promoteDirectory({ dir, ...stopped }))).toBe('WAL_LOCKED');
    await b.close();
    await a.log.close();
    expect(await codeOf(() => promoteDirectory({ dir }))).toBe('WAL_PRIMARY_REACHABLE');
    expect(await promoteDirectory({ dir, ...stopped })).toMatchObject({ term: { epoch: 2 } });
    expect(await codeOf(() => promoteDirectory({ dir, ...stopped }))).toBe('WAL_NOT_STANDBY');
    const log = await openLog({ dir });
    expect(log.status()).toMatchObject({ role: 'primary', appendLsn: 1, term: { epoch: 2 } });
    const nothing = { dir: freshDir(), ...stopped };
    expect(await codeOf(() => promoteDirectory(nothing))).toBe('WAL_NOT_FOUND');
  });
});

describe('a primary that hears of a newer one', () => {
  it('shows the role when it is stored, and takes nothing before that either', async () => {
    const core = await openCore({ ...small, dir: freshDir(), listen: { port: 0 } });
    onTestFinished(() => closeLog(core).catch(() => undefined));
    let release: (() => void) | undefined;
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const store = core.native.storeRole.bind(core.native);
    vi.spyOn(core.native, 'storeRole').mockImplementation((...role) =>
      gate.then(() => store(...role)),
    );
    const roles: string[] = [];
    core.events.on('role', ({ role }) => roles.push(role));
    const newer = await RawStandby.ofTerm(logStatus(core).listening?.port ?? 0, 9);
    await until(() => core.driver.commits === undefined, 'the fence');
    expect(await codeOf(() => core.appender.append('x'))).toBe('WAL_FENCED');
    expect(logStatus(core).role).toBe('primary');
    expect(core.native.info().role).toBe('primary');
    release?.();
    await until(() => logStatus(core).role === 'fenced', 'the role');
    expect(core.native.info()).toMatchObject({ role: 'fenced', term: { epoch: 9 } });
    expect(roles).toEqual(['fenced']);
    newer.socket.destroy();
  });

  it('acknowledges nothing any more, durably', async () => {
    const a = await primary(anyOne);
    const b = await standby(a.port);
    await a.log.appendAndCommit('shared');
    // Told that the primary is stopped; it is not.
    await b.promote({ ...stopped, listen: { port: 0 } });
    const pending = walError(() => a.log.appendAndCommit('lost'));
    const c = await standby(b.status().listening?.port ?? 0, { name: 'c' });
    const fenced = new Promise<number>((resolve) =>
      a.log.once('role', ({ role, term }) => resolve(role === 'fenced' ? term.epoch : 0)),
    );
    // A standby that knows the new epoch comes to the old primary.
    const stray = await reopen(c, { name: 'c', follow: { port: a.port } });
    expect(await fenced).toBe(2);
    expect(await pending).toMatchObject({ code: 'WAL_FENCED', outcome: 'unknown' });
    expect(a.log.status()).toMatchObject({ role: 'fenced', commitLsn: 1 });
    expect(await walError(() => a.log.append('x'))).toMatchObject({
      code: 'WAL_FENCED',
      outcome: 'refused',
    });
    // A record that is in the log, shared even.
    for (const lsn of [1, undefined]) {
      expect(await walError(() => a.log.commit(lsn))).toMatchObject({
        code: 'WAL_FENCED',
        outcome: 'unknown',
      });
    }
    expect(await codeOf(() => a.log.promote(stopped))).toBe('WAL_NOT_STANDBY');
    const seen: number[] = [];
    for await (const batch of a.log.read({ live: false })) seen.push(batch.lastLsn);
    expect(seen).toEqual([1]);
    await stray.close();
    await a.log.close();
    expect(await codeOf(() => Log.open({ dir: a.log.dir }))).toBe('WAL_FENCED');
  });
});
