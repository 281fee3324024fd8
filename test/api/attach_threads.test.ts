import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { freshDir } from '../helpers/temp.js';

const fixture = fileURLToPath(new URL('./fixtures/attached.mjs', import.meta.url));

function run(scenario: string, dir = freshDir()) {
  const args = ['--expose-gc', fixture, scenario, dir];
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, args, {
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { status, signal, stdout: stdout.trim(), stderr };
}

it.each([
  ['several', '{"right":true,"all":true}'],
  ['blocked', '{"appended":50,"flushed":50,"last":50}'],
  ['secondOpen', 'WAL_LOCKED'],
  ['terminated', '{"kept":true,"whole":true}'],
  ['endsAtOnce', '100'],
  ['ownerTerminated', '{"codes":["WAL_CLOSED"],"after":["WAL_CLOSED","WAL_CLOSED","WAL_CLOSED"]}'],
  ['closedAsTheOwnerEnds', '{"end":"WAL_CLOSED unknown","found":["mine"]}'],
  ['closedInTheMiddle', 'ended'],
])(
  '%s: threads that attach to a log',
  (scenario, said) => {
    expect(run(scenario)).toEqual({ status: 0, signal: null, stdout: said, stderr: '' });
  },
  90_000,
);

it('exits: a process with threads that append leaves all that it had appended', () => {
  const dir = freshDir();
  expect(run('exits', dir)).toEqual({ status: 0, signal: null, stdout: 'true', stderr: '' });
  expect(run('left', dir).stdout).toBe('{"own":101,"inOrder":true,"whole":true}');
}, 90_000);
