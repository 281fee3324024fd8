import {
  appendFileSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeTempDir, tempDir } from '../global/temp.js';
import { freshDir } from '../helpers/temp.js';
import { TestLog } from '../native/native.js';
import { walmirror } from './helpers.js';

/** A log of 59 records of which 21 to 59 were cut; they fill more than one segment. */
async function forked(dir: string): Promise<{ tail: string; log: TestLog }> {
  const first = await TestLog.openPrimary({ dir });
  for (let lsn = 1; lsn <= 20; lsn++) await first.batch(record(lsn));
  const fork = await first.settled();
  for (let lsn = 21; lsn <= 59; lsn += 3) {
    await first.batch(record(lsn), record(lsn + 1), record(lsn + 2));
  }
  await first.settled();
  await first.close();
  const log = await TestLog.open({ dir });
  await log.native.truncate(fork.position, 'x.diverged');
  return { tail: join(dir, 'x.diverged'), log };
}

function record(lsn: number): string {
  return `${lsn} ${'x'.repeat(1200)}`;
}

function lines(from: number, to: number): string {
  let text = '';
  for (let lsn = from; lsn <= to; lsn++) text += `${record(lsn)}\n`;
  return text;
}

async function dump(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await walmirror(['dump', ...args]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return stdout;
}

describe('dump --tail', () => {
  let dir: string;
  let tail: string;
  let whole: Buffer;

  beforeAll(async () => {
    dir = makeTempDir('tail');
    const made = await forked(dir);
    ({ tail } = made);
    await made.log.close();
    whole = readFileSync(tail);
    expect(whole.length).toBeGreaterThan(4096 + 32_000);
  });

  afterAll(() => rmSync(dir, { recursive: true }));

  function damaged(change: (path: string) => void): string {
    const path = join(tempDir('damaged'), 'y.diverged');
    writeFileSync(path, whole);
    change(path);
    return path;
  }

  async function refusal(path: string): Promise<{ stdout: string; stderr: string }> {
    const result = await walmirror(['dump', '--tail', path]);
    expect(result.code, result.stderr).toBe(1);
    expect(result.stderr).toMatch(/^error: .+\nhint: .+\n$/);
    return result;
  }

  it('prints the records that were cut, by LSN', async () => {
    expect(await dump('--tail', tail)).toBe(lines(21, 59));
    expect(await dump('--tail', tail, '--from', '25', '--to', '31')).toBe(lines(25, 31));
    expect(await dump('--tail', tail, '--from', '60')).toBe('');
    const [row] = (await dump('--tail', tail, '--to', '21', '--format', 'json')).split('\n');
    expect(JSON.parse(row!)).toMatchObject({ lsn: 21, data: record(21), term: { epoch: 1 } });
  });

  it('is for its owner alone, as the log is', () => {
    expect(statSync(tail).mode & 0o777).toBe(0o600);
  });

  it('says where it begins, when asked for what lies before it', async () => {
    const { code, stderr } = await walmirror(['dump', '--tail', tail, '--from', '20']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/begins with LSN 21/);
  });

  it('prints the same when the log has gone on, and was cut again', async () => {
    const own = freshDir('again');
    const { tail: first, log } = await forked(own);
    const opener = 'cc'.repeat(16);
    await log.native.storeRole('standby', { epoch: 4, opener, incarnation: 1 }, 'c', '');
    await log.close();
    let again = await TestLog.openPrimary({ dir: own });
    for (let i = 0; i < 60; i++) await again.batch(`other ${i}`);
    await again.settled();
    await again.close();
    again = await TestLog.open({ dir: own });
    const { position } = again.native.info().history.at(-1)!;
    await again.native.truncate(position, 'x.diverged');
    await again.close();
    expect(readdirSync(own).filter((name) => name.includes('diverged'))).toHaveLength(2);
    expect(await dump('--tail', first)).toBe(lines(21, 59));
    const others = Array.from({ length: 60 }, (_, i) => `other ${i}\n`).join('');
    expect(await dump('--tail', join(own, 'x-2.diverged'))).toBe(others);
    expect(await dump('--dir', own)).toBe(lines(1, 20));
  });

  it('prints what is whole before damage, then names file, offset and reason', async () => {
    const at = 4096 + Math.floor((whole.length - 4096) / 2);
    const path = damaged((file) => {
      const bytes = Buffer.from(whole);
      bytes[at]! ^= 1;
      writeFileSync(file, bytes);
    });
    const { stdout, stderr } = await refusal(path);
    expect(stderr).toMatch(/y\.diverged at offset \d+: the checksum does not match/);
    expect(stdout.length).toBeGreaterThan(1000);
    expect(lines(21, 59).startsWith(stdout)).toBe(true);
    const offset = Number(/offset (\d+)/.exec(stderr)![1]);
    expect(offset).toBeLessThanOrEqual(at);
    expect(at - offset).toBeLessThan(4096 + 200);
  });

  it('tells a file that ends early, at the end of a batch too', async () => {
    // The last batch: three records of 1204 bytes or so, behind its header.
    const records = 3 * (4 + Math.ceil(record(59).length / 4) * 4);
    const last = Math.ceil((128 + records) / 8) * 8;
    for (const cut of [1, 100, last - 100, last]) {
      const path = damaged((file) => truncateSync(file, whole.length - cut));
      const { stdout, stderr } = await refusal(path);
      expect(stderr).toMatch(/the file ends early/);
      expect(stdout).toBe(lines(21, 56));
    }
  });

  it('reads nothing behind its end', async () => {
    const path = damaged((file) => appendFileSync(file, 'more'));
    expect(await dump('--tail', path)).toBe(lines(21, 59));
  });

  it.each([
    ['a segment', () => join(dir, readdirSync(dir).find((name) => name.endsWith('.wal'))!)],
    ['the control file', () => join(dir, 'control')],
    ['an empty file', () => damaged((file) => truncateSync(file, 0))],
  ])('refuses %s', async (_, path) => {
    const { stderr } = await refusal(path());
    expect(stderr).toMatch(/is no tail that was set aside/);
  });

  it('refuses a damaged header, and a file that is not there', async () => {
    const path = damaged((file) => {
      const bytes = Buffer.from(whole);
      bytes[73]! ^= 1;
      writeFileSync(file, bytes);
    });
    expect((await refusal(path)).stderr).toMatch(/checksum of the header/);
    const { code, stderr } = await walmirror(['dump', '--tail', join(dir, 'no.diverged')]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/no such file/);
  });
});
