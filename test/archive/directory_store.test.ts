import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { DirectoryStore } from '../../src/archive/directory_store.js';
import { codeOf, walError } from '../api/helpers.js';
import { freshDir } from '../helpers/temp.js';
import { gathered, inPieces } from './objects.js';
import { countedDisk, type Fate } from './store_disks.js';

const name = 'log/0a-1b.segment';
const by = 'ab'.repeat(16);
const other = 'cd'.repeat(16);
const bytes = Buffer.from('what is stored, piece by piece, in an object of its own');
const { signal } = new AbortController();
const how = { signal, by };

function put(store: DirectoryStore, content = bytes, at = name): Promise<'stored' | 'exists'> {
  return store.put(at, inPieces(content, 10), how);
}

async function got(store: DirectoryStore, at = name): Promise<string> {
  return (await gathered(await store.get(at, { signal }))).toString();
}

async function all(store: DirectoryStore, prefix = 'log/'): Promise<string[]> {
  const found: string[] = [];
  let after: string | undefined;
  do {
    const page = await store.list(prefix, { after, signal });
    found.push(...page.names);
    after = page.next;
  } while (after !== undefined);
  return found;
}

describe('a store in a directory', () => {
  it('gives back what was put, durably named, for this user only', async () => {
    const dir = freshDir('archive');
    const store = new DirectoryStore(dir);
    expect(await all(store)).toEqual([]);
    expect(await put(store)).toBe('stored');
    expect(await got(store)).toBe(bytes.toString());
    expect(await all(store)).toEqual([name]);
    const mode = (path: string): number => statSync(path).mode & 0o777;
    expect(mode(dir)).toBe(0o700);
    expect(mode(join(dir, 'log'))).toBe(0o700);
    expect(mode(join(dir, name))).toBe(0o600);
    expect(readdirSync(join(dir, 'log'))).toEqual(['0a-1b.segment']);
  });

  it('never writes over what is there', async () => {
    const store = new DirectoryStore(freshDir('archive'));
    await put(store);
    let asked = false;
    const content = (async function* () {
      asked = true;
      yield Buffer.from('something else');
    })();
    expect(await store.put(name, content, how)).toBe('exists');
    expect(asked).toBe(false);
    expect(await got(store)).toBe(bytes.toString());
  });

  it('takes one of two that are put at once, whole', async () => {
    const dir = freshDir('archive');
    const long = (text: string) => Buffer.alloc(100_000, text);
    const both = await Promise.all([
      new DirectoryStore(dir).put(name, inPieces(long('a'), 1000), { signal, by }),
      new DirectoryStore(dir).put(name, inPieces(long('b'), 1000), { signal, by: other }),
    ]);
    expect([...both].sort()).toEqual(['exists', 'stored']);
    const stored = both[0] === 'stored' ? 'a' : 'b';
    expect(await got(new DirectoryStore(dir))).toBe(long(stored).toString());
    expect(readdirSync(join(dir, 'log'))).toEqual(['0a-1b.segment']);
  });

  it('has nothing of a content that fails, and rejects with its error', async () => {
    const dir = freshDir('archive');
    const failure = new Error('the content fails');
    const content = (async function* () {
      yield bytes;
      throw failure;
    })();
    await expect(new DirectoryStore(dir).put(name, content, how)).rejects.toBe(failure);
    expect(readdirSync(join(dir, 'log'))).toEqual([]);
  });

  it('has nothing of one that was aborted', async () => {
    const dir = freshDir('archive');
    const store = new DirectoryStore(dir);
    const abort = new AbortController();
    const reason = new Error('no more');
    const content = (async function* () {
      yield bytes;
      abort.abort(reason);
      yield bytes;
    })();
    const putting = store.put(name, content, { by, signal: abort.signal });
    await expect(putting).rejects.toBe(reason);
    expect(readdirSync(join(dir, 'log'))).toEqual([]);
    const { signal: aborted } = abort;
    await expect(store.get(name, { signal: aborted })).rejects.toBe(reason);
    await expect(store.list('log/', { signal: aborted })).rejects.toBe(reason);
    await expect(store.delete(name, { signal: aborted })).rejects.toBe(reason);
  });

  it('deletes, and minds nothing that is not there', async () => {
    const store = new DirectoryStore(freshDir('archive'));
    await store.delete(name, { signal });
    await put(store);
    await store.delete(name, { signal });
    await store.delete(name, { signal });
    expect(await all(store)).toEqual([]);
    expect(await codeOf(() => got(store))).toBe('WAL_NOT_FOUND');
    expect(await put(store)).toBe('stored');
  });

  it('lists in order, page by page, what begins so and comes behind', async () => {
    const dir = freshDir('archive');
    mkdirSync(join(dir, 'log'), { recursive: true, mode: 0o700 });
    const names = Array.from(
      { length: 2500 },
      (_, i) => `log/${String(i).padStart(5, '0')}.segment`,
    );
    for (const each of names) writeFileSync(join(dir, each), '');
    writeFileSync(join(dir, `log/00000.segment.${by}.part`), '');
    const store = new DirectoryStore(dir);
    expect(await all(store)).toEqual(names);
    expect((await store.list('log/', { signal })).names).toHaveLength(1000);
    expect(await all(store, 'log/0001')).toEqual(names.slice(10, 20));
    const { names: behind } = await store.list('log/', { after: 'log/02498', signal });
    expect(behind).toEqual(names.slice(2498));
    expect(await all(store, 'other/')).toEqual([]);
  });

  it('removes what it left unfinished itself, and not what another node is at', async () => {
    const dir = freshDir('archive');
    mkdirSync(join(dir, 'log'), { recursive: true, mode: 0o700 });
    const part = (node: string): string => join(dir, `log/0c.segment.${node}.part`);
    writeFileSync(part(by), 'left');
    writeFileSync(part(other), 'under way');
    await put(new DirectoryStore(dir));
    expect(existsSync(part(by))).toBe(false);
    expect(existsSync(part(other))).toBe(true);
  });

  it('refuses names that lead elsewhere', async () => {
    const dir = freshDir('archive');
    const store = new DirectoryStore(dir);
    const bad = ['', 'a', '../a/b.c', 'log/../b.c', '/log/b.c', 'log//b.c', 'log/.b.c', 'a/b/c.d'];
    const worse = ['log/b\0.c', 'log\\b.c', 'log/B.c', `log/${'a'.repeat(300)}.c`, 'log/b.c.part'];
    for (const each of [...bad, ...worse]) {
      await expect(put(store, bytes, each)).rejects.toThrow(TypeError);
      await expect(store.get(each, { signal })).rejects.toThrow(TypeError);
      await expect(store.delete(each, { signal })).rejects.toThrow(TypeError);
    }
    await expect(store.list('../', { signal })).rejects.toThrow(TypeError);
    await expect(store.put(name, inPieces(bytes), { signal, by: '../x' })).rejects.toThrow(
      TypeError,
    );
    expect(existsSync(dir)).toBe(false);
  });

  it('follows no link', async () => {
    const elsewhere = freshDir('elsewhere');
    await put(new DirectoryStore(elsewhere));
    const links = [
      (dir: string) => symlinkSync(elsewhere, dir),
      (dir: string) => {
        mkdirSync(dir, { mode: 0o700 });
        symlinkSync(join(elsewhere, 'log'), join(dir, 'log'));
      },
      (dir: string) => {
        mkdirSync(join(dir, 'log'), { recursive: true, mode: 0o700 });
        symlinkSync(join(elsewhere, name), join(dir, name));
      },
    ];
    for (const link of links) {
      const dir = freshDir('archive');
      link(dir);
      const store = new DirectoryStore(dir);
      for (const call of [() => put(store), () => got(store), () => store.delete(name, how)]) {
        expect(await codeOf(call)).toBe('WAL_IO');
      }
    }
    expect(readFileSync(join(elsewhere, name), 'utf8')).toBe(bytes.toString());
  });

  it('refuses a directory that others may write, and says what to do', async () => {
    const dir = freshDir('archive');
    mkdirSync(dir);
    chmodSync(dir, 0o770);
    const error = await walError(() => put(new DirectoryStore(dir)));
    expect(error.message).toContain('chmod go-w');
    chmodSync(dir, 0o750);
    expect(await put(new DirectoryStore(dir))).toBe('stored');
  });

  it('makes no parents: what is not mounted is not filled', async () => {
    const dir = join(freshDir('mount'), 'archive');
    const error = await walError(() => put(new DirectoryStore(dir)));
    expect(error.code).toBe('WAL_IO');
    expect(error.hint).toContain('mount');
  });

  it('takes the path of a directory', () => {
    expect(() => new DirectoryStore('')).toThrow(RangeError);
    expect(() => new DirectoryStore(1 as unknown as string)).toThrow(TypeError);
  });
});

describe('of one object, at every call that fails,', () => {
  /** Puts it under this fate; then, by another process, again. Gives what was tried. */
  async function tried(fate: (call: number) => Fate, isKill: boolean): Promise<string> {
    const dir = freshDir('archive');
    const disk = countedDisk(fate);
    const first = await new DirectoryStore(dir, disk).put(name, inPieces(bytes, 20), how).then(
      (outcome) => outcome,
      (error: { code?: string }) => error.code ?? String(error),
    );
    const isThere = existsSync(join(dir, name));
    const found = isThere ? readFileSync(join(dir, name), 'utf8') : undefined;
    if (found !== undefined) expect(found).toBe(bytes.toString());
    if (first === 'stored') expect(isThere).toBe(true);
    // A page is of whole objects only.
    const again = new DirectoryStore(dir);
    expect(await all(again)).toEqual(isThere ? [name] : []);
    expect(await put(again)).toBe(isThere ? 'exists' : 'stored');
    expect(await got(again)).toBe(bytes.toString());
    expect(readdirSync(join(dir, 'log'))).toEqual(['0a-1b.segment']);
    if (isKill) expect(first).toBe('WAL_IO');
    return disk.calls.join(' ');
  }

  async function count(): Promise<number> {
    return (await tried(() => 'done', false)).split(' ').length;
  }

  it('it is whole or absent, and the next attempt has it', async () => {
    const calls = await count();
    expect(calls).toBeGreaterThan(12);
    for (let failing = 1; failing <= calls; failing += 1) {
      for (const fate of ['refused', 'done, and reported as failed'] as const) {
        await tried((call) => (call === failing ? fate : 'done'), false);
      }
    }
  });

  it('the same where the process is killed there, and does nothing more', async () => {
    const calls = await count();
    for (let killed = 1; killed < calls; killed += 1) {
      await tried((call) => (call < killed ? 'done' : 'refused'), true);
      const at = (call: number): Fate =>
        call < killed ? 'done' : call === killed ? 'done, and reported as failed' : 'refused';
      await tried(at, true);
    }
  });

  it('flushes the file before it has its name, and the folder after', async () => {
    const calls = await tried(() => 'done', false);
    expect(calls).toMatch(/create (write )+sync close link syncDirectory remove$/);
  });

  it('flushes the folder where it finds what another one has named', async () => {
    const dir = freshDir('archive');
    await put(new DirectoryStore(dir));
    const disk = countedDisk(() => 'done');
    expect(await new DirectoryStore(dir, disk).put(name, inPieces(bytes), how)).toBe('exists');
    expect(disk.calls.at(-1)).toBe('syncDirectory');
  });
});
