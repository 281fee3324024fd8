import { describe, expect, it } from 'vitest';
import { tempDir } from '../global/temp.js';
import { inThisProcess, walmirror } from './helpers.js';

const commands = [
  'primary',
  'pause',
  'resume',
  'standby',
  'promote',
  'policy',
  'dump',
  'verify',
  'scrub',
  'repair',
  'slots',
  'status',
];

describe('help', () => {
  it('lists every command', async () => {
    const { code, stdout } = await inThisProcess(['--help']);
    expect(code).toBe(0);
    for (const command of commands) expect(stdout).toMatch(new RegExp(`^  ${command} `, 'm'));
  });

  it.each(commands)('of %s has an example and only long options', async (command) => {
    const { code, stdout } = await inThisProcess([command, '--help']);
    expect(code).toBe(0);
    expect(stdout).toMatch(new RegExp(`^ +\\$ .*walmirror ${command} --`, 'm'));
    expect(stdout).not.toMatch(/^ +-\w\b/m);
  });

  it('prints the version', async () => {
    expect((await walmirror(['--version'])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  });
});

/** A bad value of each option that takes one, by command; what the message says of it. */
const badValues: Record<string, readonly (readonly [string, string, RegExp])[]> = {
  primary: [
    ['--dir', '', /Say a path/],
    ['--accept-missing', '', /Say a path/],
    ['--mirror-quorum', 'all', /Say a number/],
    ['--mirror-quorum', '2', /--mirror-quorum is for .* several directories: --dir .* --dir /],
    ['--name', 'a b', /--name takes 1 to 63 letters.*got "a b"/],
    ['--listen', 'h:99999', /Say HOST:PORT/],
    ['--members', '127.0.0.1:7401,7402', /Say HOST:PORT/],
    ['--sync', 'remote', /Allowed choices are off, local, remote_write, remote_flush, remote_appl/],
    ['--sync', 'remote_flush', /--standbys names none\nhint: Pass --standbys 'ANY 1 \(\*\)'/],
    ['--standbys', 'ANY 0 (*)', /at least one standby.*ANY 1 \(\*\)/],
    ['--standbys', 'ANY 3 (a, b)', /waits for 3 standbys and names 2, so that no commit/],
    ['--standbys', 'ANY 1 (a, A)', /the name 'A' is there twice/],
    ['--standbys', 'FIRST 1 (a', /at the end: expected ',' or '\)'/],
    ['--when-missing', 'stop', /Allowed choices are block, fail, degrade/],
    ['--when-missing', 'fail', /--when-missing needs --standbys/],
    ['--sync-timeout', '0', /Say a time, such as 500ms or 10s/],
    ['--sync-timeout', '10', /Say a time, such as 500ms or 10s, with its unit/],
    [
      '--sync-timeout',
      '10s',
      /--sync-timeout needs --when-missing fail or --when-missing degrade; with 'block'/,
    ],
    ['--input', '', /Say a path/],
    ['--format', 'json', /Allowed choices are lines, frames/],
    ['--tls-cert', '', /Say a path/],
    ['--tls-key', '', /Say a path/],
    ['--tls-ca', '', /Say a path/],
    ['--tls-crl', '', /Say a path/],
    ['--tls-allow', 'a,,b', /Say names, such as b,c/],
    ['--etcd', '127.0.0.1:2379', /Say URLs/],
    ['--etcd-group', 'a b', /Say a name/],
    ['--etcd-user', '', /Say a name/],
    ['--etcd-password-file', '', /Say a path/],
    ['--etcd-token-file', '', /Say a path/],
    ['--etcd-ca', '', /Say a path/],
    ['--etcd-cert', '', /Say a path/],
    ['--etcd-key', '', /Say a path/],
    ['--referee-file', '', /Say a path/],
    ['--maximum-lag', '-1', /Say a number of records/],
    ['--secret-file', '', /Say a path/],
  ],
  standby: [
    ['--dir', '', /Say a path/],
    ['--accept-missing', '', /Say a path/],
    ['--mirror-quorum', '0', /Say a number/],
    ['--follow', '7401', /Say HOST:PORT/],
    ['--rejoin', 'yes', /Say ask, auto, or the LSN/],
    ['--follow', '127.0.0.1:0', /--follow: the port takes a whole number, 1 to 65535; got 0/],
    ['--name', 'ä', /--name takes 1 to 63 letters/],
    ['--listen', ':1', /Say HOST:PORT/],
    ['--members', '127.0.0.1:7401,,', /Say HOST:PORT/],
    ['--tls-cert', '', /Say a path/],
    ['--tls-key', '', /Say a path/],
    ['--tls-ca', '', /Say a path/],
    ['--tls-crl', '', /Say a path/],
    ['--tls-allow', 'a,,b', /Say names, such as b,c/],
    ['--etcd', '127.0.0.1:2379', /Say URLs/],
    ['--etcd-group', 'a b', /Say a name/],
    ['--etcd-user', '', /Say a name/],
    ['--etcd-password-file', '', /Say a path/],
    ['--etcd-token-file', '', /Say a path/],
    ['--etcd-ca', '', /Say a path/],
    ['--etcd-cert', '', /Say a path/],
    ['--etcd-key', '', /Say a path/],
    ['--referee-file', '', /Say a path/],
    ['--maximum-lag', '-1', /Say a number of records/],
    ['--secret-file', '', /Say a path/],
    ['--input', '', /Say a path/],
    ['--output', '', /Say a path/],
    ['--from', '1.5', /1 or more/],
    ['--format', 'json', /Allowed choices are lines, frames/],
  ],
  promote: [
    ['--dir', '', /Say a path/],
    ['--accept-missing', '', /Say a path/],
  ],
  pause: [
    ['--dir', '', /Say a path/],
    ['--reason', ' ', /Say why/],
  ],
  resume: [['--dir', '', /Say a path/]],
  policy: [
    ['--dir', '', /Say a path/],
    ['--sync', 'remote', /Allowed choices are off, local, remote_write, remote_flush, remote_appl/],
    ['--standbys', 'FIRST 0 (a)', /at character 7: at least one standby/],
    ['--when-missing', 'stop', /Allowed choices are block, fail, degrade/],
    ['--sync-timeout', '0', /Say a time, such as 500ms or 10s/],
  ],
  dump: [
    ['--dir', '', /Say a path/],
    ['--tail', '', /Say a path/],
    ['--from', '0', /1 or more/],
    ['--to', 'x', /1 or more/],
    ['--format', 'xml', /Allowed choices are lines, frames, json/],
  ],
  verify: [
    ['--dir', '', /Say a path/],
    ['--against', '', /Say a path/],
  ],
  scrub: [['--dir', '', /Say a path/]],
  repair: [
    ['--dir', '', /Say a path/],
    ['--from-dir', '', /Say a path/],
    ['--from', 'h:99999', /Say HOST:PORT/],
    ['--tls-cert', '', /Say a path/],
    ['--tls-key', '', /Say a path/],
    ['--tls-ca', '', /Say a path/],
    ['--tls-crl', '', /Say a path/],
    ['--tls-allow', 'a,,b', /Say names, such as b,c/],
    ['--secret-file', '', /Say a path/],
  ],
  slots: [['--dir', '', /Say a path/]],
  status: [
    ['--dir', '', /Say a path/],
    ['--interval', 'soon', /Say a time/],
    ['--interval', '1', /Say a time.* with its unit/],
    ['--interval', '49ms', /Say 50ms or more/],
    ['--interval', '1s', /--interval needs --watch/],
    ['--serve', '70000', /Say a port, 0 to 65535/],
  ],
};

/** What a command cannot do without, where it is not what is tried. */
function needed(command: string, option: string): string[] {
  const args: string[] = command === 'slots' ? ['list'] : [];
  if (option !== '--dir') args.push('--dir', 'x');
  if (command === 'standby' && option !== '--follow') args.push('--follow', '127.0.0.1:7401');
  return args;
}

describe('bad usage ends with 2 and says what to type', () => {
  it('the process does', async () => {
    const { code, stdout, stderr } = await walmirror(['dump', '--dri', 'x']);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(/unknown option '--dri'\n\(Did you mean --dir\?\)/);
  });

  it.each([
    [[], /Usage: walmirror/],
    [['primari'], /Did you mean primary\?/],
    [['dump', '--dri', 'x'], /unknown option '--dri'\n\(Did you mean --dir\?\)/],
    [['dump'], /required option '--dir <path>' not specified, nor '--tail <file>'/],
    [['dump', '--dir', 'x', '--tail', 'y'], /--dir and --tail: say one of them/],
    [['standby', '--dir', 'x'], /required option '--follow <host:port>' not specified/],
    [['dump', '--dir', 'x', '--from', '5', '--to', '4'], /--from 5 is after --to 4/],
    [['primary', '--dir', 'x', '--plaintext'], /--plaintext needs --listen/],
    [['repair', '--dir', 'x', '--secret-file', 'y'], /--secret-file needs --from/],
    [['status', '--dir', 'x', 'y'], /too many arguments/],
    [['slots', '--dir', 'x'], /missing required argument 'action'/],
    [['slots', '--dir', 'x', 'make'], /Allowed choices are list, create, drop/],
    [['slots', '--dir', 'x', 'create'], /slots create takes the name of a standby/],
    [['slots', '--dir', 'x', 'create', 'a b'], /1 to 63 letters/],
    [['slots', '--dir', 'x', 'list', 'b'], /slots list takes no name/],
    [['policy', '--dir', 'x'], /nothing to change: say --sync, --standbys or --when-missing/],
  ])('%j', async (args, message) => {
    const { code, stdout, stderr } = await inThisProcess(args as string[]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(message);
  });

  const rows = Object.entries(badValues).flatMap(([command, values]) =>
    values.map(([option, value, message]) => [command, option, value, message] as const),
  );

  it.each(rows)('%s %s %j', async (command, option, value, message) => {
    const args = [command, ...needed(command, option), option, value];
    const { code, stdout, stderr } = await inThisProcess(args);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toMatch(message);
    expect(stderr).toContain(option);
    expect(stderr).not.toMatch(/whenMissing|syncTimeout|synchronous|(listen|follow)\.\w/);
  });

  it.each(commands)('%s: no option with a value is left out above', async (command) => {
    const { stdout } = await inThisProcess([command, '--help']);
    const options = [...stdout.matchAll(/^ {2}(--[\w-]+) </gm)].map((match) => match[1]);
    const tried = new Set(badValues[command]?.map(([option]) => option));
    expect([...tried].sort()).toEqual([...new Set(options)].sort());
  });
});

describe('failure ends with 1, with a message and a hint on stderr', () => {
  it.each(['dump', 'verify', 'scrub', 'repair', 'status', 'promote'])(
    '%s where there is no log',
    async (command) => {
      const dir = tempDir('cli');
      const args = command === 'promote' ? ['--primary-stopped'] : [];
      const { code, stdout, stderr } = await walmirror([command, '--dir', dir, ...args]);
      expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
      expect(stderr).toMatch(/^error: .+\nhint: .+\n$/);
    },
  );

  it('as JSON with --json', async () => {
    const { code, stderr } = await walmirror(['status', '--dir', tempDir('cli'), '--json']);
    expect(code).toBe(1);
    expect(JSON.parse(stderr)).toMatchObject({ error: { code: 'WAL_NOT_FOUND' } });
  });

  it.each([
    [['status', '--dri', 'x', '--json'], "unknown option '--dri'\n(Did you mean --dir?)"],
    [['status', '--json'], "required option '--dir <path>' not specified"],
    [['primary', '--dir', 'x', '--name', 'a b', '--json'], '--name takes 1 to 63'],
  ])('bad usage as JSON too: %j', async (args, message) => {
    const { code, stderr } = await inThisProcess(args);
    expect(code).toBe(2);
    const { error } = JSON.parse(stderr);
    expect(error).toMatchObject({ code: null, message: expect.stringContaining(message) });
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
