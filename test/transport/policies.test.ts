import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { NativeLog } from '../../src/native/native_log.js';
import type { CommitPolicy } from '../../src/replication/commit_place.js';
import { parseStandbys } from '../../src/replication/policy.js';
import { PrimaryHub } from '../../src/transport/primary_hub.js';
import { decodeControl } from '../format/decode.js';
import { TcpProxy } from '../helpers/proxy.js';
import { freshDir } from '../helpers/temp.js';
import { TestLog } from '../native/native.js';
import { identityOf, PrimaryNode, quick, StandbyNode, until } from './nodes.js';

const open: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

function flushOf(text: string): CommitPolicy {
  return { synchronousCommit: 'remote_flush', standbys: parseStandbys(text) };
}

/** A primary whose time passes as that of a log does. */
async function primaryWith(standbys: string, degradeAfter?: number) {
  const dir = freshDir('a');
  const policy = flushOf(standbys);
  const primary = await PrimaryNode.open({ dir }, { policy, degradeAfter });
  const timer = setInterval(() => primary.hub.watch(performance.now()), 20);
  open.push(async () => {
    clearInterval(timer);
    await primary.close();
  });
  return { primary, dir };
}

async function standbyOf(primary: PrimaryNode, name: string, port = primary.port) {
  const dir = freshDir(name);
  const standby = await StandbyNode.open(primary.log.native, port, { dir, name });
  let closed: Promise<void> | undefined;
  const close = (): Promise<void> => {
    closed ??= StandbyNode.prototype.close.call(standby);
    return closed;
  };
  open.push(close);
  await standby.follower.connected();
  return Object.assign(standby, { dir, close });
}

/** The rule that the directory holds, on both copies of its control file, read independently. */
function ruleIn(dir: string) {
  const { copies } = decodeControl(readFileSync(join(dir, 'control')));
  const rules = copies.map((copy) => (copy.ok ? copy.value.rule : undefined));
  expect(rules[0]).toEqual(rules[1]);
  return rules[0];
}

function idOf(node: StandbyNode): string {
  return node.log.native.info().nodeId;
}

function membersOf(primary: PrimaryNode): readonly string[] {
  return primary.hub.rule.members;
}

describe('a primary that degrades', () => {
  it('goes on alone after the time-out, with that recorded here and by who is there', async () => {
    const { primary, dir } = await primaryWith('ANY 1 (b)', 300);
    const other = await standbyOf(primary, 'other');
    const { lsn } = await primary.batch('x');
    const started = performance.now();
    await until(() => primary.hub.commit.lsn === lsn);
    expect(performance.now() - started).toBeLessThan(6000);
    expect(primary.hub.rule.degraded).toBe(true);
    expect(primary.hub.ownLevel()).toBe('local');
    for (const each of [dir, other.dir]) {
      expect(ruleIn(each)).toMatchObject({ level: 'remote_flush', degraded: true });
    }
    // A level that a call names is never met by less.
    expect(primary.hub.reached('remote_flush')).toBe(0);
    expect(primary.hub.reached('own')).toBe(lsn);
  });

  it('comes back by itself when the standby has all, and no commit is taken back', async () => {
    const { primary, dir } = await primaryWith('ANY 1 (*)', 200);
    await until(() => primary.hub.rule.degraded);
    for (let i = 0; i < 50; i += 1) await primary.batch(`record ${i}`);
    await until(() => primary.hub.commit.lsn === 50);
    const b = await standbyOf(primary, 'b');
    const { lsn } = await primary.batch('more');
    await until(() => !primary.hub.rule.degraded);
    expect(b.log.flushed.lsn).toBeGreaterThanOrEqual(50);
    await until(() => primary.hub.commit.lsn === lsn);
    expect(membersOf(primary)).toEqual([idOf(b)]);
    expect(primary.hub.ownLevel()).toBe('remote_flush');
    for (const each of [dir, b.dir]) {
      await until(() => ruleIn(each)?.degraded === false);
      expect(ruleIn(each)?.members).toEqual([idOf(b)]);
    }
  });

  it('comes back under a load that never pauses', async () => {
    const { primary } = await primaryWith('ANY 1 (*)', 200);
    await until(() => primary.hub.rule.degraded);
    await standbyOf(primary, 'b');
    let last = 0;
    await until(() => {
      void primary.batch('x');
      expect(primary.hub.commit.lsn).toBeGreaterThanOrEqual(last);
      last = primary.hub.commit.lsn;
      return !primary.hub.rule.degraded;
    });
    const { lsn } = await primary.batch('y');
    await until(() => primary.hub.standbysAt('remote_flush', lsn).includes('b'));
  });

  it('stays alone while the standby is connected and does not catch up', async () => {
    const { primary } = await primaryWith('ANY 1 (*)', 200);
    const proxy = await TcpProxy.open(primary.port);
    open.push(() => proxy.close());
    const b = await standbyOf(primary, 'b', proxy.port);
    await until(() => membersOf(primary).includes(idOf(b)));
    proxy.toStandby.mode = 'hold';
    const { lsn } = await primary.batch('x');
    // The rule has to be recorded by who is there; this one hears nothing, and is given up.
    await until(() => primary.hub.commit.lsn === lsn);
    expect(primary.hub.rule.degraded).toBe(true);
    expect(b.log.flushed.lsn).toBe(0);
    proxy.release();
    await until(() => !primary.hub.rule.degraded);
    expect(b.log.flushed.lsn).toBe(lsn);
  });

  it('acknowledges nothing between the decision and the record', async () => {
    const log = await TestLog.openPrimary({ dir: freshDir('a') });
    let release = (): void => undefined;
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    const asked: boolean[] = [];
    const held = new Proxy(log.native, {
      get(target, key) {
        if (key === 'storeRule') {
          return async (rule: Parameters<NativeLog['storeRule']>[0]) => {
            asked.push(rule.degraded);
            await gate;
            await log.native.storeRule(rule);
          };
        }
        const value = Reflect.get(target, key, target) as unknown;
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    const { term } = log.native.info();
    const hub = new PrimaryHub({
      native: held,
      identity: identityOf(log.native),
      term: () => term,
      policy: flushOf('ANY 1 (*)'),
      degradeAfter: 50,
      isRingWanted: () => false,
      timing: quick,
      events: { onCommitMoved: () => {}, onStandby: () => {}, onHigherTerm: () => {} },
    });
    open.push(async () => {
      release();
      await hub.close();
      await log.close();
    });
    const before = hub.commit;
    const { lsn } = await log.batch('x');
    await log.settled();
    hub.flushAdvanced();
    for (let now = 0; asked.length === 0; now += 20) hub.watch(now);
    expect(asked).toEqual([true]);
    for (let i = 0; i < 10; i += 1) {
      hub.flushAdvanced();
      hub.watch(10_000 + i * 20);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(hub.commit).toEqual(before);
    expect(log.native.info().rule?.degraded).not.toBe(true);
    release();
    await until(() => hub.commit.lsn === lsn);
    expect(log.native.info().rule).toMatchObject({ degraded: true });
  });
});

describe('FIRST', () => {
  it('waits for the first of three, whoever else has answered, and again later', async () => {
    const { primary, dir } = await primaryWith('FIRST 1 (b, c, d)');
    const proxy = await TcpProxy.open(primary.port);
    open.push(() => proxy.close());
    const d = await standbyOf(primary, 'd');
    const c = await standbyOf(primary, 'c');
    const b = await standbyOf(primary, 'b', proxy.port);
    const isMember = (node: StandbyNode) => (): boolean =>
      membersOf(primary).length === 1 && membersOf(primary)[0] === idOf(node);
    await until(isMember(b), () => primary.hub.status());

    proxy.toPrimary.mode = 'hold';
    const first = await primary.batch('one');
    await until(() => c.log.flushed.lsn === 1 && d.log.flushed.lsn === 1);
    expect(primary.hub.commit.lsn).toBe(0);
    proxy.release();
    await until(() => primary.hub.commit.lsn === first.lsn);
    expect(primary.hub.standbysAt('remote_flush', 1)).toEqual(['b']);

    await proxy.close();
    const second = await primary.batch('two');
    await until(
      () => primary.hub.commit.lsn === second.lsn,
      () => primary.hub.status(),
    );
    expect(isMember(c)()).toBe(true);
    for (const each of [dir, c.dir, d.dir]) {
      expect(ruleIn(each)).toMatchObject({ standbys: 'FIRST 1 (b, c, d)', members: [idOf(c)] });
    }

    await b.close();
    const again = await StandbyNode.open(primary.log.native, primary.port, {
      dir: b.dir,
      name: 'b',
    });
    open.push(() => again.close());
    await until(isMember(again), () => primary.hub.status());
    expect(again.log.flushed.lsn).toBe(second.lsn);
    const third = await primary.batch('three');
    await until(() => primary.hub.commit.lsn === third.lsn);
    expect(primary.hub.standbysAt('remote_flush', third.lsn)).toEqual(['b']);
  });

  it('2 waits for both, and for nobody else while one is away', async () => {
    const { primary } = await primaryWith('FIRST 2 (b, c)');
    await standbyOf(primary, 'other');
    const b = await standbyOf(primary, 'b');
    const { lsn } = await primary.batch('x');
    await until(() => b.log.flushed.lsn === lsn);
    expect(primary.hub.commit.lsn).toBe(0);
    const c = await standbyOf(primary, 'c');
    await until(() => primary.hub.commit.lsn === lsn);
    expect(membersOf(primary)).toEqual([idOf(b), idOf(c)]);
  });
});

describe('a policy that is set at run time', () => {
  it('counts alone only when who it asks for has all that is committed', async () => {
    const { primary, dir } = await primaryWith('ANY 1 (*)');
    const b = await standbyOf(primary, 'b');
    const { lsn } = await primary.batch('x');
    await until(() => primary.hub.commit.lsn === lsn);
    primary.hub.setPolicy(flushOf('ANY 1 (c)'), undefined);
    expect(primary.hub.isPolicyInForce).toBe(false);
    const more = await primary.batch('y');
    await until(() => b.log.flushed.lsn === more.lsn);
    expect(primary.hub.commit.lsn).toBe(lsn);
    expect(ruleIn(dir)?.standbys).toBe('ANY 1 (*)');
    const c = await standbyOf(primary, 'c');
    await until(() => primary.hub.isPolicyInForce);
    await until(() => primary.hub.commit.lsn === more.lsn);
    for (const each of [dir, b.dir, c.dir]) {
      expect(ruleIn(each)).toMatchObject({ standbys: 'ANY 1 (c)', members: [idOf(c)] });
    }
  });

  it('that waits for nobody lets go what waited', async () => {
    const { primary, dir } = await primaryWith('ANY 1 (*)');
    const { lsn } = await primary.batch('x');
    primary.hub.setPolicy({ synchronousCommit: 'local', standbys: undefined }, undefined);
    await until(() => primary.hub.commit.lsn === lsn);
    expect(primary.hub.isPolicyInForce).toBe(true);
    expect(ruleIn(dir)).toMatchObject({ level: 'local', standbys: '' });
  });
});
