import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { WalError } from '../../src/api/errors.js';
import { loadFrom } from '../../src/native/binding.js';
import { tempDir } from '../global/temp.js';

function refusal(root: string): WalError {
  try {
    loadFrom(root);
  } catch (error) {
    if (error instanceof WalError) return error;
    throw error;
  }
  throw new Error('it was loaded');
}

/** A package whose addon, at this place in it, is no addon. */
function packageWith(path: string): { root: string; file: string } {
  const root = tempDir('package');
  const file = join(root, path);
  mkdirSync(join(file, '..'), { recursive: true });
  writeFileSync(join(root, 'package.json'), '{ "name": "walmirror" }');
  writeFileSync(file, 'not a shared object, and long enough to have had the header of one in it');
  return { root, file };
}

describe('an addon that does not load', () => {
  const toType =
    /^Type `npm rebuild walmirror --ignore-scripts=false`: .*with Python 3, .*a C\+\+20 compiler/;

  afterEach(() => {
    vi.unstubAllEnvs();
  });

  it('is told by every place that was looked at, where there is none', () => {
    const root = tempDir('package');
    const { code, message, hint } = refusal(root);
    expect(code).toBe('WAL_UNSUPPORTED');
    expect(message).toContain(join(root, 'build/Release/walmirror.node'));
    const prebuilt = `prebuilds/linux-${process.arch}/walmirror.glibc.node`;
    expect(message).toContain(` nor ${join(root, prebuilt)}. `);
    expect(message).toContain(`Node ${process.versions.node}, glibc 2.`);
    expect(hint).toMatch(toType);
  });

  it('is looked for under the name of the C library', () => {
    vi.stubEnv('LIBC', 'musl');
    expect(refusal(tempDir('package')).message).toContain('/walmirror.musl.node. ');
  });

  it.each(['build/Release/walmirror.node', `prebuilds/linux-${process.arch}/walmirror.glibc.node`])(
    'is told by what the dynamic loader says of %s, once',
    (path) => {
      const { root, file } = packageWith(path);
      const { code, message, hint, cause } = refusal(root);
      expect(code).toBe('WAL_UNSUPPORTED');
      expect(message.split(file)).toHaveLength(2);
      expect(message).toMatch(/invalid ELF header/);
      expect(hint).toMatch(toType);
      expect(cause).toBeInstanceOf(Error);
    },
  );

  it('is refused on other systems before anything is looked for', () => {
    const platform = vi.spyOn(process, 'platform', 'get').mockReturnValue('darwin');
    try {
      const { message, hint } = refusal(tempDir('package'));
      expect(message).toMatch(/\(darwin-.*\): it is for Linux only\. /);
      expect(hint).toMatch(/^Run it on Linux/);
    } finally {
      platform.mockRestore();
    }
  });
});
