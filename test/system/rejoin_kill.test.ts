import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { OpenOptions } from '../../src/index.js';
import { parseStandbys } from '../../src/replication/policy.js';
import { readLog } from '../format/read_log.js';
import { missing } from '../global/requirements.js';
import { makeTempDir } from '../global/temp.js';
import { Lives } from '../helpers/lives.js';
import { TcpProxy } from '../helpers/proxy.js';
import { expectEqualSealedSegments } from '../helpers/sealed_segments.js';
import { randomFrom, TestLog } from '../native/native.js';
import { PrimaryNode, quick, StandbyNode, until } from '../transport/nodes.js';

/** Rounds for each load; WALMIRROR_KILL_ROUNDS for more. */
const ROUNDS = Number(process.env.WALMIRROR_KILL_ROUNDS ?? 40);
/**
 * So many tails have to be cut in them. A busy machine may kill most primaries in idle moments:
 * then there are more rounds, and never fewer tails.
 */
const TAILS = Math.ceil(ROUNDS / 8);

const policy = { synchronousCommit: 'remote_flush', standbys: parseStandbys('ANY 1 (*)') } as const;
const options: Partial<OpenOptions> = {
  synchronousCommit: 'remote_flush',
  synchronousStandbys: 'ANY 1 (*)',
  listen: { host: '127.0.0.1', port: 0 },
  ringBytes: 1 << 20,
  // Many small batches: while one is being flushed, those after it are sent already.
  maxBatchBytes: 4096,
};

const reason = missing({ programs: ['strace'] });
/**
 * The primary's disk takes 3 ms longer for each write. The standby's does not, so that it is the
 * normal case that a kill finds it with more of the log than its primary.
 */
const slow = 'inject=pwritev2:delay_enter=3000';
const slowDisk = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', 'trace=pwritev2', '-e', slow];

/** Lives of a primary process, each ended by SIGKILL, and one standby that lives through them. */
async function rounds(load: string, seed: number, parent: string): Promise<void> {
  const [dir, standbyDir] = [join(parent, 'a'), join(parent, 'b')];
  const random = randomFrom(seed);
  const first = await TestLog.openPrimary({ dir, maxRecordBytes: 8192 });
  const proxy = await TcpProxy.open(1);
  const timing = { ...quick, retryFirst: 1, retryMost: 5 };
  const standby = await StandbyNode.open(
    first.native,
    proxy.port,
    { dir: standbyDir, ringBytes: 1 << 20 },
    { timing },
  );
  await first.close();
  let primary: PrimaryNode | undefined;
  const log = new Lives(dir, load);
  const tails = () => readdirSync(standbyDir).filter((name) => name.endsWith('.diverged')).length;
  let longer = 0;
  try {
    for (let life = 1; life <= ROUNDS || (tails() < TAILS && life <= 5 * ROUNDS); life++) {
      const death = { after: 'open', milliseconds: 60 + random(150) } as const;
      const told = await log.one(life, options, death, slowDisk, (port) => {
        proxy.target = port;
      });
      proxy.target = 1;
      const { connections } = proxy;
      // A tracer says so when whom it holds up is killed.
      expect(told.stderr.replace(/^strace: .*\n/gm, '')).toBe('');
      expect(told.signal === 'SIGKILL' || told.code === 137).toBe(true);
      // Whoever comes anew is done with what came before: a session that was just beginning may
      // have cut, and taken more, since the primary died.
      await until(() => proxy.connections > connections);
      // What was acknowledged is here too, and stays whatever is cut when the primary is back.
      expect(standby.end.lsn).toBeGreaterThanOrEqual(told.acknowledged);
      expect(standby.heard.filter((line) => line.startsWith('failed'))).toEqual([]);
      if (standby.end.position > readLog(dir).end.position) longer += 1;
    }
    expect(log.acknowledged).toBeGreaterThan(ROUNDS);
    primary = await PrimaryNode.open({ dir, maxRecordBytes: 8192 }, { policy });
    proxy.target = primary.port;
    const { hub } = primary;
    const { position } = primary.log.closed;
    await until(
      () => standby.log.flushed.position === position && hub.commit.position === position,
      () => [standby.end, standby.heard.slice(-3), position, hub.status()],
    );
  } finally {
    await standby.close();
    await primary?.close();
    await proxy.close();
  }
  expect(expectEqualSealedSegments(dir, standbyDir)).toBeGreaterThan(1);
  const [mine, its] = [readLog(dir), readLog(standbyDir)];
  expect(its.damage).toBeUndefined();
  expect(its.end.lsn).toBeGreaterThanOrEqual(log.acknowledged);
  expect(Buffer.concat(its.records).equals(Buffer.concat(mine.records))).toBe(true);
  // Each tail is kept aside, and nothing else was cut. (One that the next life was too short for
  // is found twice.)
  expect(tails()).toBeLessThanOrEqual(longer);
  expect(tails()).toBeGreaterThanOrEqual(TAILS);
}

describe.skipIf(reason)(
  'a standby rejoins its primary, killed under load and started again, at the fork',
  () => {
    const timeout = 60_000 + ROUNDS * 8000;
    it.concurrent.each([
      ['many', 71],
      ['many_committers', 72],
      ['bulk', 73],
    ])('load %s', { timeout }, async (load, seed) => {
      const parent = makeTempDir('rejoin');
      try {
        await rounds(load, seed, parent);
      } finally {
        rmSync(parent, { recursive: true, force: true });
      }
    });
  },
);
