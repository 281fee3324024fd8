import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { Log } from '../../src/index.js';
import { freshDir } from '../helpers/temp.js';
import { texts } from './helpers.js';

const fixture = fileURLToPath(new URL('./fixtures/unref.mjs', import.meta.url));

it.each([
  ['unref', 0],
  ['ref', 7],
])('%s: the process ends with %i', async (what, expected) => {
  const dir = freshDir();
  const { status, stdout, stderr } = spawnSync(process.execPath, [fixture, dir, what], {
    encoding: 'utf8',
    timeout: 80_000,
  });
  expect({ status, stdout, stderr }).toEqual({ status: expected, stdout: 'ends\n', stderr: '' });
  const log = await Log.open({ dir: `${dir}/a` });
  expect(await texts(log)).toEqual(['flushed at the end']);
  await log.close();
});
