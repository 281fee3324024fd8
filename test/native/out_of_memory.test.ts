import { execFile } from 'node:child_process';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { tempDir } from '../global/temp.js';

const fixtures = resolve(import.meta.dirname, '../fixtures');
const run = promisify(execFile);

/**
 * The core's own tests fail each of its allocations on a disk in memory (allocation_test.cc). Here
 * it is those of the addon, on a real disk, in a process of its own: a sample of them, or all with
 * WALMIRROR_EXHAUSTIVE. What V8 and Node allocate is not failed: that ends the process by design.
 */
it.each([
  ['alone', '13'],
  ['shared', '7'],
])(
  '%s: tells of an allocation that fails, and keeps what was acknowledged',
  async (kind, some) => {
    const place = tempDir('memory');
    const library = `${place}/failing_allocations.node`;
    const source = `${fixtures}/failing_allocations.cc`;
    await run('g++', ['-std=c++20', '-O1', '-fPIC', '-shared', '-o', library, source, '-ldl']);
    const step = process.env.WALMIRROR_EXHAUSTIVE === undefined ? some : '1';
    const script = `${fixtures}/out_of_memory.mjs`;
    const life = run(process.execPath, [script, library, place, kind, '1', step], {
      env: { ...process.env, LD_PRELOAD: library },
    });
    const { stdout } = await life;
    console.log(stdout.trimEnd());
    const [, failures, errors] = /^(\d+) failed allocations, (\d+) errors$/m.exec(stdout) ?? [];
    expect(Number(failures)).toBeGreaterThan(15);
    expect(Number(errors)).toBeGreaterThan(10);
  },
  240_000,
);
