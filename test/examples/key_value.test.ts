import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { freshDir } from '../helpers/temp.js';

const run = promisify(execFile);
const root = join(import.meta.dirname, '../..');

it('key-value has its state from the records of the processes before it', async () => {
  const dir = freshDir();
  const store = async (...args: string[]) => {
    const { stdout } = await run('node', ['examples/key-value.mjs', dir, ...args], { cwd: root });
    return stdout;
  };
  expect(await store('set', 'b', 'two')).toBe('record 1 is durable\n');
  expect(await store('set', 'a', '1')).toBe('record 2 is durable\n');
  expect(await store('delete', 'b')).toBe('record 3 is durable\n');
  expect(await store('get', 'b')).toBe('(nothing)\n');
  expect(await store('list')).toBe('a = 1\n');
});
