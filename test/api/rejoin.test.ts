import { describe, expect, it, onTestFinished } from 'vitest';
import { Log } from '../../src/index.js';
import { TcpProxy } from '../helpers/proxy.js';
import { freshDir } from '../helpers/temp.js';
import { TestLog } from '../native/native.js';
import { codeOf, openLog, reopen, until, walError } from './helpers.js';
import {
  anyOne,
  following,
  forked,
  killed,
  pair,
  promoted,
  rejoin,
  shown,
  stopped,
  tailOf,
  tails,
} from './rejoin_nodes.js';

describe('an old primary that comes back', () => {
  it('follows by itself where the new one has all that it has', async () => {
    const both = await pair();
    await both.a.appendAndCommit('one');
    const { dir } = both.a;
    const b = await forked(both, [], ['two']);
    const a = await rejoin(dir, b);
    const roles: string[] = [];
    a.on('role', ({ role, term }) => roles.push(`${role} ${term.epoch}`));
    await a.connected();
    expect(await shown(a, 2)).toEqual(['one', 'two']);
    expect(a.status()).toMatchObject({ role: 'standby', rejoin: { state: 'done', records: 0 } });
    expect(roles).toEqual(['standby 2']);
    expect(tails(dir)).toEqual([]);
    // From now on it is any standby.
    const again = await reopen(a, { name: 'a', follow: following(b) });
    await again.connected();
    expect(again.status().rejoin).toBeNull();
  });

  it('follows by itself where nobody can have seen what goes', async () => {
    const both = await pair(anyOne);
    await both.a.appendAndCommit('one');
    const { dir } = both.a;
    const b = await forked(both, ['lost', 'lost too'], ['two']);
    const a = await rejoin(dir, b);
    await a.connected();
    expect(await shown(a, 2)).toEqual(['one', 'two']);
    const [file] = tails(dir);
    expect(a.status().rejoin).toEqual({
      ...{ state: 'done', firstLsn: 2, lastLsn: 3, records: 2, seenLsn: 0, quorumLsn: 0 },
      file,
    });
    expect(await tailOf(file!)).toEqual(['2 lost', '3 lost too']);
    await b.setPolicy(anyOne);
    expect(await b.appendAndCommit('three')).toMatchObject({ lsn: 3, standbys: ['a'] });
  });

  it('asks where somebody may have seen it, says what, and changes nothing', async () => {
    const both = await pair();
    await both.a.appendAndCommit('one');
    const { dir } = both.a;
    const b = await forked(both, ['seen', 'seen too'], ['two']);
    for (const options of [{}, { rejoin: 'ask' } as const]) {
      const a = await rejoin(dir, b, options);
      const told = new Promise<boolean>((resolve) =>
        a.on('disconnected', ({ final }) => resolve(final)),
      );
      const error = await walError(() => a.connected());
      expect(error.code).toBe('WAL_WAS_PRIMARY');
      expect(error.message).toContain('LSN 2 to 3 (2 records)');
      expect(error.message).toContain('may have been committed and seen: b,');
      expect(error.hint).toContain("rejoin: 'auto'");
      expect(await told).toBe(true);
      const { role, flushLsn, rejoin: state, upstream } = a.status();
      expect({ role, flushLsn }).toEqual({ role: 'fenced', flushLsn: 3 });
      expect(state).toMatchObject({
        state: 'asks',
        firstLsn: 2,
        lastLsn: 3,
        records: 2,
        seenLsn: 3,
      });
      expect(upstream).toMatchObject({ connected: false, reason: error.message });
      expect(await codeOf(() => a.append('x'))).toBe('WAL_IS_STANDBY');
      expect(await codeOf(() => a.promote(stopped))).toBe('WAL_NOT_STANDBY');
      await a.close();
      expect(tails(dir)).toEqual([]);
    }
    // It heard of a newer primary: a forgotten option does not make it one again.
    expect(await codeOf(() => Log.open({ dir }))).toBe('WAL_FENCED');

    const a = await rejoin(dir, b, { rejoin: 'auto' });
    await a.connected();
    expect(await shown(a, 2)).toEqual(['one', 'two']);
    const [file] = tails(dir);
    expect(await tailOf(file!)).toEqual(['2 seen', '3 seen too']);
    expect(a.status().rejoin).toMatchObject({ state: 'done', records: 2, seenLsn: 3, file });
  });

  it('never drops what a quorum is known to have committed', async () => {
    const { a, b } = await pair(anyOne);
    const c = await openLog({ name: 'c', follow: following(a) });
    await c.connected();
    await a.appendAndCommit('one');
    await until(() => b.status().flushLsn === 1, 'b has it');
    const dirs = { a: a.dir, b: b.dir };
    await b.close();
    await a.appendAndCommit('c has it');
    await c.close();
    await a.close();
    const newer = await promoted(dirs.b, 'b', ['instead']);
    for (const mode of ['ask', 'auto'] as const) {
      const old = await rejoin(dirs.a, newer, { rejoin: mode });
      const error = await walError(() => old.connected());
      expect(error.code).toBe('WAL_DIVERGED');
      expect(error.message).toMatch(/a quorum had committed up to LSN 2: that is never removed/);
      expect(old.status()).toMatchObject({
        role: 'fenced',
        flushLsn: 2,
        rejoin: { state: 'refused', firstLsn: 2, lastLsn: 2, records: 1 },
      });
      expect(tails(dirs.a)).toEqual([]);
      await old.close();
    }
  });

  it('asks where another standby alone may have made the quorum', async () => {
    const { a, b } = await pair(anyOne);
    const c = await openLog({ name: 'c', follow: following(a) });
    await c.connected();
    await a.appendAndCommit('one');
    await until(() => a.status().policy?.inForce === true, 'the rule names both');
    await until(() => b.status().upstream?.rule?.members.length === 2, 'both are members');
    await c.close();
    const { image, newer } = await killed({ a, b }, ['c may have had it'], ['instead']);
    for (const mode of ['ask', 'auto', 2] as const) {
      const old = await rejoin(image, newer, { rejoin: mode });
      const error = await walError(() => old.connected());
      expect(error.code).toBe('WAL_WAS_PRIMARY');
      expect(error.message).toContain(
        'LSN 2 (1 record), which may have been committed by a quorum',
      );
      expect(error.hint).toContain('`rejoin: 1` sets aside');
      expect(old.status().rejoin).toMatchObject({ state: 'asks', seenLsn: 2, quorumLsn: 2 });
      await old.close();
    }
    const named = await rejoin(image, newer, { rejoin: 1 });
    expect(await shown(named, 2)).toEqual(['one', 'instead']);
    expect(await tailOf(tails(image)[0]!)).toEqual(['2 c may have had it']);
  });

  it('knows, when it was closed, that nobody has seen what it did not acknowledge', async () => {
    const { a, b } = await pair(anyOne);
    const c = await openLog({ name: 'c', follow: following(a) });
    await c.connected();
    await a.appendAndCommit('one');
    await until(() => b.status().upstream?.rule?.members.length === 2, 'both are members');
    const { dir } = a;
    await c.close();
    const newer = await forked({ a, b }, ['nobody has seen it'], ['instead']);
    const old = await rejoin(dir, newer);
    expect(await shown(old, 2)).toEqual(['one', 'instead']);
    expect(old.status().rejoin).toMatchObject({ state: 'done', seenLsn: 0, quorumLsn: 0 });
  });

  it('asks for what it acknowledged at a level below its policy', async () => {
    const both = await pair(anyOne);
    await both.a.appendAndCommit('one');
    await until(() => both.b.status().flushLsn === 1, 'b has it');
    const dirs = { a: both.a.dir, b: both.b.dir };
    await both.b.close();
    expect(await both.a.appendAndCommit('two', { level: 'local' })).toMatchObject({ lsn: 2 });
    await both.a.close();
    const newer = await promoted(dirs.b, 'b', ['instead']);
    const old = await rejoin(dirs.a, newer);
    const error = await walError(() => old.connected());
    expect(error.code).toBe('WAL_WAS_PRIMARY');
    expect(error.message).toContain('LSN 2 (1 record), which may have been committed and seen');
  });

  it('asks for what its new primary acknowledged from memory, and has lost', async () => {
    const memory = { ...anyOne, synchronousCommit: 'remote_write' } as const;
    const both = await pair(memory);
    await both.a.appendAndCommit('one');
    const { image, newer } = await killed(both, ['b may have had it'], ['instead']);
    const old = await rejoin(image, newer, { rejoin: 'auto' });
    const error = await walError(() => old.connected());
    expect(error.code).toBe('WAL_WAS_PRIMARY');
    expect(error.message).toContain('which may have been committed by a quorum');
  });

  it('asks again, as a standby, where a shorter one is promoted after that', async () => {
    const both = await pair();
    const c = await openLog({ name: 'c', follow: following(both.a), listen: { port: 0 } });
    await c.connected();
    await both.a.appendAndCommit('one');
    await until(() => c.status().flushLsn === 1, 'c has it');
    const dirs = { a: both.a.dir, c: c.dir };
    await c.close();
    await both.a.appendAndCommit('two');
    const b = await forked(both, [], ['three']);
    const a = await rejoin(dirs.a, b);
    expect(await shown(a, 3)).toEqual(['one', 'two', 'three']);
    // The third one heard of the second, and no more.
    const heard = await TestLog.open({ dir: dirs.c as string });
    await heard.native.storeRole('standby', b.status().term, 'b', '');
    await heard.close();
    await b.close();
    await a.close();
    const newer = await promoted(dirs.c as string, 'c', ['instead']);
    for (const mode of ['ask', 'auto'] as const) {
      const old = await rejoin(dirs.a, newer, { rejoin: mode });
      const error = await walError(() => old.connected());
      expect(error.code).toBe('WAL_DIVERGED');
      // Its own term is over, and what was acknowledged in it is not known any more.
      expect(error.message).toContain('LSN 2 to 3 (2 records)');
      expect(error.hint).toContain('`rejoin: 1` sets aside');
      expect(old.status()).toMatchObject({
        role: 'standby',
        rejoin: { state: 'asks', records: 2 },
      });
      await old.close();
    }
    const old = await rejoin(dirs.a, newer, { rejoin: 1 });
    expect(await shown(old, 2)).toEqual(['one', 'instead']);
    expect(await tailOf(tails(dirs.a)[0]!)).toEqual(['2 two', '3 three']);
  });

  it('asks for what was committed while it went on alone', async () => {
    const both = await pair({ ...anyOne, whenMissing: 'degrade', syncTimeout: 100 });
    await both.a.appendAndCommit('one');
    await until(() => both.b.status().flushLsn === 1, 'b has it');
    const dirs = { a: both.a.dir, b: both.b.dir };
    await both.b.close();
    expect(await both.a.appendAndCommit('alone')).toMatchObject({ level: 'local' });
    await both.a.close();
    const newer = await promoted(dirs.b, 'b', ['instead']);
    const old = await rejoin(dirs.a, newer);
    const error = await walError(() => old.connected());
    expect(error.code).toBe('WAL_WAS_PRIMARY');
    expect(error.message).toContain('LSN 2 (1 record)');
  });

  it('loses no tail when it happens to the same directory twice', async () => {
    const both = await pair();
    await both.a.appendAndCommit('one');
    const dirs = { a: both.a.dir, b: both.b.dir };
    let b = await forked(both, ['first'], ['two']);
    let a = await rejoin(dirs.a, b, { rejoin: 'auto', listen: { port: 0 } });
    expect(await shown(a, 2)).toEqual(['one', 'two']);
    await b.close();
    await a.promote(stopped);
    const back = await openLog({ dir: dirs.b, name: 'b', follow: following(a) });
    await back.connected();
    b = await forked({ a, b: back }, ['second'], ['three']);
    expect(b.status().term.epoch).toBe(4);
    a = await rejoin(dirs.a, b, { rejoin: 'auto' });
    expect(await shown(a, 3)).toEqual(['one', 'two', 'three']);
    const files = tails(dirs.a);
    expect(files).toHaveLength(2);
    expect((await Promise.all(files.map(tailOf))).sort()).toEqual([['2 first'], ['3 second']]);
  });

  it('has the same bytes in both of its directories', async () => {
    const dirs = [freshDir('one'), freshDir('two')];
    const both = await pair({ dir: dirs });
    await both.a.appendAndCommit('one');
    const b = await forked(both, ['seen'], ['two']);
    const a = await openLog({ dir: dirs, name: 'a', follow: following(b), rejoin: 'auto' });
    await a.connected();
    expect(await shown(a, 2)).toEqual(['one', 'two']);
    for (const dir of dirs) expect(await tailOf(tails(dir)[0]!)).toEqual(['2 seen']);
  });

  it('does so however often it is interrupted, at whatever message', async () => {
    const both = await pair();
    const dir = both.a.dir as string;
    await both.a.appendAndCommit('one');
    const mine = Array.from({ length: 150 }, (_, i) => `mine ${i} ${'x'.repeat(1000)}`);
    const its = Array.from({ length: 50 }, (_, i) => `its ${i}`);
    const b = await forked(both, mine, its);
    const proxy = await TcpProxy.open(following(b).port);
    onTestFinished(() => proxy.close());
    /** Opens the log, and closes it when its connection has been cut behind so many messages. */
    const interrupted = async (lane: 'toPrimary' | 'toStandby', messages: number) => {
      const before = proxy.cuts.length;
      proxy[lane].cutAt = { messages, bytes: 0 };
      const a = await openLog({ dir, name: 'a', follow: { port: proxy.port }, rejoin: 'auto' });
      await until(() => proxy.cuts.length > before, `it is cut behind ${messages} ${lane}`);
      await a.close();
      proxy[lane].cutAt = undefined;
      return a.status();
    };
    // It says hello and where it stands; it is answered by a hello and by where the logs part.
    for (const messages of [0, 1]) {
      for (const lane of ['toPrimary', 'toStandby'] as const) {
        expect(await interrupted(lane, messages)).toMatchObject({ role: 'fenced', flushLsn: 151 });
        expect(tails(dir)).toEqual([]);
      }
    }
    for (const messages of [2, 3]) {
      const { role, flushLsn } = await interrupted('toStandby', messages);
      expect(flushLsn === 151).toBe(role === 'fenced');
    }
    const a = await openLog({ dir, name: 'a', follow: { port: proxy.port }, rejoin: 'auto' });
    expect(await shown(a, 51)).toEqual(['one', ...its]);
    const [file, ...others] = tails(dir);
    expect(others).toEqual([]);
    expect((await tailOf(file!)).length).toBe(150);
  });

  it('is told what the option takes, and that it needs `follow`', async () => {
    const dir = freshDir();
    const wrong = { dir, follow: { port: 1 }, rejoin: 'yes' as never };
    await expect(Log.open(wrong)).rejects.toThrow(/rejoin/);
    await expect(Log.open({ dir, rejoin: 'auto' })).rejects.toThrow(/follow/);
  });
});
