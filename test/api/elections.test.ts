import { describe, expect, it } from 'vitest';
import type { Log } from '../../src/index.js';
import { isPrimary, RefereedGroup } from './failover_nodes.js';
import { anyOne, Group, type Name, stopped, textsOf } from './group_nodes.js';
import { openLog, until } from './helpers.js';

const takeoverMs = 20_000;

/** Why it has not become the primary. */
function refusalOf(log: Log): string {
  return log.status().referee?.reason ?? '';
}

describe('a member that was away when another one was let in', () => {
  it('is not promoted without that one, which alone has what was acknowledged', async () => {
    const nodes = await RefereedGroup.make(3);
    const { a, b } = await nodes.pair(anyOne);
    await b.close();
    const c = await nodes.open('c', anyOne);
    await c.connected();
    await a.appendAndCommit('two');
    await until(() => a.status().policy?.inForce === true, 'the rule that names c');
    await c.close();
    await a.close();
    const again = await nodes.open('b', anyOne);
    await until(
      () => isPrimary(again) || refusalOf(again).includes('whose acknowledgements counted'),
      'b is promoted, or says why not',
      takeoverMs,
    );
    expect(isPrimary(again)).toBe(false);
    const back = await nodes.open('c', anyOne);
    await until(() => isPrimary(again) || isPrimary(back), 'one of both goes on', takeoverMs);
    expect(await textsOf(isPrimary(back) ? back : again)).toEqual(['one', 'two']);
  });
});

describe('two operators, of whose nodes each reaches none of the other', () => {
  it.each([
    ['ANY 2 (b, c)', ['b'], ['c']],
    ['FIRST 2 (b, c)', ['b'], ['c']],
    ['ANY 3 (b, c, d)', ['b'], ['c', 'd']],
  ] as const)('get one primary at most, without force: %s', async (rule, left, right) => {
    const group = await Group.make(4);
    const a = await group.primary('a', { synchronousStandbys: rule });
    const names = [...left, ...right];
    const before = await Promise.all(names.map((name) => group.standby(name, 'a')));
    await a.appendAndCommit('one');
    await until(() => a.status().policy?.inForce === true, 'the rule');
    const told = (log: Log) => log.status().upstream?.rule?.members.length === names.length;
    await until(() => before.every(told), 'all know it');
    await until(() => before.every((log) => log.status().flushLsn === 1), 'all have the record');
    await a.close();
    await Promise.all(before.map((log) => log.close()));
    const side = async (some: readonly Name[]): Promise<Log> => {
      const members = some.map((name) => ({ port: group.ports[name] }));
      const logs = await Promise.all(
        some.map((name) => openLog({ ...group.of(name), members, follow: { port: 1 } })),
      );
      return logs[0]!;
    };
    const sides = [await side(left), await side(right)];
    const policy = { synchronousCommit: 'local' } as const;
    const promoted = await Promise.allSettled(
      sides.map((log) => log.promote({ ...stopped, ...policy })),
    );
    const epochs = promoted.flatMap((one) =>
      one.status === 'fulfilled' ? [one.value.term.epoch] : [],
    );
    await Promise.allSettled(sides.map((log) => log.appendAndCommit('of one of both')));
    expect(sides.filter((log) => log.status().commitLsn > 1)).toHaveLength(epochs.length);
    expect(epochs.length, `epochs ${epochs}`).toBeLessThanOrEqual(1);
  });
});
