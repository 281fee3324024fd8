import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

const root = join(import.meta.dirname, '../..');

it('simulated-faults loses nothing acknowledged, by any seed', async () => {
  const command = ['examples/simulated-faults.mjs', '3'];
  const { stdout, stderr } = await promisify(execFile)('node', command, { cwd: root });
  expect(stderr).toBe('');
  expect(stdout).toMatch(/^3 seeds, \d+ simulated seconds: nothing acknowledged lost\n$/);
});
