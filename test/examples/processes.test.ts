import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

const run = promisify(execFile);
const root = join(import.meta.dirname, '../..');

async function said(...args: readonly string[]): Promise<string> {
  const { stdout, stderr } = await run('node', [...args], { cwd: root });
  expect(stderr).toBe('');
  return stdout;
}

it('cluster sends what its workers serve to the one process that owns the log', async () => {
  const text = await said('examples/cluster.mjs', '2', '50');
  expect(text).toBe('50 requests to 2 workers: 50 LSNs, 50 records\n');
});

it('workers append to the log of the main thread by themselves', async () => {
  const text = await said('examples/workers.mjs', '3', '2000');
  expect(text).toBe('3 workers: 6000 records in order, the last is 6000\n');
});

it('several-logs has many logs in one process, of few threads and little memory', async () => {
  const text = await said('examples/several-logs.mjs', '100', '20');
  const pattern = /^100 logs of 20 records: ([\d.]+) threads and (-?[\d.]+) MiB each\n$/;
  const [, threads, mib] = text.match(pattern)!;
  expect(Number(threads)).toBeLessThanOrEqual(4);
  expect(Number(mib)).toBeLessThan(2);
});
