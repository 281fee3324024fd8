import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { missing } from '../global/requirements.js';
import { tempDir } from '../global/temp.js';

/** The package as it was installed from its tarball, where .ci/run has done that; else this one. */
const root = process.env.WALMIRROR_INSTALLED ?? resolve(import.meta.dirname, '../..');
const main = join(root, 'dist/cli/main.js');
const reason = missing({ root: true, programs: ['ip', 'openssl'] });

/** A host of its own: a network namespace, with an address on a wire to the other. */
interface Host {
  readonly namespace: string;
  readonly address: string;
}

function ip(...args: readonly string[]): void {
  execFileSync('ip', args, { stdio: 'pipe' });
}

function twoHosts(): [Host, Host] {
  const tag = `wm${process.pid}`;
  const ends = ['1', '2'].map((n) => ({
    namespace: `${tag}-${n}`,
    link: `${tag.slice(0, 12)}v${n}`,
    address: `10.77.0.${n}`,
  }));
  const [one, two] = ends as [(typeof ends)[0], (typeof ends)[0]];
  for (const { namespace } of ends) {
    ip('netns', 'add', namespace);
    onTestFinished(() => ip('netns', 'delete', namespace));
  }
  ip('link', 'add', one.link, 'type', 'veth', 'peer', 'name', two.link);
  for (const { namespace, link, address } of ends) {
    ip('link', 'set', link, 'netns', namespace);
    ip('-n', namespace, 'address', 'add', `${address}/24`, 'dev', link);
    ip('-n', namespace, 'link', 'set', link, 'up');
  }
  return [one, two];
}

class Node {
  readonly child: ChildProcess;
  stderr = '';

  constructor(host: Host, cwd: string, args: readonly string[]) {
    const command = ['netns', 'exec', host.namespace, process.execPath, main, ...args];
    this.child = spawn('ip', command, { cwd, stdio: ['pipe', 'ignore', 'pipe'] });
    this.child.stderr!.on('data', (chunk) => {
      this.stderr += chunk;
    });
    const ended = once(this.child, 'close');
    // ip becomes the program that it starts, so this is its pid.
    onTestFinished(async () => {
      this.child.kill('SIGKILL');
      await ended;
    });
  }
}

/** Blocks of shell of the page for operators, as a reader would type them. */
function documented(): string[] {
  const page = readFileSync(join(root, 'docs/security.md'), 'utf8');
  return [...page.matchAll(/```sh\n([\s\S]*?)```/g)].map((match) => match[1] ?? '');
}

function written(file: string): string {
  return existsSync(file) ? readFileSync(file, 'utf8') : '';
}

/** The arguments of a documented command, with the address that this primary has. */
function argumentsOf(block: string, command: string, address: string): string[] {
  const line = block.split('\n').find((each) => each.startsWith(`npx walmirror ${command} `)) ?? '';
  const words = [...line.matchAll(/'([^']*)'|(\S+)/g)].map((match) => match[1] ?? match[2] ?? '');
  return words.slice(2).map((word) => word.replace('10.0.0.1', address));
}

describe.skipIf(reason)('two hosts, by what docs/security.md says', () => {
  const blocks = reason === undefined ? documented() : [];
  const [certificates, withTls, withSecret] = blocks;

  it.each([
    ['TLS', certificates, withTls],
    ['a shared secret', withSecret?.split('\n')[0], withSecret],
  ])('replicate with %s', async (_, prepare, block) => {
    const [one, two] = twoHosts();
    const dir = tempDir('hosts');
    execFileSync('sh', ['-ec', prepare!], { cwd: dir, stdio: 'pipe' });
    const serve = argumentsOf(block!, 'primary', one.address);
    const primary = new Node(one, dir, [...serve, '--stay', '--verbose']);
    await expect.poll(() => primary.stderr).toMatch(/listening on 0\.0\.0\.0:7401/);
    const follow = argumentsOf(block!, 'standby', one.address);
    const output = join(dir, 'b.txt');
    const standby = new Node(two, dir, [...follow, '--output', output, '--verbose']);
    primary.child.stdin!.write('one\ntwo\n');
    await expect.poll(() => written(output)).toBe('one\ntwo\n');

    // A third node, without what it takes.
    const bare = ['standby', '--dir', './c', '--follow', `${one.address}:7401`, '--plaintext'];
    const stranger = new Node(two, dir, bare);
    await expect.poll(() => primary.stderr).toMatch(/refused 10\.77\.0\.2:\d+: /);
    stranger.child.kill('SIGKILL');
    primary.child.stdin!.write('three\n');
    await expect.poll(() => written(output)).toBe('one\ntwo\nthree\n');
    expect(standby.stderr).not.toMatch(/disconnected/);
  });
});
