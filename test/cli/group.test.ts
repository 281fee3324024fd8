import { expect, it } from 'vitest';
import { Group } from '../api/group_nodes.js';
import { openLog, until } from '../api/helpers.js';
import { Running, walmirror } from './helpers.js';

/** Several processes are started, one after the other. */
const slow = { timeout: 120_000 };

it('a group is known from any member, and a forced promotion says why', slow, async () => {
  const group = await Group.make();
  const members = group.members.map(({ port }) => `127.0.0.1:${port}`).join(',');
  const { a, c } = await group.started(['c', 'd']);
  const at = ['--listen', `127.0.0.1:${group.ports.b}`, '--members', members];
  const follow = ['--follow', `127.0.0.1:${group.ports.a}`, '--output', '/dev/null'];
  const standby = new Running(['standby', '--dir', group.dirs.b, '--name', 'b', ...follow, ...at]);
  await until(() => a.status().standbys.length === 3, 'b follows');
  const told = await walmirror(['status', '--dir', group.dirs.b]);
  expect(told.stdout).toMatch(/^member +a at 127\.0\.0\.1:\d+, primary, epoch 1: log to LSN 1/m);
  expect(told.stdout).toMatch(/^member +c at 127\.0\.0\.1:\d+, standby of a, epoch 1: /m);
  const both = () => a.status().policy?.inForce === true;
  await until(both, 'the rule names all');
  await a.close();
  await c.close();
  const promote = ['promote', '--dir', group.dirs.b, '--primary-stopped'];
  const refused = await walmirror(promote);
  expect(refused.code).toBe(1);
  expect(refused.stderr).toMatch(/of the 3 nodes answer .* 3 are needed/);
  expect(refused.stderr).toMatch(/hint: .*--force/);
  const forced = await walmirror([...promote, '--force']);
  expect(forced).toMatchObject({ code: 0, stderr: '' });
  expect(forced.stdout).toMatch(/^forced: .* 3 are needed/m);
  // The old primary is opened as ever, and finds the new one.
  const back = await openLog({ ...group.of('a'), rejoin: 'auto' });
  await back.connected();
  expect(back.status()).toMatchObject({ role: 'standby', upstream: { primary: 'b' } });
  await standby.stop();
});
