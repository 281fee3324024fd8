import { execFile } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it, onTestFinished } from 'vitest';
import { makeTempDir } from '../global/temp.js';
import { Authority } from '../helpers/certificates.js';

const run = promisify(execFile);

/** The blocks of JavaScript of a page, in order. */
function programs(page: string): string[] {
  const text = readFileSync(`docs/${page}.md`, 'utf8');
  return [...text.matchAll(/^```js[^\n]*\n(.*?)^```$/gms)].map(([, code = '']) => code);
}

/** The one that holds this. */
function program(page: string, word: string): string {
  const found = programs(page).filter((code) => code.includes(word));
  expect(found).toHaveLength(1);
  return found[0] ?? '';
}

function replaced(code: string, ...pairs: readonly (readonly [string, string])[]): string {
  return pairs.reduce((text, [from, to]) => {
    expect(text.split(from), from).toHaveLength(2);
    return text.replace(from, to);
  }, code);
}

/** A folder in which the package is installed. */
function project(): string {
  const dir = makeTempDir('pages');
  onTestFinished(() => rmSync(dir, { recursive: true }));
  mkdirSync(join(dir, 'node_modules'), { recursive: true });
  symlinkSync(process.cwd(), join(dir, 'node_modules/walmirror'));
  return dir;
}

async function output(dir: string, code: string): Promise<string> {
  writeFileSync(join(dir, 'page.mjs'), code);
  return (await run(process.execPath, ['page.mjs'], { cwd: dir })).stdout;
}

it('docs/security.md: the program opens a log with the files that were made', async () => {
  const dir = project();
  const authority = new Authority();
  const { key, cert } = authority.issue({ dns: ['a'] });
  const files = { 'a.key': key, 'a.pem': cert, 'ca.pem': authority.cert };
  for (const [name, pem] of Object.entries(files)) writeFileSync(join(dir, name), pem);
  authority.remove();
  const code = replaced(program('security', 'Log.open'), ['port: 7401', 'port: 0']);
  const end = '\nconsole.log(log.name, log.status().listening.host)\nawait log.close()\n';
  expect(await output(dir, code + end)).toBe('a 0.0.0.0\n');
});

it('docs/getting-started.md: a standby applies, and goes on as the primary', async () => {
  const where = "host: '10.0.0.1', port: 7401, plaintext: true";
  const primary = program('getting-started', 'const primary =');
  const standby = program('getting-started', 'const standby =');
  const code = [
    "import { Log } from 'walmirror'\nconst got = []",
    'const state = { apply: (data) => got.push(String(data)) }',
    replaced(primary, ["'./log'", "'./a'"], [where, 'port: 0']),
    'const { port } = primary.status().listening',
    replaced(standby, ["'./log'", "'./b'"], [where, 'port']),
    "await primary.appendAndCommit('one')\nawait standby.waitFor(1)\nawait primary.close()",
    program('getting-started', 'standby.promote('),
    "await standby.appendAndCommit('two')\nawait standby.waitFor(2)",
    'console.log(got.join(), standby.status().role)\nawait standby.close()',
  ];
  expect(await output(project(), code.join('\n'))).toBe('one,two primary\n');
});
