// Builds the addon for the package, once for each kind of machine, into prebuilds/: with g++ for
// that on which it runs, for the other one with Debian's cross compiler (g++-aarch64-linux-gnu).
// The C++ library is linked in, so that only the system's C library is needed, and libgcc_s, which
// Node has loaded anyway; scripts/check_prebuilds.mjs says which. Each is built in a folder of its
// own: build/ here stays as it is.
//
//   node scripts/prebuild.mjs [x64] [arm64]
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const root = fileURLToPath(new URL('..', import.meta.url));
const exportsMap = join(root, 'native/addon/exports.map');
const triples = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' };

/** The compilers of this machine have no prefix everywhere; those of another one always do. */
function tool(arch, name) {
  return arch === process.arch ? name : `${triples[arch]}-${name}`;
}

/** The headers that came with this Node, where they did: else node-gyp downloads them. */
function headers() {
  const prefix = dirname(dirname(process.execPath));
  return existsSync(join(prefix, 'include/node/node_api.h')) ? { npm_config_nodedir: prefix } : {};
}

async function build(arch) {
  const folder = mkdtempSync(join(tmpdir(), `walmirror-prebuild-${arch}-`));
  try {
    for (const name of ['native', 'binding.gyp', 'package.json', 'node_modules']) {
      symlinkSync(join(root, name), join(folder, name));
    }
    const env = {
      ...headers(),
      ...process.env,
      CC: tool(arch, 'gcc'),
      CXX: tool(arch, 'g++'),
      AR: tool(arch, 'ar'),
      // --gc-sections: parts of the library that nobody calls ask for a newer C library.
      LDFLAGS: `-static-libstdc++ -Wl,--gc-sections -Wl,--version-script=${exportsMap}`,
    };
    const strip = ['--strip', '--strip-bin', tool(arch, 'strip')];
    const args = ['--napi', '--tag-libc', '--arch', arch, ...strip, '--cwd', folder, '--out', root];
    const prebuildify = join(root, 'node_modules/.bin/prebuildify');
    await run(prebuildify, args, { cwd: folder, env, maxBuffer: 2 ** 26 });
    console.log(`built for linux-${arch}`);
  } catch (error) {
    process.exitCode = 1;
    console.error(`FAILED for linux-${arch}: ${error.message}\n${error.stderr ?? ''}`);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const asked = process.argv.slice(2);
for (const arch of asked) if (triples[arch] === undefined) throw new TypeError(`what is ${arch}?`);
await Promise.all((asked.length > 0 ? asked : Object.keys(triples)).map(build));
