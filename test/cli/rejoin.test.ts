import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Log } from '../../src/index.js';
import { openLog, small } from '../api/helpers.js';
import { freshDir } from '../helpers/temp.js';
import { Running, walmirror } from './helpers.js';

/** Ten processes are started, one after the other. */
const slow = { timeout: 120_000 };

it('an old primary says what would go and what to type, then does it', async () => {
  const a = await openLog({ ...small, name: 'a', listen: { port: 0 } });
  const follow = { port: a.status().listening!.port };
  const b = await openLog({ name: 'b', follow, listen: { port: 0 } });
  await b.connected();
  await a.appendAndCommit('one');
  await b.waitFor(1);
  const { dir } = b;
  await b.close();
  await a.appendAndCommit('seen by somebody');
  await a.close();
  const newer = await Log.open({ dir, name: 'b', follow: { port: 1 }, listen: { port: 0 } });
  try {
    await newer.promote({ primaryStopped: true });
    await newer.appendAndCommit('instead');
    const output = join(freshDir('out'), '..', 'records.txt');
    const port = newer.status().listening!.port;
    const args = ['standby', '--dir', a.dir as string, '--name', 'a', '--output', output];
    const at = ['--follow', `127.0.0.1:${port}`];
    const asked = await walmirror([...args, ...at]);
    expect(asked.code).toBe(1);
    expect(asked.stderr).toContain('LSN 2 (1 record), which may have been committed and seen');
    expect(asked.stderr).toMatch(/hint: Look at them: `walmirror dump --from 2`. --rejoin auto /);
    const looked = await walmirror(['dump', '--dir', a.dir as string, '--from', '2']);
    expect(looked.stdout).toBe('seen by somebody\n');
    const told = await walmirror(['status', '--dir', a.dir as string]);
    expect(told.stdout).toMatch(/fenced/);

    const standby = new Running([...args, ...at, '--rejoin', 'auto']);
    await expect.poll(() => standby.stderr + read(output)).toBe('one\ninstead\n');
    expect((await standby.stop()).code).toBe(0);
    const [tail] = readdirSync(a.dir).filter((name) => name.endsWith('.diverged'));
    const kept = await walmirror(['dump', '--tail', join(a.dir as string, tail!)]);
    expect(kept.stdout).toBe('seen by somebody\n');
  } finally {
    await newer.close();
  }
});

it('an old primary that is killed at any moment of it rejoins in the end', slow, async () => {
  const a = await openLog({ ...small, name: 'a', listen: { port: 0 } });
  const follow = { port: a.status().listening!.port };
  const b = await openLog({ name: 'b', follow, listen: { port: 0 } });
  await b.connected();
  await a.appendAndCommit('one');
  await b.waitFor(1);
  const dirs = { a: a.dir as string, b: b.dir as string };
  await b.close();
  const mine = Array.from({ length: 150 }, (_, i) => `mine ${i} ${'x'.repeat(1000)}`);
  a.appendMany(mine);
  await a.commit();
  await a.close();
  const newer = await Log.open({
    dir: dirs.b,
    name: 'b',
    follow: { port: 1 },
    listen: { port: 0 },
  });
  try {
    await newer.promote({ primaryStopped: true });
    await newer.appendAndCommit('instead');
    const at = `127.0.0.1:${newer.status().listening!.port}`;
    const args = ['standby', '--dir', dirs.a, '--name', 'a', '--follow', at, '--rejoin', 'auto'];
    const output = join(freshDir('out'), '..', 'records.txt');
    for (let life = 0; life < 6; life++) {
      const running = new Running([...args, '--output', output]);
      // As soon as it has opened the log: by then it takes some milliseconds.
      await expect.poll(() => existsSync(join(dirs.a, 'control.sock')), { interval: 1 }).toBe(true);
      await new Promise((resolve) => setTimeout(resolve, 3 * life));
      await running.stop('SIGKILL');
      rmSync(join(dirs.a, 'control.sock'), { force: true });
    }
    // One of those that were killed may have got as far as this.
    rmSync(output, { force: true });
    const standby = new Running([...args, '--output', output]);
    // What one that was killed had not told yet of the rebuilding is told again, on stderr.
    await expect.poll(() => read(output)).toBe('one\ninstead\n');
    expect((await standby.stop()).code).toBe(0);
    const names = readdirSync(dirs.a).filter((name) => name.includes('.diverged'));
    expect(names).toHaveLength(1);
    const kept = await walmirror(['dump', '--tail', join(dirs.a, names[0]!)]);
    expect(kept.stdout).toBe(`${mine.join('\n')}\n`);
  } finally {
    await newer.close();
  }
});

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
