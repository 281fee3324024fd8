import { describe, expect, it } from 'vitest';
import type { Log } from '../../src/index.js';
import { Group, imageOf, stopped, textsOf } from './group_nodes.js';
import { openLog, until } from './helpers.js';

/**
 * Killed as the primary of two standbys of which any one is enough, with records past what they
 * have: of what is on its disk nobody knows here whether one of them had acknowledged it.
 */
async function killedWithTail() {
  const group = await Group.make();
  const { a, b, c } = await group.started();
  await Promise.all([b.close(), c.close()]);
  const { last } = a.appendMany(['lost', 'lost too']);
  await until(() => a.status().flushLsn === last, 'a has flushed them');
  const image = imageOf(a);
  await a.close();
  /** In the role that they had; the primary is gone. */
  const back = (name: 'b' | 'c'): Promise<Log> =>
    openLog({ ...group.of(name), follow: { port: group.ports.a } });
  const rejoin = (): Promise<Log> =>
    openLog({ ...group.of('a'), dir: image, follow: { port: group.ports.b } });
  return { group, back, rejoin };
}

describe('an old primary of several standbys, each of which may have acknowledged alone', () => {
  it('follows by itself a new one that has fenced them', async () => {
    const { back, rejoin } = await killedWithTail();
    const [b] = await Promise.all([back('b'), back('c')]);
    expect(await b.promote(stopped)).toMatchObject({ forced: null, lsn: 1 });
    const a = await rejoin();
    await until(() => a.status().role === 'standby', 'a has rejoined');
    expect(a.status().rejoin).toMatchObject({ state: 'done', firstLsn: 2, lastLsn: 3, seenLsn: 0 });
    b.append('two');
    await until(() => a.status().flushLsn === 2, 'a follows b');
    await b.commit();
    await a.waitFor(2);
    expect(await textsOf(a)).toEqual(['one', 'two']);
  });

  it('asks where one of them was not fenced', async () => {
    const { back, rejoin } = await killedWithTail();
    const b = await back('b');
    const { forced } = await b.promote({ ...stopped, force: true });
    expect(forced).toMatch(/1 of the 2 nodes answer/);
    const a = await rejoin();
    await until(() => a.status().rejoin?.state === 'asks', 'a asks');
    expect(a.status()).toMatchObject({ role: 'fenced', rejoin: { records: 2, quorumLsn: 3 } });
  });

  it('asks where the new one was started again, and knows no more whom it has fenced', async () => {
    const { group, back, rejoin } = await killedWithTail();
    const [b, c] = await Promise.all([back('b'), back('c')]);
    await b.promote(stopped);
    await until(() => c.status().upstream?.primary === 'b', 'c follows b');
    await b.close();
    await openLog(group.of('b'));
    const a = await rejoin();
    await until(() => a.status().rejoin?.state === 'asks', 'a asks');
  });
});
