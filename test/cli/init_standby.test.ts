import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Transfer } from '../../src/cli/transfer.js';
import { until } from '../api/helpers.js';
import { hasAll, portOf, seededStandby, trimmedPrimary } from '../api/seed_nodes.js';
import { names } from '../api/snapshot_ledger.js';
import { tempDir } from '../global/temp.js';
import { TcpProxy } from '../helpers/proxy.js';
import { listeningAddress, Running, succeed, walmirror } from './helpers.js';

describe('walmirror init-standby', () => {
  it('makes a directory of a snapshot and the log, which the application opens', async () => {
    const a = await trimmedPrimary();
    const dir = join(tempDir('cli'), 'b');
    const follow = `127.0.0.1:${portOf(a.log)}`;
    const args = ['init-standby', '--dir', dir, '--follow', follow, '--name', 'b'];
    expect(await succeed(args)).toMatch(
      /^\S+: the state of LSN 180 \(720\.\d kB\) and LSN 1\d\d to 185\n$/,
    );
    // Again: there is nothing left to do.
    const made = JSON.parse(await succeed([...args, '--json']));
    expect(made).toMatchObject({ snapshotLsn: 180, flushLsn: 185 });
    await a.ledger.write(a.log, 20, 4000);
    const b = await seededStandby(portOf(a.log), { dir });
    expect(b.ledger.loads).toEqual([180]);
    await hasAll(b, a.ledger);
    await b.log.close();
    await a.log.close();
  });

  it('copies a log that is there from its beginning', async () => {
    const base = tempDir('cli');
    const [a, b] = [join(base, 'a'), join(base, 'b')];
    const primary = new Running(['primary', '--dir', a, '--listen', '127.0.0.1:0', '--stay']);
    primary.child.stdin.end('one\ntwo\n');
    await expect.poll(() => primary.stdout).toMatch(/committed up to LSN 2/);
    const args = ['init-standby', '--dir', b, '--follow', await listeningAddress(a)];
    expect(await succeed(args)).toBe(`${b}: LSN 1 to 2\n`);
    expect(await succeed(['dump', '--dir', b])).toBe(await succeed(['dump', '--dir', a]));
    await primary.stop();
  });

  it('goes on where it was killed', async () => {
    const a = await trimmedPrimary();
    const proxy = await TcpProxy.open(portOf(a.log));
    const dir = join(tempDir('cli'), 'b');
    const args = ['init-standby', '--dir', dir, '--follow', `127.0.0.1:${proxy.port}`];
    proxy.toStandby.cutAt = { messages: 3, bytes: 0 };
    const first = new Running(args);
    const isBegun = (): boolean => names({ dir }).some((name) => name.endsWith('.seed'));
    await until(isBegun, 'it has begun');
    first.child.kill('SIGKILL');
    await first.ended();
    proxy.toStandby.cutAt = undefined;
    expect(await succeed(args)).toMatch(/the state of LSN 180/);
    expect(names({ dir })).toHaveLength(1);
    await proxy.close();
    await a.log.close();
  });

  it('refuses an address that is none', async () => {
    const dir = join(tempDir('cli'), 'b');
    const { code, stderr } = await walmirror(['init-standby', '--dir', dir, '--follow', 'nowhere']);
    expect(code).toBe(2);
    expect(stderr).toContain('HOST:PORT');
    expect(existsSync(dir)).toBe(false);
  });
});

describe('a transfer', () => {
  it('tells how far it is, how fast, and how long it takes yet', () => {
    let now = 0;
    const transfer = new Transfer(() => now);
    expect(transfer.describe()).toBe('waiting for the primary');
    transfer.moved('snapshot', 0, 1_000_000_000);
    for (let second = 1; second <= 20; second += 1) {
      now = second * 1000;
      transfer.moved('snapshot', second * 10_000_000, 1_000_000_000);
    }
    const bar = '[######------------------------] 20 %, 200.0 MB of 1.00 GB';
    expect(transfer.describe()).toBe(`snapshot: ${bar}, 10.0 MB/s, 1 min 20 s left`);
    transfer.moved('records', 7, 12_000);
    expect(transfer.describe()).toBe('log: LSN 7 of 12,000');
  });
});
