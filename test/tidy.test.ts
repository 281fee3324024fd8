import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { describe, expect, it } from 'vitest';

/**
 * The house rules that a linter does not know (docs/architecture.md). Each names what breaks it.
 */

const MAX_LINES = 700;
const MAX_COLUMNS = 100;

interface SourceFile {
  readonly path: string;
  readonly text: string;
  readonly lines: readonly string[];
}

/** Files that git knows or would add: what a build made does not count. */
function sources(...roots: readonly string[]): SourceFile[] {
  const args = ['ls-files', '-z', '--cached', '--others', '--exclude-standard', '--', ...roots];
  const listed = execFileSync('git', args, { encoding: 'utf8' }).split('\0').filter(Boolean);
  return [...new Set(listed)].flatMap((path) => {
    if (!/\.(ts|mts|mjs|js|h|cc)$/.test(path)) return [];
    try {
      const text = readFileSync(path, 'utf8');
      return [{ path, text, lines: text.replace(/\n$/, '').split('\n') }];
    } catch {
      return []; // Deleted, and not yet committed so.
    }
  });
}

/** `path:line: text` of every line that matches. */
function matches(files: readonly SourceFile[], pattern: RegExp): string[] {
  return files.flatMap(({ path, lines }) =>
    lines.flatMap((line, i) => (pattern.test(line) ? [`${path}:${i + 1}: ${line.trim()}`] : [])),
  );
}

/** The code without comments and the insides of strings: what the rules about code look at. */
function codeOf(files: readonly SourceFile[]): SourceFile[] {
  const token =
    /\/\*[\s\S]*?\*\/|\/\/[^\n]*|'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`/g;
  return files.map(({ path, text }) => {
    const blank = text.replace(token, (found) => found.replace(/[^\n]/g, ' '));
    return { path, text: blank, lines: blank.split('\n') };
  });
}

/** Modules that a file imports, types too. */
function imports({ text }: SourceFile): string[] {
  const pattern = /(?:\bfrom\s*|\bimport\s*\(?\s*)['"]([^'"]+)['"]/g;
  return [...text.matchAll(pattern)].map((match) => match[1] ?? '');
}

const src = sources('src');
const everything = sources('src', 'native', 'test', 'bench', 'demo', 'scripts');

describe('the replication core', () => {
  const core = src.filter(({ path }) => /^src\/(replication|wire)\//.test(path));

  it('exists', () => {
    expect(core.length).toBeGreaterThan(0);
  });

  it('imports nothing of Node', () => {
    const replication = core.filter(({ path }) => path.startsWith('src/replication/'));
    const found = replication.flatMap((file) =>
      imports(file)
        .filter((name) => !name.startsWith('.'))
        .map((name) => `${file.path}: ${name}`),
    );
    expect(found).toEqual([]);
  });

  it('has no clock, timer or random numbers of its own', () => {
    const pattern = new RegExp(
      '\\b(Date\\.now|new Date|Math\\.random|set(Timeout|Interval|Immediate))\\b' +
        '|\\b(randomUUID|crypto)\\b' +
        '|\\b(performance|process)\\.',
    );
    const replication = codeOf(core.filter(({ path }) => path.startsWith('src/replication/')));
    expect(matches(replication, pattern)).toEqual([]);
  });
});

describe('layers', () => {
  /** What each folder of src may import beside itself. */
  const allowed: Readonly<Record<string, readonly string[]>> = {
    native: ['api/errors'],
    wire: ['api/errors', 'replication', 'native/native_log'],
    replication: ['wire', 'native/native_log', 'api/errors'],
    transport: ['replication', 'wire', 'native', 'api/errors'],
    control: ['api/errors'],
    referee: [
      ...['api/errors', 'api/validate', 'native', 'replication/rule'],
      ...['transport/environment', 'transport/plaintext'],
    ],
    archive: [
      ...['api/errors', 'api/unless_aborted', 'api/validate', 'native', 'replication/backoff'],
      'transport/environment',
    ],
    observe: ['api'],
    web: [],
    cli: ['api', 'control', 'native', 'observe', 'referee', 'replication/level'],
  };

  it.each(Object.entries(allowed))('%s imports only what it may', (layer, others) => {
    const found = src
      .filter(({ path }) => path.startsWith(`src/${layer}/`))
      .flatMap((file) =>
        imports(file)
          .filter((name) => name.startsWith('.'))
          .map((name) => normalize(join(dirname(file.path), name)).replace(/^src\//, ''))
          .filter((target) => !target.startsWith(`${layer}/`))
          .filter((target) => !others.some((other) => within(target, other)))
          .map((target) => `${file.path}: ${target}`),
      );
    expect(found).toEqual([]);
  });

  it('has a rule for every folder but api, which may import all', () => {
    const layers = new Set(src.map(({ path }) => path.split('/')[1] ?? ''));
    const known = [...Object.keys(allowed), 'api', 'index.ts', 'testing'];
    expect([...layers].filter((layer) => !known.includes(layer))).toEqual([]);
  });

  function within(target: string, other: string): boolean {
    return target === `${other}.js` || target.startsWith(`${other}/`);
  }
});

describe('replication', () => {
  it('takes clocks, timers and random numbers from its environment: a seed decides them', () => {
    const pattern =
      /\b(Date\.now|Math\.random|performance\.now|(set|clear)(Timeout|Interval|Immediate))\(/;
    // TLS has sockets of its own; etcd and a file have real clocks; threads are those of a real
    // process; the others decide nothing.
    const threads = [
      'attached_log.ts',
      'thread_client.ts',
      'threaded_applier.ts',
      'threaded_log.ts',
      'tick.ts',
    ];
    const own = [
      ...threads,
      'environment.ts',
      'listener.ts',
      'policy_status.ts',
      'write_stream.ts',
    ];
    const stores = /^src\/referee\/(etcd|file|memory)_/;
    const files = src
      .filter(({ path }) => /^src\/(transport|api|referee)\//.test(path) && !stores.test(path))
      .filter(({ path }) => !own.some((name) => path.endsWith(`/${name}`)));
    const importers = files.filter((file) => imports(file).includes('node:timers/promises'));
    expect(importers.map(({ path }) => path)).toEqual([]);
    const found = matches(codeOf(files), pattern);
    expect(found.filter((line) => !/[eE]nvironment\.(set|clear)/.test(line))).toEqual([]);
  });
});

describe('connections between nodes', () => {
  it('are dialled in one place and accepted in one: what keeps strangers out is there', () => {
    // The control socket is on no network, and the status page takes nothing from who reads it.
    const others = /^src\/(control\/|observe\/status_page\.ts)/;
    const nodes = src.filter(({ path }) => !others.test(path));
    const makers = /import \{[^}]*\b(connect|createConnection|createServer)\b[^}]*\} from 'node:/;
    const found = nodes.filter(({ text }) => makers.test(text));
    expect(found.map(({ path }) => path).sort()).toEqual([
      'src/transport/dial.ts',
      'src/transport/environment.ts',
      'src/transport/tls_door.ts',
    ]);
    const users = matches(codeOf(src), /environment\.(connect|createServer)\(/);
    expect(users.map((line) => line.split(':')[0]).sort()).toEqual([
      'src/transport/dial.ts',
      'src/transport/listener.ts',
    ]);
  });
});

describe('the C++ core', () => {
  it('includes no header of Node', () => {
    const core = sources('native/core');
    expect(matches(core, /#\s*include\s*[<"](napi|node|uv|v8)/)).toEqual([]);
  });
});

describe('every source file', () => {
  it(`has at most ${MAX_LINES} lines`, () => {
    const long = everything.filter(({ lines }) => lines.length > MAX_LINES);
    expect(long.map(({ path, lines }) => `${path}: ${lines.length} lines`)).toEqual([]);
  });

  it(`has lines of at most ${MAX_COLUMNS} columns`, () => {
    const found = everything.flatMap(({ path, lines }) =>
      lines.flatMap((line, i) =>
        [...line].length > MAX_COLUMNS ? [`${path}:${i + 1}: ${[...line].length}`] : [],
      ),
    );
    expect(found).toEqual([]);
  });

  it('has no left-over markers', () => {
    const marker = new RegExp(`\\b(${['TO', 'FIX', 'XX', 'HA'].join('|')})(DO|ME|X|CK)\\b`);
    expect(matches(everything, marker)).toEqual([]);
  });

  it('has no default export in src, and no `any`', () => {
    const code = codeOf(everything.filter(({ path }) => path.endsWith('.ts')));
    const inSrc = code.filter(({ path }) => path.startsWith('src/'));
    expect(matches(inSrc, /^\s*export default\b|\bas default\b/)).toEqual([]);
    expect(matches(code, /[:<]\s*any\b(?!\s*[:(?])|\bas any\b|\bany\[\]/)).toEqual([]);
  });

  it('singles out or skips no test', () => {
    const tests = codeOf(sources('test'));
    expect(matches(tests, /\b(it|test|describe)(\.\w+)*\.(only|skip|todo)\b/)).toEqual([]);
  });
});

describe('docs/invariants.md', () => {
  it('names in every row a test that there is', () => {
    const text = readFileSync('docs/invariants.md', 'utf8');
    const rows = text.split('\n').filter((line) => /^\| (?!What holds)/.test(line));
    expect(rows.length).toBeGreaterThan(20);
    const named = rows.map((row) => [...row.matchAll(/\[([^\]]+)\]\(\.\.\/([^)]+)\)/g)]);
    expect(rows.filter((_, i) => named[i]?.length === 0)).toEqual([]);
    const tests = new Set(sources('test', 'native/test').map(({ path }) => path));
    const unknown = named
      .flat()
      .filter(([, name = '', path = '']) => !tests.has(path) || !path.endsWith(`/${name}`));
    expect(unknown.map(([found]) => found)).toEqual([]);
  });
});

describe('docs/safety.md', () => {
  it('has every rule that a comment cites', () => {
    const text = readFileSync('docs/safety.md', 'utf8');
    const rules = new Set([...text.matchAll(/^(?:- \*\*|## )([\d.]+)/gm)].map(([, rule]) => rule));
    const pages = ['docs/architecture.md', 'docs/guarantees.md'].map((path) => ({
      path,
      text: readFileSync(path, 'utf8'),
    }));
    const cited = [...sources('src', 'native', 'test'), ...pages].flatMap(({ path, text }) =>
      [...text.matchAll(/\bSAFETY(?:\.md)?,? (\d(?:\.\d+)?)/g)].map(([, rule]) => ({ path, rule })),
    );
    expect(cited.length).toBeGreaterThan(50);
    expect(cited.filter(({ rule }) => !rules.has(rule))).toEqual([]);
  });
});

interface Lockfile {
  readonly packages: Readonly<
    Record<
      string,
      {
        readonly resolved?: string;
        readonly integrity?: string;
        readonly optionalDependencies?: Record<string, string>;
      }
    >
  >;
}

describe.each(['package-lock.json', 'bench/peer_packages/package-lock.json'])('%s', (path) => {
  const lock = JSON.parse(readFileSync(path, 'utf8')) as Lockfile;

  it('is complete for other platforms too, or `npm ci` refuses it', () => {
    const missing = Object.entries(lock.packages).flatMap(([name, entry]) =>
      Object.keys(entry.optionalDependencies ?? {}).filter(
        (optional) =>
          lock.packages[`node_modules/${optional}`] === undefined &&
          lock.packages[`${name}/node_modules/${optional}`] === undefined,
      ),
    );
    expect(missing).toEqual([]);
  });

  it('names no download addresses', () => {
    const found = Object.entries(lock.packages).filter(
      ([, { resolved }]) => resolved !== undefined,
    );
    expect(found.map(([name]) => name)).toEqual([]);
  });

  it('has a lockfile with the checksum of every package, of other platforms too', () => {
    const found = Object.entries(lock.packages).filter(
      ([name, { integrity }]) => name !== '' && integrity === undefined,
    );
    expect(found.map(([name]) => name)).toEqual([]);
  });
});

describe('the package', () => {
  it('names one oldest Node everywhere', () => {
    const { engines } = JSON.parse(readFileSync('package.json', 'utf8'));
    const oldest = /^>=([\d.]+)$/.exec(engines.node)?.[1];
    for (const path of ['README.md', 'src/native/binding.ts', '.ci/run']) {
      const said = [...readFileSync(path, 'utf8').matchAll(/Node ([\d.]+\d) or (?:newer|later)/g)];
      expect(said.map((match) => match[1])).toEqual([oldest]);
    }
  });

  it('promises one oldest glibc everywhere', () => {
    const [, glibc] = /glibc = '([\d.]+)'/.exec(
      readFileSync('scripts/check_prebuilds.mjs', 'utf8'),
    ) ?? [undefined, 'none'];
    const pages = ['README.md', 'docs/getting-started.md', 'docs/containers.md'];
    for (const path of ['src/native/binding.ts', ...pages]) {
      const said = [...readFileSync(path, 'utf8').matchAll(/glibc ([\d.]+\d) or (?:newer|later)/g)];
      expect(said.map((match) => match[1])).toEqual([glibc]);
    }
  });

  it('explains every error code in docs/errors.md', () => {
    const check = spawnSync(process.execPath, ['scripts/render_errors.mjs', '--check']);
    expect(check.stderr.toString()).toBe('');
    expect(check.status).toBe(0);
  });

  it('throws no code that the table does not know', () => {
    const table = readFileSync('src/api/errors.ts', 'utf8');
    const used = sources('src', 'native/core', 'native/addon').flatMap(({ path, text }) =>
      [...text.matchAll(/['"](WAL_[A-Z_]+)['"]/g)].map((match) => ({ path, code: match[1] ?? '' })),
    );
    const unknown = used.filter(({ code }) => !new RegExp(`\\b${code}\\b`).test(table));
    expect(unknown.map(({ path, code }) => `${path}: ${code}`)).toEqual([]);
  });
});
