import { chmodSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { FileMemory } from '../../src/referee/memory.js';
import { laterSeen, pastFault, type Seen } from '../../src/referee/seen.js';
import { tempDir } from '../global/temp.js';

const before: Seen = {
  origin: 'o',
  revision: 10n,
  epoch: 4,
  leader: { version: 3n, digest: 'a' },
  rule: { version: 7n, digest: 'b' },
};
const none = { version: 0n, digest: '' };

describe('a referee of the past', () => {
  it.each<[Partial<Seen>, RegExp | undefined]>([
    [{}, undefined],
    [{ revision: 11n }, undefined],
    [{ revision: 11n, epoch: 5, leader: { version: 11n, digest: 'c' } }, undefined],
    [{ revision: 11n, rule: { version: 11n, digest: 'c' } }, undefined],
    [{ origin: 'another' }, /it is another one: another, and was o/],
    [{ revision: 9n }, /its revision is 9, and was 10 before/],
    // It has been written to since it was restored.
    [{ revision: 20n, epoch: 3 }, /its epoch is 3, and was 4 before/],
    [{ revision: 20n, epoch: 0 }, /it knows of no primary, and had granted epoch 4/],
    [{ revision: 20n, leader: { version: 3n, digest: 'c' } }, /epoch 4 is another grant/],
    [{ revision: 20n, leader: { version: 2n, digest: 'c' } }, /epoch 4 is another grant/],
    [{ revision: 20n, rule: { version: 6n, digest: 'c' } }, /the rule .* is an older one/],
    [{ revision: 20n, rule: { version: 7n, digest: 'c' } }, /the rule .* is an older one/],
    [{ revision: 20n, rule: none }, /the rule .* is an older one/],
  ])('%o', (change, message) => {
    const fault = pastFault(before, { ...before, ...change });
    if (message === undefined) expect(fault).toBeUndefined();
    else expect(fault).toMatch(message);
  });

  it('is not one whose answers come in another order than they were asked for', () => {
    const later = { ...before, revision: 12n };
    expect(laterSeen(later, before)).toBe(later);
    expect(laterSeen(before, later)).toBe(later);
    expect(laterSeen(undefined, before)).toBe(before);
  });
});

describe('what was seen', () => {
  it('is kept in a file that only its owner reads, to the bit', async () => {
    const path = join(tempDir('memory'), 'new', 'seen.json');
    const memory = new FileMemory(path);
    expect(await memory.load()).toBeUndefined();
    const seen = { ...before, revision: 2n ** 63n - 1n };
    await memory.store(before);
    await memory.store(seen);
    expect(await new FileMemory(path).load()).toEqual(seen);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readFileSync(path, 'utf8')).toMatch(/"9223372036854775807"/);
    await memory.clear();
    expect(await memory.load()).toBeUndefined();
  });

  it('is kept where nobody else writes, and follows no link', async () => {
    const dir = tempDir('memory');
    const open = join(dir, 'open');
    mkdirSync(open);
    chmodSync(open, 0o777);
    await expect(new FileMemory(join(open, 'seen.json')).store(before)).rejects.toMatchObject({
      code: 'WAL_IO',
      message: expect.stringContaining(`others may write in ${open}`),
    });
    const [victim, path] = [join(dir, 'victim'), join(dir, 'seen.json')];
    writeFileSync(victim, 'precious');
    symlinkSync(victim, `${path}.new`);
    await new FileMemory(path).store(before);
    expect(readFileSync(victim, 'utf8')).toBe('precious');
    symlinkSync(path, join(dir, 'link'));
    const loaded = new FileMemory(join(dir, 'link')).load();
    await expect(loaded).rejects.toMatchObject({ code: 'WAL_IO' });
  });

  it('cannot be kept: that is told, with the file', async () => {
    const path = join(tempDir('memory'), 'a', 'seen.json');
    await new FileMemory(join(path, '..')).store(before);
    const stored = new FileMemory(path).store(before);
    await expect(stored).rejects.toMatchObject({ code: 'WAL_IO', file: path });
  });
});
