import { cpSync, readdirSync, rmSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import type { NativeLog } from '../../src/native/native_log.js';
import { parseStandbys } from '../../src/replication/policy.js';
import { TcpProxy } from '../helpers/proxy.js';
import { freshDir } from '../helpers/temp.js';
import { payload, randomFrom, readBytes, TestLog } from '../native/native.js';
import { PrimaryNode, quick, StandbyNode, until } from './nodes.js';

/** A crash of the primary is an image of its directory, taken before its standby got more. */

/** Crashes of one log, and how many logs go through them; WALMIRROR_REJOIN_LOGS for more. */
const CRASHES = 40;
const LOGS = Number(process.env.WALMIRROR_REJOIN_LOGS ?? 5);

/** The standby calls again at once. */
const hasty = { ...quick, retryFirst: 1, retryMost: 2 };

const open: (() => Promise<void>)[] = [];

afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

function policy(standbys: string) {
  return {
    policy: { synchronousCommit: 'remote_flush', standbys: parseStandbys(standbys) } as const,
  };
}

/** What the disk would hold if the primary's machine lost power now. */
async function imageOf(primary: PrimaryNode, dir: string): Promise<string> {
  await primary.log.settled();
  const image = freshDir('image');
  cpSync(dir, image, { recursive: true });
  return image;
}

async function sameBytes(primary: PrimaryNode, standby: StandbyNode): Promise<void> {
  const end = (await primary.log.settled()).position;
  await until(
    () => standby.log.flushed.position === end,
    () => [standby.heard, standby.end, primary.log.closed],
  );
  const bytes = await readBytes(standby.log, 4096, end);
  expect(bytes.equals(await readBytes(primary.log, 4096, end))).toBe(true);
}

describe('a standby that is longer than its restarted primary', () => {
  it('cuts what nobody committed, keeps it aside, and follows', async () => {
    // Two standbys are asked for and one is there: nothing is committed.
    const dir = freshDir('a');
    let primary = await PrimaryNode.open({ dir }, policy('ANY 2 (*)'));
    const proxy = await TcpProxy.open(primary.port);
    open.push(() => proxy.close());
    const standbyDir = freshDir('b');
    const standby = await StandbyNode.open(primary.log.native, proxy.port, { dir: standbyDir });
    open.push(() => standby.close());
    await primary.batch('kept');
    const image = await imageOf(primary, dir);
    await primary.batch('lost one', 'lost two');
    await until(() => standby.log.flushed.lsn === 3);
    proxy.target = 1;
    await primary.close();

    primary = await PrimaryNode.open({ dir: image }, policy('ANY 1 (*)'));
    open.push(() => primary.close());
    const { lsn } = await primary.batch('instead');
    expect(lsn).toBe(2);
    proxy.target = primary.port;
    await until(
      () => primary.hub.commit.lsn === 2,
      () => [standby.heard, primary.hub.status()],
    );
    await sameBytes(primary, standby);
    const aside = readdirSync(standbyDir).filter((name) => name.endsWith('.diverged'));
    expect(aside).toHaveLength(1);
  });

  it('is not cut below what it knows to be committed: both stop', async () => {
    const dir = freshDir('a');
    let primary = await PrimaryNode.open({ dir }, policy('ANY 1 (*)'));
    const proxy = await TcpProxy.open(primary.port);
    open.push(() => proxy.close());
    const standby = await StandbyNode.open(primary.log.native, proxy.port, { dir: freshDir('b') });
    open.push(() => standby.close());
    await primary.batch('kept');
    const image = await imageOf(primary, dir);
    await primary.batch('committed');
    await until(() => standby.follower.commit.lsn === 2);
    proxy.target = 1;
    await primary.close();

    primary = await PrimaryNode.open({ dir: image }, policy('ANY 1 (*)'));
    open.push(() => primary.close());
    proxy.target = primary.port;
    await until(
      () => standby.heard.includes('failed: WAL_COMMITTED_LOST'),
      () => standby.heard,
    );
    expect(primary.heard).toEqual(['WAL_COMMITTED_LOST']);
    expect(primary.hub.reached('local')).toBe(0);
    expect(standby.end.lsn).toBe(2);
    await expect(standby.follower.connected()).rejects.toMatchObject({ code: 'WAL_CLOSED' });
  });

  // In all some hundreds of crashes; a history has room for 256 terms.
  it.each(Array.from({ length: LOGS }, (_, i) => 12345 + i))(
    'ends the same as its primary after any number of crashes, seed %i',
    async (seed) => {
      const random = randomFrom(seed);
      let dir = freshDir('a');
      let primary = await PrimaryNode.open({ dir }, policy('ANY 2 (*)'));
      const proxy = await TcpProxy.open(primary.port);
      open.push(() => proxy.close());
      const standbyDir = freshDir('b');
      const standby = await StandbyNode.open(
        primary.log.native,
        proxy.port,
        { dir: standbyDir },
        { timing: hasty },
      );
      open.push(() => standby.close());
      let longer = 0;
      for (let round = 0; round < CRASHES; round += 1) {
        const write = async (count: number): Promise<void> => {
          for (let i = 0; i < count; i += 1) {
            await primary.batch(payload(round * 100 + i, 1 + random(random(4) === 0 ? 4000 : 200)));
          }
        };
        await write(random(12));
        const image = await imageOf(primary, dir);
        const { position } = primary.log.closed;
        await write(random(12));
        if (random(3) > 0) await sameBytes(primary, standby);
        proxy.target = 1;
        await primary.close();
        await until(() => !standby.follower.status().connected);
        if (standby.end.position > position) longer += 1;
        rmSync(dir, { recursive: true });
        dir = image;
        primary = await PrimaryNode.open({ dir }, policy('ANY 2 (*)'));
        proxy.target = primary.port;
        await until(
          () => standby.follower.status().connected,
          () => standby.heard.slice(-5),
          15_000,
        );
      }
      open.push(() => primary.close());
      await sameBytes(primary, standby);
      expect(primary.log.native.info().history).toHaveLength(CRASHES + 1);
      expect(standby.log.native.info().history).toEqual(primary.log.native.info().history);
      // Each tail is kept aside, whole: nothing else was cut.
      expect(longer).toBeGreaterThan(CRASHES / 3);
      const aside = readdirSync(standbyDir).filter((name) => name.endsWith('.diverged'));
      expect(aside).toHaveLength(longer);
    },
  );
});

describe('a promoted standby', () => {
  async function three(standbys: string) {
    const a = await PrimaryNode.open({ dir: freshDir('a') }, policy(standbys));
    const proxy = await TcpProxy.open(a.port);
    open.push(() => proxy.close());
    const dirB = freshDir('b');
    const b = await StandbyNode.open(a.log.native, proxy.port, { dir: dirB });
    const c = await StandbyNode.open(a.log.native, proxy.port, { dir: freshDir('c'), name: 'c' });
    open.push(() => c.close());
    await Promise.all([b.follower.connected(), c.follower.connected()]);
    return { a, b, c, dirB, proxy };
  }

  it('feeds the other standby, whose longer tail goes if nobody committed it', async () => {
    const { a, b, c, dirB, proxy } = await three('ANY 3 (*)');
    await a.batch('both have this');
    await until(() => b.log.flushed.lsn === 1 && c.log.flushed.lsn === 1);
    await b.close();
    await a.batch('only c has this');
    await until(() => c.log.flushed.lsn === 2);
    proxy.target = 1;
    await a.close();

    const promoted = await promote(dirB);
    proxy.target = promoted.port;
    await promoted.batch('instead', 'and more');
    await sameBytes(promoted, c);
    expect(c.log.native.info().term.epoch).toBe(2);
  });

  it('is refused by a standby that knows more to be committed', async () => {
    const { a, b, c, dirB, proxy } = await three('ANY 1 (*)');
    await a.batch('both have this');
    await until(() => b.log.flushed.lsn === 1 && c.log.flushed.lsn === 1);
    await b.close();
    await a.batch('c has this, and it is committed');
    await until(() => c.follower.commit.lsn === 2);
    proxy.target = 1;
    await a.close();

    const promoted = await promote(dirB);
    proxy.target = promoted.port;
    await until(() => c.follower.status().reason?.includes('committed') === true);
    expect(c.end.lsn).toBe(2);
    await until(() => promoted.heard.some((line) => line.startsWith('c went: refused')));
    await promoted.batch('it goes on alone');
    await expect(c.follower.connected()).rejects.toMatchObject({ code: 'WAL_DIVERGED' });
  });

  describe('is followed by a standby whose last record', () => {
    async function longerOne(rule: string, before?: (native: NativeLog) => void) {
      const { a, b, c, dirB, proxy } = await three(rule);
      const d = await StandbyNode.open(a.log.native, proxy.port, { dir: freshDir('d'), name: 'd' });
      await d.follower.connected();
      await a.batch('all have this');
      const all = [b, c, d];
      await until(() => all.every(({ log }) => log.flushed.lsn === 1));
      await until(() => c.log.native.info().rule?.members.length === 3);
      await b.close();
      await d.close();
      await a.batch('c alone has this, and has told so');
      await until(() => c.log.flushed.lsn === 2);
      proxy.target = 1;
      await a.close();
      const promoted = await promote(dirB);
      before?.(c.log.native);
      proxy.target = promoted.port;
      return { promoted, c };
    }

    it('nobody can have committed, without that', async () => {
      const { promoted, c } = await longerOne('ANY 3 (*)');
      await sameBytes(promoted, c);
    });

    it('cannot be set aside, not at all, which is told and not tried on and on', async () => {
      const { promoted, c } = await longerOne('ANY 3 (*)', (native) => {
        const full = Object.assign(new Error('no space'), { code: 'WAL_NO_SPACE' });
        const value = () => Promise.reject(full);
        Object.defineProperty(native, 'truncate', { value, configurable: true });
      });
      await until(() => c.heard.some((line) => line === 'disconnected: no space'));
      await expect(c.follower.connected()).rejects.toMatchObject({ code: 'WAL_NO_SPACE' });
      expect(c.end.lsn).toBe(2);
      // Room was made.
      Reflect.deleteProperty(c.log.native, 'truncate');
      await sameBytes(promoted, c);
    });

    it('it may have committed with another one, not at all', async () => {
      const { c } = await longerOne('ANY 2 (*)');
      await until(() => c.follower.status().reason?.includes('by a quorum') === true);
      await expect(c.follower.connected()).rejects.toMatchObject({ code: 'WAL_DIVERGED' });
      expect(c.end.lsn).toBe(2);
    });
  });

  it('fences the old primary through a standby that calls it', async () => {
    const { a, b, c, dirB, proxy } = await three('ANY 1 (*)');
    await a.batch('x');
    await until(() => b.log.flushed.lsn === 1 && c.log.flushed.lsn === 1);
    await b.close();
    const promoted = await promote(dirB);
    proxy.target = promoted.port;
    proxy.cut();
    await until(() => c.log.native.info().term.epoch === 2);
    await sameBytes(promoted, c);
    proxy.target = a.port;
    proxy.cut();
    await until(
      () => a.heard.includes('fenced by epoch 2'),
      () => [a.heard, c.heard.slice(-4)],
    );
    expect(a.hub.reached('local')).toBe(0);
    const before = a.hub.commit;
    await a.batch('never acknowledged');
    await a.log.settled();
    expect(a.hub.commit).toEqual(before);
    proxy.target = promoted.port;
    await until(() => c.follower.status().connected);
    await a.close();
  });

  async function promote(dir: string): Promise<PrimaryNode> {
    const log = await TestLog.open({ dir });
    const { term, nodeId } = log.native.info();
    await log.native.openTerm({ epoch: term.epoch + 1, opener: nodeId, incarnation: 1 });
    await log.close();
    const promoted = await PrimaryNode.open({ dir }, policy('ANY 1 (*)'));
    open.push(() => promoted.close());
    return promoted;
  }
});
