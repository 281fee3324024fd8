import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { missing } from '../global/requirements.js';
import { makeTempDir } from '../global/temp.js';
import { type Life, Lives } from '../helpers/lives.js';

/**
 * strace ends, fails or cuts short the n-th system call of a kind, in whichever thread comes to it
 * first.
 */
const reason = missing({ programs: ['strace'] });

/** A program in front of the child that does this to its n-th call. */
function injecting(call: string, what: string, n: number): string[] {
  const inject = `inject=${call}:${what}:when=${n}`;
  return ['strace', '-f', '-qq', '-o', '/dev/null', '-e', `trace=${call}`, '-e', inject];
}

const ended = { after: 'end', milliseconds: 0 } as const;

/** For every n: a life that is hit at its n-th call, then one that is not, on the same log. */
async function forEveryCall(
  call: string,
  what: string,
  most: number,
  hit: (told: Life) => boolean,
): Promise<number> {
  const parent = makeTempDir('inject');
  let hits = 0;
  try {
    for (let n = 1; n <= most; n++) {
      const dir = join(parent, `${n}`);
      const log = new Lives(dir, 'finite');
      const before = injecting(call, what, n);
      try {
        const told = await log.one(1, {}, ended, before);
        if (hit(told)) hits += 1;
        // Once more on a log that is there, and not cleanly closed: recovery is hit as well.
        const again = await log.one(2, {}, ended, before);
        if (hit(again)) hits += 1;
        const last = await log.one(3, {}, ended);
        expect(last).toMatchObject({ code: 0, stderr: '' });
      } catch (error) {
        throw new Error(`${call} ${what}, call ${n}`, { cause: error });
      }
      rmSync(dir, { recursive: true, force: true });
    }
  } finally {
    rmSync(parent, { recursive: true, force: true });
  }
  return hits;
}

describe.skipIf(reason)('a system call', () => {
  it.concurrent.each([
    ['pwritev2', 24],
    ['fdatasync', 6],
    ['fsync', 6],
    ['rename', 4],
    ['fallocate', 4],
    ['ftruncate', 1],
    ['unlink', 2],
  ])('that is the last one of a killed process loses nothing: %s', async (call, most) => {
    const hits = await forEveryCall(call, 'signal=SIGKILL', most, ({ signal, code }) => {
      return signal === 'SIGKILL' || code === 137;
    });
    expect(hits).toBeGreaterThanOrEqual(Math.min(most, 2));
  });

  it.concurrent.each([
    ['pwritev2', 'EIO', 18],
    ['pwritev2', 'ENOSPC', 8],
    ['fdatasync', 'EIO', 5],
    ['fsync', 'EIO', 4],
    ['rename', 'EIO', 3],
  ])('that fails is final, and loses nothing: %s, %s', async (call, error, most) => {
    const hits = await forEveryCall(call, `error=${error}`, most, ({ code, stderr }) => {
      if (code === 0) return false;
      // Either it did not open, or it failed for good and says so again.
      expect(stderr).toMatch(/WAL_(FLUSH_FAILED|IO|FAILED|NO_SPACE)/);
      return true;
    });
    expect(hits).toBeGreaterThan(0);
  });

  it.concurrent.each([
    ['pwritev2', 'EINTR', 12],
    ['fallocate', 'EINTR', 3],
    ['fallocate', 'ENOSPC', 3],
  ])('that can be done otherwise is: %s, %s', async (call, error, most) => {
    await forEveryCall(call, `error=${error}`, most, ({ code, stderr, opened }) => {
      // A log that cannot be made for want of space is the one thing that may fail.
      if (error === 'ENOSPC' && opened === undefined) return true;
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      return false;
    });
  });
});
