// Fails where a prebuilt addon would load on fewer machines than is said: what it needs of the
// system's C library, which other libraries, what it shows of itself. Reads it with `readelf`.
//
//   node scripts/check_prebuilds.mjs
import { execFileSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** The newest glibc that may be needed; src/native/binding.ts and README.md say the same. */
const glibc = '2.34';
const machines = { x64: 'Advanced Micro Devices X86-64', arm64: 'AArch64' };
const libraries = /^(libc\.so\.6|libgcc_s\.so\.1|libm\.so\.6|ld-linux-[\w-]+\.so\.\d)$/;
const shown = ['napi_register_module_v1', 'node_api_module_get_api_version_v1'];

function readelf(file, option) {
  return execFileSync('readelf', ['--wide', option, file], { encoding: 'utf8' });
}

function found(text, pattern) {
  return [...text.matchAll(pattern)].map((match) => match[1] ?? '');
}

/** -1, 0, 1: versions as 2.9 < 2.34. */
function order(a, b) {
  return a.localeCompare(b, 'en', { numeric: true });
}

/** What is wrong with the addon for this kind of machine, and what it needs. */
function examine(arch) {
  const file = fileURLToPath(
    new URL(`../prebuilds/linux-${arch}/walmirror.glibc.node`, import.meta.url),
  );
  const wrong = [];
  const [machine] = found(readelf(file, '--file-header'), /^ *Machine: *(.+)$/gm);
  if (machine !== machines[arch]) wrong.push(`it is for ${machine}`);
  const needed = found(readelf(file, '--dynamic'), /\(NEEDED\).*\[(.+)\]/g);
  for (const name of needed) if (!libraries.test(name)) wrong.push(`it needs ${name}`);
  const versions = found(readelf(file, '--version-info'), /\bGLIBC_([\d.]+)/g).sort(order);
  const highest = versions.at(-1) ?? 'none';
  if (order(highest, glibc) > 0) wrong.push(`it needs glibc ${highest}; ${glibc} is promised`);
  // Number, value, size, kind, binding, visibility, section, name and version.
  const symbols = readelf(file, '--dyn-syms');
  // What no library has must be Node's: else the first call ends the process.
  const unknown = found(symbols, /^ *\d+: .* GLOBAL +DEFAULT +UND ([^@\s]+)$/gm);
  for (const name of unknown) {
    if (!/^(napi|node_api)_/.test(name)) wrong.push(`nothing defines ${name}`);
  }
  const names = found(symbols, /^ *\d+: \w+ +\w+ (?!SECTION)\w+ +\w+ +\w+ +\d+ (\S+)/gm);
  const others = names.filter((name) => !shown.includes(name));
  if (others.length > 0) wrong.push(`it shows ${others.length} more names, as ${others[0]}`);
  for (const name of shown) if (!names.includes(name)) wrong.push(`it does not show ${name}`);
  const summary = `glibc ${highest} or later, ${needed.join(', ')}, ${statSync(file).size} bytes`;
  return { wrong, summary };
}

for (const arch of Object.keys(machines)) {
  const { wrong, summary } = examine(arch);
  if (wrong.length > 0) process.exitCode = 1;
  const verdict =
    wrong.length > 0 ? `FAILED: linux-${arch}: ${wrong.join('; ')}; ` : `ok: linux-${arch}: `;
  console.log(`${verdict}${summary}`);
}
