import { describe, expect, it } from 'vitest';
import { Group, textsOf } from './group_nodes.js';
import { until } from './helpers.js';

describe('a switchover', () => {
  it('hands over to a standby, and follows it', async () => {
    const group = await Group.make();
    const { a, b, c } = await group.started();
    const done = await a.switchover({ to: 'b' });
    expect(done).toMatchObject({ lsn: 1, term: { epoch: 2, opener: b.status().nodeId } });
    expect(done.pauseMs).toBeGreaterThan(0);
    expect(a.status()).toMatchObject({ role: 'standby', roleReason: 'switchover' });
    expect(b.status()).toMatchObject({ role: 'primary', roleReason: 'switchover' });
    expect(() => a.append('x')).toThrow(/standby of b/);
    expect(b.append('two')).toBe(2);
    await until(() => a.status().flushLsn === 2, 'a follows');
    await until(() => c.status().flushLsn === 2, 'c follows');
    expect(await textsOf(c)).toEqual(['one', 'two']);
    console.log(done);
  });
});
