import { expect, it } from 'vitest';
import type { Log } from '../../src/index.js';
import { isPrimary, RefereedGroup } from './failover_nodes.js';
import { anyOne, textsOf } from './group_nodes.js';
import { until } from './helpers.js';

const takeoverMs = 20_000;

/** `b` was granted the group, and without `c`, which is gone, may not lead; `a` is cut off. */
async function granted() {
  const nodes = await RefereedGroup.make(3);
  const { a, b } = await nodes.pair(anyOne);
  const c = await nodes.open('c', anyOne);
  const members = (): number | undefined => b.status().upstream?.rule?.members.length;
  await until(() => members() === 2 && a.status().policy?.inForce === true, 'both count');
  await c.close();
  nodes.cut.add('a');
  await until(
    () => b.status().events.some(({ message }) => message.includes('not promoted')),
    'b is granted the group, and refused',
    takeoverMs,
  );
  return { nodes, a, b };
}

it('a group goes on whose primary heard of a grant that came to nothing', async () => {
  const { nodes, a, b } = await granted();
  nodes.cut.delete('a');
  await until(() => a.status().role !== 'primary', 'a hears of the grant', takeoverMs);
  const back = await nodes.open('c', anyOne);
  const logs = [a, b, back];
  await until(() => logs.some(isPrimary), 'one of them goes on', takeoverMs);
  const primary = logs.find(isPrimary)!;
  await primary.appendAndCommit('two');
  const follows = (log: Log): boolean => log === primary || log.status().role === 'standby';
  await until(() => logs.every(follows), 'the others follow', takeoverMs);
  expect(await textsOf(primary)).toEqual(['one', 'two']);
});

it('that primary leads again where nobody else can, also when it is started again', async () => {
  const { nodes, a, b } = await granted();
  // It would lead again at once; its process ends before that.
  a.once('role', () => nodes.cut.add('a'));
  nodes.cut.delete('a');
  await until(() => nodes.cut.has('a'), 'a hears of the grant', takeoverMs);
  await a.close();
  const again = await nodes.open('a', anyOne);
  expect(again.status().role).not.toBe('primary');
  nodes.cut.delete('a');
  await until(() => isPrimary(again), 'a leads again', takeoverMs);
  await again.appendAndCommit('two');
  expect(await textsOf(again)).toEqual(['one', 'two']);
  expect(b.status()).toMatchObject({ role: 'standby', term: again.status().term });
});
