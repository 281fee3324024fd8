import { expect, it, onTestFinished } from 'vitest';
import type { Log, OpenOptions } from '../../src/index.js';
import { openLog, small, until, walError } from './helpers.js';
import {
  anyOne,
  following,
  pair,
  promoted,
  shown,
  stopped,
  tailOf,
  tails,
} from './rejoin_nodes.js';

/**
 * `a`, which has records that `b` lacks, is fenced while it runs: `b` was promoted, and a standby
 * of that came to `a`.
 */
async function fencedAlive(mine: readonly string[], its: readonly string[], options?: Options) {
  const both = await pair(options, {});
  const { a } = both;
  const { dir } = both.b;
  await a.appendAndCommit('one');
  await until(() => both.b.status().flushLsn === 1, 'b has it');
  await both.b.close();
  const b = await promoted(dir, 'b', its);
  if (mine.length > 0) {
    const { last } = a.appendMany([...mine]);
    await until(() => a.status().flushLsn === last, 'a has flushed them');
  }
  return { a, b };
}

type Options = Partial<OpenOptions>;

async function fence(a: Log, b: Log): Promise<void> {
  const teller = await openLog({ name: 'c', follow: following(b) });
  await teller.connected();
  await teller.close();
  const fenced = until(() => a.status().role === 'fenced', 'a is fenced');
  const again = openLog({ dir: teller.dir, name: 'c', follow: following(a) });
  await fenced;
  await (await again).close();
}

it('a primary that is fenced while it runs follows the new one on the same object', async () => {
  const told: unknown[] = [];
  const { a, b } = await fencedAlive(['mine 1', 'mine 2'], ['its 1', 'its 2', 'its 3'], {
    onRebuild: (rebuild) => {
      told.push([rebuild.from, rebuild.to, a.status().upstream?.primary]);
    },
  });
  await a.commit();
  const roles: string[] = [];
  a.on('role', ({ role }) => roles.push(role));
  await fence(a, b);
  const refused = await walError(() => a.commit());
  expect(refused.code).toBe('WAL_FENCED');

  await a.rejoin({ follow: following(b) });
  const asks = await walError(() => a.connected());
  expect(asks.code).toBe('WAL_WAS_PRIMARY');
  expect(asks.message).toContain('LSN 2 to 3 (2 records)');
  expect(a.status().rejoin).toMatchObject({ state: 'asks', firstLsn: 2, records: 2 });
  expect(told).toEqual([]);

  await a.rejoin({ follow: following(b), rejoin: 'auto' });
  expect(await shown(a, 4)).toEqual(['one', 'its 1', 'its 2', 'its 3']);
  expect(told).toEqual([[2, 3, 'b']]);
  expect(await tailOf(tails(a.dir as string)[0]!)).toEqual(['2 mine 1', '3 mine 2']);
  expect(a.status()).toMatchObject({ role: 'standby', rejoin: { state: 'done' }, rebuild: null });
  await until(() => roles.length === 2, 'both roles were told');
  expect(roles).toEqual(['fenced', 'standby']);

  // The object goes through the roles that are left.
  await b.appendAndCommit('its 4');
  await a.waitFor(5);
  await b.close();
  expect(await a.promote(stopped)).toMatchObject({ lsn: 5, forced: null });
  expect(await a.appendAndCommit('again')).toMatchObject({ lsn: 6 });
});

it('so it does without a tail, at once', async () => {
  const { a, b } = await fencedAlive([], ['its']);
  await fence(a, b);
  await a.rejoin({ follow: following(b) });
  expect(await shown(a, 2)).toEqual(['one', 'its']);
  expect(tails(a.dir as string)).toEqual([]);
});

it('what waits is unknown, and a reader that had some of what went ends there', async () => {
  const { a, b } = await fencedAlive(['mine'], ['its'], {});
  const seen: string[] = [];
  const reading = (async () => {
    for await (const batch of a.read({ from: 1 })) {
      for (const { data } of batch) seen.push(data.toString());
    }
  })();
  const ended = walError(() => reading);
  await until(() => seen.length === 2, 'both are read');
  await a.setPolicy({ synchronousCommit: 'local' });
  void a.setPolicy({ synchronousCommit: 'remote_flush', ...anyOne }).catch(() => undefined);
  const pending = walError(() => a.appendAndCommit('pending'));
  await fence(a, b);
  expect(await pending).toMatchObject({ code: 'WAL_FENCED', outcome: 'unknown' });
  await a.rejoin({ follow: following(b), rejoin: 1 });
  expect(await ended).toMatchObject({ code: 'WAL_REBUILD', lsn: 2 });
  expect(await shown(a, 2)).toEqual(['one', 'its']);
});

it('only a fenced log rejoins, and it is told whom', async () => {
  const a = await openLog({ ...small, name: 'a', listen: { port: 0 } });
  onTestFinished(() => a.close());
  expect((await walError(() => a.rejoin({ follow: { port: 1 } }))).code).toBe('WAL_NOT_STANDBY');
  await expect(a.rejoin({} as never)).rejects.toThrow(/follow/);
  await expect(a.rejoin({ follow: { port: 1 }, rejoin: 'yes' as never })).rejects.toThrow(/rejoin/);
});
