import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { freshDir } from '../helpers/temp.js';

const fixture = fileURLToPath(new URL('./fixtures/teardown.mjs', import.meta.url));

it.each([
  ['terminatedWorkers', 12, 'kept\n'],
  ['droppedLogs', 20, 'ended\n'],
  ['closedInTheMiddle', 20, 'ended\n'],
  ['closedLogs', 20, 'ended\n'],
  ['exits', 1, ''],
])('%s: no crash, under garbage collection, whatever is under way', (scenario, rounds, said) => {
  const args = ['--expose-gc', fixture, scenario, freshDir(), `${rounds}`];
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, args, {
    encoding: 'utf8',
    timeout: 80_000,
  });
  expect({ status, signal, stdout, stderr }).toEqual({
    status: 0,
    signal: null,
    stdout: said,
    stderr: '',
  });
});
