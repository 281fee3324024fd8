import { expect, it } from 'vitest';
import type { Log } from '../../src/index.js';
import { isPrimary, RefereedGroup } from './failover_nodes.js';
import { anyOne, textsOf } from './group_nodes.js';
import { until } from './helpers.js';

const takeoverMs = 20_000;

it('a group goes on whose primary heard of a grant that came to nothing', async () => {
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
