import { afterEach, describe, expect, it } from 'vitest';
import { parseStandbys } from '../../src/replication/policy.js';
import { freshDir } from '../helpers/temp.js';
import { payload, small } from '../native/native.js';
import { PrimaryNode, StandbyNode, until } from './nodes.js';

const open: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

/** Leaves so little room in the first segment, which the opening is in, that a record rolls it. */
async function fillFirstSegment(primary: PrimaryNode): Promise<void> {
  const { segmentBytes } = small;
  for (let i = 0; primary.log.closed.position < segmentBytes - 2000; i += 1) {
    await primary.batch(payload(i, 1000));
  }
  expect(primary.log.closed.position).toBeLessThan(segmentBytes);
}

describe('a segment that ends with nothing behind it yet, the one of the opening', () => {
  const standbys = parseStandbys('ANY 1 (*)');
  const remote = { synchronousCommit: 'remote_flush', standbys } as const;
  const local = { synchronousCommit: 'local', standbys: undefined } as const;

  it.each([local, remote])('is committed to its end: $synchronousCommit', async (policy) => {
    const primary = await PrimaryNode.open({ dir: freshDir('a') }, { policy });
    open.push(() => primary.close());
    const standby = await StandbyNode.open(primary.log.native, primary.port, {
      dir: freshDir('b'),
    });
    open.push(() => standby.close());
    await standby.follower.connected();
    await fillFirstSegment(primary);
    // As `drain` does: the filler is framed, and nothing follows. One flush may take both.
    const { lsn } = await primary.log.batch(payload(0, 100));
    while (primary.log.native.reserve(0, 0, 4000) !== 0) await primary.log.progress();
    primary.hub.closedAdvanced();
    const end = primary.log.closed;
    expect(end).toEqual({ position: small.segmentBytes + 4096, lsn });
    await until(
      () => primary.hub.commit.position === end.position,
      () => [primary.hub.commit, primary.hub.status()],
    );
    expect(primary.hub.commit).toEqual(end);
    expect(primary.hub.reached(policy.synchronousCommit)).toBe(lsn);
  });
});
