import { expect, it } from 'vitest';
import { Log } from '../../src/index.js';
import { walmirror } from '../cli/helpers.js';
import { codeOf, openLog, reopen, small, until, walError } from './helpers.js';
import { anyOne, following, promoted, shown, stopped, tailOf, tails } from './rejoin_nodes.js';

const byWord = expect.stringContaining('its own history');

/** `b` and `c` both took the place of `a`; `c` is closed. */
async function split() {
  const a = await openLog({ ...small, name: 'a', listen: { port: 0 } });
  const follow = following(a);
  const [b, c] = [await openLog({ name: 'b', follow }), await openLog({ name: 'c', follow })];
  await a.appendAndCommit('one');
  await until(() => b.status().flushLsn === 1 && c.status().flushLsn === 1, 'both have it');
  for (const log of [b, c, a]) await log.close();
  const first = await promoted(b.dir, 'b', ['of b']);
  const second = await promoted(c.dir, 'c', ['of c 1', 'of c 2']);
  await second.close();
  return { b: first, dir: c.dir };
}

/** Until `c`, opened with `follow` of `b`, and `b` have both stopped. */
async function met({ b, dir }: Awaited<ReturnType<typeof split>>) {
  const c = await openLog({ dir, name: 'c', follow: following(b) });
  expect((await walError(() => c.connected())).code).toBe('WAL_SPLIT');
  await until(() => b.status().role === 'fenced', 'b has stored it');
  return c;
}

it('two nodes that opened one epoch both stop, and say so', async () => {
  const both = await split();
  const { b } = both;
  expect(b.status()).toMatchObject({ role: 'primary', term: { epoch: 2 } });
  void b.setPolicy({ synchronousCommit: 'remote_flush', ...anyOne }).catch(() => undefined);
  const pending = walError(() => b.appendAndCommit('pending'));
  const c = await met(both);
  expect(await pending).toMatchObject({ code: 'WAL_SPLIT', outcome: 'unknown' });
  expect(await walError(() => b.appendAndCommit('more'))).toMatchObject({
    code: 'WAL_SPLIT',
    outcome: 'refused',
    hint: expect.stringContaining('`force: true`'),
  });
  for (const log of [b, c]) {
    expect(log.status()).toMatchObject({
      state: 'open',
      role: 'fenced',
      term: { epoch: 2 },
      rejoin: { state: 'split' },
    });
  }
  expect([b.status().flushLsn, c.status().flushLsn]).toEqual([3, 3]);
  // Nothing of either was cut, and no restart takes it back.
  const dirs = [b.dir as string, c.dir as string];
  await b.close();
  await c.close();
  for (const dir of dirs) {
    expect(tails(dir)).toEqual([]);
    expect(await codeOf(() => Log.open({ dir }))).toBe('WAL_SPLIT');
  }
});

it('a primary that knows the other as a member stops when it asks how it stands', async () => {
  const { b, dir } = await split();
  const { port } = following(b);
  await b.close();
  const c = await openLog({ dir, name: 'c', members: [{ port }], openAlone: true });
  expect(c.status().role).toBe('primary');
  const again = await openLog({ dir: b.dir, name: 'b', listen: { port } });
  await until(() => c.status().role === 'fenced', 'c has heard of b', 20_000);
  expect(c.status().rejoin).toMatchObject({ state: 'split' });
  expect(await codeOf(() => c.commit())).toBe('WAL_SPLIT');
  expect(again.status().role).toBe('primary');
});

it('the one that its operator chooses goes on, and the other rejoins it', async () => {
  const both = await split();
  const { b } = both;
  const c = await met(both);
  expect(await codeOf(() => b.promote(stopped))).toBe('WAL_NOT_STANDBY');
  const listen = { port: 0 };
  const chosen = await b.promote({ ...stopped, force: true, listen });
  expect(chosen).toMatchObject({ term: { epoch: 3 }, lsn: 2, forced: byWord });
  expect(await b.appendAndCommit('three')).toMatchObject({ lsn: 3 });
  expect(b.status()).toMatchObject({ role: 'primary', rejoin: null });

  await c.rejoin({ follow: following(b) });
  const asks = await walError(() => c.connected());
  expect(asks.code).toBe('WAL_WAS_PRIMARY');
  expect(asks.message).toContain('LSN 2 to 3 (2 records)');
  await c.rejoin({ follow: following(b), rejoin: 'auto' });
  expect(await shown(c, 3)).toEqual(['one', 'of b', 'three']);
  expect(await tailOf(tails(c.dir as string)[0]!)).toEqual(['2 of c 1', '3 of c 2']);
});

it('so does the other one, and from the command line', async () => {
  const both = await split();
  const c = await met(both);
  const dir = c.dir as string;
  await c.close();
  const done = await walmirror(['promote', '--dir', dir, '--primary-stopped', '--force']);
  expect(done.stdout).toMatch(
    /is the primary now, epoch 3, after LSN 3\n(.*\n)*forced: .* its own history/,
  );
  const kept = await openLog({ dir, name: 'c', listen: { port: 0 } });
  const other = await reopen(both.b, { name: 'b', follow: following(kept), rejoin: 'auto' });
  expect(await shown(other, 3)).toEqual(['one', 'of c 1', 'of c 2']);
  expect(await tailOf(tails(other.dir as string)[0]!)).toEqual(['2 of b']);
});
