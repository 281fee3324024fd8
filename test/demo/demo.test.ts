import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { beforeAll, expect, test } from 'vitest';
import { tempDir } from '../global/temp.js';

const run = promisify(execFile);

beforeAll(async () => {
  await run('node_modules/.bin/tsc', ['-p', 'demo/tsconfig.json', '--noCheck']);
}, 120_000);

async function demo(mode: string): Promise<string> {
  const args = ['--rows', '4000', '--mode', mode, '--dir', tempDir('demo')];
  try {
    const { stdout } = await run(process.execPath, ['demo/dist/demo/main.js', ...args]);
    expect(stdout).not.toContain('\u001b[');
    return stdout;
  } catch (error) {
    // What it printed says what went wrong.
    throw new Error(String((error as { stdout?: string }).stdout), { cause: error });
  }
}

test('sync mode loses nothing', async () => {
  expect(await demo('sync')).toContain('sync: nothing that was acknowledged was lost');
}, 120_000);

test('a planted loss is counted', async () => {
  const found = /planted: the counter found the loss, [1-9]\d* records/;
  expect(await demo('planted')).toMatch(found);
}, 120_000);

test('a standby takes over by itself, and nothing is lost', async () => {
  const told = await demo('automatic');
  expect(told).toContain('automatic: the standby took over, and nothing was lost');
  expect(told).toContain('old primary started again: it is a standby now');
}, 120_000);
