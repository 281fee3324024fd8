import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { bootTime } from '../../src/referee/clock.js';
import { fileReferee } from '../../src/referee/file_referee.js';
import type { Referee } from '../../src/referee/referee.js';
import { tempDir } from '../global/temp.js';
import { LeaseHolder } from '../helpers/lease_holder.js';
import { claimOf, reasonOf, syncRule } from './claims.js';
import { goesOnWithNothing } from './stopped.js';

const timing = { ttlMs: 1200, marginMs: 100, renewEveryMs: 200, callTimeoutMs: 400 };

function start(): { holder: LeaseHolder; other: Referee } {
  const dir = tempDir('pause');
  const options = (name: string) => ({
    directory: join(dir, 'shared'),
    memory: join(dir, name),
    timing,
  });
  const [claim, rule] = [claimOf('a'), syncRule('b')];
  const holder = new LeaseHolder({ kind: 'file', options: options('a'), claim, rule });
  const other = fileReferee(options('b'));
  onTestFinished(() => other.close());
  return { holder, other };
}

/** Asks until it is granted the group; when that was, in milliseconds of `bootTime`. */
async function takeOver(other: Referee): Promise<number> {
  for (;;) {
    const askedMs = bootTime();
    const answer = await other.acquire(claimOf('b', { kind: 'promotion' })).catch((error) => {
      // The other process has kept the file for long: it is asked again.
      expect(error).toMatchObject({ code: 'WAL_REFEREE_AWAY' });
    });
    if (answer !== undefined && reasonOf(answer) === 'granted') return askedMs;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

it('a process that is stopped longer than its lease holds nothing when it goes on', async () => {
  const { holder, other } = start();
  expect(await holder.hears('epoch')).toEqual({ epoch: 1, holds: true });
  holder.send('SIGSTOP');
  await goesOnWithNothing(holder, await takeOver(other));
});

it('a blocked event loop holds nothing past its lease, before any timer has run', async () => {
  const { holder, other } = start();
  await holder.hears('epoch');
  holder.ask(`block ${2 * timing.ttlMs}`);
  const takenMs = await takeOver(other);
  const { after, lastHeldMs } = await holder.hears('after');
  expect(after).toBe(false);
  expect(lastHeldMs).toBeLessThan(takenMs);
  await expect.poll(() => holder.said.at(-1)?.state).toBe('lost');
});

it('a pause that is shorter than the lease costs nothing', async () => {
  const { holder } = start();
  await holder.hears('epoch');
  holder.ask('block 50');
  const { after } = await holder.hears('after');
  // On a machine that is busier than the lease is long it has ended, and comes back.
  if (after !== true) await expect.poll(() => holder.said.at(-1)?.state).toBe('held');
  expect(await holder.end()).toBe(0);
});
