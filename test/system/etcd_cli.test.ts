import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Group, type Name } from '../api/group_nodes.js';
import { Running, statusWhen } from '../cli/helpers.js';
import { missing } from '../global/requirements.js';
import { tempDir } from '../global/temp.js';
import { Authority } from '../helpers/certificates.js';
import { EtcdCluster } from '../helpers/etcd.js';

const reason = missing({ programs: ['etcd', 'etcdctl', 'openssl'] });

describe.skipIf(reason)('walmirror with etcd', () => {
  it('shows its certificate and logs in, and its group goes on by itself', async () => {
    const authority = new Authority();
    onTestFinished(() => authority.remove());
    const server = authority.issue({ dns: ['localhost'] });
    const etcd = await EtcdCluster.start(1, { ...server, ca: authority.cert });
    onTestFinished(() => etcd.close());
    for (const command of [
      'user add root:top',
      'user add wal:mirror',
      'role add walrole',
      'user grant-role root root',
      'user grant-role wal walrole',
      'role grant-permission walrole --prefix=true readwrite /walmirror/',
      'auth enable',
    ]) {
      await etcd.etcdctl(0, ...command.split(' '));
    }
    const dir = tempDir('client');
    const file = (name: string, content: string): string => {
      const path = join(dir, name);
      writeFileSync(path, content, { mode: 0o600 });
      return path;
    };
    // Where users are on, etcd's gateway refuses who shows a common name, which it cannot use.
    const client = authority.issue({ commonName: '' });
    const wrong = file('wrong', 'mirrors\n');
    const options = [
      ...['--etcd', etcd.endpoints.join().replaceAll('127.0.0.1', 'localhost')],
      ...['--etcd-group', 'g', '--etcd-ca', file('ca', authority.cert)],
      ...['--etcd-cert', file('cert', client.cert), '--etcd-key', file('key', client.key)],
      ...['--etcd-user', 'wal', '--etcd-password-file'],
    ];
    const group = await Group.make(2);
    const members = group.members.map(({ port }) => `127.0.0.1:${port}`).join(',');
    const of = (name: Name, password: string): string[] => [
      ...['--dir', group.dirs[name], '--name', name, '--listen', `127.0.0.1:${group.ports[name]}`],
      ...['--members', members, ...options, password],
    ];
    const lead = (password: string): Running => {
      const policy = ['--standbys', 'ANY 1 (*)', '--open-alone', '--stay'];
      return new Running(['primary', ...of('a', password), ...policy]);
    };
    const refused = await lead(wrong).ended();
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/etcd refuses: .*authentication failed/);
    expect(refused.stderr).not.toContain('mirrors');

    const password = file('password', 'mirror\n');
    const a = lead(password);
    await statusWhen(group.dirs.a, ({ role }) => role === 'primary');
    const follow = ['--follow', `127.0.0.1:${group.ports.a}`, '--output', '/dev/null'];
    const b = new Running(['standby', ...of('b', password), ...follow]);
    a.child.stdin.write('one\n');
    await statusWhen(group.dirs.b, ({ commitLsn }) => commitLsn === 1);
    await a.stop('SIGKILL');
    await statusWhen(group.dirs.b, ({ role }) => role === 'primary');
    expect(b.child.exitCode).toBeNull();
  });
});
