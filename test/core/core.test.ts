import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, it, onTestFinished } from 'vitest';

/**
 * The C++ tests of the core, in their quick form: every instant of small workloads, a sample of all
 * bits and pairs of sectors. `npm run test:exhaustive` tries all. What they count is printed.
 */
async function make(target: string): Promise<{ code: unknown; output: string }> {
  const args = ['-C', 'native/test', '-j2', '--no-print-directory', target];
  const child = spawn('make', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  onTestFinished(() => {
    child.kill(); // Make ends what it has started.
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const [code] = await once(child, 'close');
  return { code, output };
}

it('passes its own tests, every one', async () => {
  const { code, output } = await make('test');
  const [, passed, failed] = /^(\d+) passed, (\d+) failed$/m.exec(output) ?? [];
  const told = output.replace(/^ok .*\n/gm, '').trimEnd();
  if (code !== 0) throw new Error(`make test: exit code ${code}\n${told}`);
  console.log(told);
  expect(Number(passed)).toBeGreaterThan(100);
  expect(failed).toBe('0');
  // What an issue asks for by number is counted by the tests themselves.
  for (const counted of ['images', 'recoveries', 'bits flipped', 'failed allocations']) {
    expect(output).toMatch(new RegExp(`\\b[1-9]\\d+ ${counted}`));
  }
}, 1_200_000);
