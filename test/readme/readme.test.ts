import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { chmod, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { makeTempDir } from '../global/temp.js';

const run = promisify(execFile);
const root = join(import.meta.dirname, '../..');

interface Block {
  readonly language: string;
  readonly attributes: ReadonlyMap<string, string>;
  readonly text: string;
}

/** The fenced blocks of the page, in order. */
function blocksOf(page: string): Block[] {
  return [...page.matchAll(/^```(\w+)([^\n]*)\n(.*?)^```$/gms)].map(([, language, rest, text]) => ({
    language: language ?? '',
    attributes: new Map(
      (rest ?? '')
        .trim()
        .split(/\s+/)
        .filter(Boolean)
        .map((pair) => pair.split('=') as [string, string]),
    ),
    text: text ?? '',
  }));
}

interface Step {
  readonly command: string;
  readonly output: string;
}

/** `$ command` lines, each with the lines that follow it. */
function stepsOf(block: Block): Step[] {
  return block.text
    .split(/^\$ /m)
    .slice(1)
    .map((part) => {
      const end = part.indexOf('\n');
      return { command: part.slice(0, end), output: part.slice(end + 1) };
    });
}

/** What is printed of the clock is of the day on which the page was written. */
function timeless(text: string): string {
  return text.replace(/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/g, '<time>');
}

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!(await condition())) {
    if (performance.now() > deadline) throw new Error(`not within 20 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** One of the page's terminals: a command that goes on, and what it has printed. */
class Terminal {
  readonly child: ChildProcess;
  shown = '';

  constructor(command: string, cwd: string) {
    // exec: the shell's pid is the program's, so that it can be ended by pid.
    this.child = spawn('sh', ['-c', `exec ${command}`], {
      cwd,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.shown += text;
    });
  }

  type(text: string): void {
    this.child.stdin?.write(text);
  }

  async end(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = new Promise((resolve) => this.child.once('exit', resolve));
    this.child.kill('SIGTERM');
    await ended;
  }
}

describe('the code blocks of README.md do what is printed there', () => {
  let page: Block[];
  let cwd: string;
  const terminals: Terminal[] = [];

  /** `npx walmirror` without npx, which leaves a shell between the test and the program. */
  const local = (command: string): string =>
    command.replaceAll('npx walmirror', './node_modules/.bin/walmirror');

  async function runAsPrinted(block: Block): Promise<void> {
    for (const { command, output } of stepsOf(block)) {
      const { stdout } = await run('sh', ['-c', local(command)], { cwd });
      expect(timeless(stdout), command).toBe(timeless(output));
    }
  }

  beforeAll(async () => {
    page = blocksOf(await readFile(join(root, 'README.md'), 'utf8'));
    cwd = makeTempDir('readme');
    await mkdir(join(cwd, 'node_modules/.bin'), { recursive: true });
    await symlink(root, join(cwd, 'node_modules/walmirror'));
    // As npm does when it installs a package with a command.
    await chmod(join(root, 'dist/cli/main.js'), 0o755);
    await symlink('../walmirror/dist/cli/main.js', join(cwd, 'node_modules/.bin/walmirror'));
    await writeFile(join(cwd, 'package.json'), '{ "type": "module" }');
  });

  afterAll(async () => {
    for (const terminal of terminals) await terminal.end();
    await rm(cwd, { recursive: true, force: true });
  });

  const file = (name: string): Block =>
    page.find((block) => block.attributes.get('file') === name) as Block;
  /** The transcript in which this command is typed. */
  const transcript = (command: string): Block =>
    page.find((block) => stepsOf(block).some((step) => step.command.includes(command))) as Block;

  test('the counter goes on where it was', async () => {
    expect(file('counter.mjs').text.trim().split('\n').length).toBeLessThanOrEqual(15);
    await writeFile(join(cwd, 'counter.mjs'), file('counter.mjs').text);
    expect(stepsOf(transcript('counter.mjs'))).toHaveLength(2);
    await runAsPrinted(transcript('counter.mjs'));
  });

  test('the counter goes on after kill -9, whenever it comes', async () => {
    const line = /^record (\d+) is durable, the count is (\d+)$/gm;
    let seen = 6;
    for (let records = 0; records <= 3; records++) {
      const counter = new Terminal('node counter.mjs', cwd);
      const ended = new Promise((resolve) => counter.child.once('close', resolve));
      const shown = () => [...counter.shown.matchAll(line)];
      await until(() => shown().length >= records, 'records are counted');
      counter.child.kill('SIGKILL');
      await ended;
      // One more may be durable than was told; none may be missing.
      const [first] = shown();
      if (first !== undefined) expect([seen + 1, seen + 2]).toContain(Number(first[1]));
      for (const [, lsn, count] of shown()) expect(count).toBe(lsn);
      seen = Number(shown().at(-1)?.[1] ?? seen);
    }
    const { stdout } = await run('node', ['counter.mjs'], { cwd });
    const last = [...stdout.matchAll(line)];
    expect(last).toHaveLength(3);
    expect([seen + 1, seen + 2]).toContain(Number(last[0]?.[1]));
  });

  test('a line typed in one terminal is seen in the other; the standby is promoted', async () => {
    const [first, second] = page.filter((block) => block.attributes.has('terminal'));
    const [primary] = stepsOf(first as Block);
    const [standby] = stepsOf(second as Block);
    terminals.push(new Terminal(local(primary?.command ?? ''), cwd));
    terminals.push(new Terminal(local(standby?.command ?? ''), cwd));
    terminals[0]?.type(primary?.output ?? '');
    await until(() => terminals[1]?.shown === standby?.output, 'the standby shows the line');
    await runAsPrinted(transcript('walmirror promote'));
    await until(() => terminals[0]?.child.signalCode === 'SIGKILL', 'the primary is gone');
  });

  test('the program fails over as it says', async () => {
    await writeFile(join(cwd, 'failover.mjs'), file('failover.mjs').text);
    await runAsPrinted(transcript('failover.mjs'));
  });

  test('the first program of docs/getting-started.md does what it says', async () => {
    const guide = blocksOf(await readFile(join(root, 'docs/getting-started.md'), 'utf8'));
    const program = guide.find((block) => block.attributes.get('file') === 'first.mjs') as Block;
    await writeFile(join(cwd, 'first.mjs'), program.text);
    const typed = guide.find((block) => stepsOf(block)[0]?.command === 'node first.mjs');
    await runAsPrinted(typed as Block);
  });

  test('the program that takes snapshots goes on from them', async () => {
    const guide = blocksOf(await readFile(join(root, 'docs/getting-started.md'), 'utf8'));
    const program = guide.find((block) => block.attributes.get('file') === 'total.mjs') as Block;
    await writeFile(join(cwd, 'total.mjs'), program.text);
    const typed = guide.find((block) => stepsOf(block)[0]?.command === 'node total.mjs');
    expect(stepsOf(typed as Block)).toHaveLength(2);
    await runAsPrinted(typed as Block);
  });

  test('streams take a log through frames to another', async () => {
    await writeFile(join(cwd, 'streams.mjs'), file('streams.mjs').text);
    await runAsPrinted(transcript('streams.mjs'));
  });
});
