import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { following, killed, pair, rejoin, shown, tailOf, tails } from '../api/rejoin_nodes.js';
import { readLog } from '../format/read_log.js';
import { randomFrom } from '../native/native.js';

const isLong = process.env.WALMIRROR_EXHAUSTIVE !== undefined;
/** Old primaries that come back; WALMIRROR_REJOIN_ROUNDS for another number. */
const ROUNDS = Number(process.env.WALMIRROR_REJOIN_ROUNDS ?? (isLong ? 60 : 2));
/** Of each the first lives, at random moments of which it is killed. */
const KILLS = 6;
const size = 2000;
const count = 500;

/** One life: how long a rejoin took that was not killed; undefined: it was. */
async function life(options: object, killAfterMs: number | undefined): Promise<number | undefined> {
  const program = ['test/fixtures/rejoin.mjs', JSON.stringify(options)];
  const child: ChildProcess = spawn(process.execPath, program, { stdio: ['ignore', 'pipe', 2] });
  const ended = once(child, 'exit');
  let began = 0;
  for await (const line of createInterface({ input: child.stdout! })) {
    if (line === 'begins') {
      began = performance.now();
      if (killAfterMs === undefined) continue;
      await sleep(killAfterMs);
    }
    break;
  }
  const took = performance.now() - began;
  child.kill('SIGKILL');
  const [code, signal] = await ended;
  expect({ code, signal }).toEqual({ code: null, signal: 'SIGKILL' });
  return killAfterMs === undefined ? took : undefined;
}

describe('an old primary that comes back', () => {
  it(`is killed at any moment of it, ${ROUNDS} times ${KILLS}, and keeps its tail aside once`, {
    timeout: 60_000 + ROUNDS * 30_000,
  }, async () => {
    const random = randomFrom(5);
    const left = Array.from({ length: count }, (_, i) => `left ${i} `.padEnd(size, '.'));
    const fresh = Array.from({ length: 50 }, (_, i) => `new ${i}`);
    let slowest = 60;
    let atOnce = 0;
    for (let round = 0; round < ROUNDS; round += 1) {
      const both = await pair({ segmentBytes: 4 << 20, ringBytes: 8 << 20 });
      await both.a.appendAndCommit('one');
      const { image, newer } = await killed(both, left, fresh);
      const options = { dir: image, name: 'a', follow: following(newer) };
      for (let i = 0; i < KILLS; i += 1) await life(options, random(Math.ceil(slowest)));
      // Some of the lives may have got through.
      if (readLog(image).control.role === 'standby') atOnce += 1;
      slowest = Math.max(20, Math.min(300, (await life(options, undefined)) ?? 0));
      const back = await rejoin(image, newer, { rejoin: 'auto' });
      expect(await shown(back, 51)).toEqual(['one', ...fresh]);
      const [tail, ...more] = tails(image);
      expect(more).toEqual([]);
      expect(await tailOf(tail!)).toEqual(left.map((text, i) => `${i + 2} ${text}`));
      await back.close();
      await newer.close();
      expect(readLog(image).damage).toBeUndefined();
    }
    process.stdout.write(
      `${ROUNDS} rejoins, killed ${ROUNDS * KILLS} times; ${atOnce} were through by then\n`,
    );
  });
});
