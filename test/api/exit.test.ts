import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { expectStatus } from '../helpers/status_schema.js';
import { freshDir } from '../helpers/temp.js';
import { openLog, texts } from './helpers.js';

const fixture = fileURLToPath(new URL('./fixtures/process.mjs', import.meta.url));

interface Ended {
  readonly code: number | null;
  readonly output: string;
  readonly milliseconds: number;
}

function run(scenario: string, dir: string): Promise<Ended> {
  const start = performance.now();
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [fixture, scenario, dir], {
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: 80_000,
    });
    let output = '';
    child.stdout.on('data', (text: Buffer) => {
      output += text.toString();
    });
    child.stderr.on('data', (text: Buffer) => {
      output += text.toString();
    });
    child.once('error', reject);
    child.once('close', (code) =>
      resolve({ code, output, milliseconds: performance.now() - start }),
    );
  });
}

describe('at the end of the process', () => {
  it.each([
    ['runsOut', 0, 'appended'],
    ['exitsInTheSameTurn', 0, ''],
    ['exitsWithACommitPending', 0, ''],
    ['throws', 1, 'uncaught'],
    ['awaitsACommit', 0, 'committed'],
    ['worker', 0, 'worker ended with 0'],
  ])('%s: what was appended is flushed', async (scenario, code, said) => {
    const dir = freshDir();
    const ended = await run(scenario, dir);
    expect(ended).toMatchObject({ code, output: expect.stringContaining(said) });
    const log = await openLog({ dir });
    expect((await texts(log)).length).toBe(100);
    expect(log.status().recovery.clean).toBe(true);
  });

  it.each([
    ['localStays', ''],
    ['primaryStays', 'stayed\n'],
    ['standbyStays', 'stayed\n'],
  ])('%s: a log that has others to serve keeps it alive until closed', async (scenario, said) => {
    expect(await run(scenario, freshDir())).toMatchObject({ code: 0, output: said });
  });

  it('a live reader alone does not keep the process alive', async () => {
    const ended = await run('readsLive', freshDir());
    // Node's own code for a main module that waits for ever.
    expect(ended).toMatchObject({ code: 13, output: expect.stringContaining('read') });
  });

  it('a failed flush ends every wait, present and later, with one error', async () => {
    const dir = freshDir();
    const ended = await run('flushFails', dir);
    const [first = '', second = ''] = ended.output.split('\n');
    const found = JSON.parse(first) as { same: boolean[] };
    expect(found).toMatchObject({
      code: 'WAL_FLUSH_FAILED',
      outcome: 'unknown',
      events: 1,
      state: 'failed',
      refused: { code: 'WAL_FAILED', outcome: 'refused' },
    });
    expect(found.same).toEqual(found.same.map(() => true));
    expectStatus(JSON.parse(second));
    expect(JSON.parse(second)).toMatchObject({
      lastError: { code: 'WAL_FLUSH_FAILED' },
      commitLsn: 100,
      failure: { code: 'WAL_FLUSH_FAILED' },
    });
    const log = await openLog({ dir });
    expect((await texts(log)).length).toBeGreaterThanOrEqual(100);
  });

  it('a terminated worker leaves what it had closed, and its lock is gone', async () => {
    const ended = await run('terminatedWorker', freshDir());
    expect(ended.code).toBe(0);
    const found = Number(/found (\d+)/.exec(ended.output)?.[1]);
    expect(found).toBeGreaterThanOrEqual(100);
  });
});
