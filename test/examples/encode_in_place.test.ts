import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

const run = promisify(execFile);
const root = join(import.meta.dirname, '../..');

it('encode-in-place appends both ways, reads that back, and says what it cost', async () => {
  const { stdout } = await run('node', ['examples/encode-in-place.mjs', '2000'], { cwd: root });
  const lines = stdout.trim().split('\n');
  const names = ['a tick by hand', 'a tick', 'a place', 'an order'];
  expect(lines.map((line) => line.split(',')[0])).toEqual(names);
  for (const line of lines) {
    expect(line).toMatch(/append \d+ ns, appendInto \d+ ns, [\d.]+ times as fast; 2000 read back$/);
  }
});
