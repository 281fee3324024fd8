import { cpSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Log } from '../../src/api/log.js';
import { tempDir } from '../global/temp.js';
import { listeningAddress, Running, succeed, walmirror } from './helpers.js';

const segmentBytes = 64 * 1024;

/** A closed log of five segments, and a copy of it. */
async function twoCopies(): Promise<{ a: string; b: string }> {
  const dir = tempDir('repair');
  const [a, b] = [join(dir, 'a'), join(dir, 'b')];
  const log = await Log.open({ dir: a, segmentBytes, maxRecordBytes: 4096 });
  for (let i = 0; i < 150; i += 1) {
    await log.drain(4096);
    await log.appendAndCommit(`${i}:${'x'.repeat(2000)}`);
  }
  await log.close();
  copy(a, b);
  return { a, b };
}

function copy(from: string, to: string): void {
  cpSync(from, to, { recursive: true, filter: (path) => !/\/(lock|control\.sock)$/.test(path) });
}

function segments(dir: string): string[] {
  return readdirSync(dir)
    .filter((name) => name.endsWith('.wal'))
    .sort((a, b) => (a.slice(17) < b.slice(17) ? -1 : 1))
    .map((name) => join(dir, name));
}

function spoil(path: string, offset: number, bytes = 64): void {
  const content = readFileSync(path);
  for (let i = offset; i < offset + bytes; i += 1) content[i] = (content[i] ?? 0) ^ 0xff;
  writeFileSync(path, content);
}

function expectEqual(a: string, b: string): void {
  const [ours, theirs] = [segments(a), segments(b)];
  expect(ours.length).toBe(theirs.length);
  ours.forEach((path, i) => {
    expect(readFileSync(path).equals(readFileSync(theirs[i] ?? ''))).toBe(true);
  });
}

describe('scrub', () => {
  it('tells that a closed log is whole', async () => {
    const { a } = await twoCopies();
    expect(await succeed(['scrub', '--dir', a])).toMatch(/: ok: 150 records in \d+ batches\n$/);
    const row = JSON.parse(await succeed(['scrub', '--dir', a, '--json']));
    expect(row).toMatchObject({ ok: true, records: 150, damage: [] });
  });

  it('lists every damaged range with file, offset and LSNs, and exits 1', async () => {
    const { a } = await twoCopies();
    const [first, second, third] = segments(a) as [string, string, string];
    spoil(first, 20_000);
    spoil(second, 0);
    rmSync(third);
    const { code, stdout } = await walmirror(['scrub', '--dir', a]);
    expect(code).toBe(1);
    const lines = stdout.trimEnd().split('\n');
    expect(lines).toHaveLength(4);
    expect(lines[0]).toContain(`${a}: damaged: ${first}, offset `);
    expect(lines[0]).toMatch(/bytes, LSN \d+/);
    expect(lines[1]).toContain(`${second}, offset 0, 4,096 bytes, no record: `);
    expect(lines[2]).toContain('the segment is missing');
    expect(lines[3]).toBe(`${a}: 3 damaged ranges`);
    const json = await walmirror(['scrub', '--dir', a, '--json']);
    expect(json.code).toBe(1);
    const { ok, damage } = JSON.parse(json.stdout);
    expect(ok).toBe(false);
    expect(damage[0]).toMatchObject({ part: 'batches', file: first });
    expect(damage[0].offset).toBeLessThan(20_064);
    expect(damage[0].lastLsn).toBeGreaterThanOrEqual(damage[0].firstLsn);
  });

  it('asks the process that has the log open', async () => {
    const { a } = await twoCopies();
    const log = await Log.open({ dir: a });
    try {
      expect(await succeed(['scrub', '--dir', a])).toContain('ok: the sealed segments, ');
      spoil(segments(a)[1] ?? '', 30_000);
      const { code, stdout } = await walmirror(['scrub', '--dir', a]);
      expect(code).toBe(1);
      expect(stdout).toContain(`damaged: ${segments(a)[1]}, offset `);
    } finally {
      await log.close();
    }
  });
});

describe('repair', () => {
  it('writes anew what another copy has, bit for bit', async () => {
    const { a, b } = await twoCopies();
    const [first, second, third, fourth] = segments(a) as [string, string, string, string];
    spoil(first, 20_000);
    spoil(second, 0, segmentBytes);
    rmSync(third);
    truncateSync(fourth, 10_000);
    expect((await walmirror(['verify', '--dir', a])).code).toBe(1);
    await expect(Log.open({ dir: a })).rejects.toMatchObject({ code: 'WAL_CORRUPT' });
    const plan = await succeed(['repair', '--dir', a, '--from-dir', b, '--dry-run']);
    expect(plan).toContain('can be repaired');
    expect((await walmirror(['verify', '--dir', a])).code).toBe(1);
    const done = await succeed(['repair', '--dir', a, '--from-dir', b]);
    expect(done).toContain(`${a}: repaired: ${first}, offset `);
    expect(done).toMatch(/\d+ ranges repaired, \d+(\.\d+)? kB written\n$/);
    await succeed(['verify', '--dir', a, '--against', b]);
    expectEqual(a, b);
    expect(await succeed(['repair', '--dir', a, '--from-dir', b])).toBe(
      `${a}: nothing is damaged\n`,
    );
    const log = await Log.open({ dir: a });
    expect(log.status().flushLsn).toBe(150);
    await log.close();
  });

  it('lists what neither copy has, by LSN, and exits 1', async () => {
    const { a, b } = await twoCopies();
    const before = segments(a)[1] ?? '';
    spoil(before, 20_000);
    spoil(segments(a)[2] ?? '', 20_000);
    spoil(segments(b)[1] ?? '', 20_032);
    const content = readFileSync(before);
    const { code, stdout } = await walmirror(['repair', '--dir', a, '--from-dir', b]);
    expect(code).toBe(1);
    expect(stdout).toMatch(/: not repaired: \S+, offset \d+, [\d,]+ bytes, LSN \d+.*damaged too\n/);
    expect(stdout).toContain('1 range repaired');
    expect(readFileSync(before).equals(content)).toBe(true);
    const json = await walmirror(['repair', '--dir', a, '--from-dir', b, '--json']);
    expect(json.code).toBe(1);
    expect(JSON.parse(json.stdout)).toMatchObject({ ok: false, damage: [{ repaired: false }] });
  });

  it('fetches from a node that listens, by range', async () => {
    const { a, b } = await twoCopies();
    const running = new Running(['primary', '--dir', b, '--listen', '127.0.0.1:0']);
    const address = await listeningAddress(b);
    spoil(segments(a)[0] ?? '', 20_000, 3000);
    rmSync(segments(a)[2] ?? '');
    const done = await succeed(['repair', '--dir', a, '--from', address]);
    expect(done).toContain('2 ranges repaired');
    await succeed(['verify', '--dir', a]);
    spoil(segments(a)[1] ?? '', 20_000);
    spoil(segments(b)[1] ?? '', 20_000);
    const { code, stdout } = await walmirror(['repair', '--dir', a, '--from', address]);
    expect(code).toBe(1);
    expect(stdout).toContain('refused by the peer: the peer has no batch that verifies at');
    await running.stop();
    const gone = await walmirror(['repair', '--dir', a, '--from', address]);
    expect(gone.code).toBe(1);
    expect(gone.stdout).toMatch(/not repaired: .*ECONNREFUSED/);
    const two = ['repair', '--dir', a, '--from', address, '--from-dir', b];
    expect(await walmirror(two)).toMatchObject({ code: 2 });
    const off = await walmirror(['repair', '--dir', a, '--from', '192.0.2.1:1']);
    expect(off).toMatchObject({ code: 1, stderr: expect.stringMatching(/nothing is encrypted/) });
  });

  it('needs no other copy for what follows from the log itself', async () => {
    const { a, b } = await twoCopies();
    for (const path of segments(a)) spoil(path, 0, 100);
    expect(await succeed(['repair', '--dir', a])).toContain('repaired');
    expectEqual(a, b);
    spoil(segments(a)[0] ?? '', 20_000);
    const { code, stdout } = await walmirror(['repair', '--dir', a]);
    expect({ code, stdout }).toMatchObject({ code: 1 });
    expect(stdout).toContain('it takes another copy of the log, and none was named');
  });

  it('refuses the log itself, another log, no log, an open log, a lost control file', async () => {
    const { a, b } = await twoCopies();
    const other = join(tempDir('repair'), 'other');
    await succeed(['primary', '--dir', other], 'x\n');
    const failing = async (...args: string[]) => {
      const { code, stderr } = await walmirror(['repair', ...args]);
      return `${code}: ${stderr}`;
    };
    expect(await failing('--dir', a, '--from-dir', a)).toMatch(/^2: .*is the log itself/);
    expect(await failing('--dir', a, '--from-dir', other)).toMatch(/^1: .*holds another log/);
    expect(await failing('--dir', a, '--from-dir', `${a}x`)).toMatch(/^1: .*there is no log in/);
    expect(await failing('--dir', `${a}x`)).toMatch(/^1: .*there is no log in/);
    const log = await Log.open({ dir: a });
    expect(await failing('--dir', a, '--from-dir', b)).toMatch(/^1: .*is locked by process/);
    await log.close();
    spoil(join(a, 'control'), 0, 32_768);
    expect(await failing('--dir', a, '--from-dir', b)).toMatch(/^1: .*neither copy in .* verifies/);
    rmSync(join(a, 'control'));
    expect(await failing('--dir', a, '--from-dir', b)).toMatch(/^1: .*control is missing/);
  });
});
