import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { tempDir } from '../global/temp.js';
import { Running, statusWhen, succeed, walmirror } from './helpers.js';

function dirs(): { a: string; b: string; both: readonly string[] } {
  // Longer than what a log remembers of a path.
  const parent = join(tempDir('cli'), 'long'.repeat(20));
  mkdirSync(parent);
  const [a, b] = [join(parent, 'a'), join(parent, 'b')];
  return { a, b, both: ['--dir', a, '--dir', b] };
}

function lines(count: number, from = 1): string {
  return Array.from({ length: count }, (_, i) => `${from + i}\n`).join('');
}

describe('two directories from the command line', () => {
  it('hold one log, that every command takes', async () => {
    const { a, b, both } = dirs();
    await succeed(['primary', ...both], lines(1000));
    expect(await succeed(['dump', ...both])).toBe(lines(1000));
    const verified = await succeed(['verify', ...both]);
    expect(verified).toContain(`${a}: ok: LSN 1 to 1,000`);
    expect(verified).toContain(`${b}: ok: LSN 1 to 1,000`);
    expect(await succeed(['verify', '--dir', a, '--against', b])).toContain('equal');
    const status = JSON.parse(await succeed(['status', ...both, '--json']));
    expect(status.copies).toMatchObject([
      { dir: a, state: 'in' },
      { dir: b, state: 'in' },
    ]);
    expect(await succeed(['status', ...both])).toMatch(/copy +\S+, in since/);
  });

  it('serve on while one is deleted, open by word, and heal', async () => {
    const { a, b, both } = dirs();
    const primary = new Running(['primary', ...both, '--stay', '--verbose']);
    primary.child.stdin.write(lines(100));
    await statusWhen(a, ({ commitLsn }) => commitLsn === 100);
    rmSync(a, { recursive: true });
    const dropped = await statusWhen(b, ({ copies }) => copies[0]?.state === 'dropped');
    expect(dropped.state).toBe('open');
    primary.child.stdin.write(lines(100, 101));
    await statusWhen(b, ({ commitLsn }) => commitLsn === 200);
    expect(await succeed(['status', ...both])).toMatch(/copy +\S+, dropped since/);
    primary.child.stdin.end();
    expect(await primary.stop()).toMatchObject({ code: 0 });
    expect(primary.stderr).toContain(`goes on without ${a}`);
    // It was dropped, and that was stored: nobody has to say anything.
    await succeed(['primary', ...both], lines(10, 201));
    mkdirSync(a, { mode: 0o700 });
    await succeed(['primary', ...both], lines(10, 211));
    expect(await succeed(['verify', ...both])).toContain(`${a}: ok: LSN 1 to 220`);
    rmSync(b, { recursive: true });
    const refused = await walmirror(['primary', ...both], lines(1));
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain(b.slice(-50));
    expect(refused.stderr).toContain('has copies that are not given');
    await succeed(['primary', ...both, '--accept-missing', b], lines(10, 221));
    expect(await succeed(['dump', '--dir', b])).toBe(lines(230));
  });

  it('are opened by a quorum', async () => {
    const { a, b, both } = dirs();
    const c = `${b}c`;
    const three = [...both, '--dir', c];
    await succeed(['primary', ...three, '--mirror-quorum', '2'], lines(100));
    expect(await succeed(['status', ...three])).toMatch(
      /quorum +a commit is flushed in 2 of 3 directories/,
    );
    rmSync(a, { recursive: true });
    const running = new Running(['primary', ...three, '--mirror-quorum', '2', '--stay']);
    running.child.stdin.end(lines(10, 101));
    const status = await statusWhen(b, ({ commitLsn }) => commitLsn === 110);
    expect(status).toMatchObject({
      mirrorQuorum: 2,
      copies: [{ state: 'dropped' }, { state: 'in', behind: 0 }, { state: 'in', behind: 0 }],
    });
    expect(await running.stop()).toMatchObject({ code: 0 });
    rmSync(b, { recursive: true });
    const refused = await walmirror(['primary', ...three], lines(1));
    expect(refused.stderr).toContain('has copies that are not given');
    const many = await walmirror(['primary', ...both, '--mirror-quorum', '3'], lines(1));
    expect(many.code).toBe(2);
    expect(many.stderr).toContain('1 to 2; got 3');
    const none = await walmirror(['primary', ...both, '--mirror-quorum', 'x'], lines(1));
    expect(none.stderr).toContain('Say a number');
  });

  it('say which of them is damaged, and are read from the other', async () => {
    const { a, b, both } = dirs();
    await succeed(['primary', ...both], lines(1000));
    for (const name of readdirSync(a).filter((file) => file.endsWith('.wal'))) {
      const bytes = readFileSync(join(a, name));
      bytes.fill(1, 4096, 8192);
      writeFileSync(join(a, name), bytes);
    }
    const verified = await walmirror(['verify', ...both]);
    expect(verified.code).toBe(1);
    expect(verified.stdout).toContain(`${a}: damaged`);
    expect(verified.stdout).toContain(`${b}: ok`);
    expect(await succeed(['dump', ...both])).toBe(lines(1000));
    await succeed(['primary', ...both], lines(1));
    expect(await succeed(['verify', ...both])).toContain(`${a}: ok`);
  });

  it('are scrubbed and repaired from each other', async () => {
    const { a, b, both } = dirs();
    await succeed(['primary', ...both], lines(1000));
    const damage = (dir: string, from: number): void => {
      const [name = ''] = readdirSync(dir).filter((file) => file.endsWith('.wal'));
      const bytes = readFileSync(join(dir, name));
      bytes.fill(1, from, from + 100);
      writeFileSync(join(dir, name), bytes);
    };
    damage(a, 4200);
    const scrubbed = await walmirror(['scrub', ...both]);
    expect(scrubbed.code).toBe(1);
    expect(scrubbed.stdout).toMatch(new RegExp(`^${a}: damaged: `));
    expect(scrubbed.stdout).toMatch(new RegExp(`^${b}: ok: `, 'm'));
    const repaired = await succeed(['repair', ...both]);
    expect(repaired).toContain(`${a}: 1 range repaired`);
    expect(repaired).toContain(`${b}: nothing is damaged`);
    expect(await succeed(['verify', '--dir', a, '--against', b])).toContain('equal');
    damage(a, 4200);
    damage(b, 4200);
    const lost = await walmirror(['repair', ...both]);
    expect(lost.code).toBe(1);
    expect(lost.stdout).toMatch(new RegExp(`^${a}: not repaired: `, 'm'));
    expect(lost.stdout).toMatch(new RegExp(`^${b}: not repaired: `, 'm'));
  });
});
