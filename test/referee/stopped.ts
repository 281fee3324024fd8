import { expect } from 'vitest';
import type { LeaseHolder } from '../helpers/lease_holder.js';

/**
 * A holder that was stopped goes on, after another was granted the group at `takenMs` of
 * `bootTime`: it holds nothing from before then, and finds out for good.
 */
export async function goesOnWithNothing(holder: LeaseHolder, takenMs: number): Promise<void> {
  const heard = holder.said.length;
  holder.send('SIGCONT');
  holder.ask('look');
  const { holds, lastHeldMs } = await holder.hears('holds', heard);
  expect(holds).toBe(false);
  expect(lastHeldMs).toBeLessThan(takenMs);
  await expect.poll(() => holder.said.at(-1)?.state).toBe('lost');
  expect(await holder.end()).toBe(0);
}
