import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { tempDir } from '../global/temp.js';
import { listeningAddress, Running, statusWhen, succeed, walmirror } from './helpers.js';

describe('a primary that goes on alone', () => {
  it('says so on stderr and in the status, and when it waits for standbys again', async () => {
    const dir = tempDir('cli');
    const [a, b] = [join(dir, 'a'), join(dir, 'b')];
    const policy = ['--standbys', 'ANY 1 (*)', '--when-missing', 'degrade', '--sync-timeout'];
    const listen = ['--listen', '127.0.0.1:0', '--stay'];
    const primary = new Running(['primary', '--dir', a, ...listen, ...policy, '300ms']);
    primary.child.stdin.end('one\n');
    await expect.poll(() => primary.stdout).toMatch(/committed up to LSN 1/);
    const alone = /goes on alone, .*: no answer within 300 ms; missing: 1 more standby to connect/;
    await expect.poll(() => primary.stderr).toMatch(alone);
    const shown = await succeed(['status', '--dir', a]);
    expect(shown).toMatch(
      /^commit +remote_flush ANY 1 \(\*\), when missing degrade after 300 ms$/m,
    );
    expect(shown).toMatch(/^degraded +alone since 20\S+Z: no answer within 300 ms/m);
    new Running(['standby', '--dir', b, '--follow', await listeningAddress(a)]);
    await expect
      .poll(() => primary.stderr)
      .toMatch(/commits wait for standbys again; it went on alone since 20/);
    expect(await succeed(['status', '--dir', a])).not.toMatch(/^degraded/m);
  });
});

describe('walmirror policy', () => {
  it('changes what the commits of a running primary wait for', async () => {
    const a = join(tempDir('cli'), 'a');
    const primary = new Running(['primary', '--dir', a, '--standbys', 'FIRST 1 (b)']);
    primary.child.stdin.end('one\n');
    await statusWhen(a, ({ flushLsn, commitLsn }) => flushLsn === 1 && commitLsn === 0);
    const changing = new Running(['policy', '--dir', a, '--standbys', 'ANY 2 (c, d)']);
    await expect
      .poll(() => changing.stderr)
      .toMatch(/the policy is set; waiting for 2 more standbys to connect, for ANY 2 \(c, d\)/);
    await changing.stop('SIGINT');
    await statusWhen(a, ({ policy }) => policy?.synchronousStandbys === 'ANY 2 (c, d)');
    expect(await succeed(['policy', '--dir', a, '--sync', 'local', '--json'])).toMatch(
      /^\{"synchronousCommit":"local","synchronousStandbys":"ANY 2 \(c, d\)".*"inForce":true\}\n$/,
    );
    const { code, stdout } = await primary.ended();
    expect(code).toBe(0);
    expect(stdout).toMatch(/committed up to LSN 1/);
  });

  it('tells what is wrong in the words that were typed, and where nobody runs', async () => {
    const a = join(tempDir('cli'), 'a');
    const closed = await walmirror(['policy', '--dir', a, '--sync', 'local']);
    expect(closed).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/no process has .*open/),
    });
    const primary = new Running(['primary', '--dir', a]);
    await statusWhen(a, () => true);
    const wrong = await walmirror(['policy', '--dir', a, '--when-missing', 'fail']);
    expect(wrong.code).toBe(1);
    expect(wrong.stderr).toMatch(/--when-missing needs --standbys/);
    const level = await walmirror(['policy', '--dir', a, '--sync', 'remote_flush']);
    expect(level.stderr).toMatch(/--standbys names none/);
    primary.child.stdin.end();
    expect((await primary.ended()).code).toBe(0);
  });
});
