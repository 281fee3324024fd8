import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Group } from '../api/group_nodes.js';
import { until } from '../api/helpers.js';
import { tempDir } from '../global/temp.js';
import { freshDir } from '../helpers/temp.js';
import { Running, statusWhen, succeed, walmirror } from './helpers.js';

/** Several processes are started, one after the other. */
const slow = { timeout: 60_000 };

it('a planned change of roles, there and back, with the processes going on', slow, async () => {
  const group = await Group.make(2);
  const { dirs, ports } = group;
  const members = group.members.map(({ port }) => `127.0.0.1:${port}`).join(',');
  const at = (name: 'a' | 'b') => [
    ...['--dir', dirs[name], '--name', name, '--listen', `127.0.0.1:${ports[name]}`],
    ...['--members', members],
  ];
  const a = new Running(['primary', ...at('a'), '--open-alone', '--standbys', '*', '--stay']);
  a.child.stdin.write('one\n');
  await statusWhen(dirs.a, ({ role }) => role === 'primary');
  const output = join(tempDir('out'), 'out');
  const follow = ['--follow', `127.0.0.1:${ports.a}`, '--output', output];
  const b = new Running(['standby', ...at('b'), ...follow]);
  await statusWhen(
    dirs.b,
    ({ upstream, flushLsn }) => upstream?.connected === true && flushLsn === 1,
  );
  await statusWhen(dirs.a, ({ policy }) => policy?.inForce === true);

  const refused = await walmirror(['switchover', '--dir', dirs.a, '--to', 'x']);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toContain('no standby of the name x is connected; there is b');
  const told = await succeed(['switchover', '--dir', dirs.a, '--to', 'b', '--timeout', '30s']);
  expect(told).toMatch(/^b is the primary now, epoch 2, after LSN 1; no appends .* \d+ ms$/m);
  await statusWhen(
    dirs.a,
    ({ role, upstream }) => role === 'standby' && upstream?.connected === true,
  );
  const group1 = JSON.parse(await succeed(['status', '--dir', dirs.a, '--members', '--json']));
  expect(group1).toMatchObject([
    { name: 'a', role: 'standby', epoch: 2, follows: 'b', connected: true, lag: 0 },
    { name: 'b', role: 'primary', epoch: 2, follows: null, address: `127.0.0.1:${ports.b}` },
  ]);
  const text = await succeed(['status', '--dir', dirs.b, '--members']);
  expect(text).toMatch(/^NAME +ROLE +EPOCH +LSN +LAG +FOLLOWS +ADDRESS$/m);
  expect(text).toMatch(/^a +standby +2 +1 +0 +b +127/m);
  expect(await succeed(['status', '--dir', dirs.b])).toMatch(
    /^role +primary since .*: switchover$/m,
  );

  // What comes meanwhile waits for the node to be the primary again.
  a.child.stdin.write('two\n');
  await walmirror(['switchover', '--dir', dirs.b, '--to', 'a']);
  await statusWhen(dirs.a, ({ role, flushLsn }) => role === 'primary' && flushLsn === 2);
  await until(() => readFileSync(output, 'utf8') === 'one\ntwo\n', 'b writes what comes');

  expect(await succeed(['demote', '--dir', dirs.a])).toContain('is a standby now');
  await statusWhen(
    dirs.a,
    ({ role, roleReason }) => role === 'standby' && roleReason === 'demoted',
  );
  await succeed(['promote', '--dir', dirs.b, '--primary-stopped']);
  await statusWhen(dirs.a, ({ upstream }) => upstream?.primary === 'b' && upstream.connected);
  for (const running of [b, a]) expect((await running.stop()).code).toBe(0);
});

it('is for a process that runs', async () => {
  const gone = await walmirror(['switchover', '--dir', freshDir(), '--to', 'b']);
  expect(gone.stderr).toMatch(/^error: no process has .* open$/m);
  expect((await walmirror(['switchover', '--dir', freshDir()])).code).toBe(2);
});
