import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { describeOldPrimary, type OldPrimary } from '../../src/api/old_primary.js';
import { promoteDirectory } from '../../src/api/promote_directory.js';
import { controlRequest } from '../../src/control/client.js';
import { Log, type OpenOptions } from '../../src/index.js';
import { decodeControl } from '../format/decode.js';
import { TcpProxy } from '../helpers/proxy.js';
import { freshDir } from '../helpers/temp.js';
import { openLog, reopen, small, until, walError } from './helpers.js';

const stopped = { primaryStopped: true } as const;
const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

async function pair(
  options: Partial<OpenOptions>,
): Promise<{ readonly a: Log; readonly b: Log; readonly proxy: TcpProxy }> {
  const a = await openLog({ ...small, name: 'a', listen: { port: 0 }, ...options });
  const proxy = await TcpProxy.open(a.status().listening?.port ?? 0);
  const b = await openLog({ name: 'b', follow: { port: proxy.port } });
  await b.connected();
  return { a, b, proxy };
}

/** What a promotion that was not told that the primary is stopped says of it. */
async function askedOf(promotion: () => Promise<unknown>): Promise<OldPrimary> {
  const { code, oldPrimary, message } = await walError(promotion);
  expect(code).toBe('WAL_PRIMARY_REACHABLE');
  if (oldPrimary === undefined) throw new Error('it says nothing of the primary');
  expect(message).toBe(describeOldPrimary(oldPrimary).join('; '));
  return oldPrimary;
}

describe('what is known of the old primary', () => {
  it('is told when a promotion is asked for, in the status, and in its result', async () => {
    const { a, b, proxy } = await pair({ synchronousStandbys: 'ANY 1 (*)' });
    await a.appendAndCommit('one');
    await until(() => b.status().commitLsn === 1, 'the commit place');
    const { nodeId } = b.status();
    const rule = {
      synchronousCommit: 'remote_flush',
      synchronousStandbys: 'ANY 1 (*)',
      members: [nodeId],
      member: true,
      degraded: false,
      inForce: true,
    };
    const known = { name: 'a', commitLsn: 1, flushLsn: 1, rule };
    expect(await askedOf(() => b.promote())).toMatchObject({ ...known, connected: true });
    expect(b.status().upstream).toMatchObject({ rule, primaryCommitLsn: 1 });
    const { lastContact } = b.status().upstream ?? {};
    expect(lastContact).toMatch(time);
    await proxy.close();
    await until(() => b.status().upstream?.connected === false, 'the link to go');
    const down = await askedOf(() => b.promote());
    expect(down).toMatchObject({ ...known, connected: false });
    expect(down.lastContact).toMatch(time);
    const throughSocket = askedOf(() => controlRequest(b.dir, { cmd: 'promote' }));
    expect(await throughSocket).toEqual(down);
    const promoted = await b.promote(stopped);
    expect(promoted.oldPrimary).toEqual(down);
    await a.close();
  });

  it('is known of a closed directory, and across restarts', async () => {
    const { a, b, proxy } = await pair({ synchronousStandbys: 'ANY 1 (*)' });
    await a.appendAndCommit('one');
    await until(() => b.status().commitLsn === 1, 'the commit place');
    const { port } = proxy;
    await proxy.close();
    await until(() => b.status().upstream?.connected === false, 'the link to go');
    const down = await askedOf(() => b.promote());
    const again = await reopen(b, { name: 'b', follow: { port } });
    expect(again.status().upstream).toMatchObject({
      lastContact: down.lastContact,
      lastContactMs: null,
      rule: down.rule,
    });
    expect(await askedOf(() => again.promote())).toEqual(down);
    await again.close();
    const { dir } = b;
    const bytes = readFileSync(join(dir, 'control'));
    expect(await askedOf(() => promoteDirectory({ dir }))).toEqual(down);
    expect(readFileSync(join(dir, 'control')).equals(bytes)).toBe(true);
    const promoted = await promoteDirectory({ dir, ...stopped });
    expect(promoted).toMatchObject({ term: { epoch: 2 }, lsn: 1, oldPrimary: down });
    // Nothing was acknowledged in the new term: no rule, until somebody opens it as the primary.
    expect(decodeControl(readFileSync(join(dir, 'control'))).current?.rule).toBeUndefined();
    await a.close();
  });

  it('says that synchronous commit was not in force where it was not', async () => {
    const { a, b, proxy } = await pair({});
    await a.appendAndCommit('one');
    await until(() => b.status().commitLsn === 1, 'the commit place');
    const { rule } = await askedOf(() => b.promote());
    expect(rule).toEqual({
      synchronousCommit: 'local',
      synchronousStandbys: null,
      members: [],
      member: false,
      degraded: false,
      inForce: false,
    });
    await proxy.close();
    await a.close();
  });

  it('does not call a rule in force before the standbys that it asks for have met it', async () => {
    const { a, b, proxy } = await pair({ synchronousStandbys: 'ANY 2 (*)' });
    const pending = a.appendAndCommit('one').catch(() => undefined);
    await until(() => b.status().flushLsn === 1, 'the record');
    await until(() => b.status().upstream?.rule?.members.length === 1, 'the rule with b');
    expect(await askedOf(() => b.promote())).toMatchObject({
      rule: { synchronousStandbys: 'ANY 2 (*)', member: true, inForce: false },
    });
    const c = await openLog({ name: 'c', follow: { port: proxy.port } });
    await c.connected();
    await pending;
    await until(() => b.status().commitLsn === 1, 'the commit place');
    const told = (): boolean => b.status().upstream?.rule?.members.length === 2;
    await until(told, 'the rule with both');
    const { rule } = await askedOf(() => b.promote());
    expect(rule).toMatchObject({ inForce: true, member: true });
    expect(rule?.members).toHaveLength(2);
    await proxy.close();
    await a.close();
  });

  it('follows what the primary is opened with', async () => {
    const { a, b, proxy } = await pair({ synchronousStandbys: 'ANY 1 (*)' });
    await a.appendAndCommit('one');
    const port = a.status().listening?.port ?? 0;
    const local = await reopen(a, { ...small, name: 'a', listen: { port } });
    await until(() => b.status().upstream?.connected === true, 'the link');
    await until(() => b.status().upstream?.rule?.synchronousCommit === 'local', 'the rule');
    expect((await askedOf(() => b.promote())).rule).toMatchObject({ inForce: false });
    await proxy.close();
    await local.close();
  });

  it('the rule of a promoted standby is recorded before it acknowledges', async () => {
    const { a, b, proxy } = await pair({});
    await proxy.close();
    await a.close();
    await b.promote({ ...stopped, synchronousStandbys: 'ANY 1 (c, d)' });
    const { current } = decodeControl(readFileSync(join(b.dir, 'control')));
    expect(current).toMatchObject({
      role: 'primary',
      epoch: 2,
      lastContact: 0,
      rule: { level: 'remote_flush', standbys: 'ANY 1 (c, d)', members: [], degraded: false },
    });
  });

  it('is unknown where nobody was ever heard of', () => {
    const old: OldPrimary = {
      name: '',
      address: '',
      connected: false,
      lastContact: null,
      commitLsn: 0,
      flushLsn: 0,
      rule: null,
    };
    expect(describeOldPrimary(old)).toEqual([
      'the primary was last heard of at an unknown time; ' +
        'last commit LSN heard of 0, flushed here 0',
      'whether synchronous commit was in force is unknown',
    ]);
  });
});

describe('in words', () => {
  const rule = {
    synchronousCommit: 'remote_flush',
    synchronousStandbys: 'ANY 1 (*)',
    members: ['x', 'y'],
    member: true,
    degraded: false,
    inForce: true,
  } as const;
  const old = {
    name: 'a',
    address: '127.0.0.1:1',
    connected: false,
    lastContact: '2026-11-23T00:00:00.000Z',
    commitLsn: 7,
    flushLsn: 5,
  };

  it.each<[string, OldPrimary['rule'], string]>([
    [
      'one of several that had to answer',
      rule,
      'synchronous commit was in force: remote_flush, ANY 1 (*); ' +
        'this node is one of its 2 members, what was committed may be on others only',
    ],
    [
      'all had to answer',
      { ...rule, synchronousStandbys: 'ANY 2 (*)' },
      'synchronous commit was in force: remote_flush, ANY 2 (*); ' +
        'this node is one of its 2 members',
    ],
    [
      'the only one',
      { ...rule, members: ['x'] },
      'synchronous commit was in force: remote_flush, ANY 1 (*); this node is its only member',
    ],
    [
      'no member',
      { ...rule, member: false },
      'synchronous commit was in force: remote_flush, ANY 1 (*); ' +
        'this node is not one of its 2 members, what was committed may be on others only',
    ],
    [
      'not met yet',
      { ...rule, members: ['x'], inForce: false },
      'synchronous commit was asked for, and not yet in force as far as is known here: ' +
        'remote_flush, ANY 1 (*); this node is its only member',
    ],
    [
      'the primary went on alone',
      { ...rule, degraded: true, inForce: false },
      'synchronous commit was degraded: the primary went on alone, this node may miss what was ' +
        'acknowledged; asked for: remote_flush, ANY 1 (*)',
    ],
    [
      'named, and waited for by no commit of the log',
      { ...rule, synchronousCommit: 'local', inForce: false },
      'synchronous commit was not in force (local)',
    ],
  ])('%s', (_, each, text) => {
    expect(describeOldPrimary({ ...old, rule: each })).toEqual([
      'the primary a was last heard of at 2026-11-23T00:00:00.000Z; ' +
        'last commit LSN heard of 7, flushed here 5',
      text,
    ]);
  });
});

describe('synchronousStandbys', () => {
  it('longer than a rule has room for is refused', async () => {
    const dir = freshDir();
    const names = (count: number) => Array.from({ length: count }, (_, i) => `n${i}x`.repeat(10));
    const open = (count: number) =>
      Log.open({ dir, synchronousStandbys: `ANY 1 (${names(count).join(', ')})` });
    await expect(open(64)).rejects.toThrow(/at most 2047 bytes/);
    const log = await open(30);
    await log.close();
    await expect(open(0)).rejects.toThrow(TypeError);
    const coloured = Log.open({ dir, synchronousStandbys: 'ANY 1 ("\u001b[2J")' });
    await expect(coloured).rejects.toThrow(/control characters/);
  });
});
