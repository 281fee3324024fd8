import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, it, onTestFinished } from 'vitest';
import { makeTempDir } from '../global/temp.js';

function fixture(name: string): string {
  return resolve(import.meta.dirname, '../fixtures', name);
}

function parent(): string {
  const dir = makeTempDir('snapshot');
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

it('takes and loads a state of 256 MiB in little memory', () => {
  const args = ['--expose-gc', fixture('snapshot_stream.mjs'), join(parent(), 'log'), '256'];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  const { bytes, loaded, grownBytes } = JSON.parse(stdout) as Record<string, number>;
  expect(bytes).toBe(256 * 1024 * 1024);
  expect(loaded).toBe(bytes);
  expect(grownBytes).toBeLessThan(64 * 1024 * 1024);
}, 120_000);

interface Line {
  readonly from?: number;
  readonly count?: number;
  readonly lsn?: number;
  readonly taken?: number;
}

it('is whole after kill -9, whenever it comes', async () => {
  const dir = join(parent(), 'log');
  let lastTaken = 0;
  let loads = 0;
  for (let round = 0; round < 15; round++) {
    const child = spawn(process.execPath, [fixture('snapshot_loop.mjs'), dir], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const lines: Line[] = [];
    const begun = new Promise<void>((done) => {
      createInterface({ input: child.stdout }).on('line', (line) => {
        lines.push(JSON.parse(line) as Line);
        done();
      });
    });
    const ended = once(child, 'close');
    await Promise.race([begun, ended]);
    await new Promise((done) => setTimeout(done, 40 + round * 7));
    child.kill('SIGKILL');
    await ended;
    const [opened] = lines;
    // The state is that of the log; and it begins no earlier than the last snapshot that was told.
    expect(opened?.count, `round ${round}`).toBe(opened?.lsn);
    expect(opened?.from, `round ${round}`).toBeGreaterThanOrEqual(lastTaken);
    if ((opened?.from ?? 0) > 0) loads += 1;
    lastTaken = lines.findLast(({ taken }) => taken !== undefined)?.taken ?? lastTaken;
  }
  expect(lastTaken).toBeGreaterThan(0);
  expect(loads).toBeGreaterThan(5);
  // Two that are kept, one that was just made, and one that was never finished.
  expect(readdirSync(join(dir, 'snapshots')).length).toBeLessThanOrEqual(4);
}, 120_000);
