import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { missing } from '../global/requirements.js';
import { makeTempDir } from '../global/temp.js';

const reason = missing({ programs: ['strace'] });

interface Said {
  readonly told: readonly number[];
  readonly flushes: { readonly slowestMs: number; readonly slow: number };
}

/** A process whose n-th and later-th writes each take as much longer. */
function delayed(microseconds: number, calls: readonly number[]): Said {
  const dir = makeTempDir('slow');
  const script = resolve(import.meta.dirname, '../fixtures/slow_flush.mjs');
  const delay = `delay_enter=${microseconds}`;
  // In steps: from the first call on, each so many calls later.
  const [from = 0, to = from] = calls;
  const when = `when=${from}..${to}+${Math.max(1, to - from)}`;
  const inject = ['-e', 'trace=pwritev2', '-e', `inject=pwritev2:${delay}:${when}`];
  const args = ['-f', '-qq', '-o', '/dev/null', ...inject, process.execPath, script];
  const { status, stdout, stderr } = spawnSync('strace', [...args, join(dir, 'log')], {
    encoding: 'utf8',
  });
  rmSync(dir, { recursive: true, force: true });
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  return JSON.parse(stdout) as Said;
}

describe.skipIf(reason)('a flush of a second or more', () => {
  it('is told by an event each time, with its figure, and counted in the status', () => {
    // Each thread counts its own calls: the writer's. The second is not slower than the first.
    const { told, flushes } = delayed(1_300_000, [10, 14]);
    expect(told.length).toBe(2);
    for (const each of told) expect(each).toBeGreaterThanOrEqual(1300);
    expect(flushes.slow).toBe(2);
    expect(flushes.slowestMs).toBe(Math.max(...told));
  });

  it('is not told where it is faster', () => {
    const { told, flushes } = delayed(300_000, [10]);
    expect(told).toEqual([]);
    expect(flushes.slow).toBe(0);
    expect(flushes.slowestMs).toBeGreaterThanOrEqual(300);
  });
});
