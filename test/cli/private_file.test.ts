import { chmodSync, chownSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  directoryFault,
  fileFault,
  readPrivateFile,
  readTrustedFile,
  writingFault,
} from '../../src/cli/private_file.js';
import { tempDir } from '../global/temp.js';

const me = 1000;
const somebody = 1001;

describe('a file that others are kept off', () => {
  it.each([
    ['mine, for me alone', me, 0o600, undefined],
    ['mine, readable by me alone', me, 0o400, undefined],
    ['mine, readable by my group', me, 0o640, /others than its owner can read it \(mode 0640\)/],
    ["root's, readable by a group", 0, 0o640, undefined],
    ["root's, writable by a group", 0, 0o660, /others than its owner/],
    ["root's, readable by all", 0, 0o644, /others than its owner/],
    ["somebody else's", somebody, 0o600, /its owner is user 1001, neither root nor the one who/],
  ])('that is %s', (_, uid, mode, fault) => {
    const found = fileFault({ uid, mode: 0o100000 | mode }, me);
    if (fault === undefined) expect(found).toBeUndefined();
    else expect(found).toMatch(fault);
  });

  it.each([
    ['mine, readable by all', me, 0o644, undefined],
    ["root's, readable by all", 0, 0o644, undefined],
    ['mine, writable by my group', me, 0o664, /others than its owner can write it \(mode 0664\)/],
    ["root's, writable by all", 0, 0o646, /others than its owner can write it/],
    ["somebody else's", somebody, 0o644, /its owner is user 1001/],
  ])('may be read, and not written: %s', (_, uid, mode, fault) => {
    const found = writingFault({ uid, mode: 0o100000 | mode }, me);
    if (fault === undefined) expect(found).toBeUndefined();
    else expect(found).toMatch(fault);
  });

  it('that is for a group is not for root', () => {
    expect(fileFault({ uid: 0, mode: 0o100640 }, 0)).toMatch(/others than its owner/);
  });

  it.each([
    ['mine', me, 0o755, undefined],
    ["root's, for all, but each may remove their own files only", 0, 0o1777, undefined],
    ['mine, writable by all', me, 0o777, /everybody can write its directory \(mode 0777\)/],
    ["somebody else's", somebody, 0o755, /the owner of its directory is user 1001/],
  ])('in a directory that is %s', (_, uid, mode, fault) => {
    const found = directoryFault({ uid, mode: 0o040000 | mode }, me);
    if (fault === undefined) expect(found).toBeUndefined();
    else expect(found).toMatch(fault);
  });

  it('is read where all may read it and nobody else write it', () => {
    const path = join(tempDir('trusted'), 'ca.pem');
    writeFileSync(path, 'x');
    chmodSync(path, 0o644);
    expect(String(readTrustedFile('--tls-ca', path))).toBe('x');
    chmodSync(path, 0o646);
    const text = /^--tls-ca: .*ca\.pem: others than its owner can write it \(mode 0646\)/;
    expect(() => readTrustedFile('--tls-ca', path)).toThrow(text);
  });

  it('is looked at where it really is', () => {
    const [open, closed] = [join(tempDir('open'), 'd'), tempDir('closed')];
    mkdirSync(open);
    chmodSync(open, 0o777);
    writeFileSync(join(open, 'secret'), 'x', { mode: 0o600 });
    symlinkSync(join(open, 'secret'), join(closed, 'link'));
    const read = () => readPrivateFile('--secret-file', join(closed, 'link'));
    expect(read).toThrow(/^--secret-file: .*link: everybody can write its directory/);
    chmodSync(open, 0o755);
    expect(String(read())).toBe('x');
  });

  it.runIf(process.geteuid?.() === 0)("is refused by root where it is another user's", () => {
    const path = join(tempDir('owned'), 'secret');
    writeFileSync(path, 'x', { mode: 0o600 });
    chownSync(path, somebody, somebody);
    const text = /--tls-key: .*secret: its owner is user 1001, neither root/;
    expect(() => readPrivateFile('--tls-key', path)).toThrow(text);
  });
});
