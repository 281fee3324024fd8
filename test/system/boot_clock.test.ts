import { execFileSync } from 'node:child_process';
import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { missing } from '../global/requirements.js';

const reason = missing({ root: true, programs: ['unshare'] });
const clock = resolve(import.meta.dirname, '../../dist/referee/clock.js');

/** Seconds on our clock, and on that of `process.hrtime`. */
const script = `
import { bootTime } from ${JSON.stringify(clock)};
console.log(JSON.stringify([bootTime() / 1e3, Number(process.hrtime.bigint()) / 1e9]));
`;

function clocks(...before: readonly string[]): [number, number] {
  const node = [process.execPath, '--input-type=module', '-e', script];
  const [program = '', ...args] = [...before, ...node];
  return JSON.parse(execFileSync(program, args, { encoding: 'utf8' }));
}

describe.skipIf(reason)('the clock of leases', () => {
  it('runs on while the machine is suspended, where that of Node stands still', () => {
    // A suspension of a day, as processes see it: CLOCK_BOOTTIME is a day ahead, CLOCK_MONOTONIC
    // is not.
    const day = 86_400;
    const [boot, monotonic] = clocks();
    const [bootLater, monotonicLater] = clocks(
      'unshare',
      '--time',
      '--fork',
      '--boottime',
      `${day}`,
    );
    expect(bootLater - boot).toBeGreaterThanOrEqual(day);
    expect(bootLater - boot).toBeLessThan(day + 60);
    expect(monotonicLater - monotonic).toBeLessThan(60);
  });
});
