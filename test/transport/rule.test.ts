import { cpSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { NativeLog } from '../../src/native/native_log.js';
import { parseStandbys } from '../../src/replication/policy.js';
import { Follower } from '../../src/transport/follower.js';
import { decodeControl } from '../format/decode.js';
import { TcpProxy } from '../helpers/proxy.js';
import { freshDir } from '../helpers/temp.js';
import { TestLog } from '../native/native.js';
import { PrimaryNode, quick, StandbyNode, until } from './nodes.js';
import { RawStandby } from './raw_standby.js';

const open: (() => Promise<unknown>)[] = [];

afterEach(async () => {
  for (const close of open.splice(0).reverse()) await close();
});

async function primaryWith(standbys: string, timing = {}): Promise<[PrimaryNode, string]> {
  const policy = { synchronousCommit: 'remote_flush', standbys: parseStandbys(standbys) } as const;
  const dir = freshDir('a');
  const node = await PrimaryNode.open({ dir }, { policy, timing: { ...quick, ...timing } });
  open.push(() => node.close());
  return [node, dir];
}

async function standbyOf(primary: PrimaryNode, name: string): Promise<[StandbyNode, string]> {
  const dir = freshDir(name);
  const node = await StandbyNode.open(primary.log.native, primary.port, { dir, name });
  open.push(() => node.close());
  await node.follower.connected();
  return [node, dir];
}

/** The rule that the directory holds, on both copies of its control file, read independently. */
function ruleIn(dir: string) {
  const { copies } = decodeControl(readFileSync(join(dir, 'control')));
  const rules = copies.map((copy) => (copy.ok ? copy.value.rule : undefined));
  expect(rules[0]).toEqual(rules[1]);
  return rules[0];
}

function idOf(node: { readonly log: TestLog }): string {
  return node.log.native.info().nodeId;
}

/** A native log whose rules wait for `release` before they are stored. */
function heldBack(native: NativeLog): { readonly held: NativeLog; readonly release: () => void } {
  let release = (): void => undefined;
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  const held = new Proxy(native, {
    get(target, key) {
      if (key === 'storeRule') {
        return async (rule: Parameters<NativeLog['storeRule']>[0]) => {
          await gate;
          await native.storeRule(rule);
        };
      }
      const value = Reflect.get(target, key, target) as unknown;
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  return { held, release };
}

describe('the rule for commits', () => {
  it('is in the control files of the primary and of its standby', async () => {
    const [primary, dirA] = await primaryWith('ANY 1 (b)');
    const [standby, dirB] = await standbyOf(primary, 'b');
    const { lsn } = await primary.batch('x');
    await until(() => primary.hub.commit.lsn === lsn);
    const rule = {
      level: 'remote_flush',
      standbys: 'ANY 1 (b)',
      members: [idOf(standby)],
      degraded: false,
      ofEarlierTerm: false,
      undercut: false,
    };
    expect(ruleIn(dirA)).toEqual(rule);
    expect(ruleIn(dirB)).toEqual(rule);
  });

  it('reaches a standby that is connected when another comes', async () => {
    const [primary, dirA] = await primaryWith('ANY 1 (*)');
    const [b, dirB] = await standbyOf(primary, 'b');
    const [c, dirC] = await standbyOf(primary, 'c');
    await until(() => primary.hub.status().standbys.every(({ counts }) => counts));
    expect(ruleIn(dirA)?.members).toEqual([idOf(b), idOf(c)]);
    for (const dir of [dirB, dirC]) expect(ruleIn(dir)).toEqual(ruleIn(dirA));
  });

  it('is told to a standby that does not count too', async () => {
    const [primary] = await primaryWith('ANY 1 (c)');
    const [, dirB] = await standbyOf(primary, 'b');
    expect(ruleIn(dirB)?.members).toEqual([]);
    const [c] = await standbyOf(primary, 'c');
    await until(() => primary.hub.status().standbys[1]?.counts === true);
    expect(ruleIn(dirB)?.members).toEqual([idOf(c)]);
  });

  it('is stored by a standby before it acknowledges anything', async () => {
    const [primary] = await primaryWith('ANY 1 (*)');
    const { position, lsn } = await primary.batch('x');
    await primary.log.settled();
    const dir = freshDir('b');
    const log = await TestLog.openStandby(primary.log.native, { dir, name: 'b' });
    const { held, release } = heldBack(log.native);
    const { logId, salt, nodeId, segmentBytes, padded, maxRecordBytes } = log.native.info();
    const follower = new Follower({
      native: held,
      identity: { logId, salt, nodeId, segmentBytes, padded, maxRecordBytes, name: 'b' },
      host: '127.0.0.1',
      port: primary.port,
      plaintext: false,
      timing: quick,
      events: { onCommitMoved: () => undefined },
    });
    log.native.onProgress(() => follower.progress());
    follower.start();
    open.push(async () => {
      await follower.stop();
      await log.close();
    });
    await until(() => primary.hub.status().standbys.length === 1);
    // Several heartbeats, which say that it is there, and nothing else.
    await new Promise((resolve) => setTimeout(resolve, 400));
    expect(primary.hub.status().standbys).toMatchObject([
      { counts: false, write: { position: 0 }, flush: { position: 0 } },
    ]);
    expect(follower.status().connected).toBe(false);

    // A crash here leaves a standby that knows its primary and term, and no rule; nor any record.
    const image = freshDir('image');
    cpSync(dir, image, { recursive: true });
    expect(ruleIn(image)).toBeUndefined();
    const crashed = await TestLog.open({ dir: image });
    expect(crashed.native.info()).toMatchObject({ role: 'standby', primaryName: 'a', rule: null });
    expect(crashed.flushed.lsn).toBe(0);
    await crashed.close();

    release();
    await until(() => primary.hub.commit.lsn === lsn);
    expect(primary.hub.status().standbys).toMatchObject([{ counts: true, flush: { position } }]);
    expect(ruleIn(dir)?.members).toEqual([nodeId]);
  });

  it('counts a newcomer only when the standby from before has recorded it', async () => {
    const [primary] = await primaryWith('ANY 1 (*)');
    const ids = ['c'.repeat(32), 'd'.repeat(32)] as const;
    const first = await RawStandby.admitted(primary.port, ids[0], 'c');
    open.push(async () => first.socket.destroy());
    const start = { writePosition: 4096, flushPosition: 4096 };
    first.ack(start);
    await first.until(() => first.rules.length === 2);
    first.ack(start);
    await until(() => primary.hub.status().standbys[0]?.counts === true);
    const second = await RawStandby.admitted(primary.port, ids[1], 'd');
    open.push(async () => second.socket.destroy());
    expect(second.rules.map(({ rule }) => rule.members)).toEqual([[...ids]]);
    const { position, lsn } = await primary.batch('x');
    await primary.log.settled();
    const all = { writePosition: position, writeLsn: lsn, flushPosition: position, flushLsn: lsn };
    await second.until(() => second.received > 0);
    second.ack(all);
    await until(() => primary.hub.status().standbys[1]?.flush.lsn === lsn);
    expect(primary.hub.status().standbys.map(({ counts }) => counts)).toEqual([true, false]);
    expect(primary.hub.commit.lsn).toBe(0);
    await first.until(() => first.rules.length === 3);
    expect(first.rules[2]).toEqual(second.rules[0]);
    const moves = primary.commitMoves;
    first.ack(start);
    await until(() => primary.hub.commit.lsn === lsn);
    expect(primary.commitMoves).toBeGreaterThan(moves);
    expect(primary.hub.standbysAt('remote_flush', lsn)).toEqual(['d']);
  });

  it('does not wait for ever for a standby that does not record it', async () => {
    const [primary] = await primaryWith('ANY 1 (*)', { dead: 400 });
    const mute = await RawStandby.admitted(primary.port, 'c'.repeat(32), 'c');
    const speak = setInterval(() => mute.ack({ rule: 0 }), 50);
    open.push(async () => clearInterval(speak));
    const [standby] = await standbyOf(primary, 'b');
    await mute.closed;
    const { lsn } = await primary.batch('x');
    await until(() => primary.hub.commit.lsn === lsn);
    expect(primary.heard.find((line) => line.startsWith('c went'))).toMatch(/did not record/);
    expect(standby.end.lsn).toBe(lsn);
  });

  it('a standby that acknowledges under none, or one that was not told, is dropped', async () => {
    for (const rule of [0, 99]) {
      const [primary] = await primaryWith('ANY 1 (*)');
      const { position } = await primary.batch('x');
      const raw = await RawStandby.admitted(primary.port, 'c'.repeat(32), 'c');
      await raw.until(() => raw.received > 0);
      const all = { writePosition: position, writeLsn: 1, flushPosition: position, flushLsn: 1 };
      raw.ack({ ...all, rule });
      await raw.closed;
      expect(primary.hub.status()).toMatchObject({ rejected: 1, commit: { lsn: 0 } });
    }
  });
});

describe('the last contact', () => {
  it('is written down when the link goes, and known after a restart', async () => {
    const [primary] = await primaryWith('ANY 1 (*)');
    const proxy = await TcpProxy.open(primary.port);
    const before = Date.now();
    const dir = freshDir('b');
    const standby = await StandbyNode.open(primary.log.native, proxy.port, { dir });
    await standby.follower.connected();
    await proxy.close();
    await until(() => standby.heard.some((line) => line.startsWith('disconnected')));
    const { lastContact, lastContactMs } = standby.follower.status();
    expect(lastContact).toBeGreaterThanOrEqual(before);
    expect(lastContact).toBeLessThanOrEqual(Date.now());
    expect(lastContactMs).toBeGreaterThanOrEqual(0);
    await until(() => standby.log.native.info().lastContact === lastContact);
    await standby.close();
    const again = await StandbyNode.open(primary.log.native, 1, { dir });
    expect(again.follower.status()).toMatchObject({ lastContact, lastContactMs: null });
    // Nobody answers: that is no contact.
    await until(() => again.heard.length > 1);
    expect(again.follower.status()).toMatchObject({ lastContact, lastContactMs: null });
    await again.close();
    expect(again.log.native.failure()).toBeUndefined();
  });

  it('is written down now and then while the link holds', async () => {
    const [primary] = await primaryWith('ANY 1 (*)');
    const before = Date.now();
    const [standby] = await standbyOf(primary, 'b');
    await until(() => (standby.log.native.info().lastContact ?? 0) >= before);
    expect(standby.follower.status().connected).toBe(true);
  });
});
