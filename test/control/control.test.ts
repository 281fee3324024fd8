import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { WalError } from '../../src/api/errors.js';
import { controlRequest } from '../../src/control/client.js';
import { type ControlServerOptions, startControlServer } from '../../src/control/server.js';
import { tempDir } from '../global/temp.js';
import { closed, connected, exchangeRaw } from './helpers.js';

async function serve(dir: string, overrides: Partial<ControlServerOptions> = {}) {
  const server = await startControlServer({
    dir,
    status: () => ({ schema: 1, role: 'primary' }),
    promote: async (options) => ({ took: options }),
    policy: async (options) => ({ policy: options }),
    pause: async (options) => ({ paused: options }),
    resume: async () => null,
    switchover: async (options) => ({ switched: options }),
    demote: async (options) => ({ demoted: options }),
    scrub: async () => ({ damage: [] }),
    createSlot: async (options) => ({ created: options }),
    dropSlot: async () => true,
    ...overrides,
  });
  onTestFinished(() => server.close());
  return server;
}

function socketIn(dir: string): string {
  return join(dir, 'control.sock');
}

/** A directory whose socket path is longer than a socket address can be. */
function longDir(): string {
  let dir = tempDir('control');
  while (dir.length < 150) dir = join(dir, 'x'.repeat(40));
  mkdirSync(dir, { recursive: true });
  return dir;
}

describe('the control socket', () => {
  it('hands a policy on as it came, and its answer back', async () => {
    const dir = tempDir('control');
    await serve(dir);
    const request = { cmd: 'policy', synchronousCommit: 'local' } as const;
    expect(await controlRequest(dir, request)).toEqual({
      listening: true,
      result: { policy: { synchronousCommit: 'local' } },
    });
  });

  it('tells what is under way that its client has hung up', async () => {
    const dir = tempDir('control');
    const ended: unknown[] = [];
    let begun = 0;
    const pending = (_: unknown, signal: AbortSignal) => {
      begun += 1;
      return new Promise<never>((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          ended.push(signal.reason);
          reject(signal.reason);
        });
      });
    };
    await serve(dir, { policy: pending, scrub: pending });
    for (const [i, cmd] of ['policy', 'scrub'].entries()) {
      const socket = await connected(socketIn(dir));
      socket.write(`{"cmd":"${cmd}"}\n`);
      await expect.poll(() => begun).toBe(i + 1);
      expect(ended.length).toBe(i);
      socket.destroy();
      await expect.poll(() => ended.length).toBe(i + 1);
    }
    for (const reason of ended) expect(reason).toMatchObject({ code: 'WAL_CONTROL' });
  });

  it('answers status', async () => {
    const dir = tempDir('control');
    await serve(dir);
    expect(await controlRequest(dir, { cmd: 'status' })).toEqual({
      listening: true,
      result: { schema: 1, role: 'primary' },
    });
  });

  it('hands the options of a promotion on and returns its result', async () => {
    const dir = tempDir('control');
    await serve(dir);
    const reply = await controlRequest(dir, { cmd: 'promote', primaryStopped: true });
    expect(reply).toEqual({ listening: true, result: { took: { primaryStopped: true } } });
  });

  it('carries an error with its code and hint, and what is known of the primary', async () => {
    const dir = tempDir('control');
    const oldPrimary = {
      name: 'a',
      address: '127.0.0.1:1',
      connected: false,
      lastContact: null,
      commitLsn: 1,
      flushLsn: 2,
      rule: null,
    };
    await serve(dir, {
      promote: async () => {
        throw new WalError('WAL_PRIMARY_REACHABLE', 'a answers', { hint: 'stop it', oldPrimary });
      },
    });
    const error = await controlRequest(dir, { cmd: 'promote' }).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(WalError);
    expect(error).toMatchObject({
      code: 'WAL_PRIMARY_REACHABLE',
      message: 'a answers',
      hint: 'stop it',
      oldPrimary,
    });
  });

  it('may be opened only by its owner, and leaves nothing else behind', async () => {
    const dir = tempDir('control');
    chmodSync(dir, 0o755);
    const server = await serve(dir);
    expect(lstatSync(socketIn(dir)).mode & 0o777).toBe(0o600);
    expect(readdirSync(dir)).toEqual(['control.sock']);
    await server.close();
    expect(readdirSync(dir)).toEqual([]);
  });

  it('says that nobody listens without a socket or a directory, or on a stale one', async () => {
    const dir = tempDir('control');
    const nobody = { listening: false };
    expect(await controlRequest(dir, { cmd: 'status' })).toEqual(nobody);
    expect(await controlRequest(join(dir, 'none'), { cmd: 'status' })).toEqual(nobody);
    const file = join(tempDir('control'), 'file');
    writeFileSync(file, '');
    expect(await controlRequest(file, { cmd: 'status' })).toEqual(nobody);
    await leaveStaleSocket(dir);
    expect(await controlRequest(dir, { cmd: 'status' })).toEqual(nobody);
  });

  it('replaces a stale socket', async () => {
    const dir = tempDir('control');
    await leaveStaleSocket(dir);
    await serve(dir);
    expect(await controlRequest(dir, { cmd: 'status' })).toMatchObject({ listening: true });
  });

  it('does not remove a socket that another process has put there since', async () => {
    const dir = tempDir('control');
    const server = await serve(dir);
    renameSync(socketIn(dir), join(dir, 'ours'));
    writeFileSync(socketIn(dir), '');
    await server.close();
    expect(existsSync(socketIn(dir))).toBe(true);
  });

  it('starts over where a killed process left its staging directory', async () => {
    const dir = tempDir('control');
    mkdirSync(join(dir, 'control.new'));
    writeFileSync(join(dir, 'control.new', 'control.sock'), '');
    await serve(dir);
    expect(readdirSync(dir)).toEqual(['control.sock']);
  });

  it('works under a path too long for a socket address, and cuts nothing short', async () => {
    const dir = longDir();
    expect(await controlRequest(dir, { cmd: 'status' })).toEqual({ listening: false });
    const server = await serve(dir);
    expect(readdirSync(dir)).toEqual(['control.sock']);
    expect(await controlRequest(dir, { cmd: 'status' })).toMatchObject({ listening: true });
    await server.close();
    expect(readdirSync(dir)).toEqual([]);
    expect(await controlRequest(dir, { cmd: 'status' })).toEqual({ listening: false });
  });

  it('gives every descriptor back', async () => {
    const dir = longDir();
    const before = readdirSync('/proc/self/fd').length;
    for (let round = 0; round < 3; round += 1) {
      const server = await serve(dir);
      await controlRequest(dir, { cmd: 'status' });
      await server.close();
      await server.close();
    }
    await expect.poll(() => readdirSync('/proc/self/fd').length).toBe(before);
  });

  it('does not keep a process alive', async () => {
    const dir = tempDir('control');
    const server = new URL('../../dist/control/server.js', import.meta.url).href;
    const code = `
      const { startControlServer } = await import(${JSON.stringify(server)});
      const one = async () => 1;
      const answers = { status: () => 1, promote: one, scrub: one };
      await startControlServer({ dir: process.argv[1], ...answers });
    `;
    const child = spawn(process.execPath, ['--input-type=module', '-e', code, dir]);
    expect(await once(child, 'exit')).toEqual([0, null]);
  });
});

describe('limits of the control socket', () => {
  it('refuses a request that is not one', async () => {
    const dir = tempDir('control');
    await serve(dir);
    for (const line of ['', 'x', '[]', 'null', '7', '{"cmd":"drop"}', '{}', '"status"']) {
      const answer = JSON.parse(await exchangeRaw(socketIn(dir), `${line}\n`));
      expect(answer).toMatchObject({ ok: false, error: { code: 'WAL_CONTROL' } });
    }
  });

  it('takes a request byte by byte', async () => {
    const dir = tempDir('control');
    await serve(dir);
    const socket = await connected(socketIn(dir));
    let answer = '';
    socket.on('data', (chunk) => {
      answer += chunk;
    });
    for (const byte of '{"cmd":"status"}\n') {
      socket.write(byte);
      await new Promise((resolve) => setImmediate(resolve));
    }
    await closed(socket);
    expect(JSON.parse(answer)).toMatchObject({ ok: true });
  });

  it('takes a line of 64 KiB and refuses a longer one', async () => {
    const dir = tempDir('control');
    await serve(dir);
    const line = (bytes: number) => `{"cmd":"promote","pad":"${'x'.repeat(bytes - 26)}"}`;
    expect(line(65_536)).toHaveLength(65_536);
    const fits = JSON.parse(await exchangeRaw(socketIn(dir), `${line(65_536)}\n`));
    expect(fits.ok).toBe(true);
    const long = JSON.parse(await exchangeRaw(socketIn(dir), line(65_537)));
    expect(long).toMatchObject({ ok: false, error: { code: 'WAL_CONTROL' } });
    await expect(controlRequest(dir, { cmd: 'promote', pad: 'x'.repeat(65_536) })).rejects.toThrow(
      RangeError,
    );
  });

  it('hangs up on a connection that sends no whole request in time', async () => {
    const dir = tempDir('control');
    await serve(dir, { requestTimeoutMs: 100 });
    const socket = await connected(socketIn(dir));
    socket.write('{"cmd":');
    await closed(socket);
  });

  it('serves 16 connections at a time and tells the next so', async () => {
    const dir = tempDir('control');
    await serve(dir);
    const path = socketIn(dir);
    const held = await Promise.all(Array.from({ length: 16 }, () => connected(path)));
    await expect(controlRequest(dir, { cmd: 'status' })).rejects.toThrow(/more than 16/);
    for (const socket of held) socket.destroy();
    await expect
      .poll(() =>
        controlRequest(dir, { cmd: 'status' }).then(
          () => true,
          () => false,
        ),
      )
      .toBe(true);
  });

  it('ends every connection when it closes, also one with a promotion under way', async () => {
    const dir = tempDir('control');
    const server = await serve(dir, { promote: () => new Promise(() => {}) });
    const idle = await connected(socketIn(dir));
    const promotion = controlRequest(dir, { cmd: 'promote' }).catch((e: unknown) => e);
    await new Promise((resolve) => setTimeout(resolve, 100));
    await Promise.all([server.close(), closed(idle)]);
    expect(await promotion).toMatchObject({ code: 'WAL_CLOSED' });
  });
});

describe('a client of the control socket', () => {
  async function answerWith(dir: string, answer: string | undefined) {
    const server = createServer((socket) => {
      socket.on('error', () => {});
      if (answer !== undefined) socket.end(answer);
    });
    server.listen(socketIn(dir));
    await once(server, 'listening');
    const sockets = new Set<import('node:net').Socket>();
    server.on('connection', (socket) => sockets.add(socket));
    onTestFinished(async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    });
  }

  it.each([
    ['hangs up', ''],
    ['answers half a line', '{"ok":tr'],
    ['answers what is not JSON', 'hello\n'],
    ['answers another protocol', '{"jsonrpc":"2.0"}\n'],
  ])('rejects with WAL_CONTROL when the other side %s', async (_, answer) => {
    const dir = tempDir('control');
    await answerWith(dir, answer);
    await expect(controlRequest(dir, { cmd: 'status' })).rejects.toMatchObject({
      code: 'WAL_CONTROL',
    });
  });

  it('ends after its time-out, and when it is told to', async () => {
    const dir = tempDir('control');
    await answerWith(dir, undefined);
    await expect(controlRequest(dir, { cmd: 'status' }, { timeoutMs: 50 })).rejects.toThrow(
      /50 ms/,
    );
    const signal = AbortSignal.timeout(50);
    await expect(controlRequest(dir, { cmd: 'status' }, { signal })).rejects.toThrow(/aborted/);
    await expect(controlRequest(dir, { cmd: 'status' }, { signal })).rejects.toBe(signal.reason);
  });

  it('passes an unknown code on as WAL_CONTROL', async () => {
    const dir = tempDir('control');
    await answerWith(dir, '{"ok":false,"error":{"code":"constructor","message":"m"}}\n');
    await expect(controlRequest(dir, { cmd: 'status' })).rejects.toMatchObject({
      code: 'WAL_CONTROL',
      message: 'm',
    });
  });
});

/** As a process that was killed leaves it. */
async function leaveStaleSocket(dir: string): Promise<void> {
  const code =
    "require('node:net').createServer().listen(process.argv[1], () => " +
    'process.kill(process.pid, 9))';
  const child = spawn(process.execPath, ['-e', code, socketIn(dir)]);
  expect(await once(child, 'exit')).toEqual([null, 'SIGKILL']);
  expect(existsSync(socketIn(dir))).toBe(true);
}
