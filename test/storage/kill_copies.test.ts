import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Log, type OpenOptions } from '../../src/index.js';
import { makeTempDir } from '../global/temp.js';
import { Lives } from '../helpers/lives.js';
import { randomFrom } from '../native/native.js';

/** Lives for each load; WALMIRROR_KILL_ROUNDS for more. */
const ROUNDS = Number(process.env.WALMIRROR_KILL_ROUNDS ?? 26);
const sizes = { segmentBytes: 65536, maxRecordBytes: 8192 } as const;

/** Names and bytes of the segments of a closed log. */
function segments(dir: string): Map<string, string> {
  const names = readdirSync(dir).filter((name) => name.endsWith('.wal'));
  return new Map(names.map((name) => [name, readFileSync(join(dir, name), 'latin1')]));
}

async function expectRefusedAlone(dir: string): Promise<void> {
  await expect(Log.open({ dir, ...sizes })).rejects.toMatchObject({ code: 'WAL_COPY_MISSING' });
}

/** Opened from both, it has both, with the same bytes in each. */
async function expectEqual(dirs: readonly [string, string], acknowledged: number): Promise<void> {
  const log = await Log.open({ dir: dirs, ...sizes });
  try {
    expect(log.status().copies.map(({ state }) => state)).toEqual(['in', 'in']);
    expect(log.status().flushLsn).toBeGreaterThanOrEqual(acknowledged);
  } finally {
    await log.close();
  }
  const [a, b] = dirs.map(segments);
  expect(a?.size).toBeGreaterThan(0);
  expect(a).toEqual(b);
}

async function rounds(load: string, options: Partial<OpenOptions>, parent: string): Promise<void> {
  const random = randomFrom(300 + load.length);
  let dirs: [string, string] = ['', ''];
  let log = new Lives('', load);
  let acknowledged = 0;
  for (let life = 0; life < ROUNDS; life++) {
    if (life % 9 === 0) {
      dirs = [join(parent, `${life}`, 'a'), join(parent, `${life}`, 'b')];
      log = new Lives(dirs, load);
    }
    const after = random(3) === 0 ? 'start' : 'open';
    const milliseconds = after === 'start' ? 60 + random(250) : random(60);
    try {
      const { stderr } = await log.one(life, options, { after, milliseconds });
      expect(stderr).toBe('');
      if (log.acknowledged > 0) {
        for (const dir of dirs) await expectRefusedAlone(dir);
        // The others go into the next life as the kill left them.
        if (life % 2 === 0) await expectEqual(dirs, log.acknowledged);
      }
    } catch (error) {
      throw new Error(`load ${load}, life ${life}`, { cause: error });
    }
    acknowledged += log.acknowledged;
  }
  if (log.acknowledged > 0) await expectEqual(dirs, log.acknowledged);
  expect(acknowledged).toBeGreaterThan(ROUNDS);
}

describe('SIGKILL at any moment of a log with two directories', () => {
  it.concurrent.each<[string, Partial<OpenOptions>]>([
    ['many_committers', {}],
    ['trimming', { ringBytes: 131072 }],
  ])('keeps all on both, equal: %s', { timeout: 40_000 + ROUNDS * 4000 }, async (load, options) => {
    const parent = makeTempDir('kill-copies');
    try {
      await rounds(load, options, parent);
    } finally {
      rmSync(parent, { recursive: true, force: true });
    }
  });
});
