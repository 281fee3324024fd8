import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { OpenOptions } from '../../src/index.js';
import { makeTempDir } from '../global/temp.js';
import { type Death, Lives } from '../helpers/lives.js';
import { randomFrom } from '../native/native.js';

/** Rounds for each load; WALMIRROR_KILL_ROUNDS for more. */
const ROUNDS = Number(process.env.WALMIRROR_KILL_ROUNDS ?? 34);

/** Many lives, a new log every few of them, each life ended by SIGKILL. */
async function rounds(
  load: string,
  options: Partial<OpenOptions>,
  seed: number,
  parent: string,
): Promise<void> {
  const random = randomFrom(seed);
  let log = new Lives(join(parent, '0'), load);
  let acknowledged = 0;
  for (let life = 1; life <= ROUNDS; life++) {
    if (life % 8 === 0) log = new Lives(join(parent, `${life}`), load);
    const death: Death =
      random(4) === 0
        ? { after: 'start', milliseconds: 60 + random(250) }
        : { after: 'open', milliseconds: random(50) };
    try {
      const { stderr } = await log.one(life, options, death);
      expect(stderr).toBe('');
    } catch (error) {
      throw new Error(`load ${load}, seed ${seed}, life ${life}`, { cause: error });
    }
    acknowledged += log.acknowledged;
  }
  expect(acknowledged).toBeGreaterThan(ROUNDS);
}

describe('SIGKILL at any moment takes nothing acknowledged and adds nothing', () => {
  it.concurrent.each<[string, Partial<OpenOptions>]>([
    ['one', {}],
    ['many_committers', {}],
    ['off', { padded: true }],
    ['bulk', { ringBytes: 131072 }],
    ['many', { sharedMemory: false }],
    ['trimming', {}],
  ])('under the load %s', { timeout: 120_000 + ROUNDS * 12_000 }, async (load, options) => {
    const parent = makeTempDir('kill');
    try {
      await rounds(load, options, 1000 + load.length, parent);
    } finally {
      rmSync(parent, { recursive: true, force: true });
    }
  });
});
