import { appendFileSync, existsSync, readFileSync, statSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Log } from '../../src/api/log.js';
import { createSplitter, type InputFormat } from '../../src/cli/splitter.js';
import { tempDir } from '../global/temp.js';
import { listeningAddress, Running, statusWhen, succeed, walmirror } from './helpers.js';

/** Whole records in a file of this format, and what they take of it. */
function wholeRecords(file: string, format: InputFormat): { count: number; bytes: number } {
  const splitter = createSplitter(format, 8192);
  splitter.feed(readFileSync(file));
  const found = { count: 0, bytes: 0 };
  for (let record = splitter.next(); record !== undefined; record = splitter.next()) {
    found.count += 1;
    found.bytes += record.length + (format === 'lines' ? 1 : 4);
  }
  return found;
}

interface Pair {
  readonly a: string;
  readonly b: string;
  readonly output: string;
  readonly primary: Running;
  readonly standby: Running;
}

async function startPair(standbyArgs: readonly string[] = []): Promise<Pair> {
  const dir = tempDir('cli');
  const [a, b, output] = [join(dir, 'a'), join(dir, 'b'), join(dir, 'b.txt')];
  const listen = ['--listen', '127.0.0.1:0', '--standbys', 'ANY 1 (*)', '--stay'];
  const primary = new Running(['primary', '--dir', a, ...listen]);
  const follow = ['--follow', await listeningAddress(a), '--output', output];
  const standby = new Running(['standby', '--dir', b, ...follow, ...standbyArgs]);
  return { a, b, output, primary, standby };
}

function wholeLines(file: string): number {
  return existsSync(file) ? wholeRecords(file, 'lines').count : 0;
}

function written(file: string): string {
  return existsSync(file) ? readFileSync(file, 'utf8') : '';
}

describe('a primary and its standby', () => {
  it('what is typed in one is seen in the other, and both logs are equal', async () => {
    const { a, b, output, primary, standby } = await startPair();
    primary.child.stdin.write('one\ntwo\n');
    await expect.poll(() => written(output)).toBe('one\ntwo\n');
    primary.child.stdin.end('three\n');
    await expect.poll(() => written(output)).toBe('one\ntwo\nthree\n');
    await expect.poll(() => primary.stdout).toMatch(/committed up to LSN 3/);
    expect((await standby.stop()).code).toBe(0);
    expect((await primary.stop()).code).toBe(0);
    const report = await succeed(['verify', '--dir', a, '--against', b]);
    expect(report).toMatch(/equal: .* no difference/);
  });

  it('a commit waits for the standby, and says so', async () => {
    const dir = tempDir('cli');
    const [a, b] = [join(dir, 'a'), join(dir, 'b')];
    const listen = ['--listen', '127.0.0.1:0', '--standbys', 'ANY 1 (*)'];
    const primary = new Running(['primary', '--dir', a, ...listen]);
    primary.child.stdin.end('one\n');
    const address = await listeningAddress(a);
    await expect.poll(() => primary.stderr).toMatch(/waiting for standbys/);
    expect(primary.stdout).toBe('');
    expect(primary.stderr).toMatch(
      /since 20\S+Z: 1 more standby to connect, for ANY 1 \(\*\); 1 commit, 1 record flushed here/,
    );
    expect(await succeed(['status', '--dir', a])).toMatch(
      /^waits for +1 more standby to connect, for ANY 1 \(\*\); since 20\S+Z, 1 commit$/m,
    );
    new Running(['standby', '--dir', b, '--follow', address]);
    const { code, stdout } = await primary.ended();
    expect(code).toBe(0);
    expect(stdout).toMatch(/1 record,.*committed up to LSN 1/);
  });

  it('status shows both in words', async () => {
    const { a, b } = await startPair();
    await statusWhen(a, ({ standbys }) => standbys[0]?.state === 'live');
    const shown = await succeed(['status', '--dir', a]);
    expect(shown).toMatch(/^node +a, primary, open\nterm +epoch 1, .*\nrecords +none\n/);
    expect(shown).toMatch(
      /^standby +b at 127\.0\.0\.1:\d+, live, sync: write 0, flush 0, apply 0(; .* behind)?$/m,
    );
    await statusWhen(b, ({ upstream }) => upstream?.rule?.inForce === true);
    const other = await succeed(['status', '--dir', b]);
    expect(other).toMatch(/^primary +a at 127\.0\.0\.1:\d+, connected$/m);
    expect(other).toMatch(/^sync commit +in force: remote_flush, ANY 1 \(\*\); this node is its/m);
  });

  it('fails over: the promoted standby goes on from its own input', async () => {
    const { a, b, output, primary, standby } = await startPair([
      '--input',
      '-',
      '--listen',
      '127.0.0.1:0',
    ]);
    primary.child.stdin.write('one\n');
    await expect.poll(() => written(output)).toBe('one\n');
    const early = await walmirror(['promote', '--dir', b]);
    expect(early.code).toBe(1);
    expect(early.stderr).toMatch(/hint: Stop the old primary, then promote with --primary-stopped/);
    expect(early.stderr).toMatch(/the primary a is connected; last commit LSN heard of 1, flushed/);
    expect(early.stderr).toMatch(
      /synchronous commit was in force: remote_flush, ANY 1 \(\*\); this/,
    );
    const asked = await walmirror(['promote', '--dir', b, '--json']);
    expect(JSON.parse(asked.stderr).error).toMatchObject({
      code: 'WAL_PRIMARY_REACHABLE',
      oldPrimary: { name: 'a', connected: true, commitLsn: 1, rule: { inForce: true } },
    });
    expect(await succeed(['status', '--dir', b])).toMatch(
      /^last contact +20.*\nsync commit +in force: /m,
    );
    await primary.stop('SIGKILL');
    const promoted = JSON.parse(
      await succeed(['promote', '--dir', b, '--primary-stopped', '--json']),
    );
    expect(promoted).toMatchObject({ term: { epoch: 2 }, lsn: 1 });
    expect(promoted.oldPrimary).toMatchObject({ name: 'a', commitLsn: 1, rule: { member: true } });
    standby.child.stdin.write('two\n');
    await expect.poll(() => written(output)).toBe('one\ntwo\n');
    const status = await statusWhen(b, ({ role }) => role === 'primary');
    expect(status.listening?.port).toBeGreaterThan(0);
    expect((await standby.stop()).code).toBe(0);
    expect(await succeed(['dump', '--dir', b])).toBe('one\ntwo\n');
    expect(await succeed(['verify', '--dir', a, '--against', b])).toMatch(/no difference/);
  });

  it.each<InputFormat>(['lines', 'frames'])(
    'a standby that is killed again and again goes on after the last whole record: %s',
    async (format) => {
      const pair = await startPair(['--format', format]);
      const { a, b, output, primary } = pair;
      const total = 100_000;
      const records = Array.from({ length: total }, (_, i) => `record ${i} ${'x'.repeat(i % 90)}`);
      const input = `${records.join('\n')}\n`;
      primary.child.stdin.write(input);
      const args = ['standby', '--dir', b, '--follow', await listeningAddress(a)];
      const addTo = [...args, '--output', output, '--format', format];
      let { standby } = pair;
      for (let kill = 0; kill < 4; kill++) {
        const before = existsSync(output) ? statSync(output).size : 0;
        await expect.poll(() => written(output).length, { interval: 1 }).toBeGreaterThan(before);
        await standby.stop('SIGKILL');
        // Wherever the kill fell, this one falls inside a record.
        const { bytes } = wholeRecords(output, format);
        if (bytes > 0 && statSync(output).size === bytes) truncateSync(output, bytes - 2);
        const from = wholeRecords(output, format).count + 1;
        standby = new Running([...addTo, '--from', `${from}`]);
      }
      await expect.poll(() => wholeRecords(output, format).count).toBe(total);
      const { stderr } = await standby.stop();
      expect(stderr).toMatch(/ended inside a record: its \d+ bytes? were cut off/);
      const expected = await succeed(['dump', '--dir', b, '--format', format]);
      expect(written(output) === expected).toBe(true);
      // Without --from the file is made anew, whatever it held.
      appendFileSync(output, 'other');
      standby = new Running(addTo);
      await expect.poll(() => written(output) === expected).toBe(true);
      expect((await standby.stop()).code).toBe(0);
      expect(written(output) === expected).toBe(true);
    },
    60_000,
  );

  it('promotes a closed directory', async () => {
    const { b, output, primary, standby } = await startPair();
    primary.child.stdin.write('one\n');
    await expect.poll(() => written(output)).toBe('one\n');
    await standby.stop();
    await primary.stop('SIGKILL');
    const refused = await walmirror(['primary', '--dir', b], 'two\n');
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/hint: .*[Pp]romote/);
    const early = await walmirror(['promote', '--dir', b]);
    expect(early.code).toBe(1);
    const contact =
      /the primary a was last heard of at (20\S+Z); last commit LSN heard of 1, flushed/;
    expect(early.stderr).toMatch(contact);
    const status = JSON.parse(await succeed(['status', '--dir', b, '--json']));
    expect(status.primary).toMatchObject({
      name: 'a',
      lastContact: contact.exec(early.stderr)?.[1],
      rule: { synchronousStandbys: 'ANY 1 (*)', member: true, inForce: true },
    });
    const sync = 'in force: remote_flush, ANY 1 (*); this node is its only';
    expect(await succeed(['status', '--dir', b])).toMatch(/^records +LSN 1 to 1$/m);
    expect(await succeed(['status', '--dir', b])).toContain(`sync commit   ${sync}`);
    const promoted = await succeed(['promote', '--dir', b, '--primary-stopped']);
    expect(promoted).toMatch(/epoch 2, after LSN 1\nthe primary a was last heard of at /);
    expect(promoted).toContain(`synchronous commit was ${sync}`);
    await succeed(['primary', '--dir', b], 'two\n');
    expect(await succeed(['dump', '--dir', b])).toBe('one\ntwo\n');
  });

  it('the output of a restarted standby holds every record once', async () => {
    const { a, b, output, primary, standby } = await startPair();
    primary.child.stdin.write('one\n');
    await expect.poll(() => written(output)).toBe('one\n');
    await standby.stop('SIGKILL');
    const follow = ['--follow', await listeningAddress(a), '--output', output];
    const again = new Running(['standby', '--dir', b, ...follow]);
    primary.child.stdin.write('two\n');
    await expect.poll(() => written(output)).toBe('one\ntwo\n');
    await again.stop();
    new Running(['standby', '--dir', b, ...follow, '--from', '3']);
    primary.child.stdin.write('three\n');
    await expect.poll(() => written(output)).toBe('one\ntwo\nthree\n');
  });

  it('an output that the log cannot write again is not emptied', async () => {
    const dir = tempDir('cli');
    const [b, output] = [join(dir, 'b'), join(dir, 'b.txt')];
    const small = { segmentBytes: 64 * 1024, maxRecordBytes: 8192 };
    const a = await Log.open({ dir: join(dir, 'a'), listen: { port: 0 }, ...small });
    onTestFinished(() => a.close());
    for (let i = 0; i < 40; i++) {
      await a.drain(8100);
      await a.appendAndCommit(`${i} ${'x'.repeat(8000)}`);
    }
    const follow = ['--follow', `127.0.0.1:${a.status().listening?.port}`];
    const args = ['standby', '--dir', b, ...follow, '--output', output];
    const standby = new Running(args);
    await expect.poll(() => wholeLines(output)).toBe(40);
    const { code, stderr } = await standby.stop();
    expect({ code, stderr }).toEqual({
      code: 0,
      stderr: `walmirror: ${output} ends with LSN 40: go on with --from 41\n`,
    });
    const asLibrary = await Log.open({ dir: b, follow: { port: a.status().listening?.port ?? 0 } });
    await asLibrary.connected();
    await asLibrary.trim(30);
    await expect.poll(() => asLibrary.status().firstLsn).toBeGreaterThan(1);
    await asLibrary.close();
    const before = written(output);
    const refused = await walmirror(args);
    expect(refused.code).toBe(2);
    expect(refused.stderr).toMatch(/is not empty, and the log begins at LSN \d+.*pass --from/);
    expect(written(output) === before).toBe(true);
    const again = new Running([...args, '--from', '41']);
    await a.appendAndCommit('more');
    await expect.poll(() => written(output) === `${before}more\n`).toBe(true);
    await again.stop();
  });

  it('a standby that still waits for its primary ends with 0 at SIGTERM', async () => {
    const dir = tempDir('cli');
    // Nothing listens on port 1.
    const standby = new Running(['standby', '--dir', join(dir, 'b'), '--follow', '127.0.0.1:1']);
    await expect
      .poll(() => standby.stderr)
      .toMatch(/waiting for the primary at 127.0.0.1:1: .*ECONNREFUSED/);
    const { code, stdout } = await standby.stop();
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
  });

  it('a standby that its primary turns away says why, once', async () => {
    const { b, primary, standby } = await startPair();
    await expect.poll(() => existsSync(join(b, 'control.sock'))).toBe(true);
    await standby.stop();
    await primary.stop();
    const other = join(tempDir('cli'), 'other');
    new Running(['primary', '--dir', other, '--listen', '127.0.0.1:0', '--stay']);
    const stray = new Running(['standby', '--dir', b, '--follow', await listeningAddress(other)]);
    const said =
      'walmirror: disconnected: refused by the peer: b holds another log than this primary';
    await expect.poll(() => stray.stderr).toBe(`${said}\n`);
    const { code, stderr } = await stray.stop();
    expect({ code, stderr }).toEqual({ code: 0, stderr: `${said}\n` });
  });

  it('a standby whose output has no reader ends quietly', async () => {
    const { a, primary, standby } = await startPair(['--output', '-']);
    primary.child.stdin.write('one\n');
    await expect.poll(() => standby.stdout).toBe('one\n');
    standby.child.stdout.destroy();
    primary.child.stdin.write('two\nthree\n');
    const { code, stderr } = await standby.ended();
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    await statusWhen(a, ({ standbys }) => standbys.every(({ state }) => state === 'disconnected'));
  });
});
