import { describe, expect, it } from 'vitest';
import { loadBinding } from '../../src/native/binding.js';
import type { Grant } from '../../src/referee/referee.js';
import { isPrimary, RefereedGroup } from './failover_nodes.js';
import { anyOne, textsOf } from './group_nodes.js';
import { until } from './helpers.js';

const takeoverMs = 20_000;

describe('a group that was granted to a node which never began', () => {
  it('goes on where its old primary heard of a grant before that one began', async () => {
    const nodes = await RefereedGroup.make(2);
    const { a, b } = await nodes.pair(anyOne);
    const { nodeId } = b.status();
    const { logId } = loadBinding().identify(b.dir);
    await b.close();
    nodes.cut.add('a');
    await until(() => a.status().referee?.lease === 'expired', 'the lease ends', takeoverMs);
    // As b does, which then asks the members; it dies before it has asked anybody.
    const referee = nodes.referee('b');
    const claim = {
      logId,
      nodeId,
      name: 'b',
      epoch: 1,
      storedEpoch: 1,
      place: 'x',
      lsn: 1,
    } as const;
    let grant: Grant | undefined;
    while (grant === undefined) {
      const answer = await referee.acquire({ ...claim, kind: 'promotion', maximumLag: 0 });
      if ('grant' in answer) grant = answer.grant;
      else await new Promise((resolve) => setTimeout(resolve, 50));
    }
    nodes.cut.delete('a');
    await until(() => a.status().role === 'fenced', 'a hears of it', takeoverMs);
    // Of an epoch that nobody may ever open.
    expect(a.status().term).toMatchObject({ epoch: 2, opener: nodeId, incarnation: 0 });
    await referee.release(grant);
    const again = await nodes.open('b', anyOne);
    await until(() => isPrimary(again), 'b takes over', takeoverMs);
    await until(() => a.status().role === 'standby', 'a has rejoined', takeoverMs);
    await again.appendAndCommit('two');
    expect(await textsOf(again)).toEqual(['one', 'two']);
  });
});
