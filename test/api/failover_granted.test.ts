import { describe, expect, it } from 'vitest';
import type { Log } from '../../src/index.js';
import { loadBinding } from '../../src/native/binding.js';
import type { Claim, Grant } from '../../src/referee/referee.js';
import { isPrimary, RefereedGroup } from './failover_nodes.js';
import { anyOne, textsOf } from './group_nodes.js';
import { until } from './helpers.js';

const takeoverMs = 20_000;

/** `b` was granted the group, told nobody, and is gone; `a` has heard of it, and is fenced. */
async function granted(isHeard = true): Promise<{
  nodes: RefereedGroup;
  a: Log;
  release: () => Promise<unknown>;
}> {
  const nodes = await RefereedGroup.make(2);
  const { a, b } = await nodes.pair(anyOne);
  const { nodeId } = b.status();
  const { logId } = loadBinding().identify(b.dir);
  await b.close();
  nodes.cut.add('a');
  await until(() => a.status().referee?.lease === 'expired', 'the lease ends', takeoverMs);
  const referee = nodes.referee('b');
  const claim: Claim = {
    ...{ logId, nodeId, name: 'b', epoch: 1, storedEpoch: 1, lastEpoch: 1, place: 'x', lsn: 1 },
    kind: 'promotion',
    maximumLag: 0,
  };
  let grant: Grant | undefined;
  while (grant === undefined) {
    const answer = await referee.acquire(claim);
    if ('grant' in answer) grant = answer.grant;
    else await new Promise((resolve) => setTimeout(resolve, 50));
  }
  // Nothing ends it but this test.
  nodes.stopClock();
  const held = grant;
  const release = (): Promise<unknown> => referee.release(held);
  if (!isHeard) return { nodes, a, release };
  nodes.cut.delete('a');
  await until(() => a.status().role === 'fenced', 'a hears of it', takeoverMs);
  // Of an epoch that nobody may ever open.
  expect(a.status().term).toMatchObject({ epoch: 2, opener: nodeId, incarnation: 0 });
  return { nodes, a, release };
}

describe('a group that was granted to a node which never began', () => {
  it('goes on where its old primary heard of a grant before that one began', async () => {
    const { nodes, a, release } = await granted();
    nodes.cut.add('a');
    await release();
    const again = await nodes.open('b', anyOne);
    await until(() => isPrimary(again), 'b takes over', takeoverMs);
    nodes.cut.delete('a');
    await until(() => a.status().role === 'standby', 'a has rejoined', takeoverMs);
    await again.appendAndCommit('two');
    expect(await textsOf(again)).toEqual(['one', 'two']);
  });

  it('goes on with its old primary where that node never comes back', async () => {
    const { nodes, a, release } = await granted();
    // For as long as it may be on its way, it is waited for.
    await new Promise((resolve) => setTimeout(resolve, 1000));
    expect(a.status().role).toBe('fenced');
    await release();
    await until(() => isPrimary(a), 'a leads again', takeoverMs);
    expect(a.status()).toMatchObject({ roleReason: 'promoted', rejoin: null, term: { epoch: 3 } });
    const two = a.appendAndCommit('two');
    const b = await nodes.open('b', anyOne);
    await two;
    await until(() => b.status().flushLsn === 2, 'b follows', takeoverMs);
    expect(await textsOf(a)).toEqual(['one', 'two']);
  });

  it('goes on with its old primary where that was started again, and waited in vain', async () => {
    const { nodes, a, release } = await granted(false);
    await a.close();
    nodes.cut.delete('a');
    const again = await nodes.open('a', anyOne);
    expect(again.status().role).toBe('fenced');
    await release();
    await until(() => isPrimary(again), 'a leads again', takeoverMs);
    const two = again.appendAndCommit('two');
    const b = await nodes.open('b', anyOne);
    await two;
    await until(() => b.status().flushLsn === 2, 'b follows', takeoverMs);
    expect(await textsOf(again)).toEqual(['one', 'two']);
  });
});
