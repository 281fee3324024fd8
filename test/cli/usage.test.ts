import { describe, expect, it } from 'vitest';
import { tempDir } from '../global/temp.js';
import { walmirror } from './helpers.js';

const commands = ['primary', 'standby', 'promote', 'dump', 'verify', 'status'];

describe('help', () => {
  it('lists every command', async () => {
    const { code, stdout } = await walmirror(['--help']);
    expect(code).toBe(0);
    for (const command of commands) expect(stdout).toMatch(new RegExp(`^  ${command} `, 'm'));
  });

  it.each(commands)('of %s has an example and only long options', async (command) => {
    const { code, stdout } = await walmirror([command, '--help']);
    expect(code).toBe(0);
    expect(stdout).toMatch(new RegExp(`^ +\\$ .*walmirror ${command} --`, 'm'));
    expect(stdout).not.toMatch(/^ +-\w\b/m);
  });

  it('prints the version', async () => {
    expect((await walmirror(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

describe('bad usage ends with 2 and says what to type', () => {
  it.each([
    [[], /Usage: walmirror/],
    [['primari'], /Did you mean primary\?/],
    [['dump', '--dri', 'x'], /unknown option '--dri'\n\(Did you mean --dir\?\)/],
    [['dump'], /required option '--dir <path>' not specified/],
    [['standby', '--dir', 'x'], /required option '--follow <host:port>' not specified/],
    [['standby', '--dir', 'x', '--follow', '7401'], /Say HOST:PORT/],
    [['primary', '--dir', 'x', '--listen', 'h:99999'], /Say HOST:PORT/],
    [['primary', '--dir', 'x', '--sync', 'remote'], /Allowed choices are off, local/],
    [['primary', '--dir', 'x', '--when-missing', 'fail'], /whenMissing needs/],
    [['primary', '--dir', 'x', '--sync-timeout', '0'], /Say a time/],
    [['primary', '--dir', 'x', '--name', 'a b'], /name takes/],
    [['dump', '--dir', 'x', '--from', '0'], /1 or more/],
    [['dump', '--dir', 'x', '--from', '5', '--to', '4'], /--from 5 is after --to 4/],
    [['status', '--dir', 'x', 'y'], /too many arguments/],
  ])('%j', async (args, message) => {
    const { code, stdout, stderr } = await walmirror(args as string[]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(message);
  });
});

describe('failure ends with 1, with a message and a hint on stderr', () => {
  it.each(['dump', 'verify', 'status', 'promote'])('%s where there is no log', async (command) => {
    const dir = tempDir('cli');
    const args = command === 'promote' ? ['--primary-stopped'] : [];
    const { code, stdout, stderr } = await walmirror([command, '--dir', dir, ...args]);
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
    expect(stderr).toMatch(/^error: .+\nhint: .+\n$/);
  });

  it('as JSON with --json', async () => {
    const { code, stderr } = await walmirror(['status', '--dir', tempDir('cli'), '--json']);
    expect(code).toBe(1);
    expect(JSON.parse(stderr)).toMatchObject({ error: { code: 'WAL_NOT_FOUND' } });
  });

  it('refuses to listen off this machine unless it is asked for by name', async () => {
    const args = ['primary', '--dir', `${tempDir('cli')}/log`, '--listen', '0.0.0.0:0'];
    const { code, stderr } = await walmirror(args);
    expect(code).toBe(1);
    expect(stderr).toMatch(/not loopback.*\nhint: .*--plaintext/);
    expect((await walmirror([...args, '--plaintext'])).code).toBe(0);
  });

  it('names an input that cannot be read', async () => {
    const dir = tempDir('cli');
    const args = ['primary', '--dir', `${dir}/log`, '--input', `${dir}/none`];
    const { code, stderr } = await walmirror(args);
    expect(code).toBe(1);
    expect(stderr).toMatch(/none/);
  });
});
