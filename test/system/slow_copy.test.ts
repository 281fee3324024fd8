import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Log } from '../../src/index.js';
import { missing } from '../global/requirements.js';
import { tempDir } from '../global/temp.js';

const reason = missing({ programs: ['strace'] });
const DELAY_MS = 1000;

interface Said {
  readonly slowestMs: number;
  readonly behind: readonly number[];
  readonly mirrorQuorum: number;
  readonly commitLsn: number;
  readonly states: readonly string[];
}

/** A process to which each write to the log in the last directory takes so much longer. */
async function withASlowDisk(quorum: number): Promise<Said> {
  const parent = tempDir('slow');
  const dirs = ['a', 'b', 'c'].map((name) => join(parent, name));
  await (await Log.open({ dir: dirs })).close();
  const slow = dirs[2] ?? '';
  const [segment = ''] = readdirSync(slow).filter((name) => name.endsWith('.wal'));
  const script = resolve(import.meta.dirname, '../fixtures/slow_copy.mjs');
  const only = ['-P', join(slow, segment), '-e', 'trace=pwritev2'];
  const inject = ['-e', `inject=pwritev2:delay_enter=${DELAY_MS * 1000}:when=3..6`];
  const args = ['-f', '-qq', '-o', '/dev/null', ...only, ...inject];
  const { status, stdout, stderr } = spawnSync(
    'strace',
    [...args, process.execPath, script, `${quorum}`, ...dirs],
    { encoding: 'utf8' },
  );
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  const two = await Log.open({ dir: dirs.slice(1), acceptMissing: dirs.slice(0, 1) });
  expect(two.status().flushLsn).toBe(20);
  await two.close();
  return JSON.parse(stdout) as Said;
}

describe.skipIf(reason)('a disk of three that stalls', () => {
  it('holds no commit up with a quorum of two, and has all when the log is closed', async () => {
    const { slowestMs, behind, states, mirrorQuorum, commitLsn } = await withASlowDisk(2);
    expect({ states, mirrorQuorum, commitLsn }).toEqual({
      states: ['in', 'in', 'in'],
      mirrorQuorum: 2,
      commitLsn: 20,
    });
    expect(slowestMs).toBeLessThan(DELAY_MS);
    expect(behind.slice(0, 2)).toEqual([0, 0]);
    expect(behind[2]).toBeGreaterThan(0);
  });

  it('holds commits up without one', async () => {
    const { slowestMs, behind } = await withASlowDisk(3);
    expect(slowestMs).toBeGreaterThanOrEqual(DELAY_MS);
    expect(behind.slice(0, 2)).toEqual([0, 0]);
    // What is committed is there; the block that an idle log writes for itself may be on its way.
    expect(behind[2]).toBeLessThanOrEqual(4096);
  });
});
