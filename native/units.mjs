/**
 * Gathers C++ files into a few translation units, each of which includes its part of them: what
 * headers cost is then paid once a unit, and not once a file, which is most of the time that
 * compiling takes.
 *
 *   node native/units.mjs PREFIX COUNT FILE...
 *
 * Writes PREFIX_0.cc, PREFIX_1.cc and so on, of about the same size, only where they change, and
 * prints their names. Not more units than files.
 */
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, relative } from 'node:path';

const [prefix, wanted, ...files] = process.argv.slice(2);
const count = Math.min(Number(wanted), files.length);
if (!(count >= 1)) throw new TypeError('usage: node native/units.mjs PREFIX COUNT FILE...');

const units = Array.from({ length: count }, () => ({ bytes: 0, files: [] }));
const sized = files.map((file) => ({ file, bytes: statSync(file).size }));
for (const { file, bytes } of sized.sort((a, b) => b.bytes - a.bytes)) {
  const smallest = units.reduce((least, unit) => (unit.bytes < least.bytes ? unit : least));
  smallest.files.push(file);
  smallest.bytes += bytes;
}

function current(name) {
  try {
    return readFileSync(name, 'utf8');
  } catch {
    return undefined; // Not there yet.
  }
}

mkdirSync(dirname(prefix), { recursive: true });
const names = units.map((unit, i) => {
  const name = `${prefix}_${i}.cc`;
  const includes = unit.files.sort().map((file) => relative(dirname(name), file));
  const text = includes.map((file) => `#include "${file}"\n`).join('');
  if (text !== current(name)) writeFileSync(name, text);
  return name;
});
console.log(names.join('\n'));
