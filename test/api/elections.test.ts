import { describe, expect, it } from 'vitest';
import type { Log } from '../../src/index.js';
import { isPrimary, RefereedGroup } from './failover_nodes.js';
import { anyOne, textsOf } from './group_nodes.js';
import { until } from './helpers.js';

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
