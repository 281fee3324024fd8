import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { Group, type Name } from '../api/group_nodes.js';
import { tempDir } from '../global/temp.js';
import { inThisProcess, Running, statusWhen, succeed, walmirror } from './helpers.js';

const primary = ['primary', '--dir', './a'];
const etcd = ['--etcd', 'http://127.0.0.1:1', '--etcd-group', 'g'];
const user = ['--etcd-user', 'u'];

describe('what is said of a referee', () => {
  /** Files in the directory of the test. */
  const [secret, open, spaced] = ['./secret', './open', './spaced'];

  it.each([
    [['--etcd-group', 'g'], /--etcd-group needs --etcd or --referee-file/],
    [['--etcd-key', secret], /--etcd-key needs --etcd or/],
    [['--etcd-cert', secret], /--etcd-cert needs --etcd or/],
    [user, /--etcd-user needs --etcd or/],
    [['--maximum-lag', '1'], /--maximum-lag needs --etcd or/],
    [['--etcd', 'http://127.0.0.1:1'], /--etcd needs --etcd-group too/],
    [[...etcd, '--referee-file', './r'], /one of them decides, not both/],
    [[...etcd, ...user], /--etcd-user and --etcd-password-file go together/],
    [[...etcd, '--etcd-password-file', secret], /go together/],
    [[...etcd, ...user, '--etcd-password-file', open], /others than its owner can read it/],
    [[...etcd, ...user, '--etcd-password-file', './none'], /cannot read it/],
    [[...etcd, '--etcd-token-file', open], /--etcd-token-file: .*others than its owner/],
    [[...etcd, '--etcd-token-file', spaced], /--etcd-token-file: takes .* without spaces/],
    [
      [...etcd, ...user, '--etcd-password-file', secret, '--etcd-token-file', secret],
      /--etcd-token-file is instead of --etcd-user/,
    ],
    [['--etcd', 'http://10.0.0.1:1', '--etcd-group', 'g'], /is off loopback, and not encrypted/],
    [[...etcd, '--etcd-ca', secret], /takes https URLs with tls/],
  ])('%j is refused', async (args, said) => {
    const dir = tempDir('secrets');
    writeFileSync(join(dir, secret), 'hidden\n', { mode: 0o600 });
    writeFileSync(join(dir, open), 'hidden\n', { mode: 0o644 });
    writeFileSync(join(dir, spaced), 'a b\n', { mode: 0o600 });
    const typed = args.map((arg) => (arg.startsWith('./') ? join(dir, arg) : arg));
    const { code, stderr } = await inThisProcess([...primary, ...typed]);
    expect(code).toBeGreaterThan(0);
    expect(stderr).toMatch(said);
    expect(stderr).not.toContain('hidden');
  });
});

it('pause and resume need a process that has the log open', async () => {
  const dir = tempDir('nobody');
  for (const command of ['pause', 'resume']) {
    const { code, stderr } = await walmirror([command, '--dir', join(dir, 'a')]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/no process has .*a open/);
  }
});

it('failover is by itself, but while it is paused', { timeout: 60_000 }, async () => {
  const group = await Group.make(2);
  const members = group.members.map(({ port }) => `127.0.0.1:${port}`).join(',');
  const referee = ['--referee-file', join(tempDir('referee'), 'r')];
  const standbys = ['--standbys', 'ANY 1 (*)'];
  const of = (name: Name): string[] => [
    ...['--dir', group.dirs[name], '--name', name, '--listen', `127.0.0.1:${group.ports[name]}`],
    ...['--members', members, ...referee],
  ];
  const a = new Running(['primary', ...of('a'), ...standbys, '--open-alone', '--stay']);
  await statusWhen(group.dirs.a, ({ role }) => role === 'primary');
  const follow = ['--follow', `127.0.0.1:${group.ports.a}`, '--output', '/dev/null'];
  const b = new Running(['standby', ...of('b'), ...follow]);
  a.child.stdin.write('one\ntwo\n');
  await statusWhen(group.dirs.b, ({ commitLsn }) => commitLsn === 2);

  const told = 'failover by itself is paused\n';
  const pause = ['pause', '--dir', group.dirs.b, '--reason', 'the switch is replaced'];
  expect(await succeed(pause)).toBe(told);
  await statusWhen(group.dirs.a, ({ referee }) => referee?.pause?.by === 'b');
  await a.stop('SIGKILL');
  await statusWhen(group.dirs.b, (status) => status.referee?.held === false);
  await sleep(1000);
  const still = await statusWhen(group.dirs.b, () => true);
  expect(still).toMatchObject({ role: 'standby', referee: { pause: { by: 'b' } } });
  expect(still.referee?.reason).toMatch(/paused/);
  expect(await succeed(['resume', '--dir', group.dirs.b])).toBe('failover by itself is resumed\n');
  await statusWhen(group.dirs.b, ({ role }) => role === 'primary');
  expect(b.child.exitCode).toBeNull();
});
