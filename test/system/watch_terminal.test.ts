import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { openLog, small } from '../api/helpers.js';
import { missing } from '../global/requirements.js';

const reason = missing({ programs: ['script'] });
const main = resolve(import.meta.dirname, '../../dist/cli/main.js');
const ESCAPE = '\u001b';

/**
 * The command on a terminal of its own, which `script` makes. It takes the shell's place: Ctrl-C
 * reaches a shell too, and dash, unlike bash, then ends with 130 whatever the command ended with.
 */
function onTerminal(command: string, env: Readonly<Record<string, string>> = {}) {
  const plain = { ...process.env, SHELL: '/bin/sh', TERM: 'xterm', NO_COLOR: '', ...env };
  const child = spawn('script', ['-qec', `stty cols 90 rows 30; exec ${command}`, '/dev/null'], {
    env: plain,
  });
  let shown = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    shown += chunk;
  });
  child.stdin.on('error', () => undefined);
  const ended = once(child, 'close');
  onTestFinished(async () => {
    if (child.exitCode === null) child.kill('SIGKILL');
    await ended;
  });
  return { child, ended, shown: () => shown };
}

describe.skipIf(reason !== undefined)('status --watch on a real terminal', () => {
  it.each([
    ['in colours', {}, true],
    ['without, where NO_COLOR says so', { NO_COLOR: '1' }, false],
  ])('draws in place, %s, until Ctrl-C, and gives the cursor back', async (_, env, coloured) => {
    const log = await openLog({ ...small, name: 'n' });
    await log.appendAndCommit('a');
    const watch = `status --dir '${log.dir}' --watch --interval 50ms`;
    const command = `'${process.execPath}' '${main}' ${watch}`;
    const { child, ended, shown } = onTerminal(command, env);
    await expect.poll(() => shown().split(`${ESCAPE}[H`).length).toBeGreaterThan(4);
    child.stdin.write('\u0003');
    await ended;
    expect(child.exitCode).toBe(0);
    const text = shown();
    expect(text).toContain('LSN 1 to 1, flushed to 1, committed to 1');
    expect(text.startsWith(`${ESCAPE}[?25l`)).toBe(true);
    expect(text.trimEnd().endsWith(`${ESCAPE}[?25h`)).toBe(true);
    expect(text.includes(`${ESCAPE}[1mn${ESCAPE}[22m`)).toBe(coloured);
  });
});
