import { execFile } from 'node:child_process';
import { access } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** From bench/dist/peers to bench/peer_packages. */
const directory = fileURLToPath(new URL('../../peer_packages/', import.meta.url));

/** Installs the peers where they are not yet. */
export async function installPeers(onStart: () => void): Promise<void> {
  const files = ['lmdb/package.json', 'better-sqlite3/build/Release/better_sqlite3.node'];
  const missing = await Promise.all(
    files.map((file) =>
      access(`${directory}node_modules/${file}`).then(
        () => false,
        () => true,
      ),
    ),
  );
  if (!missing.includes(true)) return;
  onStart();
  // From source: its prebuilt binary would come from outside of the package registry.
  // In the environment: npm 11 has no such option, and the installers read it there.
  const env = { ...process.env, npm_config_build_from_source: 'true' };
  const command = ['ci', '--no-audit', '--no-fund'];
  await promisify(execFile)('npm', command, { cwd: directory, env, maxBuffer: 64 * 2 ** 20 });
}
