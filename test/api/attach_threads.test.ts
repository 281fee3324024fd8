import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { freshDir } from '../helpers/temp.js';

const fixture = fileURLToPath(new URL('./fixtures/attached.mjs', import.meta.url));

function run(scenario: string) {
  const args = ['--expose-gc', fixture, scenario, freshDir()];
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, args, {
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { status, signal, stdout: stdout.trim(), stderr };
}

it.each([
  ['several', '{"right":true,"all":true}'],
  ['blocked', '{"flushed":50,"last":50,"blocked":true}'],
  ['secondOpen', 'WAL_LOCKED'],
  ['terminated', '{"kept":true,"whole":true}'],
  ['endsAtOnce', '100'],
  ['ownerTerminated', '{"codes":["WAL_CLOSED"],"after":["WAL_CLOSED","WAL_CLOSED","WAL_CLOSED"]}'],
  ['closedAsTheOwnerEnds', '{"end":"WAL_CLOSED unknown","found":["mine"]}'],
  ['exits', 'true'],
  ['closedInTheMiddle', 'ended'],
])(
  '%s: threads that attach to a log',
  (scenario, said) => {
    expect(run(scenario)).toEqual({ status: 0, signal: null, stdout: said, stderr: '' });
  },
  90_000,
);
