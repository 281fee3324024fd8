import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { tempDir } from '../global/temp.js';

const run = promisify(execFile);

test('sync mode loses nothing, and a planted loss is counted', async () => {
  await run('node_modules/.bin/tsc', ['-p', 'demo/tsconfig.json']);
  const args = ['--rows', '4000', '--mode', 'sync', '--mode', 'planted', '--dir', tempDir('demo')];
  const { stdout } = await run(process.execPath, ['demo/dist/demo/main.js', ...args]);
  expect(stdout).toContain('sync: nothing that was acknowledged was lost');
  expect(stdout).toMatch(/planted: the counter found the loss, [1-9]\d* records/);
  expect(stdout).not.toContain('\u001b[');
}, 120_000);
