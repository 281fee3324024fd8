import { afterEach, expect, it } from 'vitest';
import { parseStandbys } from '../../src/replication/policy.js';
import { TcpProxy } from '../helpers/proxy.js';
import { expectEqualSealedSegments } from '../helpers/sealed_segments.js';
import { freshDir } from '../helpers/temp.js';
import { payload, randomFrom, small, TestLog } from '../native/native.js';
import { PrimaryNode, quick, StandbyNode, until } from './nodes.js';

const hub = {
  policy: { synchronousCommit: 'remote_flush', standbys: parseStandbys('ANY 1 (*)') },
} as const;
const hasty = { timing: { ...quick, retryFirst: 1, retryMost: 2 } };
/** Segments that are kept when the rest is trimmed. */
const KEPT = 3;

const open: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close().catch(() => undefined);
});

interface Member {
  readonly dir: string;
  readonly log: TestLog;
}

it('`cmp` finds no difference between sealed segments, whatever was gone through', async () => {
  const random = randomFrom(2026);
  const [dirA, dirB, dirC] = [freshDir('a'), freshDir('b'), freshDir('c')];
  let primary = await PrimaryNode.open({ dir: dirA }, hub);
  const proxy = await TcpProxy.open(primary.port);
  open.push(() => proxy.close());
  const follow = async (dir: string, name: string): Promise<StandbyNode> => {
    const node = await StandbyNode.open(primary.log.native, proxy.port, { dir, name }, hasty);
    open.push(() => node.close());
    await node.follower.connected();
    return node;
  };
  const b = await follow(dirB, 'b');
  const c = await follow(dirC, 'c');
  let compared = 0;

  /** Rolls, with the connections cut in the middle; then all compare, and trim. */
  const round = async (dir: string, standbys: readonly (StandbyNode & Member)[]): Promise<void> => {
    for (let i = 0; i < 160; i += 1) {
      await primary.batch(payload(i, 1 + random(random(3) === 0 ? 4000 : 1500)));
      if (random(50) === 0) proxy.cut();
    }
    const { position } = await primary.log.settled();
    for (const { log, heard } of standbys) {
      await until(
        () => log.flushed.position === position && primary.hub.commit.position === position,
        () => [heard.slice(-3), primary.hub.status()],
      );
    }
    for (const standby of standbys) compared += expectEqualSealedSegments(dir, standby.dir);
    const kept = position - KEPT * small.segmentBytes;
    for (const { log } of [primary, ...standbys]) await log.native.trim(kept);
  };

  const members = [Object.assign(b, { dir: dirB }), Object.assign(c, { dir: dirC })];
  for (let life = 0; life < 4; life += 1) {
    if (life > 0) {
      await primary.close();
      primary = await PrimaryNode.open({ dir: dirA }, hub);
      proxy.target = primary.port;
    }
    await round(dirA, members);
  }
  await primary.close();
  await b.close();
  const promoted = await TestLog.open({ dir: dirB });
  const { term, nodeId } = promoted.native.info();
  await promoted.native.openTerm({ epoch: term.epoch + 1, opener: nodeId, incarnation: 1 });
  await promoted.close();
  primary = await PrimaryNode.open({ dir: dirB }, hub);
  open.push(() => primary.close());
  proxy.target = primary.port;
  for (let i = 0; i < 2; i += 1) await round(dirB, members.slice(1));

  // The run was what it was meant to be.
  expect(compared).toBeGreaterThan(20);
  expect(primary.log.native.info().history.length).toBeGreaterThanOrEqual(6);
  expect(proxy.connections).toBeGreaterThan(10);
  for (const { log } of [primary, c]) {
    expect(log.native.info().start.position).toBeGreaterThan(5 * small.segmentBytes);
  }
}, 60_000);
