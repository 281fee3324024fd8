import { execFile } from 'node:child_process';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { freshDir } from '../helpers/temp.js';

const script = resolve(import.meta.dirname, '../fixtures/long_log.mjs');

it('a log of many segments does with few descriptors', async () => {
  const program = 'ulimit -n 128 && exec "$@"';
  const args = ['-c', program, 'sh', process.execPath, script, freshDir(), '300'];
  const { stdout, stderr } = await promisify(execFile)('sh', args, { timeout: 60_000 });
  expect(stderr).toBe('');
  const { last, ...found } = JSON.parse(stdout) as Record<string, number>;
  expect(last).toBeGreaterThan(2000);
  expect(found).toEqual({ read: last, again: last, used: 1 });
}, 90_000);
