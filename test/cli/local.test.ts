import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  cpSync,
  openSync,
  readdirSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { errorCodes } from '../../src/index.js';
import { tempDir } from '../global/temp.js';
import { Running, statusWhen, succeed, walmirror } from './helpers.js';

function logDir(): string {
  return join(tempDir('cli'), 'log');
}

function frame(data: Uint8Array): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32LE(data.length);
  return Buffer.concat([length, data]);
}

describe('primary', () => {
  it('appends and commits each line, and sums up', async () => {
    const dir = logDir();
    const out = await succeed(['primary', '--dir', dir, '--json'], 'one\ntwo\nthree\n');
    const summary = JSON.parse(out);
    expect(summary).toMatchObject({
      role: 'primary',
      term: { epoch: 1, incarnation: 1 },
      appendLsn: 3,
      flushLsn: 3,
      commitLsn: 3,
      records: 3,
      bytes: 11,
    });
    expect(summary.seconds).toBeGreaterThan(0);
    expect(await succeed(['dump', '--dir', dir])).toBe('one\ntwo\nthree\n');
  });

  it('keeps empty lines, carriage returns and a last line without its end', async () => {
    const dir = logDir();
    await succeed(['primary', '--dir', dir], 'a\r\n\n\nlast');
    const rows = (await succeed(['dump', '--dir', dir, '--format', 'json'])).trim().split('\n');
    expect(rows.map((row) => JSON.parse(row).data)).toEqual(['a\r', '', '', 'last']);
  });

  it('goes on where an earlier run ended', async () => {
    const dir = logDir();
    await succeed(['primary', '--dir', dir], '1\n2\n');
    await succeed(['primary', '--dir', dir], '3\n');
    expect(await succeed(['dump', '--dir', dir, '--from', '2'])).toBe('2\n3\n');
  });

  it('takes frames, and dump gives the same bytes back', async () => {
    const dir = logDir();
    const input = Buffer.concat([
      frame(Buffer.from([0, 10, 255])),
      frame(Buffer.alloc(0)),
      frame(Buffer.alloc(300_000, 7)),
    ]);
    await succeed(['primary', '--dir', dir, '--format', 'frames'], input);
    const dump = spawn(process.execPath, [
      'dist/cli/main.js',
      'dump',
      '--dir',
      dir,
      '--format',
      'frames',
    ]);
    const chunks: Buffer[] = [];
    dump.stdout.on('data', (chunk) => chunks.push(chunk));
    await once(dump, 'close');
    expect(Buffer.concat(chunks).equals(input)).toBe(true);
  });

  it('commits the lines before an over-long one, and names its number', async () => {
    const dir = logDir();
    const input = Buffer.concat([Buffer.from('1\n2\n'), Buffer.alloc(16 * 1024 * 1024 + 1, 97)]);
    const { code, stderr } = await walmirror(['primary', '--dir', dir], input);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^error: line 3 is longer than 16777216 bytes\n$/);
    expect(await succeed(['dump', '--dir', dir])).toBe('1\n2\n');
  });

  it('says that the input ends inside a frame', async () => {
    const dir = logDir();
    const input = frame(Buffer.from('abc')).subarray(0, 6);
    const { code, stderr } = await walmirror(
      ['primary', '--dir', dir, '--format', 'frames'],
      input,
    );
    const { hint } = errorCodes.WAL_BAD_FRAME;
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: `error: the input ends inside frame 1 (offset 0)\nhint: ${hint}\n`,
    });
  });

  it('commits a live pipe line by line', async () => {
    const dir = logDir();
    const primary = new Running(['primary', '--dir', dir]);
    for (let n = 1; n <= 3; n += 1) {
      primary.child.stdin.write(`${n}\n`);
      await statusWhen(dir, ({ commitLsn }) => commitLsn === n);
    }
    primary.child.stdin.end();
    expect((await primary.ended()).code).toBe(0);
  });

  it('stays until SIGTERM with --stay, and leaves a cleanly closed log', async () => {
    const dir = logDir();
    const primary = new Running(['primary', '--dir', dir, '--stay', '--json']);
    primary.child.stdin.end('1\n');
    await expect.poll(() => primary.stdout).toMatch(/"records":1/);
    expect(JSON.parse(await succeed(['status', '--dir', dir, '--json']))).toMatchObject({
      schema: 1,
      state: 'open',
      role: 'primary',
      commitLsn: 1,
    });
    const { code, stderr } = await primary.stop();
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(JSON.parse(await succeed(['status', '--dir', dir, '--json']))).toMatchObject({
      schema: 1,
      state: 'closed',
      role: 'primary',
      appendLsn: 1,
      commitLsn: 1,
      closedCleanly: true,
    });
  });

  it.each(['SIGTERM', 'SIGINT'] as const)('commits what it has read at %s', async (signal) => {
    const dir = logDir();
    const primary = new Running(['primary', '--dir', dir]);
    primary.child.stdin.write('1\n2\nhalf a li');
    await statusWhen(dir, ({ commitLsn }) => commitLsn === 2);
    const { code, stdout } = await primary.stop(signal);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^2 records/);
    expect(await succeed(['dump', '--dir', dir])).toBe('1\n2\n');
  });

  it('tells who holds the lock', async () => {
    const dir = logDir();
    const primary = new Running(['primary', '--dir', dir]);
    await statusWhen(dir, () => true);
    const { code, stderr } = await walmirror(['primary', '--dir', dir], 'x\n');
    expect(code).toBe(1);
    expect(stderr).toContain(String(primary.child.pid));
    primary.child.stdin.end();
    await primary.ended();
  });

  it('waits for standbys, says so, and fails after the time-out when told to', async () => {
    const dir = logDir();
    const policy = [
      '--standbys',
      'ANY 1 (*)',
      '--when-missing',
      'fail',
      '--sync-timeout',
      '1500ms',
    ];
    const { code, stderr } = await walmirror(['primary', '--dir', dir, ...policy], '1\n');
    expect(code).toBe(1);
    expect(stderr).toMatch(/waiting for standbys/);
    expect(stderr).toMatch(/^error: .*1,?500/m);
  });

  it('takes a large file in flat memory, with back-pressure', { timeout: 60_000 }, async () => {
    const dir = tempDir('cli');
    const input = join(dir, 'input');
    const block = Buffer.from(`${'x'.repeat(4095)}\n`.repeat(1024));
    const file = openSync(input, 'w');
    for (let n = 0; n < 100; n += 1) writeSync(file, block);
    closeSync(file);
    const primary = new Running(['primary', '--dir', join(dir, 'log'), '--input', input, '--stay']);
    primary.child.stdin.end();
    await expect.poll(() => primary.stdout, { timeout: 50_000 }).toMatch(/102,400 records/);
    const status = readFileSync(`/proc/${primary.child.pid}/status`, 'utf8');
    const peak = Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]);
    // The ring (64 MiB) and what Node itself takes.
    expect(peak).toBeLessThan(256 * 1024);
    await primary.stop();
  });
});

describe('dump', () => {
  it('works beside the process that has the log open, and changes nothing', async () => {
    const dir = logDir();
    const primary = new Running(['primary', '--dir', dir]);
    primary.child.stdin.write('1\n2\n');
    await statusWhen(dir, ({ commitLsn }) => commitLsn === 2);
    expect(await succeed(['dump', '--dir', dir])).toBe('1\n2\n');
    primary.child.stdin.end();
    await primary.ended();
    const before = contents(dir);
    await succeed(['dump', '--dir', dir]);
    await succeed(['verify', '--dir', dir]);
    await succeed(['status', '--dir', dir]);
    expect(contents(dir)).toEqual(before);
  });

  it('ends quietly when its reader has seen enough', async () => {
    const dir = logDir();
    await succeed(['primary', '--dir', dir], `${'x'.repeat(1000)}\n`.repeat(5000));
    const command = `"$0" dist/cli/main.js dump --dir "$1" | head -n 1; echo "$\{PIPESTATUS[0]}"`;
    const shell = spawn('bash', ['-c', command, process.execPath, dir]);
    const [stdout, stderr] = await Promise.all([text(shell.stdout), text(shell.stderr)]);
    expect({ stdout, stderr }).toEqual({ stdout: `${'x'.repeat(1000)}\n0\n`, stderr: '' });
  });

  it.each([['dump'], ['status'], ['verify', '--json'], ['primary']])(
    '%s fails when its output cannot be written',
    async (name, ...more) => {
      const dir = logDir();
      await succeed(['primary', '--dir', dir], 'a\n');
      const command = `"$0" dist/cli/main.js "$@" < /dev/null > /dev/full; echo "$?"`;
      const args = [name, '--dir', dir, ...more];
      const shell = spawn('bash', ['-c', command, process.execPath, ...args]);
      const [stdout, stderr] = await Promise.all([text(shell.stdout), text(shell.stderr)]);
      expect(stdout).toBe('1\n');
      expect(stderr.replace(/^{"error":(.*)}$/m, '$1')).toMatch(/ENOSPC: no space left.*\n$/);
      expect(stderr).not.toMatch(/ {4}at /);
    },
  );

  it('goes across segments', { timeout: 60_000 }, async () => {
    const dir = logDir();
    const line = 'y'.repeat(99_999);
    const input = `${line}\n`.repeat(1500);
    await succeed(['primary', '--dir', dir], input);
    expect(readdirSync(dir).filter((name) => name.endsWith('.wal')).length).toBeGreaterThan(2);
    expect((await succeed(['dump', '--dir', dir])) === input).toBe(true);
    const one = await succeed(['dump', '--dir', dir, '--from', '1499', '--to', '1499']);
    expect(one === `${line}\n`).toBe(true);
    expect(await succeed(['dump', '--dir', dir, '--from', '1501'])).toBe('');
  });
});

describe('verify', () => {
  it('finds a sound log sound', async () => {
    const dir = logDir();
    await succeed(['primary', '--dir', dir], '1\n2\n');
    expect(await succeed(['verify', '--dir', dir])).toMatch(/: ok: LSN 1 to 2, 2 records in/);
    expect(JSON.parse(await succeed(['verify', '--dir', dir, '--json']))).toMatchObject({
      ok: true,
      records: 2,
      end: { lsn: 2 },
    });
  });

  it('reports damage with file, offset and LSN, and exits 1', async () => {
    const dir = logDir();
    await succeed(['primary', '--dir', dir], 'first\nsecond\n');
    const segment = join(dir, readdirSync(dir).find((name) => name.endsWith('.wal')) ?? '');
    const bytes = readFileSync(segment);
    bytes[bytes.indexOf('second')] = 0;
    writeFileSync(segment, bytes);
    const { code, stdout } = await walmirror(['verify', '--dir', dir]);
    expect(code).toBe(1);
    expect(stdout).toMatch(/damaged: .*\.wal, offset \d+, LSN \d+: ./);
    const json = await walmirror(['verify', '--dir', dir, '--json']);
    expect(json.code).toBe(1);
    expect(JSON.parse(json.stdout)).toMatchObject({ ok: false, damage: { file: segment } });
  });

  it('does not call a damaged copy equal', async () => {
    const [a, b] = [logDir(), logDir()];
    await succeed(['primary', '--dir', a], 'first\n');
    await succeed(['primary', '--dir', a], 'second\n');
    cpSync(a, b, { recursive: true });
    expect(await succeed(['verify', '--dir', a, '--against', b])).toMatch(/^equal: .*\n$/m);
    const segment = join(b, readdirSync(b).find((name) => name.endsWith('.wal')) ?? '');
    const bytes = readFileSync(segment);
    bytes[bytes.indexOf('second')] = 0;
    writeFileSync(segment, bytes);
    for (const [one, other] of [
      [a, b],
      [b, a],
    ] as const) {
      const args = ['verify', '--dir', one, '--against', other];
      const { code, stdout } = await walmirror(args);
      expect(code).toBe(1);
      expect(stdout.trimEnd().split('\n').at(-1)).toMatch(
        /^compared in part: .* no difference up to LSN 1, position \d+; the rest was not.*damaged$/,
      );
      expect(stdout).toContain(`the rest was not compared: ${b} is damaged`);
      const json = await walmirror([...args, '--json']);
      expect(json.code).toBe(1);
      expect(JSON.parse(json.stdout)).toMatchObject({
        ok: false,
        comparison: { toLsn: 1, damaged: [b] },
      });
    }
  });

  it('refuses to compare different logs', async () => {
    const [a, b] = [logDir(), logDir()];
    await succeed(['primary', '--dir', a], '1\n');
    await succeed(['primary', '--dir', b], '1\n');
    const { code, stderr } = await walmirror(['verify', '--dir', a, '--against', b]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/hold different logs/);
  });
});

function contents(dir: string): Record<string, string> {
  const files = readdirSync(dir).filter((name) => name !== 'control.sock');
  return Object.fromEntries(
    files.map((name) => [name, readFileSync(join(dir, name)).toString('latin1')]),
  );
}

async function text(stream: NodeJS.ReadableStream): Promise<string> {
  let all = '';
  for await (const chunk of stream) all += chunk;
  return all;
}
