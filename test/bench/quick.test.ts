import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { tempDir } from '../global/temp.js';

const run = promisify(execFile);

interface Result {
  readonly node: string;
  readonly floors: readonly { readonly name: string; readonly value: number }[];
  readonly rows: readonly {
    readonly name: string;
    readonly value: number;
    readonly unit: string;
    readonly floor: number | null;
    readonly ratio: number | null;
    readonly hash?: string;
  }[];
}

async function bench(args: readonly string[], dir: string): Promise<string> {
  const env = { ...process.env, WALMIRROR_BENCH_DIR: dir };
  const { stdout } = await run(process.execPath, ['bench/dist/main.js', ...args], { env });
  return stdout;
}

test('every benchmark runs, gives back what was written, and is in the result', async () => {
  await run('node_modules/.bin/tsc', ['-p', 'bench/tsconfig.json', '--noCheck']);
  const dir = tempDir('bench');
  const names = (await bench(['--list'], dir)).trim().split('\n');
  const json = join(dir, 'result.json');
  await bench(['--quick', '--json', json], dir);
  const result = JSON.parse(await readFile(json, 'utf8')) as Result;

  expect(result.rows.map(({ name }) => name)).toEqual(names);
  expect(result.floors).toHaveLength(7);
  expect(result.node).toBe(process.version);
  for (const { value, unit, floor, ratio } of result.rows) {
    expect(Number.isFinite(value) && value >= 0).toBe(true);
    expect(unit).not.toBe('');
    expect(ratio).toBe(floor === null ? null : value / floor);
  }
  // Recycled and fresh have the same records: a result hangs on what was written, not on time.
  const hashOf = (name: string) => result.rows.find((row) => row.name === name)?.hash;
  for (const name of names.filter((one) => /^(commit|bulk)-/.test(one))) {
    expect(hashOf(name), name).toMatch(/^[0-9a-f]{64}$/);
  }
}, 600_000);

test('an unknown row is bad usage, and names the way out', async () => {
  const args = ['--only', 'no-such-row'];
  await expect(bench(args, tempDir('bench'))).rejects.toMatchObject({
    code: 2,
    stderr: expect.stringContaining('--list'),
  });
});
