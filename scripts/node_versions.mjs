// Loads and uses the installed package under every Node version that is supported: the addon is
// N-API, so that the same build has to do for all. Each `node@X` of npm is installed into a
// temporary folder, all at the same time; one that cannot be installed fails the run.
//
//   node scripts/node_versions.mjs PROJECT [VERSION...]
//
// PROJECT is a folder into which the packed package was installed.
import { execFile } from 'node:child_process';
import { copyFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const root = fileURLToPath(new URL('..', import.meta.url));
const LIMIT_MS = 120_000;
/** By import and by require. */
const smokes = ['smoke.mjs', 'smoke.cjs'];

/** The oldest that package.json admits, and the newest of each line that is maintained. */
function supported() {
  const { engines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  return [engines.node.replace('>=', ''), '20', '22', '24', '26'];
}

async function install(version, folder) {
  const options = ['--prefix', folder, '--no-audit', '--no-fund', '--silent', '--no-save'];
  await run('npm', ['install', ...options, `node@${version}`], { timeout: LIMIT_MS });
  return join(folder, 'node_modules/node/bin/node');
}

async function use(node, version, project) {
  const { stdout } = await run(node, ['--version'], { timeout: LIMIT_MS });
  const found = stdout.trim();
  if (!`${found}.`.startsWith(`v${version}.`)) throw new Error(`it is ${found}`);
  const options = { cwd: project, timeout: LIMIT_MS };
  for (const name of ['smoke-log', 'smoke-log-required']) {
    rmSync(join(project, name), { recursive: true, force: true });
  }
  for (const name of smokes) await run(node, [name], options);
  const main = join(project, 'node_modules/walmirror/dist/cli/main.js');
  await run(node, [main, 'verify', '--dir', 'smoke-log'], options);
  return found;
}

const [project, ...asked] = process.argv.slice(2);
if (project === undefined) throw new TypeError('say the folder of a project with the package');
const versions = asked.length > 0 ? asked : supported();
const scratch = mkdtempSync(join(tmpdir(), 'walmirror-node-'));
for (const name of smokes) copyFileSync(join(root, 'scripts', name), join(project, name));
try {
  const installed = await Promise.allSettled(
    versions.map((version) => install(version, join(scratch, version))),
  );
  for (const [i, version] of versions.entries()) {
    try {
      const { status, value, reason } = installed[i];
      if (status === 'rejected') throw reason;
      const found = await use(value, version, resolve(project));
      console.log(`ok: Node ${found} loads the package and works with it`);
    } catch (error) {
      process.exitCode = 1;
      console.log(`FAILED: Node ${version}: ${error.message}\n${error.stderr ?? ''}`);
    }
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
