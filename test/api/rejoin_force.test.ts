import { expect, it } from 'vitest';
import { promoteDirectory } from '../../src/api/promote_directory.js';
import { Log } from '../../src/index.js';
import { walmirror } from '../cli/helpers.js';
import { Kind } from '../format/layout.js';
import { readLog } from '../format/read_log.js';
import { RawStandby } from '../transport/raw_standby.js';
import { codeOf, openLog, reopen, small, walError } from './helpers.js';
import { following, forked, pair, rejoin, shown, stopped, tailOf, tails } from './rejoin_nodes.js';

/** What a promotion by mistake leaves: `a`, which has heard of it and is closed, and `b`. */
async function mistaken() {
  const both = await pair();
  await both.a.appendAndCommit('one');
  const dir = both.a.dir as string;
  const b = await forked(both, ['two of a'], ['two of b']);
  const a = await rejoin(dir, b);
  expect(await codeOf(() => a.connected())).toBe('WAL_WAS_PRIMARY');
  expect(a.status().role).toBe('fenced');
  return { a, dir, b };
}

const byWord = expect.stringContaining('it goes on with its own history');

/** The terms that were opened, and the records that a promotion was forced, as they lie there. */
function promotions(dir: string) {
  return readLog(dir)
    .batches.filter(({ kind }) => kind === Kind.TERM_OPENED || kind === Kind.FORCED_PROMOTION)
    .map(({ epoch, forced }) => ({ epoch, forced }));
}

it('a fenced log is the primary again by word of its operator, on the same object', async () => {
  const { a, dir, b } = await mistaken();
  const refused = await walError(() => a.promote(stopped));
  expect(refused.code).toBe('WAL_NOT_STANDBY');
  expect(refused.hint).toContain('`force: true`');
  expect(await codeOf(() => a.promote({ force: true }))).toBe('WAL_PRIMARY_REACHABLE');
  const listen = { port: 0 };
  const promoted = await a.promote({ ...stopped, force: true, listen });
  expect(promoted).toMatchObject({ term: { epoch: 3 }, lsn: 2, forced: byWord });
  expect(await a.appendAndCommit('three')).toMatchObject({ lsn: 3 });
  expect(a.status()).toMatchObject({ role: 'primary', rejoin: null });

  // The other one comes back to it, as any old primary.
  const other = await reopen(b, { name: 'b', follow: following(a), rejoin: 'auto' });
  expect(await shown(other, 3)).toEqual(['one', 'two of a', 'three']);
  expect(await tailOf(tails(other.dir as string)[0]!)).toEqual(['2 two of b']);
  await a.close();
  expect(promotions(dir)).toEqual([
    { epoch: 1, forced: null },
    { epoch: 3, forced: null },
    { epoch: 3, forced: byWord },
  ]);
  expect((await openLog({ dir })).status()).toMatchObject({ role: 'primary', appendLsn: 3 });
});

it('so is a closed one, from the command line', async () => {
  const { a, dir, b } = await mistaken();
  await a.close();
  await b.close();
  expect(await codeOf(() => Log.open({ dir }))).toBe('WAL_FENCED');
  expect(await codeOf(() => promoteDirectory({ dir, ...stopped }))).toBe('WAL_NOT_STANDBY');
  const args = ['promote', '--dir', dir, '--primary-stopped'];
  const refused = await walmirror(args);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain('--force makes it the primary again');
  const done = await walmirror([...args, '--force']);
  expect(done.stdout).toMatch(
    /is the primary now, epoch 3, after LSN 2\n(.*\n)*forced: .* its own history/,
  );
  expect(promotions(dir).at(-1)).toEqual({ epoch: 3, forced: byWord });
  // Once: it is a primary now.
  expect(await codeOf(() => promoteDirectory({ dir, ...stopped, force: true }))).toBe(
    'WAL_NOT_STANDBY',
  );
  const log = await openLog({ dir });
  expect(await log.appendAndCommit('three')).toMatchObject({ lsn: 3 });
});

it('so is one that was fenced while it ran', async () => {
  const a = await openLog({ ...small, name: 'a', listen: { port: 0 } });
  await a.appendAndCommit('one');
  const fenced = new Promise<number>((resolve) => {
    a.on('role', ({ role, term }) => role === 'fenced' && resolve(term.epoch));
  });
  const newer = await RawStandby.ofTerm(following(a).port, 9);
  expect(await fenced).toBe(9);
  await newer.closed;
  expect(await codeOf(() => a.promote(stopped))).toBe('WAL_NOT_STANDBY');
  const promoted = await a.promote({ ...stopped, force: true });
  expect(promoted).toMatchObject({ forced: byWord, term: { epoch: 10 }, lsn: 1 });
  expect(await a.appendAndCommit('two')).toMatchObject({ lsn: 2 });
  expect(a.status()).toMatchObject({ role: 'primary', commitLsn: 2 });
  const standby = await openLog({ name: 'c', follow: following(a) });
  expect(await shown(standby, 2)).toEqual(['one', 'two']);
});
